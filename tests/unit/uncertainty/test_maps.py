from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImaged
from PIL import Image

from banet_monai.report import RunReport
from banet_monai.uncertainty import SaveUncertaintyd, SplitUncertaintyd
from banet_monai.uncertainty.maps import write_map

OBLIQUE = np.array([[0.8, -0.6, 0.0, -20], [0.6, 0.8, 0.0, 5], [0.0, 0.0, 2.5, 40], [0, 0, 0, 1.0]])


class Report:
    def __init__(self) -> None:
        self.files: list[Path] = []
        self.facts: dict[str, Any] = {}
        self.warnings: list[str] = []

    def also(self, name: str, *results: str | Path) -> None:
        self.files += [Path(result) for result in results]

    def noted(self, name: str, facts: Mapping[str, Any]) -> None:
        self.facts[name] = dict(facts)

    def warned(self, name: str, text: str) -> None:
        self.warnings.append(text)


def channels(*, boundary: bool = False) -> torch.Tensor:
    """Logits of 3 x 2 pixels, of which the first row is inside, with variance 0.1, information 0.2, agreement 1."""
    logits = torch.tensor([[9.0, 9.0], [-9.0, -9.0], [-9.0, 0.0]])
    further = [torch.full((3, 2), value) for value in (0.1, 0.2, 1.0)]
    return torch.stack([logits, *further, *([torch.full((3, 2), 0.3)] if boundary else [])])


def maps(**meta: Any) -> dict[str, Any]:
    """A record as it comes to the saver, with maps that differ from pixel to pixel."""
    values = torch.zeros(3, 3, 2)
    values[0] = torch.tensor([[0.0, 1.0], [0.5, 0.25], [0.75, 0.0]])
    values[1, 2, 1] = 0.25
    record = {"pred": MetaTensor(torch.zeros(1, 3, 2), meta={"kind": "picture", **meta}), "uncertainty": values}
    return {
        **record,
        "name": "moles/one",
        "scores": {"expected_error": 0.123456, "near_entropy": 0.5, "disagreement": 0.0},
    }


def test_logits_alone_pass_as_they_are() -> None:
    logits = MetaTensor(torch.randn(1, 3, 2), meta={"a": 1})
    result = SplitUncertaintyd()({"pred": logits})
    assert set(result) == {"pred"}
    assert torch.equal(result["pred"], logits)
    assert result["pred"].meta["a"] == 1


def test_further_channels_become_maps_and_numbers() -> None:
    result = SplitUncertaintyd()({"pred": channels(boundary=True)})
    assert torch.equal(result["pred"], channels()[:1])
    entropy, variance, information = result["uncertainty"]
    assert entropy[2, 1].item() == 1.0  # a logit of 0
    assert entropy[0, 0].item() < 0.01
    assert torch.equal(variance, torch.full((3, 2), 0.1))
    assert torch.equal(information, torch.full((3, 2), 0.2))
    assert torch.equal(result["boundary"], torch.full((1, 3, 2), 0.3))
    # three pixels are inside, one of them with a probability of one half; the rest is certain
    assert result["scores"]["expected_error"] == pytest.approx(1 - 2.5 / 3, abs=1e-3)
    assert result["scores"]["disagreement"] == 0.0


def test_a_temperature_changes_maps_and_numbers_and_no_logit() -> None:
    plain = SplitUncertaintyd()({"pred": channels()})
    result = SplitUncertaintyd(temperature=2.0)({"pred": channels()})
    assert torch.equal(result["pred"], channels()[:1])
    probability = (channels()[0] / 2).sigmoid()
    inside = channels()[0] >= 0
    expected = 1 - float(probability[inside].sum() / (inside.sum() + probability[~inside].sum()))
    assert result["scores"]["expected_error"] == pytest.approx(expected, abs=1e-6)
    assert result["scores"]["expected_error"] > plain["scores"]["expected_error"]
    assert result["scores"]["disagreement"] == plain["scores"]["disagreement"]
    assert result["scores"]["temperature"] == 2.0
    assert "temperature" not in plain["scores"]


def test_a_boundary_map_may_come_alone() -> None:
    result = SplitUncertaintyd()({"pred": torch.cat([torch.zeros(1, 3, 2), torch.full((1, 3, 2), 0.3)])})
    assert result["pred"].shape == (1, 3, 2)
    assert "uncertainty" not in result
    assert "scores" not in result
    assert result["boundary"].shape == (1, 3, 2)


def test_classes_that_exclude_each_other_count_as_one_foreground() -> None:
    logits = torch.tensor([0.0, 9.0, 9.0]).reshape(3, 1, 1).expand(3, 2, 2)
    further = torch.tensor([0.0, 0.0, 1.0]).reshape(3, 1, 1).expand(3, 2, 2)
    result = SplitUncertaintyd(out_channels=3, activation="softmax")({"pred": torch.cat([logits, further])})
    assert result["pred"].shape == (3, 2, 2)
    assert result["scores"]["expected_error"] == pytest.approx(0.0, abs=1e-3)  # surely foreground ...
    assert result["uncertainty"][0, 0, 0].item() == pytest.approx(np.log(2) / np.log(3), abs=1e-2)  # ... of either kind


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("count", [1, 4])
def test_values_that_are_no_numbers_make_the_case_a_failure(value: float, count: int) -> None:
    pred = torch.zeros(count, 3, 2)
    pred[0, 1, 1] = value
    result = SplitUncertaintyd()({"pred": pred, "failure": ""})
    assert "no numbers (NaN or infinite)" in result["failure"]
    assert "uncertainty" not in result
    assert result["pred"].shape == (1, 3, 2)


def test_a_case_that_has_failed_before_keeps_its_reason() -> None:
    result = SplitUncertaintyd()({"pred": channels(), "failure": "mole.png is empty"})
    assert result["failure"] == "mole.png is empty"
    assert "uncertainty" not in result


def test_a_number_of_channels_that_nobody_sends_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'pred' has 3 channels; 1 logits and 0, 1, 3 or 4 further"):
        SplitUncertaintyd()({"pred": torch.zeros(3, 2, 2)})


def test_maps_of_a_picture_are_pngs_of_16_bits_as_it_is_looked_at(tmp_path: Path) -> None:
    report = Report()
    SaveUncertaintyd(output_dir=tmp_path, method="tta", samples=8, report=report)(maps())
    assert [path.name for path in report.files] == ["one_uncertainty.png", "one_variance.png"]
    with Image.open(tmp_path / "moles" / "one_uncertainty.png") as picture:
        assert picture.mode == "I;16"
        assert np.asarray(picture).tolist() == [[0, 32768, 49151], [65535, 16384, 0]]  # rows are y; halves go to even
    with Image.open(tmp_path / "moles" / "one_variance.png") as picture:
        assert np.asarray(picture)[1, 2] == 65535  # 0.25 is the largest variance of a probability


def test_the_number_of_the_case_is_noted_with_how_it_came_about() -> None:
    report = Report()
    SaveUncertaintyd(output_dir="unused", method="mc_dropout", samples=8, maps=(), report=report)(maps())
    numbers = {"expected_error": 0.1235, "near_entropy": 0.5, "disagreement": 0.0}
    assert report.facts == {
        "moles/one": {"uncertainty": {"score": 0.1235, "method": "mc_dropout", "samples": 8, **numbers}}
    }


def test_one_pass_has_no_variance_to_write(tmp_path: Path) -> None:
    report = Report()
    SaveUncertaintyd(output_dir=tmp_path, method="entropy", samples=8, report=report)(maps())
    assert [path.name for path in report.files] == ["one_uncertainty.png"]
    assert "samples" not in report.facts["moles/one"]["uncertainty"]


def test_a_boundary_map_is_written_without_any_uncertainty(tmp_path: Path) -> None:
    record = {**maps(), "boundary": torch.full((1, 3, 2), 0.5)}
    del record["uncertainty"], record["scores"]
    SaveUncertaintyd(output_dir=tmp_path)(record)
    assert [path.name for path in tmp_path.rglob("*.png")] == ["one_boundary.png"]


def test_maps_of_a_volume_are_nifti_in_its_place(tmp_path: Path) -> None:
    values = torch.rand(3, 4, 3, 2)
    meta = {"kind": "nifti", "affine": torch.from_numpy(OBLIQUE), "sform_code": 2, "spacing_unit": "mm"}
    record = {"pred": MetaTensor(torch.zeros(1, 4, 3, 2), meta=meta), "uncertainty": values, "name": "scan"}
    SaveUncertaintyd(output_dir=tmp_path, method="tta", maps=("entropy", "mutual_information"))(record)
    image: Any = nibabel.load(tmp_path / "scan_uncertainty.nii.gz")
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(image.get_fdata(), values[0].double().numpy())
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-6)
    assert image.header["sform_code"] == 2
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (tmp_path / "scan_information.nii.gz").is_file()


def test_slices_without_a_volume_keep_their_number_and_say_that_there_is_no_map(tmp_path: Path) -> None:
    report = Report()
    SaveUncertaintyd(output_dir=tmp_path, method="tta", report=report)(maps(kind="dicom", layout="slices"))
    assert report.files == []
    assert "moles/one" in report.facts
    assert report.warnings == ["slices that form no regular volume have no place in a NIfTI: no map was written"]


def test_nothing_is_done_for_records_without_maps_or_with_a_failure(tmp_path: Path) -> None:
    report = Report()
    saver = SaveUncertaintyd(output_dir=tmp_path, report=report)
    saver({"pred": torch.zeros(1, 3, 2), "name": "plain"})
    saver({**maps(), "failure": "it is broken"})
    assert (list(tmp_path.iterdir()), report.files, report.facts) == ([], [], {})


def test_monai_label_takes_the_saver_out_of_the_chain_by_its_type() -> None:
    assert isinstance(SaveUncertaintyd(), SaveImaged)


def test_a_map_that_cannot_be_written_is_a_warning_and_the_mask_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    report = Report()
    SaveUncertaintyd(output_dir=tmp_path, method="tta", maps=("entropy",), report=report)(maps())
    assert report.warnings == ["'one_uncertainty' cannot be written: No space left on device; the mask is there"]
    assert "moles/one" in report.facts
    with pytest.raises(OSError, match=r"No space left"):
        SaveUncertaintyd(output_dir=tmp_path, method="tta")(maps())


def test_warnings_without_a_report_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        SaveUncertaintyd(output_dir=tmp_path, method="tta")(maps(kind="dicom", layout="slices"))
    assert "no map was written" in caplog.text


def test_the_manifest_has_the_number_and_the_files(tmp_path: Path) -> None:
    report = RunReport(tmp_path, records=[{"name": "moles/one", "image": "moles/one.png"}])
    report.done("moles/one", tmp_path / "moles" / "one_mask.png")
    SaveUncertaintyd(output_dir=tmp_path, method="tta", samples=4, report=report)(maps())
    report.finish()
    entry = json.loads((tmp_path / "manifest.json").read_text())["files"][0]
    assert entry["also"] == ["moles/one_uncertainty.png", "moles/one_variance.png"]
    assert entry["uncertainty"]["score"] == 0.1235
    assert entry["uncertainty"]["method"] == "tta"


def test_a_map_beyond_its_scale_is_cut_and_a_flat_last_axis_is_no_volume(tmp_path: Path) -> None:
    path = write_map(tmp_path / "a", torch.tensor([[[2.0], [-1.0]]]), meta={"kind": "picture"}, largest=1.0)
    with Image.open(path) as picture:
        assert np.asarray(picture).tolist() == [[65535], [0]]


@pytest.mark.parametrize("options", [{"method": "dropout"}, {"maps": ("entropi",)}, {"score": "mean"}])
def test_unknown_words_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is none of"):
        SaveUncertaintyd(**options)
    with pytest.raises(ValueError, match=r"activation must be one of"):
        SplitUncertaintyd(activation="tanh")
