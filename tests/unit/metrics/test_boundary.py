import pytest
import torch

from banet_monai.metrics import boundary_iou
from banet_monai.metrics.boundary import band_width, erode, inner_band


def centred(size, side):
    """A square (cube) of ``side`` pixels in the middle of an image of ``size`` pixels, (*size)."""
    mask = torch.zeros(*size, dtype=torch.bool)
    mask[tuple(slice((n - side) // 2, (n - side) // 2 + side) for n in size)] = True
    return mask


@pytest.mark.parametrize(
    ("shape", "width"),
    [((100, 100), 3), ((512, 512), 14), ((30, 40), 1), ((8, 8), 1), ((40, 40, 40), 1), ((300, 400), 10)],
)
def test_band_is_two_percent_of_the_diagonal_wide(shape, width):
    assert band_width(shape) == width  # 2.83, 14.48, 1.0, 0.23, 1.39 and 10.0 pixels


def test_band_of_a_square_is_its_outermost_pixels():
    band = inner_band(centred((100, 100), 20), 3)
    assert band.sum() == 20**2 - 14**2
    assert not band[43:57, 43:57].any()


def test_frame_counts_as_background():
    assert inner_band(torch.ones(100, 100, dtype=torch.bool), 3).sum() == 100**2 - 94**2


def test_band_of_a_cube_is_one_voxel_thick():
    assert inner_band(centred((20, 20, 20), 10), 1).sum() == 10**3 - 8**3


def test_object_thinner_than_the_band_is_all_band():
    mask = centred((100, 100), 5)
    assert torch.equal(inner_band(mask, 3), mask)


def test_erosion_is_wider_than_the_image_without_error():
    assert not erode(torch.ones(4, 5, dtype=torch.bool), 10).any()


def test_equal_masks_agree_fully():
    mask = centred((100, 100), 20)[None, None]
    assert boundary_iou(mask, mask).item() == 1


def test_square_grown_by_one_pixel_has_half_the_band_in_common():
    # Bands of 3 pixels: 22^2 - 16^2 = 228 and 20^2 - 14^2 = 204, in common 20^2 - 16^2 = 144, together 288.
    pred, true = centred((100, 100), 22)[None, None], centred((100, 100), 20)[None, None]
    assert boundary_iou(pred, true).item() == 144 / 288


def test_square_grown_by_the_width_of_the_band_has_no_band_in_common():
    pred, true = centred((100, 100), 26)[None, None], centred((100, 100), 20)[None, None]
    assert boundary_iou(pred, true).item() == 0


def test_misses_and_empty_masks_follow_the_written_rules():
    mask = centred((100, 100), 20)[None, None]
    empty = torch.zeros_like(mask)
    assert boundary_iou(empty, empty).item() == 1
    assert boundary_iou(empty, mask).item() == 0
    assert boundary_iou(mask, empty).item() == 0


def test_each_image_and_class_has_its_own_value():
    true = centred((100, 100), 20).expand(2, 2, 100, 100)
    pred = true.clone()
    pred[0, 1] = centred((100, 100), 22)
    pred[1, 0] = False
    assert boundary_iou(pred, true).tolist() == [[1, 0.5], [0, 1]]


def test_picture_stored_as_one_slice_is_measured_as_a_picture():
    pred, true = centred((100, 100), 22)[None, None, ..., None], centred((100, 100), 20)[None, None, ..., None]
    assert boundary_iou(pred, true).item() == 0.5


def test_wider_band_is_an_option():
    pred, true = centred((100, 100), 26)[None, None], centred((100, 100), 20)[None, None]
    assert boundary_iou(pred, true, dilation_ratio=0.2).item() == 20**2 / 26**2  # the band is the whole object
    with pytest.raises(ValueError, match="dilation_ratio must be positive, got 0"):
        boundary_iou(pred, true, dilation_ratio=0)
