"""Windows are placed, weighted and blended as MONAI does it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import SliceInferer, SlidingWindowInferer
from torch import nn

from banet_monai.inferers import SegmentationInferer
from banet_monai.windows import Grid, blend_windows, window_starts


def textured(spatial_dims: int = 2, channels: int = 3, classes: int = 2) -> nn.Module:
    """A network that sees the border of its window, so that the result depends on where windows lie."""
    torch.manual_seed(0)
    conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
    layers = nn.Sequential(conv(channels, 4, 3, padding=1), nn.ReLU(), conv(4, classes, 3, padding=1))
    return layers.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("length", "window", "interval", "starts"),
    [
        (16, 16, 8, [0]),
        (17, 16, 8, [0, 1]),
        (32, 16, 8, [0, 8, 16]),
        (33, 16, 8, [0, 8, 16, 17]),
        (48, 16, 16, [0, 16, 32]),
        (5, 4, 1, [0, 1]),
    ],
)
def test_windows_follow_each_other_and_the_last_ends_with_the_image(
    length: int, window: int, interval: int, starts: list[int]
) -> None:
    assert window_starts(length, window, interval) == starts


def test_windows_lie_where_monai_places_them() -> None:
    for length in range(16, 70):
        for overlap in (0.0, 0.1, 0.25, 0.5, 0.75, 0.99):
            interval = Grid((16,), overlap, "constant").interval(0)
            expected = [place.start for (place,) in dense_patch_slices((length,), (16,), (interval,))]
            assert window_starts(length, 16, interval) == expected


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.6, 0.75])
@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("shape", "roi_size"),
    [
        ((1, 3, 40, 25), (16, 16)),
        ((2, 3, 33, 16), (16, 16)),
        ((3, 3, 48, 32), (16, 12)),
        ((1, 3, 9, 50), (16, 16)),  # smaller than a window along one axis
        ((2, 3, 7, 11), (16, 16)),  # along both
        ((1, 3, 16, 17), (16, 16)),
    ],
)
def test_pictures_equal_those_of_monais_inferer(
    shape: tuple[int, ...], roi_size: tuple[int, int], mode: str, overlap: float
) -> None:
    image, network = torch.randn(shape, generator=torch.Generator().manual_seed(1)), textured()
    stock = SlidingWindowInferer(roi_size, sw_batch_size=4, overlap=overlap, mode=mode)
    ours = SegmentationInferer(roi_size=roi_size, sw_batch_size=3, overlap=overlap, mode=mode, amp="none")
    torch.testing.assert_close(ours(image, network), stock(image, network), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("shape", [(1, 1, 20, 18, 9), (2, 1, 8, 8, 24), (1, 1, 5, 30, 8)])
def test_volumes_equal_those_of_monais_inferer(shape: tuple[int, ...], overlap: float) -> None:
    volume, network = torch.randn(shape, generator=torch.Generator().manual_seed(1)), textured(3, 1, 3)
    stock = SlidingWindowInferer((8, 12, 8), sw_batch_size=4, overlap=overlap, mode="gaussian")
    ours = SegmentationInferer(spatial_dims=3, roi_size=(8, 12, 8), sw_batch_size=5, overlap=overlap, amp="none")
    torch.testing.assert_close(ours(volume, network), stock(volume, network), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 20, 25, 7), (2, 3, 16, 16, 3), (1, 3, 9, 30, 2), (2, 3, 40, 12, 1)])
@pytest.mark.parametrize("overlap", [0.0, 0.75])
def test_slices_equal_those_of_monais_inferer(shape: tuple[int, ...], overlap: float) -> None:
    volume, network = torch.randn(shape, generator=torch.Generator().manual_seed(1)), textured()
    stock = SliceInferer(roi_size=(16, 16), sw_batch_size=4, overlap=overlap, mode="gaussian", spatial_dim=2)
    ours = SegmentationInferer(roi_size=16, sw_batch_size=3, overlap=overlap, amp="none")
    torch.testing.assert_close(ours(volume, network), stock(volume, network), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padding_mode", ["constant", "reflect", "replicate", "circular"])
def test_every_padding_equals_that_of_monais_inferer(padding_mode: str) -> None:
    image, network = torch.randn(1, 3, 11, 20, generator=torch.Generator().manual_seed(1)), textured()
    stock = SlidingWindowInferer((16, 16), overlap=0.5, mode="gaussian", padding_mode=padding_mode)
    ours = SegmentationInferer(roi_size=16, padding_mode=padding_mode, amp="none")
    torch.testing.assert_close(ours(image, network), stock(image, network), atol=1e-5, rtol=1e-5)


def test_padding_out_of_an_image_that_is_too_small_for_it_says_what_works() -> None:
    with pytest.raises(ValueError, match=r"image of \(4, 20\) .* by 'reflect', .*'replicate' works for every size"):
        SegmentationInferer(roi_size=16, padding_mode="reflect", amp="none")(torch.zeros(1, 3, 4, 20), textured())


def test_unknown_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="padding_mode must be one of constant, reflect, replicate, circular, got 'z'"):
        SegmentationInferer(roi_size=16, padding_mode="z")


def test_overlapping_windows_are_averaged_by_their_weights() -> None:
    """Two constant windows of 4 that share 2 pixels, the first predicted 1, the second 3."""

    def number(windows: torch.Tensor) -> torch.Tensor:
        return torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 1, 1, 4)

    result = blend_windows(torch.zeros(1, 3, 1, 6), number, grid=Grid((1, 4), 0.5, "constant"), batch=2)
    assert result.tolist() == [[[[1, 1, 2, 2, 3, 3]]]]


def test_windows_of_several_images_share_a_batch() -> None:
    sizes: list[int] = []

    def predict(windows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(windows))
        return windows[:, :1]

    blend_windows(torch.zeros(3, 1, 4, 6), predict, grid=Grid((4, 4), 0.5, "constant"), batch=4)
    assert sizes == [4, 2]  # two windows in each of three images


def test_gradients_reach_what_the_network_made() -> None:
    scale = torch.tensor(2.0, requires_grad=True)
    image = torch.ones(1, 1, 4, 7)
    result = blend_windows(image, lambda x: x * scale, grid=Grid((4, 4), 0.5, "gaussian"), batch=8)
    result.sum().backward()
    assert scale.grad is not None
    torch.testing.assert_close(scale.grad, torch.tensor(28.0))


def test_weights_made_within_inference_mode_serve_gradients_later() -> None:
    image, grid = torch.ones(1, 1, 6, 9), Grid((6, 6), 0.5, "gaussian")
    with torch.inference_mode():
        blend_windows(image, lambda x: x, grid=grid, batch=8)
    scale = torch.tensor(2.0, requires_grad=True)
    blend_windows(image, lambda x: x * scale, grid=grid, batch=8).sum().backward()
    torch.testing.assert_close(scale.grad, torch.tensor(54.0))


@pytest.mark.parametrize("roi_size", [(8, 8), (16, 16)])
def test_half_precision_of_a_network_is_blended_in_float32(roi_size: tuple[int, int]) -> None:
    result = blend_windows(
        torch.ones(1, 1, 16, 16), lambda x: x.to(torch.bfloat16), grid=Grid(roi_size, 0.5, "gaussian"), batch=2
    )
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.ones(1, 1, 16, 16))


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (lambda x: x[..., ::2, ::2], ValueError, r"maps of its window's size \(8, 8\), got \(4, 4\)"),
        (lambda x: (x, x), TypeError, "must return a tensor or a dict with 'mask', got tuple"),
    ],
)
@pytest.mark.parametrize("size", [8, 12])
def test_output_of_another_kind_is_refused(output: Any, error: type[Exception], message: str, size: int) -> None:
    with pytest.raises(error, match=message):
        blend_windows(torch.zeros(1, 1, size, size), output, grid=Grid((8, 8), 0.5, "constant"), batch=2)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"images of shape \(0, 3, 20, 20\) hold nothing to predict"):
        blend_windows(torch.zeros(0, 3, 20, 20), lambda x: x, grid=Grid((8, 8), 0.5, "constant"), batch=2)
