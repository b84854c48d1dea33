import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from banet_monai.metrics import grid_spacing
from banet_monai.metrics.masks import flat_axes, foreground_masks, image_diagonal, union_box

IDS = torch.tensor([[[0, 1], [2, 2]]])
TWO_CLASSES = torch.tensor([[[0, 1], [0, 0]], [[0, 0], [1, 1]]]).bool()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_label_ids_become_one_mask_per_foreground_class(dtype):
    assert torch.equal(foreground_masks(IDS.to(dtype), 2), TWO_CLASSES)


def test_binary_and_one_hot_masks_give_the_same_classes_as_ids():
    one_hot = torch.cat([IDS == 0, TWO_CLASSES])
    assert torch.equal(foreground_masks(TWO_CLASSES.float(), 2), TWO_CLASSES)
    assert torch.equal(foreground_masks(one_hot.to(torch.uint8), 2), TWO_CLASSES)


def test_strange_ids_and_channels_are_named():
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 1, got also \[2\]"):
        foreground_masks(IDS, 1)
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 1, got also \[0.25\]"):
        foreground_masks(torch.tensor([[[0.25, 1.0]]]), 1)
    with pytest.raises(ValueError, match=r"5 binary channels or 6 with the background first, got shape \(2, 2, 2\)"):
        foreground_masks(TWO_CLASSES, 5)


def test_diagonal_is_measured_in_the_unit_of_the_spacing():
    assert image_diagonal((3, 4)) == 5
    assert image_diagonal((3, 4), (2, 2)) == 10
    assert image_diagonal((2, 3, 6)) == 7


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((5, 5, 1), [2]), ((1, 5, 5), [0]), ((5, 1), []), ((1, 1, 5), [1]), ((1, 1, 1), [2]), ((4, 4), [])],
)
def test_only_volumes_of_one_slice_lose_an_axis(shape, axes):
    assert flat_axes(shape) == axes


def test_box_holds_the_foreground_of_both_masks():
    a, b = torch.zeros(2, 10, 12, dtype=torch.bool)
    a[2, 3], b[7, 1] = True, True
    assert union_box(a, b) == (slice(2, 8), slice(1, 4))
    assert union_box(a & b) is None


def test_spacing_is_the_length_of_the_columns_of_the_affine():
    oblique = np.eye(4)
    oblique[:3, :3] = np.array([[0, 1, 0], [0.6, 0, 0.8], [0.8, 0, -0.6]]) @ np.diag([0.5, 2, 3])
    spacing = grid_spacing(MetaTensor(torch.zeros(1, 4, 4, 4), affine=oblique))
    assert spacing.values == pytest.approx((0.5, 2, 3))
    assert spacing.unit == "mm"


def test_plain_tensors_and_pictures_are_measured_in_pixels():
    assert grid_spacing(torch.zeros(1, 4, 4)) == ((1.0, 1.0), "px")
    assert grid_spacing(MetaTensor(torch.zeros(1, 4, 4))) == ((1.0, 1.0), "px")
    resized = MetaTensor(torch.zeros(1, 4, 4), affine=np.diag([2.0, 2, 1, 1]), meta={"original_affine": np.eye(4)})
    assert grid_spacing(resized) == ((1.0, 1.0), "px")


@pytest.mark.parametrize(
    ("unit", "expected"), [("mm", ((2.0, 3.0), "mm")), ("meter", ((2000.0, 3000.0), "mm")), ("px", ((1.0, 1.0), "px"))]
)
def test_unit_written_by_the_reader_decides(unit, expected):
    mask = MetaTensor(torch.zeros(1, 4, 4), affine=np.diag([2.0, 3, 1, 1]), meta={"spacing_unit": unit})
    assert grid_spacing(mask) == expected


def test_unknown_unit_and_batched_affine_are_refused():
    with pytest.raises(ValueError, match="must be 'mm', 'micron', 'meter' or 'px', got 'inch'"):
        grid_spacing(MetaTensor(torch.zeros(1, 4, 4), meta={"spacing_unit": "inch"}))
    batched = MetaTensor(torch.zeros(1, 4, 4, 4, 4), affine=np.eye(4))
    with pytest.raises(ValueError, match="decollate a batch before"):
        grid_spacing(batched)
