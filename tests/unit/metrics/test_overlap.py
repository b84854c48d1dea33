import pytest
import torch
from monai.data import MetaTensor

from banet_monai.metrics import accuracy, dice, jaccard, sensitivity, specificity

FIGURES = [jaccard, dice, sensitivity, specificity, accuracy]


def box(size, rows, columns, dtype=torch.bool):
    mask = torch.zeros(1, 1, *size, dtype=dtype)
    mask[0, 0, slice(*rows), slice(*columns)] = 1
    return mask


TRUE = box((10, 10), (2, 6), (2, 6))  # 4x4
SHIFTED = box((10, 10), (2, 6), (4, 8))  # the same, two pixels further: 8 pixels in common
EMPTY, FULL = torch.zeros(1, 1, 10, 10), torch.ones(1, 1, 10, 10)


@pytest.mark.parametrize(
    ("figure", "expected"),
    [(jaccard, 8 / 24), (dice, 16 / 32), (sensitivity, 8 / 16), (specificity, 76 / 84), (accuracy, 84 / 100)],
)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_shifted_square_has_the_figures_counted_by_hand(figure, expected, dtype):
    assert figure(SHIFTED.to(dtype), TRUE.to(dtype)).tolist() == [[pytest.approx(expected, abs=1e-15)]]


@pytest.mark.parametrize("figure", FIGURES)
def test_equal_masks_are_perfect(figure):
    assert figure(TRUE, TRUE).item() == 1


@pytest.mark.parametrize(
    ("pred", "true", "expected"),
    [
        (EMPTY, EMPTY, [1, 1, 1, 1, 1]),
        (EMPTY, TRUE, [0, 0, 0, 1, 0.84]),  # a miss
        (TRUE, EMPTY, [0, 0, 1, 0.84, 0.84]),  # a false alarm: nothing to find, so nothing was missed
        (TRUE, FULL, [0.16, 0.32 / 1.16, 0.16, 1, 0.16]),  # no background to get wrong
        (FULL, FULL, [1, 1, 1, 1, 1]),
    ],
)
def test_empty_and_full_masks_follow_the_written_rules(pred, true, expected):
    assert [figure(pred, true).item() for figure in FIGURES] == pytest.approx(expected)


def test_each_image_and_class_has_its_own_value():
    pred = torch.cat([torch.cat([TRUE, SHIFTED], 1), torch.cat([SHIFTED, EMPTY.bool()], 1)])
    true = TRUE.expand(2, 2, 10, 10)
    torch.testing.assert_close(jaccard(pred, true), torch.tensor([[1, 1 / 3], [1 / 3, 0]], dtype=torch.float64))


def test_volumes_are_measured_in_voxels():
    pred, true = torch.zeros(2, 1, 1, 4, 4, 4).unbind()
    pred[..., :2], true[..., 1:3] = 1, 1
    assert jaccard(pred, true).item() == pytest.approx(1 / 3)


def test_meta_tensors_give_plain_results():
    value = jaccard(MetaTensor(SHIFTED), MetaTensor(TRUE))
    assert type(value) is torch.Tensor
    assert value.item() == pytest.approx(1 / 3)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(1, 1, 10, 10\) and \(1, 1, 8, 8\)"):
        jaccard(TRUE, torch.zeros(1, 1, 8, 8))


def test_masks_without_channel_or_pixels_are_refused():
    with pytest.raises(ValueError, match=r"4 or 5 axes and not empty, got shape \(10, 10\)"):
        jaccard(TRUE[0, 0], TRUE[0, 0])
    with pytest.raises(ValueError, match=r"not empty, got shape \(1, 1, 0, 10\)"):
        jaccard(TRUE[:, :, :0], TRUE[:, :, :0])


def test_probabilities_and_label_ids_are_refused():
    with pytest.raises(ValueError, match=r"prediction must hold 0 and 1 only, got also \[0.5\].*AsDiscrete"):
        jaccard(TRUE * 0.5, TRUE)
    with pytest.raises(ValueError, match=r"truth must hold 0 and 1 only, got also \[2\]"):
        jaccard(TRUE, TRUE.int() * 2)
