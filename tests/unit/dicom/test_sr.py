from __future__ import annotations

import dataclasses
import logging

import highdicom as hd
import numpy as np
import pydicom
import pytest

from banet_monai.dicom import SeriesReader, write_seg
from banet_monai.dicom.parsing import DicomReadError
from banet_monai.dicom.sr import write_measurement_report
from banet_monai.measurements import measure
from tests import dicom_samples as samples

SECRETS = [*samples.PATIENT.values(), "ACC-SECRET"]
SECRETS.remove("O")


def ids_of(shape, *, label=1):
    """A label that is no box, in the middle of a picture or volume."""
    ids = np.zeros(shape, dtype=np.uint8)
    ids[3:11, 4:9] = label
    ids[5:8, 9:12] = label
    if len(shape) == 3:
        ids[..., 0] = 0
    return ids


@dataclasses.dataclass
class Case:
    """Sources, segmentation and measurements of one case, in files."""

    files: list
    seg: object
    found: list
    meta: dict
    ids: np.ndarray


def make(objects, folder, *, task="lung", label=1, by_slice=False, kind="binary", labels=("Lung",)):
    files = samples.write_samples(objects, folder / "series")
    reader = SeriesReader()
    image, meta = reader.get_data(reader.read(files))
    shape = tuple(int(n) for n in meta["spatial_shape"])
    ids = ids_of(shape, label=label)
    seg = write_seg(ids, files, folder / "seg.dcm", task=task, kind=kind)
    is_mm = meta["spacing_unit"] == "mm"
    affine = meta["affine"] if is_mm and meta["has_place"] else None
    spacing = np.linalg.norm(meta["affine"][:3, : len(shape)], axis=0) if is_mm and affine is None else None
    channels = np.moveaxis(image, -1, 0) if image.ndim > len(shape) else image
    found = measure(ids, affine=affine, spacing=spacing, labels=list(labels), image=channels, by_slice=by_slice)
    return Case(files, seg, found, meta, ids)


@pytest.fixture
def ct(tmp_path):
    return make(samples.ct_series(), tmp_path)


def change_all(objects, **attributes):
    for ds in objects:
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
    return objects


def groups_of(report):
    content = report.content
    return [
        *content.get_planar_roi_measurement_groups(),
        *content.get_volumetric_roi_measurement_groups(),
        *content.get_image_measurement_groups(),
    ]


def values_of(groups):
    """(meaning of the concept, meaning of the derivation or '') -> (value, unit)."""
    found = {}
    for group in groups:
        for item in group.get_measurements():
            derivation = item.derivation.meaning if item.derivation else ""
            found[item.name.meaning, derivation] = (float(item.value), item.unit.value)
    return found


def test_a_volume_reads_back_as_it_was_measured(ct, tmp_path):
    report = hd.sr.srread(write_measurement_report(ct.found, ct.seg, ct.files, tmp_path / "sr.dcm"))
    region, diameters = groups_of(report)
    (item,) = ct.found
    expected = {
        ("Volume", ""): (item.volume, "cm3"),
        ("Surface Area of Mesh", ""): (item.surface, "mm2"),
        ("Diameter of equal circle or ball", ""): (item.equivalent_diameter, "mm"),
        ("Sphericity", ""): (item.sphericity, "1"),
        ("Volume Density in Convex Hull", ""): (item.solidity, "1"),
        ("Asymmetry about principal axes", ""): (item.asymmetry, "1"),
        ("Distance to the border of the image", ""): (item.border_distance, "mm"),
        ("Number of components", ""): (1, "1"),
        ("Attenuation Coefficient", "Mean"): (item.intensity[0].mean, "[hnsf'U]"),
        ("Attenuation Coefficient", "Standard Deviation"): (item.intensity[0].standard_deviation, "[hnsf'U]"),
        ("Attenuation Coefficient", "Minimum"): (item.intensity[0].minimum, "[hnsf'U]"),
        ("Attenuation Coefficient", "Median"): (item.intensity[0].median, "[hnsf'U]"),
        ("Attenuation Coefficient", "Maximum"): (item.intensity[0].maximum, "[hnsf'U]"),
        ("Maximum 3D Diameter of a Mesh", ""): (item.longest_diameter.length, "mm"),
        ("Perpendicular Axis", ""): (item.perpendicular_diameter.length, "mm"),
    }
    found = values_of([region, diameters])
    assert found.keys() == expected.keys()
    for name, (value, unit) in expected.items():
        assert found[name] == (pytest.approx(value, rel=1e-9, abs=1e-9), unit)
    said = {answer.name.meaning: answer.value.meaning for answer in region.get_qualitative_evaluations()}
    assert said["Cut off at the border of the image"] == ("Yes" if item.cut_off else "No")


@pytest.mark.parametrize(
    ("changes", "is_hounsfield"),
    [
        ({"RescaleType": "HU"}, True),
        ({"RescaleType": ""}, True),
        ({"RescaleType": "MGML", "RescaleSlope": "0.1"}, False),
    ],
)
def test_values_of_a_ct_are_hounsfield_units_unless_the_object_states_another_unit(tmp_path, changes, is_hounsfield):
    case = make(change_all(samples.ct_series(), **changes), tmp_path)
    report = hd.sr.srread(write_measurement_report(case.found, case.seg, case.files, tmp_path / "sr.dcm"))
    units = {name[0]: unit for name, (_, unit) in values_of(groups_of(report)).items() if name[1] == "Mean"}
    meaning = "Attenuation Coefficient" if is_hounsfield else "Pixel value after modality transformation"
    assert units == {meaning: "[hnsf'U]" if is_hounsfield else "1"}


def test_a_volume_refers_to_its_segment_its_sources_and_points_of_the_patient(ct, tmp_path):
    report = hd.sr.srread(write_measurement_report(ct.found, ct.seg, ct.files, tmp_path / "sr.dcm"))
    seg = pydicom.dcmread(ct.seg)
    region, diameters = groups_of(report)
    reference = region.referenced_segment
    assert reference.referenced_sop_instance_uid == seg.SOPInstanceUID
    assert list(reference.referenced_segment_numbers) == [1]
    slices = np.flatnonzero(ct.ids.any(axis=(0, 1)))
    in_order = ct.meta["series_files"].split("\n")
    expected = {pydicom.dcmread(in_order[k]).SOPInstanceUID for k in slices}
    assert {image.referenced_sop_instance_uid for image in reference.source_images_for_segmentation} == expected

    (points,) = diameters.get_measurements()[0].referenced_coordinates
    line = ct.found[0].longest_diameter
    np.testing.assert_allclose(points.value, [line.start_lps, line.end_lps], rtol=1e-6)
    assert points.frame_of_reference_uid == seg.FrameOfReferenceUID
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"

    evidence = report.CurrentRequestedProcedureEvidenceSequence
    listed = {
        item.ReferencedSOPInstanceUID
        for study in evidence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert listed == {seg.SOPInstanceUID, *(pydicom.dcmread(path).SOPInstanceUID for path in ct.files)}


@pytest.mark.parametrize("make_sample", [samples.dermoscopy, samples.xray])
def test_a_picture_refers_to_a_frame_and_points_of_its_image(tmp_path, make_sample):
    case = make(make_sample(), tmp_path)
    report = hd.sr.srread(write_measurement_report(case.found, case.seg, case.files, tmp_path / "sr.dcm"))
    source, seg = pydicom.dcmread(case.files[0]), pydicom.dcmread(case.seg)
    region, diameters = groups_of(report)
    (item,) = case.found
    unit = "mm" if case.meta["spacing_unit"] == "mm" else "{pixels}"
    assert item.unit == case.meta["spacing_unit"]
    found = values_of([region, diameters])
    assert found["Area", ""] == (pytest.approx(item.area), "mm2" if unit == "mm" else "{pixels}")
    assert found["Perimeter", ""] == (pytest.approx(item.perimeter), unit)
    assert found["Long axis", ""] == (pytest.approx(item.longest_diameter.length), unit)
    assert found["Short axis", ""] == (pytest.approx(item.perpendicular_diameter.length), unit)

    (reference,) = region[0].ContentSequence.find(hd.sr.CodedConcept("121214", "DCM", "Referenced Segmentation Frame"))
    assert reference.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == seg.SOPInstanceUID
    assert int(reference.ReferencedSOPSequence[0].ReferencedFrameNumber) == 1
    (points,) = diameters.get_measurements()[0].referenced_coordinates
    line = item.longest_diameter
    np.testing.assert_allclose(points.value, np.array([line.start, line.end]) + 0.5, rtol=1e-6)
    selected = points.ContentSequence[0].ReferencedSOPSequence[0]
    assert selected.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert report.SOPClassUID.name == "Comprehensive SR Storage"


def test_frames_are_groups_of_their_own_that_name_their_frame(tmp_path):
    case = make(samples.ultrasound(), tmp_path, by_slice=True)
    report = hd.sr.srread(write_measurement_report(case.found, case.seg, case.files, tmp_path / "sr.dcm"))
    groups = report.content.get_planar_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == [f"Lung 1, frame {k}" for k in (2, 3, 4)]
    assert len({group.tracking_uid for group in groups}) == 3
    for group, item in zip(groups, case.found, strict=True):
        assert values_of([group])["Area", ""][0] == item.area
        source = group[0].ContentSequence.find(hd.sr.CodedConcept("121233", "DCM", "Source image for segmentation"))
        assert int(source[0].ReferencedSOPSequence[0].ReferencedFrameNumber) == item.slice + 1


def test_a_finding_is_what_the_segment_says(tmp_path):
    case = make(samples.dermoscopy(), tmp_path, task="skin_lesion", labels=["Skin lesion"])
    report = hd.sr.srread(write_measurement_report(case.found, case.seg, case.files, tmp_path / "sr.dcm"))
    for group in groups_of(report):
        assert (group.finding_type.value, group.finding_category.value) == ("95324001", "49755003")
        assert [site.value.value for site in group.finding_sites] == ["39937001"]
        assert group.tracking_identifier == "Skin lesion 1"


def test_a_tracking_identifier_of_the_segment_is_kept(tmp_path):
    case = make(samples.ct_series(), tmp_path)
    seg = write_seg(case.ids, case.files, tmp_path / "tracked.dcm", task="lung", tracking=True)
    item = pydicom.dcmread(seg).SegmentSequence[0]
    report = hd.sr.srread(write_measurement_report(case.found, seg, case.files, tmp_path / "sr.dcm"))
    assert {group.tracking_uid for group in groups_of(report)} == {item.TrackingUID}
    assert {group.tracking_identifier for group in groups_of(report)} == {item.TrackingID}


def test_a_label_without_pixels_is_reported_as_nothing(tmp_path):
    case = make(samples.ct_series(), tmp_path, task="hippocampus", label=2, labels=["anterior", "posterior"])
    report = hd.sr.srread(write_measurement_report(case.found, case.seg, case.files, tmp_path / "sr.dcm"))
    (volumetric,) = report.content.get_volumetric_roi_measurement_groups()
    empty = report.content.get_image_measurement_groups()[0]
    assert list(volumetric.referenced_segment.referenced_segment_numbers) == [2]
    assert values_of([empty])["Volume", ""] == (0, "cm3")
    assert empty.tracking_identifier == "anterior 1"


def test_an_empty_mask_is_reported_too(tmp_path):
    files = samples.write_samples(samples.dermoscopy(), tmp_path / "series")
    reader = SeriesReader()
    empty = np.zeros(reader.get_data(reader.read(files))[1]["spatial_shape"], dtype=np.uint8)
    seg = write_seg(empty, files, tmp_path / "seg.dcm", task="skin_lesion")
    found = measure(empty, labels=["Skin lesion"])
    report = hd.sr.srread(write_measurement_report(found, seg, files, tmp_path / "sr.dcm"))
    assert values_of(groups_of(report))["Area", ""] == (0, "{pixels}")


def test_components_are_left_out_and_alone_are_refused(ct, tmp_path):
    parts = [dataclasses.replace(ct.found[0], component=k) for k in (1, 2)]
    report = hd.sr.srread(write_measurement_report([*ct.found, *parts], ct.seg, ct.files, tmp_path / "sr.dcm"))
    assert len(report.content.get_volumetric_roi_measurement_groups()) == 1
    with pytest.raises(ValueError, match="no measurement of a whole label to report"):
        write_measurement_report(parts, ct.seg, ct.files, tmp_path / "no.dcm")
    assert not (tmp_path / "no.dcm").exists()


def test_each_report_is_an_object_of_its_own_in_the_study_of_its_images(ct, tmp_path):
    one, other = (
        pydicom.dcmread(write_measurement_report(ct.found, ct.seg, ct.files, tmp_path / name)) for name in ("a", "b")
    )
    source, seg = pydicom.dcmread(ct.files[0]), pydicom.dcmread(ct.seg)
    assert len({one.SOPInstanceUID, other.SOPInstanceUID, seg.SOPInstanceUID}) == 3
    assert len({one.SeriesInstanceUID, other.SeriesInstanceUID, seg.SeriesInstanceUID, source.SeriesInstanceUID}) == 4
    assert one.StudyInstanceUID == source.StudyInstanceUID
    assert (one.PatientID, str(one.PatientName), one.AccessionNumber) == ("ID-SECRET", "Doe^Secret", "ACC-SECRET")
    assert one.SeriesNumber == source.SeriesNumber + 2000
    assert one.SeriesDescription.endswith("(research)")
    assert (one.VerificationFlag, one.Modality) == ("UNVERIFIED", "SR")
    assert one.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_the_observer_is_the_program_and_the_algorithm_is_named(ct, tmp_path):
    path = write_measurement_report(ct.found, ct.seg, ct.files, tmp_path / "sr.dcm", algorithm_version="7.1")
    report = hd.sr.srread(path)
    (observer,) = report.content.get_observer_contexts()
    assert observer.observer_type.meaning == "Device"
    assert observer.observer_identifying_attributes.name == "BA-Net"
    text = str(pydicom.dcmread(path))
    assert "'BA-Net'" in text
    assert "'7.1'" in text


def test_parsed_objects_and_metadata_work_and_are_not_changed(ct, tmp_path):
    seg = pydicom.dcmread(ct.seg)
    before = seg.to_json()
    write_measurement_report(ct.found, seg, ct.meta, tmp_path / "sr.dcm")
    assert seg.to_json() == before
    again = hd.sr.srread(tmp_path / "sr.dcm")
    assert len(again.content.get_volumetric_roi_measurement_groups()) == 1


def test_words_in_other_letters_are_written_in_utf8(ct, tmp_path):
    found = [dataclasses.replace(ct.found[0], name="Lunge, groß")]
    path = write_measurement_report(found, ct.seg, ct.files, tmp_path / "sr.dcm", series_description="Größe")
    report = hd.sr.srread(path)
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert report.SeriesDescription == "Größe (research)"
    assert groups_of(report)[0].tracking_identifier == "Lunge, groß 1"
    assert str(report.PatientName) == "Doe^Secret"


def test_a_segmentation_of_other_images_is_refused(ct, tmp_path):
    other = samples.write_samples(samples.ct_series(seed=4), tmp_path / "other")
    with pytest.raises(ValueError, match="does not refer to these source images"):
        write_measurement_report(ct.found, ct.seg, other, tmp_path / "sr.dcm")


def test_labels_and_slices_that_are_not_there_are_refused(ct, tmp_path):
    with pytest.raises(ValueError, match=r"label 3 is no segment of the DICOM SEG, which has the segments \[1\]"):
        write_measurement_report([dataclasses.replace(ct.found[0], label=3)], ct.seg, ct.files, tmp_path / "sr.dcm")
    with pytest.raises(ValueError, match="of slice 99, but the source has"):
        write_measurement_report([dataclasses.replace(ct.found[0], slice=99)], ct.seg, ct.files, tmp_path / "sr.dcm")


def test_what_is_no_segmentation_is_refused(ct, tmp_path):
    with pytest.raises(DicomReadError, match="refers to a DICOM SEG, and this object is of another kind"):
        write_measurement_report(ct.found, ct.files[0], ct.files, tmp_path / "sr.dcm")
    with pytest.raises(FileNotFoundError, match="there is no DICOM SEG"):
        write_measurement_report(ct.found, tmp_path / "none.dcm", ct.files, tmp_path / "sr.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(DicomReadError, match=r"'text\.dcm' cannot be read as DICOM"):
        write_measurement_report(ct.found, tmp_path / "text.dcm", ct.files, tmp_path / "sr.dcm")


def test_patients_do_not_appear_in_logs_and_warnings(tmp_path, caplog, recwarn):
    objects = samples.ct_series()
    for ds in objects:
        ds.PatientID = "ID-SECRET"
        ds.PatientName = "Secret"  # retired form without ^, which highdicom quotes in a warning
        ds.PatientBirthDate = "1970-SECRET"
    case = make(objects, tmp_path)
    caplog.clear()  # pydicom quoted what it was told to write
    recwarn.clear()
    caplog.set_level(logging.DEBUG)
    said = []
    path = write_measurement_report(case.found, case.seg, case.files, tmp_path / "sr.dcm", warn=said.append)
    spoken = caplog.text + "".join(str(item.message) for item in recwarn) + "".join(said)
    assert "SECRET" not in spoken.upper()
    assert str(pydicom.dcmread(path).PatientName) == "Secret"


@pytest.mark.parametrize("kind", ["fractional", "labelmap"])
def test_other_kinds_of_segmentation_can_be_referred_to(tmp_path, kind):
    case = make(samples.ct_series(), tmp_path)
    mask = (case.ids[None] > 0) * 0.8 if kind == "fractional" else case.ids
    seg = write_seg(mask, case.files, tmp_path / "other.dcm", task="lung", kind=kind)
    report = hd.sr.srread(write_measurement_report(case.found, seg, case.files, tmp_path / "sr.dcm"))
    (region,) = report.content.get_volumetric_roi_measurement_groups()
    assert region.referenced_segment.referenced_sop_instance_uid == pydicom.dcmread(seg).SOPInstanceUID


def test_a_volume_of_one_column_lies_in_no_image_and_refers_to_none(tmp_path):
    files = samples.write_samples(samples.ct_series(), tmp_path / "series")
    reader = SeriesReader()
    meta = reader.get_data(reader.read(files))[1]
    ids = ids_of(tuple(int(n) for n in meta["spatial_shape"]))
    ids[:4] = ids[5:] = 0
    ids[..., 0] = ids[..., 1]  # in the first image too
    seg = write_seg(ids, files, tmp_path / "seg.dcm", task="lung")
    (item,) = measure(ids[4:5], spacing=(1, 0.8, 2), labels=["Lung"])
    assert (item.dimensions, item.slice) == (2, None)
    report = hd.sr.srread(write_measurement_report([item], seg, files, tmp_path / "sr.dcm"))
    assert report.content.get_planar_roi_measurement_groups() == []
    region, diameters = report.content.get_image_measurement_groups()
    assert values_of([region])["Area", ""] == (pytest.approx(item.pixels * 1.6), "mm2")
    assert diameters.get_measurements()[0].referenced_coordinates == []
