from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, SaveImaged
from numpy.typing import NDArray
from PIL import Image

from banet_monai.report import RunReport
from banet_monai.transforms import (
    DiscretizeLabelsd,
    DropChannel2Dd,
    LoadCased,
    NormalizeImaged,
    RestoreGridd,
    SaveResultd,
    ToWorkingGridd,
)
from banet_monai.transforms.formats import write_label_nifti
from banet_monai.transforms.saving import result_overlay

OBLIQUE = np.array([[0.8, -0.6, 0.0, -20], [0.6, 0.8, 0.0, 5], [0.0, 0.0, 2.5, 40], [0, 0, 0, 1.0]])


class Report:
    def __init__(self) -> None:
        self.results: dict[str, Path] = {}
        self.failures: dict[str, str] = {}
        self.warnings: dict[str, str] = {}

    def done(self, name: str, *results: str | Path) -> None:
        self.results[name] = Path(results[0])

    def warned(self, name: str, text: str) -> None:
        self.warnings[name] = text

    def failed(self, name: str, reason: str) -> None:
        self.failures[name] = reason


def discretize(probabilities: Any, **options: Any) -> torch.Tensor:
    return DiscretizeLabelsd("pred", **options)({"pred": torch.as_tensor(probabilities)})["pred"]


def picture_ids(ids: Any, **meta: Any) -> MetaTensor:
    """Label ids (1, W, H) of a picture."""
    return MetaTensor(torch.as_tensor(ids, dtype=torch.uint8)[None], meta={"kind": "picture", **meta})


# --- label ids


def test_binary_probabilities_are_foreground_from_the_threshold_on() -> None:
    ids = discretize([[[0.0, 0.49, 0.5, 1.0]]])
    assert ids.dtype == torch.uint8
    assert ids.tolist() == [[[0, 0, 1, 1]]]
    assert discretize([[[0.2, 0.4]]], threshold=0.3).tolist() == [[[0, 1]]]


def test_multiclass_takes_the_largest() -> None:
    assert discretize([[[0.8, 0.1, 0.2]], [[0.1, 0.7, 0.2]], [[0.1, 0.2, 0.6]]], mode="multiclass").tolist() == [
        [[0, 1, 2]]
    ]


def test_overlapping_classes_go_to_the_more_probable_one_above_the_threshold() -> None:
    probabilities = [[[0.4, 0.9, 0.6]], [[0.3, 0.6, 0.8]]]
    assert discretize(probabilities, mode="multilabel").tolist() == [[[0, 1, 2]]]


def test_channels_that_do_not_fit_the_mode_are_refused() -> None:
    with pytest.raises(ValueError, match="mode 'binary' does not fit 2 channels"):
        discretize(torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match="mode 'multiclass' does not fit 1 channels"):
        discretize(torch.zeros(1, 3, 3), mode="multiclass")


def test_label_ids_keep_the_meta_of_the_probabilities() -> None:
    pred = MetaTensor(torch.rand(1, 3, 3), affine=torch.as_tensor(OBLIQUE), meta={"kind": "nifti"})
    ids = DiscretizeLabelsd("pred")({"pred": pred})["pred"]
    np.testing.assert_allclose(ids.affine.numpy(), OBLIQUE)
    assert ids.meta["kind"] == "nifti"


def test_monai_label_gets_pictures_without_a_channel_and_planes_and_volumes_with_three_axes() -> None:
    def shape_of(kind: str, *size: int) -> tuple[int, ...]:
        pred = MetaTensor(torch.zeros(1, *size), meta={"kind": kind})
        image = MetaTensor(torch.zeros(3, *size), meta={"spatial_shape": np.asarray(size)})
        result = DropChannel2Dd("pred")({"pred": pred, "image": image})
        if kind != "picture":  # where MONAI Label compares
            assert tuple(result["image"].meta["spatial_shape"]) == tuple(result["pred"].shape[1:])
        return tuple(result["pred"].shape)

    assert shape_of("picture", 6, 4) == (6, 4)
    assert shape_of("nifti", 6, 4) == (1, 6, 4, 1)
    assert shape_of("dicom", 6, 4) == (1, 6, 4, 1)
    assert shape_of("nifti", 6, 4, 1) == (1, 6, 4, 1)
    assert shape_of("nifti", 6, 4, 3) == (1, 6, 4, 3)
    assert DropChannel2Dd("pred")({"pred": torch.zeros(1, 6, 4)})["pred"].shape == (6, 4)


@pytest.mark.parametrize(
    ("kind", "file", "asked", "suffix"),
    [
        ("picture", "a.png", None, ".png"),
        ("picture", "a.TIFF", None, ".tiff"),
        ("picture", "a.jpg", None, ".png"),
        ("picture", "a.jpg", ".tif", ".tif"),
        ("picture", "a.jpg", "", ".png"),
        ("nifti", "a.nii.gz", None, ".nii.gz"),
        ("nifti", "a.nii", None, ".nii"),
        ("nifti", "a.nii", ".nrrd", ".nrrd"),
        ("dicom", "a.dcm", None, ".nii.gz"),
        ("dicom", "folder", None, ".nii.gz"),
    ],
)
def test_a_request_of_monai_label_that_names_no_kind_of_file_gets_one_that_holds_label_ids(
    kind: str, file: str, asked: str | None, suffix: str
) -> None:
    pred = MetaTensor(torch.zeros(1, 6, 4), meta={"kind": kind})
    request = {"pred": pred, "image_path": f"/somewhere/{file}", "result_extension": asked}
    assert DropChannel2Dd("pred")(request)["result_extension"] == suffix


def test_outside_monai_label_no_kind_of_file_is_named() -> None:
    assert "result_extension" not in DropChannel2Dd("pred")({"pred": torch.zeros(1, 6, 4)})


# --- pictures


def test_one_class_is_written_as_0_and_255_with_x_along_columns(tmp_path: Path) -> None:
    ids = np.zeros((6, 4), dtype=np.uint8)
    ids[5, 1] = 1  # column 5, row 1
    SaveResultd("pred", tmp_path)({"pred": picture_ids(ids), "name": "sub/a"})
    written = np.asarray(Image.open(tmp_path / "sub" / "a_mask.png"))
    assert written.shape == (4, 6)
    assert written[1, 5] == 255
    assert written.sum() == 255


def test_several_classes_are_written_as_ids_in_indexed_colour(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    SaveResultd("pred", tmp_path, num_classes=3)({"pred": picture_ids(ids), "name": "a"})
    with Image.open(tmp_path / "a_mask.png") as written:
        assert written.mode == "P"
        np.testing.assert_array_equal(np.asarray(written), ids.T)
        colours = np.asarray(written.convert("RGB")).reshape(-1, 3)
    assert len({tuple(colour) for colour in colours.tolist()}) == 4
    assert tuple(colours[0]) == (0, 0, 0)
    assert LoadCased("label")({"label": str(tmp_path / "a_mask.png")})["label"][0].tolist() == ids.tolist()


def test_without_a_name_the_images_own_is_taken(tmp_path: Path) -> None:
    ids = np.zeros((6, 4))
    SaveResultd("pred", tmp_path)({"pred": picture_ids(ids, filename_or_obj="/x/lesion.jpg")})
    volume = MetaTensor(torch.zeros(1, 3, 3, 3), meta={"filename_or_obj": "/x/ct.nii.gz"})
    SaveResultd("pred", tmp_path)({"pred": volume})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct_mask.nii.gz", "lesion_mask.png"]


def test_a_volume_that_is_wanted_as_png_is_written_as_nifti_with_a_warning(tmp_path: Path) -> None:
    report = Report()
    save = SaveResultd("pred", tmp_path, output_format="png", report=report)
    save({"pred": MetaTensor(torch.zeros(1, 3, 3, 3)), "name": "a"})
    assert report.warnings == {"a": "a volume cannot be a PNG: written as nifti"}
    assert report.results["a"].name == "a_mask.nii.gz"


# --- volumes


@pytest.mark.parametrize(
    ("kind", "unit", "layout", "written_unit"),
    [
        ("nifti", "mm", "volume", "mm"),
        ("nifti", "micron", "volume", "micron"),
        ("dicom", "mm", "volume", "mm"),
        ("dicom", "px", "volume", "unknown"),  # NIfTI has no unit for pixels
        ("dicom", "mm", "frames", "unknown"),  # nor for what lies between frames
    ],
)
def test_volumes_are_written_as_uint8_nifti_on_the_grid_of_their_image_in_its_unit(
    tmp_path: Path, kind: str, unit: str, layout: str, written_unit: str
) -> None:
    ids = torch.randint(0, 3, (1, 6, 5, 4), dtype=torch.uint8)
    meta = {"kind": kind, "spacing_unit": unit, "layout": layout}
    pred = MetaTensor(ids, affine=torch.as_tensor(OBLIQUE), meta=meta)
    SaveResultd("pred", tmp_path)({"pred": pred, "name": "a"})
    written = nibabel.load(tmp_path / "a_mask.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), ids[0].numpy())
    assert written.get_data_dtype() == np.uint8
    assert written.header.get_xyzt_units()[0] == written_unit
    for affine, code in (written.get_sform(coded=True), written.get_qform(coded=True)):
        np.testing.assert_allclose(affine, OBLIQUE, atol=1e-5)
        assert code == 1


def test_frames_are_drawn_in_their_order_whatever_the_size_of_their_pixels(tmp_path: Path) -> None:
    frames = torch.arange(5.0).expand(1, 16, 12, 5).clone() * 50
    ids = torch.zeros(1, 16, 12, 5, dtype=torch.uint8)
    ids[:, 4:10, 3:8] = 1
    for side in (0.8, 4.0):
        meta = {"kind": "dicom", "spacing_unit": "mm", "layout": "frames"}
        affine = torch.diag(torch.tensor([-side, -side, 1.0, 1.0]))
        drawn = result_overlay(MetaTensor(frames, affine=affine, meta=meta), MetaTensor(ids, affine=affine, meta=meta))
        parts = np.array_split(drawn[..., 2].astype(float), 5, axis=1)
        corners = [part[part.shape[0] // 2 - 30 : part.shape[0] // 2 - 20].mean() for part in parts]
        assert corners == sorted(corners), side
        assert corners[-1] - corners[0] > 100, side


def test_the_meaning_of_the_coordinates_is_taken_from_the_image(tmp_path: Path) -> None:
    pred = MetaTensor(torch.zeros(1, 3, 3, 3), meta={"kind": "nifti", "sform_code": 4})
    SaveResultd("pred", tmp_path)({"pred": pred, "name": "a"})
    assert int(nibabel.load(tmp_path / "a_mask.nii.gz").header["sform_code"]) == 4


def test_a_sheared_affine_is_kept_and_no_qform_contradicts_it(tmp_path: Path) -> None:
    sheared = np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    write_label_nifti(tmp_path / "a.nii.gz", np.zeros((3, 3, 3), dtype=np.uint8), affine=sheared)
    written = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(written.affine, sheared)
    assert int(written.header["qform_code"]) == 0


def chain(output_dir: Path, **options: Any) -> Compose:
    """The steps of inference with an image's own brightness as the prediction."""
    return Compose(
        [
            LoadCased("image", in_channels=1),
            ToWorkingGridd("image", image_size=24),
            NormalizeImaged("image", intensity="percentiles", in_channels=1, percentiles=(0, 100), mean=(0,), std=(1,)),
            lambda data: {**data, "pred": data["image"].as_tensor()},
            RestoreGridd("pred"),
            DiscretizeLabelsd("pred"),
            SaveResultd("pred", output_dir, **options),
        ]
    )


def bright_box(*shape: int) -> NDArray[np.uint8]:
    values = np.zeros(shape, dtype=np.uint8)
    values[tuple(slice(size // 4, 3 * size // 4) for size in shape)] = 200
    return values


def dice(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_a_mask_lies_on_its_picture(tmp_path: Path) -> None:
    rows = bright_box(40, 60)
    rows[:20] = 0  # no symmetry
    Image.fromarray(rows).save(tmp_path / "a.png")
    chain(tmp_path)({"image": str(tmp_path / "a.png"), "name": "a"})
    written = np.asarray(Image.open(tmp_path / "a_mask.png"))
    assert dice(written > 0, rows > 0) > 0.95


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (40, 60, 5), (5, 40, 60)])
def test_a_mask_lies_on_its_volume_whatever_its_rank(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = bright_box(*shape[: min(len(shape), 3)]) if 1 not in shape else bright_box(40, 60)[..., None]
    affine = np.diag([5.0, 1, 1, 1]) if shape[0] == 5 else np.diag([1.0, 1, 5, 1]) @ OBLIQUE
    nibabel.Nifti1Image(values, affine).to_filename(tmp_path / "a.nii.gz")
    chain(tmp_path)({"image": str(tmp_path / "a.nii.gz"), "name": "a"})
    source, written = nibabel.load(tmp_path / "a.nii.gz"), nibabel.load(tmp_path / "a_mask.nii.gz")
    assert written.shape == source.shape
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)
    assert dice(np.asanyarray(written.dataobj) > 0, values > 0) > 0.9


# --- failures


def test_a_record_with_a_failure_writes_nothing_and_is_reported(tmp_path: Path) -> None:
    report = Report()
    SaveResultd("pred", tmp_path, report=report)(
        {"pred": torch.zeros(1, 3, 3), "name": "a", "failure": "a.png is empty"}
    )
    assert report.failures == {"a": "a.png is empty"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["picture", "nifti"])
def test_a_full_disk_fails_the_case_leaves_no_half_file_and_the_next_one_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    report = Report()
    save = SaveResultd("pred", tmp_path, report=report)
    shape = (1, 6, 4) if kind == "picture" else (1, 6, 4, 3)
    pred = MetaTensor(torch.zeros(shape, dtype=torch.uint8), meta={"kind": kind})

    def full(*args: object, **options: object) -> None:
        Path(str(args[1])).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(args[1]))

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        patch.setattr(nibabel.Nifti1Image, "to_filename", full)
        save({"pred": pred, "name": "a"})
    save({"pred": pred, "name": "b"})
    assert "No space left on device; free some space" in report.failures["a"]
    assert str(tmp_path) not in report.failures["a"]
    assert list(report.results) == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == [report.results["b"].name]


def test_a_folder_that_cannot_be_written_to_fails_the_case(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where a folder is wanted")
    report = Report()
    save = SaveResultd("pred", tmp_path / "out", report=report)
    result = save({"pred": picture_ids(np.zeros((3, 3))), "name": "a"})
    assert "cannot be written" in report.failures["a"]
    assert result["failure"] == report.failures["a"]  # so that nothing else is made of it


def test_without_a_report_a_failure_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="'a' has no result: broken"):
        SaveResultd("pred", tmp_path)({"pred": torch.zeros(1, 3, 3), "name": "a", "failure": "broken"})


def test_it_tells_a_run_report(tmp_path: Path) -> None:
    report = RunReport(tmp_path)
    SaveResultd("pred", tmp_path, report=report)({"pred": picture_ids(np.zeros((3, 3))), "name": "sub/a"})
    assert report.results == {"sub/a": ["sub/a_mask.png"]}


def test_it_is_a_save_imaged_so_that_monai_label_takes_it_out() -> None:
    assert isinstance(SaveResultd("pred"), SaveImaged)


# --- overlays


def test_an_overlay_shows_the_original_pixels_with_an_outline(tmp_path: Path) -> None:
    rows = np.full((40, 60), 100, dtype=np.uint8)
    rows[10:30, 15:45] = 200
    Image.fromarray(rows).save(tmp_path / "a.png")
    chain(tmp_path / "out", overlay=True)({"image": str(tmp_path / "a.png"), "name": "a"})
    shown = np.asarray(Image.open(tmp_path / "out" / "a_overlay.png"))
    assert shown.shape == (40, 60, 3)
    assert (shown[0] == 100).all()
    assert (shown[18:22, 28:32] == 200).all()
    assert (shown[20, 13:18].max(axis=1) > shown[20, 13:18].min(axis=1)).any()  # a coloured line


def test_an_overlay_of_a_volume_is_a_row_of_slices(tmp_path: Path) -> None:
    nibabel.Nifti1Image(bright_box(40, 60, 12), np.diag([1.0, 1, 3, 1])).to_filename(tmp_path / "a.nii.gz")
    chain(tmp_path / "out", overlay=True)({"image": str(tmp_path / "a.nii.gz"), "name": "a"})
    shown = np.asarray(Image.open(tmp_path / "out" / "a_overlay.png"))
    assert shown.shape[1] > 4 * shown.shape[0]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a_mask.nii.gz", "a_overlay.png"]


def test_unknown_formats_kinds_and_modes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no format 'niftii'; .* Did you mean 'nifti'\?"):
        SaveResultd("pred", output_format="png, niftii")
    with pytest.raises(ValueError, match="seg_kind must be one of"):
        SaveResultd("pred", seg_kind="surface")
    with pytest.raises(ValueError, match="mode must be one of"):
        DiscretizeLabelsd("pred", mode="softmax")


def test_as_many_segments_as_classes_must_be_described() -> None:
    with pytest.raises(ValueError, match=r"2 segments are described \(.*\), but the network has 1 foreground classes"):
        SaveResultd("pred", segments="hippocampus")
    SaveResultd("pred", segments="hippocampus", num_classes=2)
