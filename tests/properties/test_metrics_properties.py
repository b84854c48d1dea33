import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from banet_monai.metrics import (
    accuracy,
    assd,
    bootstrap_interval,
    boundary_iou,
    dice,
    hd95,
    jaccard,
    nsd,
    sensitivity,
    specificity,
)
from banet_monai.metrics.boundary import erode

fast = settings(max_examples=30, deadline=None)
SHARES = [jaccard, dice, sensitivity, specificity, accuracy, boundary_iou, nsd]
SYMMETRIC = [jaccard, dice, accuracy, boundary_iou, hd95, assd, nsd]


@st.composite
def shapes(draw):
    return tuple(draw(st.integers(2, 9)) for _ in range(draw(st.sampled_from([2, 2, 3]))))


@st.composite
def pairs(draw):
    """Prediction and truth, (1, 1, *spatial), from empty to full."""
    shape = draw(shapes())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shares = [draw(st.sampled_from([0.0, 0.03, 0.3, 0.9, 1.0])) for _ in range(2)]
    return tuple(torch.rand(1, 1, *shape, generator=generator) < share for share in shares)


def outline(mask):
    return mask & ~ndimage.binary_erosion(mask)


@given(pairs(), st.sampled_from(SHARES))
@fast
def test_shares_lie_between_zero_and_one(pair, figure):
    assert 0 <= figure(*pair).item() <= 1


@given(pairs(), st.sampled_from([hd95, assd]))
@fast
def test_distances_lie_between_zero_and_the_diagonal(pair, distance):
    assert 0 <= distance(*pair).item() <= np.linalg.norm(pair[0].shape[2:]) + 1e-6


@given(pairs(), st.sampled_from(SYMMETRIC))
@fast
def test_prediction_and_truth_may_change_places(pair, figure):
    assert figure(pair[0], pair[1]).item() == pytest.approx(figure(pair[1], pair[0]).item(), rel=1e-6)


@given(pairs(), st.sampled_from([*SYMMETRIC, sensitivity, specificity]), st.sampled_from([(-1,), (-2,), (-2, -1)]))
@fast
def test_figures_do_not_change_when_both_masks_are_flipped(pair, figure, axes):
    flipped = figure(*(mask.flip(axes) for mask in pair)).item()
    assert flipped == pytest.approx(figure(*pair).item(), rel=1e-6)


@given(pairs())
@fast
def test_equal_masks_are_perfect(pair):
    mask = pair[0]
    assert all(figure(mask, mask).item() == 1 for figure in SHARES)
    assert hd95(mask, mask).item() == assd(mask, mask).item() == 0


@given(pairs())
@fast
def test_dice_is_a_function_of_jaccard(pair):
    ja = jaccard(*pair).item()
    assert dice(*pair).item() == pytest.approx(2 * ja / (1 + ja))


@given(pairs(), st.sampled_from([hd95, assd]), st.floats(0.1, 10))
@fast
def test_distances_scale_with_the_spacing(pair, distance, factor):
    assert distance(*pair, spacing=factor).item() == pytest.approx(factor * distance(*pair).item(), rel=1e-5)


@given(pairs(), st.integers(1, 4))
@fast
def test_one_wide_erosion_equals_many_of_three_pixels(pair, iterations):
    mask = pair[1][0, 0]
    expected = ndimage.binary_erosion(mask.numpy(), np.ones((3,) * mask.ndim), iterations=iterations, border_value=0)
    assert np.array_equal(erode(mask, iterations).numpy(), expected)


@given(pairs(), st.integers(1, 4))
@fast
def test_boundary_iou_of_the_box_equals_that_of_the_whole_image(pair, width):
    bands = [mask[0, 0] & ~erode(mask[0, 0], width) for mask in pair]
    union = (bands[0] | bands[1]).sum().item()
    expected = (bands[0] & bands[1]).sum().item() / union if union else 1.0
    ratio = width / np.linalg.norm(pair[0].shape[2:])
    assert boundary_iou(*pair, dilation_ratio=ratio).item() == pytest.approx(expected)


@given(pairs(), st.sampled_from([0.5, 1.0, 1.5, 3.0]))
@fast
def test_distances_equal_those_between_all_outline_pixels(pair, step):
    pred, true = (mask[0, 0].numpy() for mask in pair)
    if not (pred.any() and true.any()):
        return
    spacing = [step, *[1.0] * (pred.ndim - 1)]
    distances = cdist(np.argwhere(outline(pred)) * spacing, np.argwhere(outline(true)) * spacing)
    there, back = distances.min(axis=1), distances.min(axis=0)
    both = np.concatenate([there, back])
    expected_hd95 = max(np.quantile(there, 0.95), np.quantile(back, 0.95))
    assert hd95(*pair, spacing=spacing).item() == pytest.approx(expected_hd95, rel=1e-5, abs=1e-6)
    assert assd(*pair, spacing=spacing).item() == pytest.approx(both.mean(), rel=1e-5, abs=1e-6)
    assert nsd(*pair, spacing=spacing, tolerance=1.3).item() == pytest.approx((both <= 1.3).mean(), abs=1e-6)


@given(pairs(), st.sampled_from([jaccard, dice, sensitivity, hd95, assd, nsd]))
@fast
def test_a_frame_of_background_changes_nothing_but_the_diagonal(pair, figure):
    if not all(mask.any() for mask in pair):
        return
    padded = [torch.nn.functional.pad(mask, (3,) * 2 * (mask.ndim - 2)) for mask in pair]
    assert figure(*padded).item() == pytest.approx(figure(*pair).item(), rel=1e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 1000))
@fast
def test_bootstrap_interval_lies_between_the_smallest_and_the_largest_value(values, seed):
    low, high = bootstrap_interval(np.array(values), seed=seed, resamples=200)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12
