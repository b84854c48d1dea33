from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from banet_monai.measurements import compare_outlines
from tests.measured_shapes import ellipsoid


def square(start=10, size=10, value=1):
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[start : start + size, 10 : 10 + size] = value
    return mask


def test_equal_outlines_have_no_distance_and_no_change():
    (found,) = compare_outlines(square(), square(), spacing=0.5)
    assert (found.hd95, found.assd, found.nsd, found.dice, found.jaccard) == (0, 0, 1, 1, 1)
    assert (found.change, found.relative_change, found.size_one) == (0, 0, 25)
    assert (found.unit, found.size_unit, found.tolerance) == ("mm", "mm2", 2)


def test_a_lesion_that_grew_changes_from_the_first_to_the_second():
    (found,) = compare_outlines(square(), square(size=20), spacing=0.5, labels=["lesion"])
    assert (found.size_one, found.size_other, found.change, found.relative_change) == (25, 100, 75, 3)
    assert found.name == "lesion"
    (back,) = compare_outlines(square(size=20), square(), spacing=0.5)
    assert (back.change, back.relative_change) == (-75, -0.75)


def test_a_volume_that_grew_is_compared_in_millilitres():
    small, large = ellipsoid((6, 6, 6), (1, 1, 1)), ellipsoid((8, 8, 8), (1, 1, 1))
    (found,) = compare_outlines(np.pad(small, 2), large, spacing=1)
    assert found.size_unit == "ml"
    assert found.change == pytest.approx(4 / 3 * math.pi * (8**3 - 6**3) / 1000, rel=0.05)
    assert found.assd == pytest.approx(2, abs=0.2)
    assert found.hd95 == pytest.approx(2, abs=0.5)


def test_a_label_that_one_outline_lacks_is_missed_by_the_diagonal():
    (found,) = compare_outlines(square(), square() * 0, spacing=0.5)
    assert found.hd95 == found.assd == pytest.approx(20 * math.sqrt(2))
    assert (found.nsd, found.dice, found.change) == (0, 0, -25)
    (found,) = compare_outlines(square() * 0, square(), spacing=0.5)
    assert found.relative_change is None


def test_labels_come_from_both_masks_or_from_their_names():
    found = compare_outlines(square(value=1), square(value=2))
    assert [(item.label, item.dice, item.unit, item.size_unit) for item in found] == [
        (1, 0, "px", "px2"),
        (2, 0, "px", "px2"),
    ]
    named = compare_outlines(square() * 0, square() * 0, labels=["lesion"])
    assert [(item.nsd, item.hd95) for item in named] == [(1, 0)]


def test_the_tolerance_counts_in_the_unit_of_the_spacing():
    one, other = square(start=10), square(start=13)
    assert compare_outlines(one, other, spacing=0.5, tolerance=1.5)[0].nsd == 1
    assert compare_outlines(one, other, spacing=0.5, tolerance=1.4)[0].nsd < 1


def test_metatensors_bring_their_spacing_and_must_lie_at_one_place():
    affine = np.diag([0.5, 0.5, 1, 1])
    moved = affine.copy()
    moved[0, 3] = 7

    def placed(matrix):
        return MetaTensor(torch.from_numpy(square())[None], affine=matrix, meta={"spacing_unit": "mm"})

    assert compare_outlines(placed(affine), placed(affine))[0].size_one == 25
    with pytest.raises(ValueError, match="lie at different places of the patient"):
        compare_outlines(placed(affine), placed(moved))


def test_pixels_are_counted_where_pixels_are_asked_for_and_pixels_of_two_sizes_are_refused():
    def without_place(spacing, mask):
        meta = {"spacing_unit": "mm", "has_place": False}
        return MetaTensor(torch.from_numpy(mask)[None], affine=np.diag([spacing, spacing, 1, 1]), meta=meta)

    one, other = without_place(0.5, square(start=10)), without_place(0.5, square(start=13))
    (in_mm,) = compare_outlines(one, other)
    assert (in_mm.hd95, in_mm.unit, in_mm.size_one) == (1.5, "mm", 25)
    (in_px,) = compare_outlines(one, other, unit="px")
    assert (in_px.hd95, in_px.unit, in_px.size_one) == (3, "px", 100)
    with pytest.raises(ValueError, match="have pixels of different size"):
        compare_outlines(one, without_place(1.0, square()))


def test_pixels_of_two_sizes_are_refused_also_where_one_mask_alone_has_a_place():
    def mask(spacing, *, has_place):
        meta = {"spacing_unit": "mm", "has_place": has_place}
        affine = np.diag([-spacing, -spacing, 1, 1])
        return MetaTensor(torch.from_numpy(square())[None], affine=affine, meta=meta)

    assert compare_outlines(mask(0.5, has_place=True), mask(0.5, has_place=False))[0].change == 0
    with pytest.raises(ValueError, match=r"pixels of different size, \[0.5, 0.5\] and \[0.25, 0.25\] mm"):
        compare_outlines(mask(0.5, has_place=True), mask(0.25, has_place=False))


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(40, 40\) and \(40, 41\)"):
        compare_outlines(square(), np.zeros((40, 41)))
    with pytest.raises(ValueError, match="the second mask must hold label ids"):
        compare_outlines(square(), np.full((40, 40), 0.3))
