import math

import pytest
import torch

from banet_monai.metrics import assd, hd95, jaccard, nsd


def point(size, *position):
    mask = torch.zeros(1, 1, *size, dtype=torch.bool)
    mask[(0, 0, *position)] = True
    return mask


def disc(radius, size=96):
    steps = torch.arange(size) - (size - 1) / 2
    return (steps[:, None] ** 2 + steps[None] ** 2 <= radius**2)[None, None]


A, B = point((30, 40), 5, 6), point((30, 40), 8, 10)  # 3 and 4 pixels apart
EMPTY = torch.zeros(1, 1, 30, 40)


@pytest.mark.parametrize("distance", [hd95, assd])
@pytest.mark.parametrize(
    ("spacing", "expected"), [(None, 5), (1, 5), (0.5, 2.5), ((2, 1), math.sqrt(52)), ((1.0, 0.0), None)]
)
def test_two_points_are_as_far_apart_as_pythagoras_says(distance, spacing, expected):
    if expected is None:
        with pytest.raises(ValueError, match=r"one positive number or one per spatial axis of \(30, 40\), got"):
            distance(A, B, spacing=spacing)
    else:
        assert distance(A, B, spacing=spacing).item() == pytest.approx(expected)


def test_points_in_a_volume_use_the_spacing_of_each_axis():
    near, far = point((8, 8, 8), 1, 1, 1), point((8, 8, 8), 2, 3, 3)
    assert hd95(near, far).item() == pytest.approx(3)
    assert hd95(near, far, spacing=(3, 2, 1)).item() == pytest.approx(math.sqrt(9 + 16 + 4))


@pytest.mark.parametrize(("tolerance", "expected"), [(5, 1), (4.9, 0), (0, 0)])
def test_surface_dice_counts_what_lies_within_the_tolerance(tolerance, expected):
    assert nsd(A, B, tolerance=tolerance).item() == expected


def test_surface_dice_measures_in_the_unit_of_the_spacing():
    assert nsd(A, B, tolerance=2.5, spacing=0.5).item() == 1
    assert nsd(A, B, tolerance=2.4, spacing=0.5).item() == 0


def test_surface_dice_does_not_depend_on_how_many_digits_an_oblique_grid_has():
    step = math.hypot(0.766045, 0.642788)  # 1 mm at 40 degrees, as DICOM files write the direction
    assert 1 < step < 1.000001
    two_steps = point((8, 8, 8), 3, 1, 1)
    assert nsd(two_steps, point((8, 8, 8), 1, 1, 1), tolerance=2, spacing=(step, 1, 1)).item() == 1
    assert nsd(two_steps, point((8, 8, 8), 1, 1, 1), tolerance=1.99, spacing=(step, 1, 1)).item() == 0


def test_parallel_lines_are_their_distance_apart():
    pred, true = torch.zeros(2, 1, 1, 20, 20).unbind()
    pred[..., 5, :], true[..., 9, :] = 1, 1
    assert hd95(pred, true).item() == 4
    assert assd(pred, true).item() == 4


def test_hausdorff_distance_leaves_out_the_worst_five_percent():
    true = torch.zeros(1, 1, 60, 120)
    true[..., 10, :100] = 1
    pred = true.clone()
    pred[..., 50, 50] = 1  # one stray pixel among 101
    assert hd95(pred, true).item() == 0
    assert assd(pred, true).item() == pytest.approx(40 / 201)


def test_concentric_discs_are_apart_by_the_difference_of_their_radii():
    pred, true = disc(34), disc(28)
    assert jaccard(pred, true).item() == pytest.approx((28 / 34) ** 2, abs=0.01)
    assert hd95(pred, true).item() == pytest.approx(6, abs=0.8)
    assert assd(pred, true).item() == pytest.approx(6, abs=0.3)
    assert nsd(pred, true, tolerance=7).item() == 1
    assert nsd(pred, true, tolerance=5).item() == 0


@pytest.mark.parametrize("mask", [A, disc(20), torch.ones(1, 1, 4, 4)])
def test_equal_masks_are_perfect(mask):
    assert (hd95(mask, mask).item(), assd(mask, mask).item(), nsd(mask, mask, tolerance=0).item()) == (0, 0, 1)


def test_two_empty_masks_agree():
    assert (hd95(EMPTY, EMPTY).item(), assd(EMPTY, EMPTY).item(), nsd(EMPTY, EMPTY).item()) == (0, 0, 1)


@pytest.mark.parametrize(("pred", "true"), [(EMPTY, A), (A, EMPTY)])
@pytest.mark.parametrize(("spacing", "diagonal"), [(None, 50), (2, 100), ((0.5, 2), math.hypot(15, 80))])
def test_a_miss_costs_the_diagonal_of_the_image(pred, true, spacing, diagonal):
    assert hd95(pred, true, spacing=spacing).item() == pytest.approx(diagonal)
    assert assd(pred, true, spacing=spacing).item() == pytest.approx(diagonal)
    assert nsd(pred, true, spacing=spacing, tolerance=1e9).item() == 0


def test_each_image_and_class_has_its_own_value():
    pred = torch.cat([torch.cat([A, B], 1), torch.cat([B, EMPTY.bool()], 1)])
    assert hd95(pred, A.expand(2, 2, 30, 40)).tolist() == [[0, 5], [5, 50]]


def test_picture_stored_as_one_slice_is_measured_as_a_picture():
    pred, true = disc(34), disc(28)
    for distance in (hd95, assd, nsd):
        as_slice = distance(pred[..., None], true[..., None], spacing=(1, 2, 5))
        assert as_slice.item() == distance(pred, true, spacing=(1, 2)).item()
    empty = torch.zeros(1, 1, 30, 40, 1)
    assert hd95(empty, A[..., None], spacing=(1, 1, 100)).item() == 50


def test_spacing_must_fit_the_axes():
    with pytest.raises(ValueError, match=r"one per spatial axis of \(30, 40\), got \(1, 1, 1\)"):
        hd95(A, B, spacing=(1, 1, 1))


def test_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match="tolerance must be at least 0, got -1"):
        nsd(A, B, tolerance=-1)
