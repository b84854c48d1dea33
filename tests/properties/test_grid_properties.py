from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from banet_monai.transforms import RestoreGridd, ToWorkingGridd

SIDES = st.integers(8, 40)
LIMITED = settings(max_examples=40, deadline=None)
ORIENTATIONS = [
    "".join(pair[flip] for pair, flip in zip(pairs, flips, strict=True))
    for pairs in permutations(("RL", "AP", "SI"))
    for flips in product((0, 1), repeat=3)
]


def with_marker(shape: tuple[int, ...], marker: tuple[int, ...], affine: np.ndarray) -> MetaTensor:
    """A blob of 5 pixels around the marker, so that resampling does not lose it."""
    axes = torch.meshgrid(*[torch.arange(float(size)) for size in shape], indexing="ij")
    square = sum((axis - place) ** 2 for axis, place in zip(axes, marker, strict=True))
    return MetaTensor(torch.exp(-torch.as_tensor(square) / 8)[None], affine=torch.as_tensor(affine))


def centre_of_mass(values: torch.Tensor) -> np.ndarray:
    weights = values[0].double().numpy()
    return np.array([(weights * grid).sum() / weights.sum() for grid in np.indices(weights.shape)])


def world(affine: torch.Tensor, index: np.ndarray) -> np.ndarray:
    return np.asarray(affine.numpy()[: len(index), : len(index)] @ index + affine.numpy()[: len(index), 3])


@LIMITED
@given(width=SIDES, height=SIDES, image_size=st.integers(8, 48), scale=st.sampled_from(["short_side", "stretch"]))
def test_pictures_come_back_in_shape_and_place(width: int, height: int, image_size: int, scale: str) -> None:
    marker = (width // 2, height // 2)
    picture = with_marker((width, height), marker, np.eye(4))
    on_grid = ToWorkingGridd("image", scale=scale, image_size=image_size)({"image": picture})["image"]
    assert min(on_grid.shape[1:]) == image_size
    back = RestoreGridd("pred")({"image": on_grid, "pred": on_grid.as_tensor()})["pred"]
    assert back.shape == picture.shape
    assert torch.equal(back.affine, picture.affine)
    one_working_pixel = max(max(width, height) / image_size, 1.0)
    assert np.abs(centre_of_mass(back) - centre_of_mass(picture)).max() <= one_working_pixel
    place = world(on_grid.affine, centre_of_mass(on_grid.as_tensor()))
    assert np.abs(place - centre_of_mass(picture)).max() <= one_working_pixel


@LIMITED
@given(
    shape=st.tuples(SIDES, SIDES, SIDES),
    spacing=st.tuples(*[st.floats(0.5, 3.0)] * 3),
    network=st.sampled_from([2, 3]),
    orientation=st.sampled_from(ORIENTATIONS),
)
def test_volumes_come_back_in_shape_and_place(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], network: int, orientation: str
) -> None:
    turn = nibabel.orientations.axcodes2ornt(tuple(orientation))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (target, sign) in enumerate(turn):
        affine[int(target), axis] = sign * spacing[axis]
    affine[:3, 3] = (10, -20, 30)
    volume = with_marker(shape, tuple(size // 2 for size in shape), affine)
    options = {"orientation": "RAS"} if network == 3 else {}
    transform = ToWorkingGridd("image", scale="spacing", spacing=1.5, spatial_dims=network, **options)
    on_grid = transform({"image": volume})["image"]
    back = RestoreGridd("pred")({"image": on_grid, "pred": on_grid.as_tensor()})["pred"]
    assert back.shape == volume.shape
    torch.testing.assert_close(back.affine, volume.affine)
    expected = world(volume.affine, centre_of_mass(volume))
    working_pixel = 1.5 if network == 3 else max(1.5, *spacing)
    assert np.abs(world(on_grid.affine, centre_of_mass(on_grid.as_tensor())) - expected).max() <= working_pixel
    assert np.abs(world(back.affine, centre_of_mass(back)) - expected).max() <= working_pixel


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_all_48_orientations_turn_to_ras_and_back_exactly(orientation: str) -> None:
    turn = nibabel.orientations.axcodes2ornt(tuple(orientation))
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (target, sign) in enumerate(turn):
        affine[int(target), axis] = sign
    affine[:3, 3] = (7, 8, 9)
    volume = MetaTensor(torch.arange(60.0).reshape(1, 3, 4, 5), affine=torch.as_tensor(affine))
    transform = ToWorkingGridd("image", scale="native", spatial_dims=3, orientation="RAS")
    on_grid = transform({"image": volume})["image"]
    assert nibabel.aff2axcodes(on_grid.affine.numpy()) == ("R", "A", "S")
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume[0].numpy(), affine))
    np.testing.assert_array_equal(on_grid[0].numpy(), expected.get_fdata())
    np.testing.assert_allclose(on_grid.affine.numpy(), expected.affine)
    back = RestoreGridd("pred")({"image": on_grid, "pred": on_grid.as_tensor()})["pred"]
    assert torch.equal(back.as_tensor(), volume.as_tensor())
    np.testing.assert_array_equal(back.affine.numpy(), affine)


@LIMITED
@given(width=SIDES, height=SIDES, image_size=st.integers(8, 48), offset=st.integers(1, 3))
def test_a_rectangle_of_a_mask_moves_by_at_most_one_working_pixel(
    width: int, height: int, image_size: int, offset: int
) -> None:
    mask = torch.zeros(1, width, height, dtype=torch.uint8)
    mask[:, offset:-offset, offset:-offset] = 1
    transform = ToWorkingGridd(("image", "label"), scale="stretch", image_size=image_size)
    back = transform.inverse(transform({"image": MetaTensor(mask.float()), "label": MetaTensor(mask)}))["label"]
    pixel = max(width / image_size, height / image_size, 1.0)
    inside = torch.nonzero(back[0].as_tensor())
    if len(inside) == 0:  # thinner than a working pixel
        assert min(width, height) - 2 * offset <= 2 * pixel
        return
    low, high = inside.min(dim=0).values, inside.max(dim=0).values
    assert (low - offset).abs().max() <= pixel + 1
    assert (high - (torch.tensor([width, height]) - 1 - offset)).abs().max() <= pixel + 1
