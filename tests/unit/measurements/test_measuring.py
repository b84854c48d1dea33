from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from banet_monai.measurements import Intensity, measure
from banet_monai.measurements.shapes import Hull, diameters
from banet_monai.metrics import Spacing
from tests.measured_shapes import ellipsoid, turned


def rectangle(shape=(40, 30), start=(10, 5), size=(20, 10), value=1):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = value
    return mask


def only(found):
    assert len(found) == 1
    return found[0]


# ---- units -----------------------------------------------------------------------------------------------------------


def test_without_a_spacing_values_are_in_pixels_and_say_so():
    found = only(measure(rectangle()))
    assert (found.unit, found.area_unit, found.volume_unit) == ("px", "px2", "px3")
    assert found.area == 200
    assert found.spacing == (1, 1)
    assert found.centroid_lps is None
    assert found.longest_diameter.start_lps is None


def test_with_a_spacing_values_are_in_millimetres():
    found = only(measure(rectangle(), spacing=(0.5, 0.25)))
    assert (found.unit, found.area_unit) == ("mm", "mm2")
    assert found.area == pytest.approx(25)  # 10 mm x 2.5 mm
    assert found.box_size == (10, 2.5)
    assert found.border_distance == pytest.approx(1.25)  # 5 pixels of 0.25 mm


def test_a_volume_is_in_millilitres_and_its_surface_in_square_millimetres():
    mask = np.zeros((30, 30, 20), dtype=bool)
    mask[5:25, 5:15, 5:15] = True
    found = only(measure(mask, spacing=(1, 1, 2)))
    assert found.volume == pytest.approx(4.0)  # 20 x 10 x 20 mm
    assert found.volume_unit == "ml"
    assert found.area is found.perimeter is found.circularity is found.border_irregularity is None
    assert found.surface == pytest.approx(1600, rel=0.1)
    in_voxels = only(measure(mask))
    assert (in_voxels.volume, in_voxels.volume_unit) == (2000, "px3")


def test_a_spacing_of_the_metrics_brings_its_unit():
    assert only(measure(rectangle(), spacing=Spacing((0.5, 0.5), "mm"))).unit == "mm"
    assert only(measure(rectangle(), spacing=Spacing((1.0, 1.0), "px"))).unit == "px"


def test_the_identity_as_affine_means_a_picture_without_millimetres():
    found = only(measure(rectangle(), affine=np.eye(4)))
    assert (found.unit, found.centroid_lps) == ("px", None)
    stated = only(measure(rectangle(), affine=np.eye(4), unit="mm"))
    assert (stated.unit, stated.centroid_lps) == ("mm", (-19.5, -9.5, 0))


def test_an_affine_gives_spacing_and_place():
    affine = np.array([[0, -2.0, 0, 10], [0.5, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]])
    found = only(measure(rectangle(), affine=affine))
    assert found.spacing == (0.5, 2)
    assert found.area == pytest.approx(200)
    # centroid (19.5, 9.5): RAS (10 - 19, 20 + 9.75, 30), LPS with the first two signs turned
    assert found.centroid_lps == pytest.approx((9, -29.75, 30))


def test_a_metatensor_is_channel_first_and_knows_its_spacing_and_place():
    mask = torch.from_numpy(rectangle())[None]
    affine = torch.diag(torch.tensor([-0.5, -0.5, 1.0, 1.0], dtype=torch.float64))
    placed = MetaTensor(mask, affine=affine, meta={"spacing_unit": "mm", "has_place": True})
    found = only(measure(placed))
    assert (found.unit, found.area, found.spacing) == ("mm", 50, (0.5, 0.5))
    assert found.centroid_lps == pytest.approx((9.75, 4.75, 0))
    unplaced = MetaTensor(mask, affine=affine, meta={"spacing_unit": "mm", "has_place": False})
    assert only(measure(unplaced)).area == 50
    assert only(measure(unplaced)).centroid_lps is None
    unknown = MetaTensor(mask, affine=affine, meta={"spacing_unit": "px"})
    assert (only(measure(unknown)).unit, only(measure(unknown)).area) == ("px", 200)
    assert only(measure(MetaTensor(mask))).unit == "px"
    microns = MetaTensor(mask, affine=affine, meta={"spacing_unit": "micron"})
    assert only(measure(microns)).area == pytest.approx(50e-6)


def test_a_volume_of_one_slice_is_a_picture_with_three_indices():
    found = only(measure(rectangle()[:, :, None], spacing=(0.5, 0.5, 3)))
    assert found.dimensions == 2
    assert found.area == 50
    assert found.centroid == (19.5, 9.5, 0)
    assert (found.box_start, found.box_stop) == ((10, 5, 0), (30, 15, 1))


def test_a_sagittal_slice_is_measured_in_its_own_plane():
    found = only(measure(rectangle()[None], spacing=(3, 0.5, 2)))
    assert (found.dimensions, found.area) == (2, 200)
    assert found.centroid == (0, 19.5, 9.5)
    assert found.box_size == (3, 10, 20)


# ---- values ----------------------------------------------------------------------------------------------------------


def test_the_diameters_of_a_bar_begin_and_end_half_a_pixel_outside_of_its_last_pixels():
    found = only(measure(rectangle(size=(21, 1), start=(4, 8)), spacing=0.5))
    line = found.longest_diameter
    assert line.length == 10.5
    assert sorted([line.start, line.end]) == [(3.5, 8), (24.5, 8)]
    across = found.perpendicular_diameter
    assert across.length == 0.5
    assert {across.start[1], across.end[1]} == {7.5, 8.5}


def test_the_perpendicular_diameter_is_perpendicular():
    mask = ellipsoid((9, 5), (0.5, 0.8), axes=turned(0.7))
    found = only(measure(mask, spacing=(0.5, 0.8)))
    along, across = (
        np.subtract(line.end, line.start) * (0.5, 0.8)
        for line in (found.longest_diameter, found.perpendicular_diameter)
    )
    assert along @ across == pytest.approx(0, abs=1e-6)
    assert np.linalg.norm(across) == pytest.approx(found.perpendicular_diameter.length)


def test_of_two_longest_diameters_that_with_the_longer_perpendicular_counts():
    points = np.array([[0, 0], [5, 0], [3, 4], [2, -0.5]])  # (0, 0) is 5 from (5, 0) and from (3, 4)
    sides = np.array([[0, 3], [1, 3], [1, 2], [0, 2]])
    for order in ([0, 1, 2, 3], [2, 3, 0, 1], [3, 2, 1, 0]):
        edges = np.sort(np.argsort(order)[sides], axis=1)
        longest, across = diameters(Hull(points[order], edges, 11.25))
        assert sorted(map(tuple, longest)) == [(0, 0), (5, 0)]
        np.testing.assert_allclose(sorted(map(tuple, across)), [(3, -1 / 3), (3, 4)])


def test_the_distance_to_the_border_counts_across_rows_on_a_tilted_grid():
    sheared = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])  # columns lean by 45 degrees
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[15:25, 3:20] = 1
    (found,) = measure(mask, affine=sheared)
    assert found.border_distance == pytest.approx(3)  # 3 steps of 1.41 lead there, but the border is nearer
    assert found.area == pytest.approx(170)
    mask[5:25, 3:20] = 1
    assert measure(mask.T.copy(), affine=sheared)[0].border_distance == pytest.approx(3 / math.sqrt(2))


def test_holes_are_taken_off_the_area_and_counted_in_the_perimeter_but_not_in_the_irregularity():
    solid = ellipsoid((20, 20), (1, 1))
    ring = solid & ~np.pad(ellipsoid((10, 10), (1, 1)), 10)
    found, whole = only(measure(ring)), only(measure(solid))
    assert found.area == pytest.approx(math.pi * 300, rel=0.02)
    assert found.perimeter == pytest.approx(math.pi * 60, rel=0.02)
    assert found.border_irregularity == pytest.approx(whole.border_irregularity, abs=0.005)
    assert found.components == 1


def test_asymmetry_is_the_share_without_a_counterpart_in_the_mirror():
    # A square with a corner taken away: only the fold along the diagonal through that corner is symmetrical.
    mask = rectangle(shape=(60, 60), start=(10, 10), size=(40, 40))
    assert only(measure(mask)).asymmetry == 0
    mask[10:30, 10:30] = 0
    along = only(measure(mask)).asymmetry_along
    assert min(along) == pytest.approx(0, abs=0.02)
    assert max(along) > 0.1


def test_a_label_at_the_frame_is_cut_off():
    inside, outside = only(measure(rectangle(start=(1, 5)))), only(measure(rectangle(start=(0, 5))))
    assert (inside.cut_off, inside.border_distance) == (False, 1)
    assert (outside.cut_off, outside.border_distance) == (True, 0)


def test_intensities_are_those_inside_channel_by_channel():
    mask = rectangle(shape=(10, 10), start=(2, 2), size=(2, 2))
    grey = np.zeros((10, 10))
    grey[2:4, 2:4] = [[1, 2], [3, 6]]
    found = only(measure(mask, image=grey)).intensity
    assert found == (Intensity(3.0, pytest.approx(math.sqrt(3.5)), 1.0, 2.5, 6.0, 0),)
    colours = only(measure(mask, image=np.stack([grey, grey + 10, grey * 0]))).intensity
    assert [channel.mean for channel in colours] == [3, 13, 0]


def test_intensities_that_are_no_numbers_are_left_out_and_counted():
    mask = rectangle(shape=(10, 10), start=(2, 2), size=(2, 2))
    image = torch.zeros(10, 10)
    image[2, 2], image[3, 3] = float("nan"), float("inf")
    assert only(measure(mask, image=image)).intensity == (Intensity(0, 0, 0, 0, 0, 2),)
    nothing = only(measure(mask, image=np.full((10, 10), np.nan))).intensity
    assert nothing == (Intensity(None, None, None, None, None, 4),)


# ---- labels, components, slices --------------------------------------------------------------------------------------


def test_labels_are_measured_in_the_order_of_their_names_and_absent_ones_have_no_pixels():
    mask = rectangle(value=3)
    found = measure(mask, labels=["anterior", "posterior", "rest"])
    assert [(item.label, item.name, item.pixels) for item in found] == [
        (1, "anterior", 0),
        (2, "posterior", 0),
        (3, "rest", 200),
    ]
    absent = found[0]
    assert (absent.area, absent.components, absent.cut_off) == (0, 0, False)
    assert absent.longest_diameter is absent.perimeter is absent.centroid is absent.asymmetry is None
    by_id = measure(mask, labels={3: "rest"})
    assert [item.name for item in by_id] == ["rest"]
    assert [item.name for item in measure(mask)] == ["3"]


def test_an_empty_mask_has_measurements_of_named_labels_only():
    empty = np.zeros((8, 9, 7), dtype=np.uint8)
    assert measure(empty) == []
    found = only(measure(empty, labels=["lung"], spacing=1))
    assert (found.volume, found.area, found.surface) == (0, None, None)


def test_parts_are_joined_across_corners_and_measured_on_wish_the_largest_first():
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[2:4, 2:4] = 1
    mask[4:6, 4:6] = 1  # touches the first at a corner
    mask[20:30, 20:30] = 1
    assert [item.component for item in measure(mask)] == [None]
    whole, large, small = measure(mask, components=True)
    assert (whole.component, whole.components, whole.pixels) == (None, 2, 108)
    assert (large.component, large.components, large.pixels) == (1, 1, 100)
    assert (small.component, small.pixels) == (2, 8)
    assert whole.perimeter == pytest.approx(large.perimeter + small.perimeter)
    assert whole.longest_diameter.length > large.longest_diameter.length + small.longest_diameter.length
    assert len(measure(mask[15:], components=True)) == 1  # a single part is the whole


def test_frames_are_measured_one_by_one_with_their_place():
    frames = np.zeros((40, 30, 3), dtype=np.uint8)
    frames[..., 0], frames[..., 2] = rectangle(), rectangle(value=2)
    found = measure(frames, labels=["a", "b"], spacing=(0.5, 0.5, 1), by_slice=True, image=np.ones((3, 40, 30, 3)))
    assert [(item.slice, item.label, item.dimensions, item.area) for item in found] == [(0, 1, 2, 50), (2, 2, 2, 50)]
    assert found[1].centroid == (19.5, 9.5, 2)
    assert len(found[1].intensity) == 3
    alone = only(measure(rectangle(), spacing=0.5))
    assert found[0].perimeter == alone.perimeter
    one = only(measure(rectangle()[..., None], by_slice=True))
    assert (one.slice, one.dimensions) == (0, 2)


# ---- masks at the edge of what can be measured -----------------------------------------------------------------------


def test_everything_foreground_is_the_frame_and_cut_off():
    found = only(measure(np.ones((30, 20), dtype=bool), spacing=1))
    assert found.area == 600
    assert found.perimeter == pytest.approx(100, rel=0.03)
    assert (found.cut_off, found.border_distance, found.asymmetry) == (True, 0, 0)
    volume = only(measure(np.ones((9, 8, 7), dtype=bool), spacing=1))
    assert volume.volume == pytest.approx(0.504)
    assert volume.cut_off


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 9)])
def test_a_single_pixel_is_one_pixel_wide(shape):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[(4,) * len(shape)] = 1
    found = only(measure(mask))
    assert found.pixels == found.components == 1
    assert found.longest_diameter.length == found.perpendicular_diameter.length == 1
    assert found.asymmetry == 0
    assert found.solidity == 1


def test_lines_of_one_pixel_are_measured():
    straight, diagonal = np.zeros((40, 40), dtype=np.uint8), np.zeros((40, 40), dtype=np.uint8)
    straight[5:35, 20] = 1
    diagonal[np.arange(5, 35), np.arange(5, 35)] = 1
    found = only(measure(straight))
    assert (found.longest_diameter.length, found.perpendicular_diameter.length) == (30, 1)
    assert found.perimeter == pytest.approx(62, rel=0.05)
    found = only(measure(diagonal))
    assert found.components == 1
    assert found.longest_diameter.length == pytest.approx(30 * math.sqrt(2), rel=0.03)
    assert found.perimeter == pytest.approx(2 * 30 * math.sqrt(2), rel=0.1)
    plate = np.zeros((30, 30, 9), dtype=bool)
    plate[5:25, 5:25, 4] = True
    assert only(measure(plate)).surface == pytest.approx(2 * 400 + 80, rel=0.1)


def test_whole_floats_and_booleans_are_label_ids():
    assert only(measure(rectangle().astype(np.float32))).area == 200
    assert only(measure(torch.from_numpy(rectangle()).bfloat16())).area == 200
    assert only(measure(rectangle() > 0)).label == 1


def test_nothing_given_is_changed():
    mask, image, affine = rectangle(), np.ones((40, 30)), np.diag([0.5, 0.5, 1, 1])
    given = MetaTensor(torch.from_numpy(rectangle())[None], affine=affine, meta={"spacing_unit": "micron"})
    copies = mask.copy(), image.copy(), affine.copy(), given.affine.clone()
    measure(mask, image=image, affine=affine)
    measure(given)
    for before, after in zip(copies, (mask, image, affine, given.affine), strict=True):
        assert (np.asarray(before) == np.asarray(after)).all()


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [0, -1, float("nan"), (1, float("inf")), (1, 1, 1), (0.5, -0.5), ()])
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing must be one positive number or one per axis of the mask"):
        measure(rectangle(), spacing=spacing)


def test_millimetres_without_a_spacing_are_refused():
    with pytest.raises(ValueError, match="unit 'mm' needs the spacing"):
        measure(rectangle(), unit="mm")
    with pytest.raises(ValueError, match="metadata say that none is known"):
        measure(MetaTensor(torch.from_numpy(rectangle())[None]), unit="mm")
    with pytest.raises(ValueError, match="unit must be 'mm' or 'px', got 'cm'"):
        measure(rectangle(), spacing=1, unit="cm")


def test_a_spacing_that_contradicts_the_affine_is_refused():
    with pytest.raises(ValueError, match="contradict each other; give one of them"):
        measure(rectangle(), spacing=1, affine=np.diag([2.0, 2, 2, 1]))
    assert only(measure(rectangle(), spacing=2, affine=np.diag([2.0, -2, 2, 1]))).area == 800


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.eye(3), r"affine must be a finite matrix \(4, 4\)"),
        (np.full((4, 4), np.nan), r"affine must be a finite matrix \(4, 4\)"),
        (np.diag([1.0, 1, 0, 1]), "lie in one plane or have no length"),
    ],
)
def test_an_affine_that_maps_no_volume_is_refused(affine, message):
    with pytest.raises(ValueError, match=message):
        measure(rectangle(), affine=affine)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((5, 5), 0.5), "numbers that are not whole or not finite; put a threshold"),
        (np.full((5, 5), np.nan), "numbers that are not whole or not finite"),
        (np.full((5, 5), -1), "label ids from 0 .* got -1"),
        (np.ones(5), r"must be \(column, row\) or \(column, row, slice\)"),
        (np.ones((1, 5, 5, 5)), "take a channel axis away first"),
        (np.ones((5, 0)), "not empty"),
        (np.array([["a", "b"]]), "must be an array or tensor of numbers"),
        (np.full((5, 5), 1e20), r"got 1e\+20, which no float holds exactly"),
    ],
)
def test_masks_that_hold_no_label_ids_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        measure(mask)


def test_classes_that_overlap_are_measured_one_by_one():
    with pytest.raises(ValueError, match="MetaTensor with 2 channels; one channel of label ids is needed"):
        measure(MetaTensor(torch.ones(2, 5, 5)))


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="rows and columns seem to be exchanged"):
        measure(rectangle(), image=np.zeros((30, 40)))
    with pytest.raises(ValueError, match="rows and columns seem to be exchanged"):
        measure(rectangle(), image=np.zeros((3, 30, 40)))
    with pytest.raises(ValueError, match="intensities need an image on the mask's own grid"):
        measure(rectangle(), image=np.zeros((40, 31)))


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"holds the label ids \[3\], but labels names \[1, 2\]"):
        measure(rectangle(value=3), labels=["a", "b"])
    with pytest.raises(ValueError, match="put it in a list"):
        measure(rectangle(), labels="lesion")
    with pytest.raises(ValueError, match="whole numbers from 1 on"):
        measure(rectangle(), labels={0: "background", 1: "lesion"})
    with pytest.raises(ValueError, match=r"whole numbers from 1 on, got \['1'\]"):
        measure(rectangle(), labels={"1": "lesion"})


def test_single_slices_need_a_third_axis():
    with pytest.raises(ValueError, match=r"by_slice needs a mask \(column, row, slice\)"):
        measure(rectangle(), by_slice=True)
