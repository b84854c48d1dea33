from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from banet_monai.report.contours import outlines, read_contours, write_contours
from banet_monai.report.overlays import PALETTE

SVG = "{http://www.w3.org/2000/svg}"
METADATA = "{urn:banet-monai:contours}"

# Column directions (0.6, 0.8, 0), (0, 0, -1), (-0.8, 0.6, 0) of RAS, voxels of 2 x 0.5 x 3 mm
OBLIQUE = np.array([[1.2, 0.0, -2.4, 10.0], [1.6, 0.0, 1.8, 20.0], [0.0, -0.5, 0.0, 30.0], [0.0, 0.0, 0.0, 1.0]])


def ids_of(shape: tuple[int, ...], *boxes: tuple[slice, ...]) -> np.ndarray:
    """Label id 1 in the first box, 2 in the second, and so on."""
    ids = np.zeros(shape, dtype=np.uint8)
    for number, place in enumerate(boxes, start=1):
        ids[place] = number
    return ids


def written(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def points_of(geometry: dict[str, Any]) -> np.ndarray:
    return np.array([point for polygon in geometry["coordinates"] for ring in polygon for point in ring])


def path_points(path: ElementTree.Element) -> np.ndarray:
    numbers = re.findall(r"[\d.]+", path.get("d", ""))
    return np.array(numbers, dtype=float).reshape(-1, 2)


@pytest.fixture
def two_boxes(tmp_path: Path) -> list[Path]:
    ids = ids_of((20, 12), (slice(2, 8), slice(3, 7)), (slice(8, 15), slice(3, 12)))
    return write_contours(tmp_path / "case.v1", ids, labels=["lesion", "<rim> & more"], has_place=False)


def test_a_picture_gives_a_geojson_and_an_svg(two_boxes: list[Path]) -> None:
    assert [path.name for path in two_boxes] == ["case.v1_contours.geojson", "case.v1_contours.svg"]
    assert sorted(path.name for path in two_boxes[0].parent.iterdir()) == sorted(path.name for path in two_boxes)


def test_every_label_is_a_feature_with_name_and_measures(two_boxes: list[Path]) -> None:
    first, second = written(two_boxes[0])["features"]
    straight, corner = 0.5, 0.5**0.5  # of 2 (w + h) pixel sides, four pairs of halves are cut into diagonals
    assert first["properties"] == {
        "label": "lesion",
        "id": 1,
        "area_px2": 6 * 4 - 0.5,
        "perimeter_px": round(2 * (6 + 4) - 8 * straight + 4 * corner, 3),
    }
    assert second["properties"]["label"] == "<rim> & more"
    assert second["properties"]["id"] == 2
    assert second["geometry"]["type"] == "MultiPolygon"
    points = points_of(second["geometry"])
    np.testing.assert_array_equal([points.min(axis=0), points.max(axis=0)], [[8, 3], [15, 12]])
    assert "geometry_mm" not in second


def test_the_file_says_what_its_coordinates_are(two_boxes: list[Path]) -> None:
    said = written(two_boxes[0])["banet"]
    assert "not WGS84" in said["coordinates"]
    assert said["size"] == [20, 12]
    assert said["labels"] == [{"id": 1, "label": "lesion"}, {"id": 2, "label": "<rim> & more"}]
    assert said["outline"] == "half way between the pixels of a label and others"
    assert said["tolerance"] == 0.0
    assert not any("case" in path.read_text(encoding="utf-8") for path in two_boxes)


def test_holes_are_inner_rings_closed_and_oriented(tmp_path: Path) -> None:
    ids = ids_of((20, 20), (slice(2, 18), slice(2, 18)))
    ids[5:14, 5:14] = 0
    ids[8:11, 8:11] = 1
    collection = written(write_contours(tmp_path / "a", ids, labels=["ring"], has_place=False)[0])
    polygons = collection["features"][0]["geometry"]["coordinates"]
    assert sorted(len(polygon) for polygon in polygons) == [1, 2]
    for polygon in polygons:
        for place, ring in enumerate(polygon):
            assert ring[0] == ring[-1]
            x, y = np.array(ring).T
            area = (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2
            assert (area > 0) == (place == 0)
    properties = collection["features"][0]["properties"]
    assert properties["area_px2"] == (256 - 0.5) - (81 - 0.5) + (9 - 0.5)


def test_numbers_are_rounded_to_a_thousandth(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((1, 20, 20)).astype(np.float32)
    collection = written(write_contours(tmp_path / "a", values, labels=["a"], has_place=False)[0])
    points = points_of(collection["features"][0]["geometry"])
    np.testing.assert_array_equal(points, np.round(points, 3))


def test_an_empty_mask_gives_empty_files(tmp_path: Path) -> None:
    files = write_contours(tmp_path / "a", np.zeros((9, 7), dtype=np.uint8), labels=["lesion"], has_place=False)
    assert written(files[0])["type"] == "FeatureCollection"
    assert written(files[0])["features"] == []
    root = ElementTree.parse(files[1]).getroot()
    assert root.get("viewBox") == "0 0 9 7"
    assert root.find(f"{SVG}path") is None
    np.testing.assert_array_equal(read_contours(files[0]), np.zeros((9, 7)))


def test_the_svg_lies_on_the_picture(two_boxes: list[Path]) -> None:
    root = ElementTree.parse(two_boxes[1]).getroot()
    assert root.tag == f"{SVG}svg"
    assert (root.get("viewBox"), root.get("width"), root.get("height")) == ("0 0 20 12", "20", "12")
    first, second = root.findall(f"{SVG}path")
    np.testing.assert_array_equal([path_points(first).min(axis=0), path_points(first).max(axis=0)], [[2, 3], [8, 7]])
    assert (second.get("fill"), second.get("fill-rule")) == ("none", "evenodd")
    assert second.get("vector-effect") == "non-scaling-stroke"
    assert second.get("stroke") == "#{:02x}{:02x}{:02x}".format(*PALETTE[1])
    assert second.findtext(f"{SVG}title") == "<rim> & more"


def test_the_svg_path_closes_every_ring(tmp_path: Path) -> None:
    ids = ids_of((12, 12), (slice(2, 10), slice(2, 10)))
    ids[4:8, 4:8] = 0
    path = ElementTree.parse(write_contours(tmp_path / "a", ids, labels=["a"], has_place=False)[1]).find(f"{SVG}path")
    assert path is not None
    assert re.fullmatch(r"(M[\d. ]+(L[\d. ]+){2,}Z){2}", path.get("d", ""))


def test_a_picture_with_pixel_sizes_is_measured_in_its_plane(tmp_path: Path) -> None:
    ids = ids_of((10, 10), (slice(4, 5), slice(2, 3)))
    affine = np.diag([-0.5, -2.0, 1.0, 1.0])  # the signs of pictures without a place
    files = write_contours(tmp_path / "a", ids, labels=["a"], affine=affine, spacing_unit="mm", has_place=False)
    feature = written(files[0])["features"][0]
    assert {tuple(point) for point in points_of(feature["geometry_mm"]).tolist()} == {
        (2.5, 5.0),
        (2.25, 6.0),
        (2.0, 5.0),
        (2.25, 4.0),
    }
    assert feature["properties"]["area_mm2"] == 0.5
    assert feature["properties"]["perimeter_mm"] == round(4 * 1.0625**0.5, 4)
    assert feature["properties"]["space_mm"] == "picture"
    picture = ElementTree.parse(files[1]).getroot().find(f"{SVG}metadata/{METADATA}picture")
    assert picture is not None
    assert (picture.get("width_mm"), picture.get("height_mm")) == ("5", "20")
    assert (picture.get("pixel_width_mm"), picture.get("pixel_height_mm")) == ("0.5", "2")


def test_a_volume_is_measured_in_the_patient(tmp_path: Path) -> None:
    ids = ids_of((4, 5, 3), (slice(1, 2), slice(2, 3), slice(1, 2)))
    files = write_contours(tmp_path / "a", ids, labels=["a"], affine=OBLIQUE, spacing_unit="mm", has_place=True)
    feature = written(files[0])["features"][0]
    assert {tuple(point) for point in points_of(feature["geometry"]).tolist()} == {
        (2.0, 2.5),
        (1.5, 3.0),
        (1.0, 2.5),
        (1.5, 2.0),
    }
    # (2, 2.5) on slice 1 is index (1.5, 2, 1): RAS (10 + 1.8 - 2.4, 20 + 2.4 + 1.8, 30 - 1), LPS (-9.4, -24.2, 29)
    assert {tuple(point) for point in points_of(feature["geometry_mm"]).tolist()} == {
        (-9.4, -24.2, 29.0),
        (-8.8, -23.4, 28.75),
        (-8.2, -22.6, 29.0),
        (-8.8, -23.4, 29.25),
    }
    assert feature["properties"]["slice"] == 1
    assert feature["properties"]["area_mm2"] == 0.5  # half a pixel of 2 x 0.5 mm
    assert feature["properties"]["perimeter_mm"] == round(4 * 1.0625**0.5, 4)
    assert feature["properties"]["space_mm"] == "LPS"
    assert "LPS" not in feature["properties"]["label"]


def test_a_single_slice_with_a_place_has_points_in_the_patient(tmp_path: Path) -> None:
    ids = ids_of((4, 5), (slice(1, 2), slice(2, 3)))
    files = write_contours(tmp_path / "a", ids, labels=["a"], affine=OBLIQUE, spacing_unit="mm", has_place=True)
    feature = written(files[0])["features"][0]
    assert "slice" not in feature["properties"]
    assert [-11.8, -22.4, 29.0] in points_of(feature["geometry_mm"]).tolist()  # index (1.5, 2, 0)


def test_the_unit_of_the_affine_is_heeded(tmp_path: Path) -> None:
    ids = ids_of((4, 4), (slice(1, 2), slice(1, 2)))
    affine = np.diag([250.0, 250.0, 1.0, 1.0])
    files = write_contours(tmp_path / "a", ids, labels=["a"], affine=affine, spacing_unit="micron", has_place=False)
    assert [0.5, 0.375] in points_of(written(files[0])["features"][0]["geometry_mm"]).tolist()


def test_small_pixels_keep_their_thousandths_in_millimetres(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((1, 12, 12)).astype(np.float32)
    affine = np.diag([0.00025, 0.00025, 1.0, 1.0])
    files = write_contours(tmp_path / "a", values, labels=["a"], affine=affine, spacing_unit="mm", has_place=False)
    feature = written(files[0])["features"][0]
    in_pixels = points_of(feature["geometry_mm"]) / 0.00025
    assert np.abs(in_pixels - points_of(feature["geometry"])).max() <= 5e-4


def test_a_volume_gives_an_svg_for_every_slice_with_content(tmp_path: Path) -> None:
    ids = ids_of((8, 6, 15), (slice(2, 5), slice(2, 5), slice(3, 5)), (slice(5, 7), slice(1, 3), slice(12, 13)))
    files = write_contours(tmp_path / "case", ids, labels=["a", "b"], has_place=False)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        "case_contours.geojson",
        "case_contours/slice_0003.svg",
        "case_contours/slice_0004.svg",
        "case_contours/slice_0012.svg",
    ]
    collection = written(files[0])
    found = [(feature["properties"]["id"], feature["properties"]["slice"]) for feature in collection["features"]]
    assert found == [(1, 3), (1, 4), (2, 12)]
    assert collection["banet"]["size"] == [8, 6, 15]
    assert "third axis" in collection["banet"]["slices"]


def test_slices_of_an_earlier_run_go_and_other_files_stay(tmp_path: Path) -> None:
    first = ids_of((8, 6, 9), (slice(2, 5), slice(2, 5), slice(0, 4)))
    second = ids_of((8, 6, 9), (slice(2, 5), slice(2, 5), slice(3, 5)))
    write_contours(tmp_path / "case", first, labels=["a"], has_place=False)
    (tmp_path / "case_contours" / "notes.txt").write_text("mine")
    files = write_contours(tmp_path / "case", second, labels=["a"], has_place=False)
    left = sorted(path.name for path in (tmp_path / "case_contours").iterdir())
    assert left == ["notes.txt", "slice_0003.svg", "slice_0004.svg"]
    np.testing.assert_array_equal(read_contours(files[0]), second)


def test_a_volume_without_content_leaves_no_folder(tmp_path: Path) -> None:
    volume = ids_of((8, 6, 9), (slice(2, 5), slice(2, 5), slice(0, 4)))
    write_contours(tmp_path / "case", volume, labels=["a"], has_place=False)
    files = write_contours(tmp_path / "case", np.zeros_like(volume), labels=["a"], has_place=False)
    assert list(tmp_path.iterdir()) == files == [tmp_path / "case_contours.geojson"]


def test_a_picture_and_a_volume_of_the_same_name_replace_each_other(tmp_path: Path) -> None:
    volume = ids_of((8, 6, 9), (slice(2, 5), slice(2, 5), slice(0, 1)))
    write_contours(tmp_path / "case", volume, labels=["a"], has_place=False)
    write_contours(tmp_path / "case", volume[..., 0], labels=["a"], has_place=False)
    assert not (tmp_path / "case_contours").exists()
    write_contours(tmp_path / "case", volume, labels=["a"], has_place=False)
    assert not (tmp_path / "case_contours.svg").exists()


def test_a_last_axis_of_one_is_a_picture(tmp_path: Path) -> None:
    ids = ids_of((8, 6), (slice(2, 5), slice(2, 5)))
    flat = write_contours(tmp_path / "flat", ids, labels=["a"], has_place=False)
    thick = write_contours(tmp_path / "thick", ids[..., None], labels=["a"], has_place=False)
    assert [path.read_bytes() for path in flat] == [path.read_bytes() for path in thick]


def test_the_same_case_gives_the_same_bytes(tmp_path: Path) -> None:
    values = np.random.default_rng(2).random((2, 16, 16, 3)).astype(np.float32)
    runs = [
        write_contours(tmp_path / name, values, labels=["a", "b"], affine=OBLIQUE, spacing_unit="mm", has_place=True)
        for name in ("one", "two")
    ]
    assert [path.read_bytes() for path in runs[0]] == [path.read_bytes() for path in runs[1]]


def test_probabilities_are_outlined_at_the_level(tmp_path: Path) -> None:
    values = np.full((1, 6, 4), 0.2, dtype=np.float32)
    values[0, :3] = 0.8
    collection = written(write_contours(tmp_path / "a", values, labels=["a"], has_place=False, level=0.35)[0])
    assert collection["banet"]["outline"] == "where the probability of a label is 0.35"
    assert points_of(collection["features"][0]["geometry"])[:, 0].max() == 3.25  # between the centres 2.5 and 3.5


def test_classes_of_their_own_may_overlap(tmp_path: Path) -> None:
    values = np.zeros((2, 10, 10), dtype=np.float32)
    values[0, 2:7, 2:7] = values[1, 4:9, 4:9] = 1
    files = write_contours(tmp_path / "a", values, labels=["a", "b"], has_place=False)
    areas = [feature["properties"]["area_px2"] for feature in written(files[0])["features"]]
    assert areas == [24.5, 24.5]
    assert read_contours(files[0])[5, 5] == 2


def test_classes_that_exclude_each_other_meet_where_they_are_equal(tmp_path: Path) -> None:
    values = np.zeros((3, 8, 4), dtype=np.float32)
    values[:, :4] = np.array([0.35, 0.4, 0.25], dtype=np.float32)[:, None, None]  # the winner stays below one half
    values[:, 4:] = np.array([0.3, 0.15, 0.55], dtype=np.float32)[:, None, None]
    files = write_contours(tmp_path / "a", values, labels=["a", "b"], has_place=False)
    first, second = (points_of(feature["geometry"]) for feature in written(files[0])["features"])
    # first - largest other: 0.05 at x = 3.5, -0.4 at 4.5; second: -0.15 and 0.25
    assert first[:, 0].max() == pytest.approx(3.5 + 0.05 / 0.45, abs=1e-3)
    assert second[:, 0].min() == pytest.approx(3.5 + 0.15 / 0.4, abs=1e-3)
    np.testing.assert_array_equal(read_contours(files[0]), values.argmax(axis=0))


def test_a_softmax_of_two_is_outlined_as_one_sigmoid(tmp_path: Path) -> None:
    one = np.random.default_rng(3).random((1, 16, 16))
    files = write_contours(tmp_path / "a", one, labels=["a"], has_place=False)
    both = write_contours(tmp_path / "b", np.concatenate([1 - one, one]), labels=["a"], has_place=False)
    assert written(files[0])["features"] == written(both[0])["features"]
    assert "equals the largest other one" in written(both[0])["banet"]["outline"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_with_metadata_are_taken(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.zeros(1, 10, 8)
    values[0, 2:6, 3:5] = 1
    files = write_contours(tmp_path / "a", MetaTensor(values.to(dtype)), labels=["a"], has_place=False)
    np.testing.assert_array_equal(read_contours(files[0]), values[0].numpy())


def test_simplified_outlines_stay_within_the_tolerance(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.arange(60) + 0.5, np.arange(60) + 0.5, indexing="ij")
    values = np.clip(0.5 + (20 - np.hypot(x - 30, y - 30)) / 4, 0, 1)[None]
    files = write_contours(tmp_path / "a", values, labels=["a"], has_place=False, tolerance=0.25)
    points = points_of(written(files[0])["features"][0]["geometry"])
    (exact,) = outlines(values[0])
    assert len(points) < len(exact) / 3
    mid = (points[1:] + points[:-1]) / 2
    assert np.hypot(*(mid - 30).T).min() >= 20 - 0.25 - 0.05


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.full((4, 4), 2, np.uint8), {}, "label ids range from 2 to 2, but 1 labels are named"),
        (np.full((4, 4), -1), {}, "label ids range from -1"),
        (np.zeros((4, 4)), {}, r"values of shape \(4, 4\) and type float64 are neither label ids"),
        (np.zeros(4, np.uint8), {}, r"values of shape \(4,\)"),
        (np.zeros((1, 4, 4), np.complex64), {}, "type complex64 are neither"),
        (np.zeros((3, 4, 4)), {}, "3 channels do not fit 1 labels; give one channel per label"),
        (np.full((1, 4, 4), 3.0), {}, r"probabilities must lie in \[0, 1\], got 3.0 to 3.0; apply sigmoid"),
        (np.full((1, 4, 4), np.nan), {}, r"probabilities must lie in \[0, 1\]"),
        (np.zeros((4, 4), np.uint8), {"labels": []}, "labels must be a list of 1 to 255 names"),
        (np.zeros((4, 4), np.uint8), {"labels": "lesion"}, "labels must be a list of 1 to 255 names"),
        (np.zeros((4, 4), np.uint8), {"labels": ["a\x00"]}, "every label needs a name of printable characters"),
        (np.zeros((1, 4, 4)), {"level": 0.0}, "level must lie between 0 and 1, got 0.0"),
        (np.zeros((4, 4), np.uint8), {"tolerance": -1.0}, "tolerance must be a number of pixels from 0 on"),
        (np.zeros((4, 4), np.uint8), {"has_place": True}, "spacing_unit 'px' does not fit an image with has_place"),
        (np.zeros((4, 4), np.uint8), {"has_place": True, "spacing_unit": "mm"}, "needs an affine, got None"),
        (np.zeros((4, 4), np.uint8), {"spacing_unit": "furlong"}, "spacing_unit 'furlong' does not fit"),
        (np.zeros((4, 4), np.uint8), {"spacing_unit": "mm", "affine": np.eye(3)}, r"affine must be 4x4 .* \(3, 3\)"),
        (
            np.zeros((4, 4), np.uint8),
            {"spacing_unit": "mm", "affine": np.diag([1.0, 0.0, 1.0, 1.0])},
            "the affine gives pixels without an area",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    tmp_path: Path, values: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_contours(tmp_path / "a", values, **({"labels": ["lesion"], "has_place": False} | options))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_contours(tmp_path / "file" / "a", np.zeros((4, 4), np.uint8), labels=["a"], has_place=False)


@pytest.mark.parametrize("text", ["no json", "[]", '{"type": "FeatureCollection", "features": []}'])
def test_other_files_are_not_read_as_contours(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.geojson").write_text(text)
    with pytest.raises(ValueError, match=r"'other\.geojson' holds no contours of ours"):
        read_contours(tmp_path / "other.geojson")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_contours(tmp_path / "nothing.geojson")
