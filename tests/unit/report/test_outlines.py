from __future__ import annotations

import math

import numpy as np
import pytest

from banet_monai.report.outlines import filled_rings, outlines, polygons_of, ring_area, signed_field


def centres(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture coordinates of all pixel centres, each ``(x, y)``."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5, indexing="ij")
    return x, y


def disk(width: int, height: int, *, centre: tuple[float, float], radius: float) -> np.ndarray:
    """Probabilities that fall from 1 to 0 over four pixels across the circle, where they are one half."""
    x, y = centres(width, height)
    return np.clip(0.5 + (radius - np.hypot(x - centre[0], y - centre[1])) / 4, 0, 1)


def box(width: int, height: int, *, x: slice, y: slice) -> np.ndarray:
    mask = np.zeros((width, height), dtype=bool)
    mask[x, y] = True
    return mask


def polygons(mask: np.ndarray, tolerance: float = 0.0) -> list[list[np.ndarray]]:
    return polygons_of(signed_field(mask - 0.5, mask), tolerance)


def corners(ring: np.ndarray) -> set[tuple[float, float]]:
    return {(float(x), float(y)) for x, y in ring}


def test_one_pixel_is_a_diamond_around_its_centre() -> None:
    (ring,) = outlines(box(5, 4, x=slice(1, 2), y=slice(2, 3)))
    assert corners(ring) == {(2.0, 2.5), (1.5, 3.0), (1.0, 2.5), (1.5, 2.0)}
    assert ring.shape == (5, 2)
    np.testing.assert_array_equal(ring[0], ring[-1])


def test_a_rectangle_is_outlined_along_its_pixels_with_cut_corners() -> None:
    (ring,) = outlines(box(12, 9, x=slice(3, 8), y=slice(2, 6)))
    np.testing.assert_array_equal(ring.min(axis=0), [3, 2])
    np.testing.assert_array_equal(ring.max(axis=0), [8, 6])
    assert ring_area(ring) == 5 * 4 - 4 * 0.125


@pytest.mark.parametrize("radius", [6.0, 12.5, 20.0])
def test_a_disk_has_its_area_and_its_centre(radius: float) -> None:
    (ring,) = outlines(disk(64, 60, centre=(31.0, 28.0), radius=radius))
    # Chords of at most a pixel's diagonal lie up to 2 / (8 r) inside the circle; interpolating the distance linearly
    # over one pixel errs by up to 1 / (8 (r - 1)), inwards too.
    too_small = 1 / (4 * radius) + 1 / (8 * (radius - 1)) + 1e-3
    assert math.pi * (radius - too_small) ** 2 <= ring_area(ring) <= math.pi * (radius + 1e-3) ** 2
    np.testing.assert_allclose((ring.min(axis=0) + ring.max(axis=0)) / 2, [31.0, 28.0], atol=1e-9)
    np.testing.assert_allclose(ring[:-1].mean(axis=0), [31.0, 28.0], atol=1e-3)


def test_a_disk_that_lies_between_pixels_is_found_there() -> None:
    (ring,) = outlines(disk(50, 50, centre=(20.3, 24.8), radius=12.0))
    distance = np.hypot(*(ring - [20.3, 24.8]).T)
    assert np.abs(distance - 12).max() <= 1 / (8 * 11) + 1e-3


def test_an_outline_runs_where_the_interpolated_probability_meets_the_level() -> None:
    values = np.zeros((4, 3))
    values[:2], values[2:] = 0.8, 0.2  # between the centres x = 1.5 and 2.5
    assert outlines(values, 0.5)[0][:, 0].max() == 2.0
    assert outlines(values, 0.35)[0][:, 0].max() == 2.25
    assert outlines(values, 0.65)[0][:, 0].max() == 1.75


def test_a_value_at_the_level_is_inside() -> None:
    (ring,) = outlines(np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(ring.mean(axis=0), [1.5, 1.5], atol=1e-3)
    assert filled_rings([ring], (3, 3))[1, 1]
    assert 0 < ring_area(ring) < 1e-4


def test_a_ring_has_a_hole_that_runs_the_other_way() -> None:
    mask = box(12, 12, x=slice(2, 10), y=slice(2, 10))
    mask[4:8, 5:8] = False
    exterior, hole = outlines(mask)
    assert ring_area(exterior) == 64 - 0.5
    assert ring_area(hole) == -(12 - 0.5)  # cut corners of the hole belong to the ring
    np.testing.assert_array_equal([hole.min(axis=0), hole.max(axis=0)], [[4, 5], [8, 8]])


def test_an_island_in_a_hole_is_a_polygon_of_its_own() -> None:
    mask = box(20, 20, x=slice(1, 19), y=slice(1, 19))
    mask[4:16, 4:16] = False
    mask[7:13, 7:13] = True
    mask[9:11, 9:11] = False
    found = polygons(mask)
    spans = sorted([[ring.min(), ring.max()] for ring in polygon] for polygon in found)
    assert spans == [[[1, 19], [4, 16]], [[7, 13], [9, 11]]]


def test_a_hole_belongs_to_the_component_around_it() -> None:
    mask = np.zeros((30, 12), dtype=bool)
    mask[1:11, 1:11] = mask[15:29, 1:11] = True
    mask[4:6, 4:6] = mask[17:19, 3:5] = mask[22:25, 6:9] = False
    found = {
        polygon[0].min(axis=0)[0]: [ring.min(axis=0).tolist() for ring in polygon[1:]] for polygon in polygons(mask)
    }
    assert found == {1: [[4, 4]], 15: [[17, 3], [22, 6]]}


def test_pixels_that_meet_at_a_corner_only_are_two_polygons() -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[1, 1] = mask[2, 2] = True
    assert [len(polygon) for polygon in polygons(mask)] == [1, 1]


@pytest.mark.parametrize("probability", [0.51, 0.9, 1.0])
def test_what_reaches_the_frame_is_outlined_along_the_frame(probability: float) -> None:
    (ring,) = outlines(np.full((7, 5), probability))
    np.testing.assert_array_equal(ring.min(axis=0), [0, 0])
    np.testing.assert_array_equal(ring.max(axis=0), [7, 5])


def test_only_the_sides_at_the_frame_are_moved_to_it() -> None:
    (ring,) = outlines(box(8, 8, x=slice(0, 3), y=slice(4, 8)))
    np.testing.assert_array_equal([ring.min(axis=0), ring.max(axis=0)], [[0, 4], [3, 8]])


def test_a_tolerance_leaves_out_points_on_straight_lines() -> None:
    mask = box(40, 40, x=slice(5, 30), y=slice(8, 35))
    ((exact,),), ((simple,),) = polygons(mask), polygons(mask, 0.1)
    assert len(exact) == 2 * (25 + 27) + 1  # one point per pixel side
    assert len(simple) in (9, 10)  # the eight ends of the cut corners, and where the ring begins
    assert ring_area(simple) == ring_area(exact)


def test_structures_within_the_tolerance_vanish() -> None:
    mask = box(40, 40, x=slice(5, 30), y=slice(8, 35))
    mask[10, 10] = False
    mask[35, 35] = True
    assert [len(polygon) for polygon in polygons(mask)] == [2, 1]
    assert [len(polygon) for polygon in polygons(mask, 1.0)] == [1]


def test_nothing_gives_no_outline() -> None:
    assert outlines(np.zeros((6, 6))) == []
    assert not filled_rings([], (6, 6)).any()


def test_values_far_outside_of_0_to_1_are_outlined_too() -> None:
    values = np.full((5, 5), -1e30)
    values[2, 2] = 1e-3
    (ring,) = outlines(values, 0.0)
    assert filled_rings([ring], (5, 5)).sum() == 1


def test_filling_keeps_to_the_picture() -> None:
    ring = np.array([[-3.0, -3.0], [4.0, -3.0], [4.0, 9.0], [-3.0, 9.0], [-3.0, -3.0]])
    filled = filled_rings([ring], (6, 5))
    assert filled[:4].all()
    assert not filled[4:].any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3, 3)), r"outlines are of one picture \(x, y\), got the shape \(2, 3, 3\)"),
        (np.zeros((0, 3)), r"got the shape \(0, 3\)"),
        (np.array([[0.1, np.nan], [0.2, 0.3]]), "the values hold NaN or infinity"),
    ],
)
def test_what_is_no_map_of_numbers_is_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        outlines(values)
