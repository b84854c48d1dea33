"""Which parts of a mask are small beside the largest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.data import MetaTensor
from monai.transforms import KeepLargestConnectedComponent
from skimage.measure import find_contours

from banet_monai.transforms import DiscretizeLabelsd
from banet_monai.transforms.parts import small_parts
from banet_monai.uncertainty import TemperProbabilityd

# parts of 10, 5, 2 and 1 pixels; the last touches the one of 5 by a corner alone
PICTURE = np.array([[int(sign) for sign in row] for row in [
    "1111100100",
    "1111100100",
    "0000000111",
    "0011000000",
    "0000001000",
]])  # fmt: skip
PICTURE[3, 6], PICTURE[4, 6] = 1, 0


@pytest.mark.parametrize(
    ("share", "sizes"), [(0, []), (0.1, []), (0.11, [1]), (0.2, [1]), (0.25, [1, 2]), (0.5, [1, 2]), (1, [1, 2, 5])]
)
def test_parts_below_a_share_of_the_largest_are_found(share, sizes):
    found = small_parts(PICTURE, share)
    assert found.dtype == bool
    assert found.sum() == sum(sizes)
    assert not found[:2, :5].any()
    assert bool(found[3, 6]) == (1 in sizes)
    assert bool(found[3, 2]) == (2 in sizes)


def test_the_parts_of_each_id_are_measured_by_its_own_largest():
    ids = np.zeros((6, 9), dtype=np.uint8)
    ids[0:3, 0:4] = 1  # 12 pixels
    ids[5, 0] = 1  # 1 of 12
    ids[0:2, 6] = 3  # 2 pixels, fewer than a tenth of nothing but of their own
    ids[4, 6] = 3  # 1 of 2
    assert np.argwhere(small_parts(ids, 0.1)).tolist() == [[5, 0]]
    assert np.argwhere(small_parts(ids, 0.6)).tolist() == [[4, 6], [5, 0]]


def test_voxels_hang_together_over_their_faces_in_all_three_axes():
    ids = np.zeros((4, 4, 4), dtype=np.uint8)
    ids[1, 1, :] = 1
    ids[1, 2, 0] = 1  # beside the column
    ids[3, 3, 3] = 1
    assert np.argwhere(small_parts(ids, 0.5)).tolist() == [[3, 3, 3]]


@pytest.mark.parametrize("ids", [np.zeros((3, 4), dtype=np.uint8), np.ones((3, 4), dtype=np.uint8), np.zeros((0, 4))])
def test_nothing_is_found_in_one_part_and_in_none(ids):
    assert not small_parts(ids.astype(np.uint8), 1.0).any()


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1)))
def test_with_a_share_of_one_the_largest_parts_are_what_is_left(ids):
    left = ids.astype(bool) & ~small_parts(ids, 1.0)
    largest = KeepLargestConnectedComponent(connectivity=1)(torch.from_numpy(ids)[None])[0].numpy() > 0
    assert (left >= largest).all()  # of equal ones MONAI keeps one
    assert left.sum() % max(1, largest.sum()) == 0


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_larger_share_finds_no_less_and_what_is_left_holds_nothing_small(ids, one, other):
    low, high = sorted((one, other))
    less, more = small_parts(ids, low), small_parts(ids, high)
    assert (less <= more).all()
    assert (ids[more] > 0).all()
    assert not small_parts(np.where(more, 0, ids), high).any()
    assert set(np.unique(ids[~more])) | {0} == set(np.unique(ids)) | {0}  # no id vanishes


# ---- of probabilities ------------------------------------------------------------------------------------------------


def decided(probabilities, **options):
    record = {"pred": MetaTensor(torch.as_tensor(probabilities), meta={"kind": "picture"})}
    return DiscretizeLabelsd("pred", probability_key="probability", **options)(record)


def two_spots():
    """A spot of 16 pixels and one of 2, with probabilities of .9 and .8 on .1."""
    values = torch.full((1, 9, 8), 0.1)
    values[0, 1:5, 1:5], values[0, 7, 5:7] = 0.9, 0.8
    return values


def test_small_parts_of_a_picture_become_background():
    values = two_spots()
    assert decided(values)["pred"].sum() == 18
    result = decided(values, smallest_part=0.2)
    assert result["pred"].sum() == 16
    assert result["pred"].dtype == torch.uint8
    assert result["pred"].meta["kind"] == "picture"
    assert torch.equal(values, two_spots())  # what came in stays


def test_a_plane_is_a_picture_and_a_volume_keeps_its_parts():
    assert decided(two_spots()[..., None], smallest_part=0.2)["pred"].sum() == 16
    assert decided(two_spots()[..., None].repeat(1, 1, 1, 2), smallest_part=0.2)["pred"].sum() == 36


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_probabilities_that_are_kept_draw_the_same_outline_as_the_mask(threshold, temperature):
    result = TemperProbabilityd(temperature=temperature)(decided(two_spots(), smallest_part=0.2, threshold=threshold))
    values, level = result["probability"].as_tensor(), result["probability"].meta["level"]
    assert torch.equal(values >= level, result["pred"].as_tensor() > 0)
    assert len(find_contours(values[0].numpy(), level)) == 1
    assert values[0, 7, 5] > values[0, 0, 0]  # it is still the likeliest background


def test_where_the_largest_wins_the_probabilities_of_a_small_part_are_exchanged_with_the_backgrounds():
    classes = torch.zeros(3, 9, 8)
    classes[2] = two_spots()[0]
    classes[1] = 0.05
    classes[0] = 1 - classes[1] - classes[2]
    result = decided(classes, mode="multiclass", smallest_part=0.2)
    assert torch.equal(result["pred"].as_tensor() == 2, (classes[2:] > 0.85))
    values = result["probability"].as_tensor()
    torch.testing.assert_close(values[:, 7, 5], torch.tensor([0.8, 0.05, 0.15]))
    torch.testing.assert_close(values[:, 1, 1], classes[:, 1, 1])
    torch.testing.assert_close(values.sum(dim=0), torch.ones(9, 8))
    assert torch.equal(values.argmax(dim=0, keepdim=True).to(torch.uint8), result["pred"].as_tensor())


@pytest.mark.parametrize("share", [-0.1, 1.5, "many"])
def test_a_share_outside_of_its_range_is_refused(share):
    with pytest.raises(ValueError, match="smallest_part"):
        DiscretizeLabelsd(smallest_part=share)
