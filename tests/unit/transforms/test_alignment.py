"""Masks in another orientation than their image; where an object lies is known from how it was put there."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from banet_monai.transforms import MaskToIdsd
from banet_monai.transforms.alignment import in_order_of

SHAPE = (2, 5, 6)
AFFINE = np.array([[-0.8, 0, 0, 40], [0, -0.8, 0, 30], [0, 0, 2.5, -20], [0, 0, 0, 1.0]])  # LPS


def image(affine: np.ndarray = AFFINE) -> MetaTensor:
    return MetaTensor(torch.zeros(1, *SHAPE), affine=affine, meta={"spacing_unit": "mm", "filename_or_obj": "ct.nii"})


def numbered() -> np.ndarray:
    return np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def stored_as(codes: str, affine: np.ndarray = AFFINE) -> MetaTensor:
    """The numbered voxels of the image's grid as a file of another orientation holds them."""
    ornt = nibabel.orientations
    turned = nibabel.Nifti1Image(numbered(), affine).as_reoriented(
        ornt.ornt_transform(ornt.io_orientation(affine), ornt.axcodes2ornt(codes))
    )
    values = torch.from_numpy(np.ascontiguousarray(turned.get_fdata(dtype=np.float32)))[None]
    meta = {"spacing_unit": "mm", "filename_or_obj": "mask.nii", "has_place": True}
    return MetaTensor(values, affine=turned.affine, meta=meta)


ORIENTATIONS = [
    "".join(codes) for order in itertools.permutations(("LR", "PA", "SI")) for codes in itertools.product(*order)
]


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_a_mask_of_any_orientation_gets_the_voxels_and_the_affine_of_its_image(codes: str) -> None:
    aligned = in_order_of(stored_as(codes), image())
    np.testing.assert_array_equal(aligned.as_tensor().numpy()[0], numbered())
    np.testing.assert_allclose(aligned.affine.numpy(), AFFINE, atol=1e-9)


def test_a_mask_of_the_same_orientation_is_left_as_it_is_wherever_it_lies() -> None:
    elsewhere = AFFINE.copy()
    elsewhere[:3, 3] += 100
    mask = stored_as("LPS", elsewhere)
    assert in_order_of(mask, image()) is mask


def test_a_grid_halfway_between_two_axes_is_left_as_it_is_whatever_rounding_makes_of_it() -> None:
    turn = np.pi / 4
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    for nudge in (-1e-6, 1e-6):
        nudged = affine.copy()
        nudged[0, 0] += nudge
        mask = MetaTensor(torch.from_numpy(numbered())[None], affine=nudged, meta={"spacing_unit": "mm"})
        for other in (-1e-6, 1e-6):
            goal = affine.copy()
            goal[1, 1] += other
            assert in_order_of(mask, image(goal)) is mask


def test_a_mask_that_says_nothing_of_its_place_goes_by_its_indices() -> None:
    mask = MetaTensor(torch.from_numpy(numbered())[None], affine=np.eye(4), meta={"spacing_unit": "mm"})
    assert in_order_of(mask, image()) is mask
    as_itk_writes_it = MetaTensor(torch.from_numpy(numbered())[None], affine=np.diag([-1.0, -1, 1, 1]))
    assert in_order_of(as_itk_writes_it, image(np.diag([2.0, 2, 3, 1]))) is as_itk_writes_it
    placeless = stored_as("RAS")
    placeless.meta["has_place"] = False
    assert in_order_of(placeless, image()) is placeless
    picture = MetaTensor(torch.zeros(1, 4, 5))
    assert in_order_of(picture, picture) is picture


def test_a_turned_mask_of_another_place_is_refused_by_name() -> None:
    elsewhere = AFFINE.copy()
    elsewhere[2, 3] += 10
    with pytest.raises(
        ValueError, match=r"mask 'mask.nii' is stored as RAS and its image 'ct.nii' as LPS, and they do"
    ):
        in_order_of(stored_as("RAS", elsewhere), image())


def test_label_ids_come_in_the_order_of_the_image() -> None:
    lesion = stored_as("RAS")
    lesion.copy_(lesion == numbered()[1, 0, 5])
    ids = MaskToIdsd("label")({"image": image(), "label": lesion})["label"]
    assert torch.nonzero(ids).tolist() == [[0, 1, 0, 5]]
