"""Geometry of the random crops and deformations, and of test-time augmentation."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from banet_monai.inferers import FlipInferer
from banet_monai.transforms import RandBackgroundCropd, RandElasticd, RandLesionCropd
from banet_monai.transforms.crops import _outline, places_that_keep

fast = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**31 - 1)


@st.composite
def lesions(draw):
    """A mask with a rectangular lesion somewhere."""
    size = draw(st.integers(8, 40)), draw(st.integers(8, 40))
    mask = np.zeros(size, dtype=bool)
    corners = [sorted(draw(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))) for n in size]
    mask[corners[0][0] : corners[0][1] + 1, corners[1][0] : corners[1][1] + 1] = True
    return mask


def inside(mask, start, side):
    return mask[start[0] : start[0] + side, start[1] : start[1] + side]


@given(lesions(), st.floats(0.0, 1.0), st.integers(1, 8))
@fast
def test_places_that_keep_are_exactly_those_that_a_count_finds(mask, share, side):
    found = {tuple(place) for place in places_that_keep(mask, side, share).tolist()}
    every = [(x, y) for x in range(mask.shape[0] - side + 1) for y in range(mask.shape[1] - side + 1)]
    assert found == {place for place in every if inside(mask, place, side).sum() >= share * mask.sum() - 1e-9}


@given(lesions(), SEEDS, st.floats(0.0, 1.0))
@fast
def test_a_crop_about_the_lesion_keeps_its_share_wherever_a_square_can(mask, seed, keep):
    transform = RandLesionCropd("label", 8, prob=1.0, scale=(0.3, 1.0), keep=keep, outline_prob=0.0)
    start, side = transform.set_random_state(seed).draw(mask)
    short = min(mask.shape)
    assert inside(mask, start, side).shape == (side, side)
    if len(places_that_keep(mask, short, keep)):
        assert inside(mask, start, side).sum() >= keep * mask.sum() - 1e-9
    else:
        assert side == short


@given(lesions(), SEEDS)
@fast
def test_a_crop_at_the_outline_holds_a_pixel_of_it(mask, seed):
    transform = RandLesionCropd("label", 8, prob=1.0, scale=(0.2, 0.6), outline_prob=1.0)
    start, side = transform.set_random_state(seed).draw(mask)
    rim = np.zeros_like(mask)
    rim[tuple(_outline(mask).T)] = True
    assert inside(mask, start, side).shape == (side, side)
    assert inside(rim, start, side).any() or not rim.any()


@given(lesions(), SEEDS, st.floats(0.0, 0.3))
@fast
def test_a_crop_of_background_holds_nothing_within_the_margin_of_a_lesion(mask, seed, margin):
    transform = RandBackgroundCropd("label", 8, prob=1.0, scale=(0.1, 0.8), margin=margin)
    drawn = transform.set_random_state(seed).draw(mask)
    if drawn is None:
        return
    (x, y), side = drawn
    reach = round(min(mask.shape) * margin)
    assert inside(mask, (x, y), side).shape == (side, side)
    assert not mask[max(0, x - reach) : x + side + reach, max(0, y - reach) : y + side + reach].any()


@given(SEEDS, st.integers(1, 8), st.tuples(st.integers(16, 48), st.integers(16, 48)))
@fast
def test_an_elastic_deformation_folds_nothing_and_stays_within_its_magnitude(seed, cells, size):
    largest = 1 / (3 * cells)
    transform = RandElasticd("image", cells=cells, magnitude=(largest, largest), mode="bilinear")
    shift = transform.set_random_state(seed).draw(size).double()
    # bicubic interpolation overshoots its points by less than a half
    assert (shift.abs() <= 1.5 * largest * torch.tensor(size)[:, None, None] + 1e-6).all()
    small = RandElasticd("image", cells=cells, magnitude=(largest / 3, largest / 3), mode="bilinear")
    shift = small.set_random_state(seed).draw(size).double()
    (xx, xy), (yx, yy) = ((s.diff(dim=0)[:, :-1], s.diff(dim=1)[:-1]) for s in shift)
    assert ((1 + xx) * (1 + yy) - xy * yx > 0).all()


@given(SEEDS, st.sampled_from([(-2,), (-1,), (-2, -1)]), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_the_mean_over_views_turns_with_the_image(seed, flipped, turns):
    torch.manual_seed(seed)
    network = nn.Conv2d(2, 1, 3, padding=1).eval().requires_grad_(False)
    inferer, image = FlipInferer(lambda x, net: net(x)), torch.randn(1, 2, 7, 5)

    def move(x):
        return torch.rot90(x.flip(flipped), turns, (-2, -1))

    torch.testing.assert_close(inferer(move(image), network), move(inferer(image, network)), atol=1e-5, rtol=1e-5)
