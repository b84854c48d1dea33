from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from banet_monai.transforms import DiscretizeLabelsd, SaveResultd, probability_key
from banet_monai.transforms.formats import case_warnings, fitting_format, output_formats, write_label_png
from tests.dicom_objects import image, series, write, write_all

DICOM = {"kind": "dicom", "layout": "volume"}
IRREGULAR = {"kind": "dicom", "layout": "slices"}
PICTURE = {"kind": "picture"}
NIFTI = {"kind": "nifti"}


def test_formats_are_a_name_a_text_with_commas_or_a_list_each_once() -> None:
    assert output_formats("auto") == ("auto",)
    assert output_formats("png, contours,png") == ("png", "contours")
    assert output_formats(["dicom-seg", "nifti"]) == ("dicom-seg", "nifti")
    with pytest.raises(ValueError, match=r"no format 'dicomseg'; .* Did you mean 'dicom-seg'\?"):
        output_formats("dicomseg")
    with pytest.raises(ValueError, match="no format is given"):
        output_formats([])


@pytest.mark.parametrize(
    ("wish", "seg_kind", "key"),
    [
        ("auto", "binary", ""),
        ("png,nifti", "labelmap", ""),
        ("dicom-seg", "binary", ""),
        ("png, contours", "binary", "probability"),
        ("dicom-seg", "fractional", "probability"),
        ("auto", "fractional", "probability"),  # slices without a volume become a DICOM SEG
    ],
)
def test_probabilities_are_kept_where_results_are_made_of_them(wish, seg_kind, key) -> None:
    assert probability_key(wish, seg_kind) == key


@pytest.mark.parametrize(
    ("wish", "meta", "shape", "form"),
    [
        ("auto", PICTURE, (1, 6, 4), "png"),
        ("auto", NIFTI, (1, 6, 4, 3), "nifti"),
        ("auto", DICOM, (1, 6, 4, 3), "nifti"),
        ("auto", IRREGULAR, (1, 6, 4, 3), "dicom-seg"),
        ("png", {"kind": "dicom", "layout": "picture"}, (1, 6, 4), "png"),
        ("png", NIFTI, (1, 6, 4, 1), "png"),
        ("nifti", PICTURE, (1, 6, 4), "nifti"),
        ("dicom-seg", DICOM, (1, 6, 4, 3), "dicom-seg"),
        ("contours", NIFTI, (1, 6, 4, 3), "contours"),
    ],
)
def test_a_case_is_written_in_the_format_that_is_wished_for(wish, meta, shape, form) -> None:
    assert fitting_format(wish, meta, shape) == (form, "")


@pytest.mark.parametrize(
    ("wish", "meta", "shape", "form", "warning"),
    [
        ("dicom-seg", PICTURE, (1, 6, 4), "png", "refers to DICOM images and this is none: written as png"),
        ("dicom-seg", NIFTI, (1, 6, 4, 3), "nifti", "refers to DICOM images and this is none: written as nifti"),
        ("png", DICOM, (1, 6, 4, 3), "nifti", "a volume cannot be a PNG: written as nifti"),
        ("png", IRREGULAR, (1, 6, 4, 3), "dicom-seg", "a volume cannot be a PNG: written as dicom-seg"),
        ("nifti", IRREGULAR, (1, 6, 4, 3), "dicom-seg", "no place in a NIfTI: written as dicom-seg"),
    ],
)
def test_a_case_that_cannot_take_a_format_takes_its_own_with_a_warning(wish, meta, shape, form, warning) -> None:
    taken, told = fitting_format(wish, meta, shape)
    assert taken == form
    assert told.endswith(warning)


def test_repairs_and_an_unexpected_modality_are_worth_a_warning() -> None:
    meta = {"modality": "MR", "repairs": "one repair\nanother one"}
    assert case_warnings(meta, ["CT", "DX"]) == [
        "one repair",
        "another one",
        "the modality is MR, but this task is made for CT, DX: do not rely on the result",
    ]
    assert case_warnings({"modality": "DX"}, ["CT", "DX"]) == []
    assert case_warnings({"modality": "DX"}, []) == []
    assert case_warnings({"kind": "picture"}, ["CT"]) == []


def picture_probability(values, **options) -> dict:
    record = {"pred": MetaTensor(torch.as_tensor(values), meta={"kind": "picture"}), "name": "a"}
    return DiscretizeLabelsd("pred", probability_key="probability", **options)(record)


def test_probabilities_are_kept_with_the_level_of_their_outline_when_asked_for() -> None:
    record = picture_probability([[[0.2, 0.4, 0.9]]], threshold=0.3)
    assert record["pred"].tolist() == [[[0, 1, 1]]]
    assert record["probability"].flatten().tolist() == pytest.approx([0.2, 0.4, 0.9])
    assert record["probability"].meta["level"] == 0.3
    assert "probability" not in DiscretizeLabelsd("pred")({"pred": torch.zeros(1, 2, 2)})


def test_a_nifti_in_micrometres_stays_in_micrometres(tmp_path: Path) -> None:
    pred = MetaTensor(torch.zeros(1, 3, 3, 3), meta={"kind": "nifti", "spacing_unit": "micron"})
    SaveResultd("pred", tmp_path)({"pred": pred, "name": "a"})
    assert nibabel.load(tmp_path / "a_mask.nii.gz").header.get_xyzt_units()[0] == "micron"


def outline(folder: Path) -> np.ndarray:
    """Points of the only ring of the first feature."""
    collection = json.loads((folder / "a_contours.geojson").read_text())
    geometry = collection["features"][0]["geometry"]
    assert geometry["type"] == "MultiPolygon"
    ((ring,),) = geometry["coordinates"]
    return np.array(ring)


def test_contours_follow_the_probability_below_the_pixel(tmp_path: Path) -> None:
    values = torch.zeros(1, 6, 5)
    values[0, 2:4, 1:4] = 1.0
    values[0, 4, 1:4] = 0.25  # half of the way down from 1 at column 3 to 0.25 at column 4 is 2/3 of a pixel for 0.5
    SaveResultd("pred", tmp_path, output_format="contours")(picture_probability(values))
    ring = outline(tmp_path)
    # Centre of column 3 is 3.5; the level 0.5 lies (1 - 0.5) / (1 - 0.25) = 2/3 pixel right of it.
    assert ring[:, 0].max() == pytest.approx(3.5 + 2 / 3, abs=2e-3)
    assert ring[:, 0].min() == pytest.approx(2.0, abs=2e-3)


def test_contours_of_several_classes_run_where_one_overtakes_the_other(tmp_path: Path) -> None:
    values = torch.zeros(3, 8, 4)
    values[0] = 1.0
    values[:, 2:6, 1:3] = torch.tensor([0.3, 0.4, 0.3])[:, None, None]  # the winner is below one half
    SaveResultd("pred", tmp_path, output_format="contours", num_classes=2)(
        picture_probability(values, mode="multiclass")
    )
    features = json.loads((tmp_path / "a_contours.geojson").read_text())["features"]
    assert [feature["properties"]["id"] for feature in features] == [1]
    ring = outline(tmp_path)
    assert 1.5 < ring[:, 0].min() < 2.5
    assert 5.5 < ring[:, 0].max() < 6.5


def test_several_formats_are_written_at_once(tmp_path: Path) -> None:
    record = picture_probability(np.eye(6)[None])
    SaveResultd("pred", tmp_path, output_format="auto,nifti,contours")(record)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a_contours.geojson", "a_contours.svg", "a_mask.nii.gz", "a_mask.png"]


def dicom_record(folder: Path) -> dict:
    from banet_monai.transforms import LoadCased

    paths = write_all(series(np.zeros((3, 4, 6), dtype=np.int16)), folder)
    image = LoadCased("image")({"image": [str(path) for path in paths]})["image"]
    probability = torch.zeros(image.shape)
    probability[0, 5, 1, 2] = 0.75  # column 5, row 1, slice 2
    return {"pred": MetaTensor(probability, meta=image.meta, affine=image.affine), "name": "a"}


def test_contours_of_a_series_have_points_in_the_patient(tmp_path: Path) -> None:
    record = DiscretizeLabelsd("pred")(dicom_record(tmp_path / "in"))
    SaveResultd("pred", tmp_path, output_format="contours", segments="lung")(record)
    (feature,) = json.loads((tmp_path / "a_contours.geojson").read_text())["features"]
    assert feature["properties"]["label"] == "Lung"
    assert feature["properties"]["slice"] == 2
    assert feature["properties"]["space_mm"] == "LPS"
    ((ring,),) = feature["geometry_mm"]["coordinates"]
    # Column 5 of 0.5 mm, row 1 of 0.8 mm, slice 2 of 2 mm from the origin.
    np.testing.assert_allclose(np.mean(ring[:-1], axis=0), (2.5, 0.8, 4.0), atol=1e-3)


def test_contours_of_an_x_ray_are_in_the_plane_of_the_picture(tmp_path: Path) -> None:
    from banet_monai.transforms import LoadCased

    path = write(
        image(np.zeros((4, 6), np.uint16), modality="DX", ImagerPixelSpacing=["0.3", "0.2"]), tmp_path / "x.dcm"
    )
    loaded = LoadCased("image")({"image": str(path)})["image"]
    ids = torch.zeros(loaded.shape, dtype=torch.uint8)
    ids[0, 5, 1] = 1
    SaveResultd("pred", tmp_path, output_format="contours")({"pred": MetaTensor(ids, meta=loaded.meta), "name": "a"})
    (feature,) = json.loads((tmp_path / "a_contours.geojson").read_text())["features"]
    assert feature["properties"]["space_mm"] == "picture"
    ((ring,),) = feature["geometry_mm"]["coordinates"]
    np.testing.assert_allclose(np.mean(ring[:-1], axis=0), (5.5 * 0.2, 1.5 * 0.3), atol=1e-3)


def test_a_segmentation_object_holds_the_mask_of_its_series(tmp_path: Path) -> None:
    hd = pytest.importorskip("highdicom", exc_type=ImportError)
    record = DiscretizeLabelsd("pred")(dicom_record(tmp_path / "in"))
    SaveResultd("pred", tmp_path, output_format="dicom-seg", segments="lung")(record)
    seg = hd.seg.segread(tmp_path / "a_mask.dcm")
    assert seg.SegmentationType == "BINARY"
    assert seg.NumberOfFrames == 1
    (row,), (column,) = np.nonzero(seg.pixel_array.reshape(4, 6))
    assert (column, row) == (5, 1)


def test_probabilities_go_into_a_fractional_segmentation_object(tmp_path: Path) -> None:
    hd = pytest.importorskip("highdicom", exc_type=ImportError)
    record = DiscretizeLabelsd("pred", probability_key="probability")(dicom_record(tmp_path / "in"))
    SaveResultd("pred", tmp_path, output_format="dicom-seg", segments="lung", seg_kind="fractional")(record)
    seg = hd.seg.segread(tmp_path / "a_mask.dcm")
    assert seg.SegmentationType == "FRACTIONAL"
    assert seg.pixel_array.reshape(4, 6)[1, 5] / seg.MaximumFractionalValue == pytest.approx(0.75, abs=1 / 255)


def test_a_segmentation_object_without_described_segments_is_refused(tmp_path: Path) -> None:
    record = DiscretizeLabelsd("pred")(dicom_record(tmp_path / "in"))
    with pytest.raises(RuntimeError, match="needs the segments described"):
        SaveResultd("pred", tmp_path, output_format="dicom-seg")(record)


def test_a_mask_takes_few_bytes_and_keeps_its_pixels(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.arange(512), np.arange(400), indexing="ij")
    disc = ((x - 200) ** 2 + (y - 180) ** 2 < 150**2).astype(np.uint8)
    path = write_label_png(tmp_path / "disc.png", disc)
    assert path.stat().st_size < 512 * 400 / 100  # of one byte each; zlib's search for repetitions takes twice that
    np.testing.assert_array_equal(np.asarray(Image.open(path)), 255 * disc.T)
