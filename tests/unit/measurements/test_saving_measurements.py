from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from banet_monai.measurements import MeasurementTable, SaveMeasurementsd
from banet_monai.report import RunReport
from banet_monai.transforms import LoadCased, SaveResultd
from tests import dicom_samples as samples


class Report:
    def __init__(self):
        self.files, self.warnings = {}, {}

    def also(self, name, *results):
        self.files[name] = [path.name for path in results]

    def warned(self, name, text):
        self.warnings[name] = text


def result_of(source, *, box=((2, 8), (3, 9))):
    """A record as inference has it behind DiscretizeLabelsd: label ids with the metadata of the image."""
    image = LoadCased("image")({"image": source})["image"]
    ids = torch.zeros((1, *image.shape[1:]), dtype=torch.uint8)
    ids[0, slice(*box[0]), slice(*box[1])] = 1
    return {"pred": MetaTensor(ids, meta=image.meta), "image": image, "name": "case"}


def photo(folder, size=(20, 30)):
    values = np.zeros((*size[::-1], 3), dtype=np.uint8)
    values[...] = (200, 100, 50)
    path = folder / "photo.png"
    Image.fromarray(values).save(path)
    return str(path)


def read(path):
    (case,) = json.loads(path.read_text())["cases"]
    return case["case"], case["measurements"]


def test_a_picture_is_measured_in_pixels_with_the_colours_of_its_file(tmp_path):
    report = Report()
    out = tmp_path / "out"
    save = SaveMeasurementsd("pred", out, segments="skin_lesion", report=report)
    record = save(result_of(photo(tmp_path)))
    name, (found,) = read(out / "case_measurements.json")
    assert (name, found["name"]) == ("case", "Skin lesion")
    assert found["area"] == {"value": 36.0, "unit": "px2"}
    assert [channel["mean"] for channel in found["intensity"]] == [200, 100, 50]
    assert report.files == {"case": ["case_measurements.json"]}
    assert report.warnings == {}
    assert record["measurements"][0].area == 36


def test_a_nifti_volume_is_measured_in_millilitres_at_its_place(tmp_path):
    values = np.full((12, 13, 6), 40, dtype=np.int16)
    affine = np.diag([-0.5, -0.5, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "volume.nii.gz")
    SaveMeasurementsd("pred", tmp_path)(result_of(str(tmp_path / "volume.nii.gz")))
    _, (found,) = read(tmp_path / "case_measurements.json")
    assert found["volume"] == {"value": pytest.approx(36 * 6 * 0.5 / 1000), "unit": "ml"}
    assert found["name"] == "1"
    assert found["intensity"][0]["mean"] == 40
    assert found["cut_off"]
    # centre (4.5, 5.5, 2.5): RAS (-2.25, -2.75, 5), LPS with the first two signs turned
    assert found["centroid"]["lps_mm"] == pytest.approx([2.25, 2.75, 5])


def test_a_ct_series_has_hounsfield_units(tmp_path):
    files = samples.write_samples(samples.ct_series(), tmp_path / "series")
    record = result_of([str(path) for path in files])
    SaveMeasurementsd("pred", tmp_path)(record)
    _, (found,) = read(tmp_path / "case_measurements.json")
    inside = record["image"].as_tensor()[0][record["pred"].as_tensor()[0] > 0]
    assert found["intensity"][0]["mean"] == pytest.approx(float(inside.double().mean()))
    assert found["intensity"][0]["minimum"] < 0
    assert found["volume"]["unit"] == "ml"


def test_video_frames_are_measured_one_by_one(tmp_path):
    files = samples.write_samples(samples.ultrasound(), tmp_path / "series")
    SaveMeasurementsd("pred", tmp_path)(result_of(str(files[0])))
    _, found = read(tmp_path / "case_measurements.json")
    assert [item["slice"] for item in found] == [0, 1, 2, 3]
    assert {item["dimensions"] for item in found} == {2}


def test_slices_with_a_gap_are_measured_one_by_one(tmp_path):
    objects = samples.ct_series()
    files = samples.write_samples(objects[:2] + objects[3:], tmp_path / "series")
    image = LoadCased("image", irregular="slices")({"image": [str(path) for path in files]})["image"]
    ids = torch.zeros((1, *image.shape[1:]), dtype=torch.uint8)
    ids[0, 3:9, 4:9, 1] = 1
    SaveMeasurementsd("pred", tmp_path)({"pred": MetaTensor(ids, meta=image.meta), "name": "case"})
    _, (found,) = read(tmp_path / "case_measurements.json")
    assert (found["slice"], found["area"]["unit"]) == (1, "mm2")


def test_a_structured_report_is_written_beside_a_segmentation(tmp_path):
    files = samples.write_samples(samples.dermoscopy(), tmp_path / "series")
    record = result_of(str(files[0]))
    report = Report()
    save = SaveMeasurementsd("pred", tmp_path, segments="skin_lesion", structured_report="true", report=report)
    save(record)
    assert report.files == {"case": ["case_measurements.json"]}
    assert "add dicom-seg to the formats" in report.warnings["case"]
    SaveResultd("pred", tmp_path, output_format="dicom-seg", segments="skin_lesion")(record)
    save(record)
    assert report.files == {"case": ["case_measurements.json", "case_measurements.dcm"]}
    assert (tmp_path / "case_measurements.dcm").is_file()


def test_measurements_stay_where_their_structured_report_cannot_be_written(tmp_path):
    files = samples.write_samples(samples.dermoscopy(), tmp_path / "series")
    record = result_of(str(files[0]))
    (tmp_path / "case_mask.dcm").write_bytes(b"no DICOM")
    report, table = Report(), MeasurementTable(tmp_path / "measurements.csv")
    save = SaveMeasurementsd("pred", tmp_path, structured_report=True, report=report, table=table)
    assert len(save(record)["measurements"]) == 1
    assert "are written, but not their Structured Report: 'case_mask.dcm' cannot be read" in report.warnings["case"]
    assert report.files == {"case": ["case_measurements.json"]}
    assert list(table.cases) == ["case"]


def test_a_structured_report_of_a_photograph_is_not_written_and_said_so(tmp_path):
    report = Report()
    SaveMeasurementsd("pred", tmp_path, structured_report=True, report=report)(result_of(photo(tmp_path)))
    assert "refers to DICOM images and this is none" in report.warnings["case"]
    assert report.files == {"case": ["case_measurements.json"]}


def test_nothing_is_done_where_it_is_switched_off_or_the_case_has_failed(tmp_path):
    record = result_of(photo(tmp_path))
    out = tmp_path / "out"
    assert "measurements" not in SaveMeasurementsd("pred", out, enabled="false")(record)
    assert "measurements" not in SaveMeasurementsd("pred", out)({**record, "failure": "broken"})
    assert not out.exists()


def test_a_case_that_cannot_be_measured_keeps_its_mask_and_gets_a_warning(tmp_path):
    report, table = Report(), MeasurementTable(tmp_path / "measurements.csv")
    source = photo(tmp_path)
    record = result_of(source)
    Image.new("RGB", (7, 9)).save(source)  # exchanged while the network was at work
    SaveMeasurementsd("pred", tmp_path / "out", report=report, table=table)(record)
    assert "the mask is written, but not its measurements: the image has the shape" in report.warnings["case"]
    assert table.cases == {}
    SaveMeasurementsd("pred", tmp_path / "out", report=report, table=table, intensity=False)(record)
    assert list(table.cases) == ["case"]


def test_without_a_report_warnings_are_logged(tmp_path, caplog):
    (tmp_path / "out").write_text("a file in the way")
    SaveMeasurementsd("pred", tmp_path / "out")(result_of(photo(tmp_path)))
    assert "'case': the mask is written, but not its measurements" in caplog.text


def test_the_manifest_lists_measurements_behind_the_mask(tmp_path):
    source = photo(tmp_path)
    out = tmp_path / "out"
    report = RunReport(out, records=[{"name": "case", "image": source}])
    record = result_of(source)
    record = SaveResultd("pred", out, report=report)(record)
    SaveMeasurementsd("pred", out, report=report)(record)
    report.finish()
    (entry,) = json.loads((out / "manifest.json").read_text())["files"]
    assert (entry["result"], entry["also"]) == ("case_mask.png", ["case_measurements.json"])


def test_parts_and_tables_are_made_on_wish(tmp_path):
    record = result_of(photo(tmp_path))
    record["pred"][0, 15:18, 20:23] = 1
    table = MeasurementTable(tmp_path / "measurements.csv")
    SaveMeasurementsd("pred", tmp_path, components=True, table=table)(record)
    table.write()
    assert len((tmp_path / "measurements.csv").read_text().splitlines()) == 4  # head, whole, two parts
