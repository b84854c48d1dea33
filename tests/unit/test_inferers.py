from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer
from torch import nn

from banet_monai.inferers import AutocastInferer, SegmentationInferer, autocast_dtype


def pointwise(spatial_dims: int = 2) -> nn.Module:
    """A 1x1 convolution: windows, slices and the whole image must agree exactly, whatever the blending."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 2, 1) if spatial_dims == 2 else nn.Conv3d(3, 2, 1)
    return layer.eval().requires_grad_(False)


def textured(spatial_dims: int = 2) -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
    return nn.Sequential(conv(3, 4, 3, padding=1), nn.ReLU(), conv(4, 1, 3, padding=1)).eval().requires_grad_(False)


class Recorder(nn.Module):
    """Remembers the shape of every batch; raises like an allocator when it is larger than ``fits``."""

    def __init__(self, network: nn.Module, *, fits: int = 1000, message: str = "CUDA out of memory.") -> None:
        super().__init__()
        self.network, self.fits, self.message = network, fits, message
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.fits:
            raise RuntimeError(self.message)
        self.shapes.append(tuple(x.shape))
        return self.network(x)


def inferer(**options: Any) -> SegmentationInferer:
    return SegmentationInferer(**{"roi_size": 16, "amp": "none"} | options)


def test_a_picture_of_one_window_is_one_plain_pass() -> None:
    network = Recorder(textured())
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(inferer()(image, network), network.network(image))
    assert network.shapes == [(2, 3, 16, 16)]


@pytest.mark.parametrize("size", [(16, 40), (40, 16), (23, 37), (9, 11), (16, 15)])
def test_windows_of_a_pointwise_network_equal_the_whole_picture(size: tuple[int, int]) -> None:
    image = torch.randn(1, 3, *size)
    network = pointwise()
    torch.testing.assert_close(inferer()(image, network), network(image), atol=1e-5, rtol=1e-5)


def test_windows_equal_those_of_monais_own_inferer() -> None:
    image = torch.randn(1, 3, 40, 25)
    network = textured()
    stock = SlidingWindowInferer(roi_size=(16, 16), sw_batch_size=4, overlap=0.5, mode="gaussian")
    torch.testing.assert_close(inferer(sw_batch_size=3)(image, network), stock(image, network))


def test_slices_of_a_volume_equal_those_of_monais_slice_inferer() -> None:
    volume = torch.randn(2, 3, 20, 25, 7)
    network = textured()
    stock = SliceInferer(roi_size=(16, 16), sw_batch_size=4, overlap=0.5, mode="gaussian", spatial_dim=2)
    torch.testing.assert_close(inferer(sw_batch_size=3)(volume, network), stock(volume, network))


def test_every_slice_is_segmented_like_the_picture_that_it_is() -> None:
    volume = torch.randn(1, 3, 20, 25, 5)
    network = textured()
    result = inferer(sw_batch_size=2)(volume, network)
    for index in range(5):
        torch.testing.assert_close(result[..., index], inferer()(volume[..., index], network))


def test_slices_go_through_the_network_in_batches_of_sw_batch_size() -> None:
    network = Recorder(textured())
    result = inferer(sw_batch_size=4)(torch.randn(1, 3, 16, 16, 10), network)
    assert [shape[0] for shape in network.shapes] == [4, 4, 2]
    assert result.shape == (1, 1, 16, 16, 10)


def test_a_last_axis_of_one_comes_back() -> None:
    image = torch.randn(1, 3, 16, 16, 1)
    network = textured()
    result = inferer()(image, network)
    assert result.shape == (1, 1, 16, 16, 1)
    torch.testing.assert_close(result[..., 0], network(image[..., 0]))


def test_a_3d_network_takes_windows_in_all_axes() -> None:
    volume = torch.randn(1, 3, 20, 18, 9)
    network = pointwise(3)
    result = inferer(spatial_dims=3, roi_size=(16, 16, 8))(volume, network)
    torch.testing.assert_close(result, network(volume), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 3, 16, 16, 1)])
def test_a_3d_network_refuses_pictures(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="spatial_dims=3 cannot take an input of shape"):
        inferer(spatial_dims=3)(torch.zeros(shape), pointwise(3))


@pytest.mark.parametrize(
    "message", ["CUDA out of memory. Tried to allocate", "[enforce fail] DefaultCPUAllocator: can't allocate memory"]
)
def test_out_of_memory_halves_the_batch_with_a_warning_and_keeps_it(
    message: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = Recorder(textured(), fits=2, message=message)
    volume = torch.randn(1, 3, 16, 16, 7)
    with caplog.at_level(logging.WARNING):
        result = inferer(sw_batch_size=8)(volume, network)
    assert [shape[0] for shape in network.shapes] == [2, 2, 2, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory with 8 windows at a time, going on with 4.",
        "out of memory with 4 windows at a time, going on with 2.",
    ]
    torch.testing.assert_close(result, inferer()(volume, network.network))


def test_out_of_memory_halves_the_windows_of_one_picture() -> None:
    network = Recorder(textured(), fits=3)
    image = torch.randn(1, 3, 40, 40)
    result = inferer(sw_batch_size=8)(image, network)
    assert {shape[0] for shape in network.shapes} <= {1, 2}
    torch.testing.assert_close(result, inferer()(image, network.network))


def test_out_of_memory_with_one_window_says_what_would_help() -> None:
    network = Recorder(textured(), fits=0)
    with pytest.raises(RuntimeError, match=r"single window of \(16, 16\).*smaller roi_size"):
        inferer()(torch.randn(1, 3, 16, 16), network)


def test_other_errors_of_the_network_are_not_retried() -> None:
    network = Recorder(textured(), fits=0, message="size mismatch")
    with pytest.raises(RuntimeError, match=r"^size mismatch$"):
        inferer()(torch.randn(1, 3, 16, 16), network)


def test_the_mask_is_taken_from_the_dict_of_a_network_in_training_mode() -> None:
    network = textured()
    image = torch.randn(1, 3, 40, 16)

    def with_side_outputs(x: torch.Tensor) -> dict[str, Any]:
        return {"mask": network(x), "stage_masks": [x]}

    torch.testing.assert_close(inferer()(image, with_side_outputs), inferer()(image, network))


def test_a_meta_tensor_keeps_its_meta_and_the_network_sees_a_plain_tensor() -> None:
    seen: list[type] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(type(x))
        return x[:, :1]

    image = MetaTensor(torch.randn(1, 3, 40, 16), meta={"filename_or_obj": ["a.png"]})
    result = inferer()(image, network)
    assert isinstance(result, MetaTensor)
    assert result.meta["filename_or_obj"] == ["a.png"]
    assert set(seen) == {torch.Tensor}


@pytest.mark.parametrize("make", [AutocastInferer, lambda amp: inferer(amp=amp)])
def test_bf16_autocast_works_on_the_cpu_and_returns_float32(make: Callable[..., Any]) -> None:
    seen: list[torch.dtype] = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            seen.append(y.dtype)
            return y

    torch.manual_seed(0)
    network, image = Net(), torch.randn(1, 3, 16, 16)
    result = make(amp="bf16")(image, network)
    assert seen == [torch.bfloat16]
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, network(image), atol=0.03, rtol=0.03)


def test_without_amp_the_pass_is_the_networks_own() -> None:
    network, image = textured(), torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(AutocastInferer(amp="none")(image, network), network(image))


def test_training_gets_the_networks_dict_and_a_gradient() -> None:
    layer = nn.Conv2d(3, 1, 1)
    result = AutocastInferer(amp="bf16")(torch.randn(2, 3, 8, 8), lambda x: {"mask": layer(x), "stage_masks": []})
    assert isinstance(result, dict)
    result["mask"].float().mean().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_channels_last_reaches_the_network() -> None:
    seen: list[bool] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return x

    image = torch.randn(2, 3, 8, 8)
    AutocastInferer(amp="none")(image, network)
    AutocastInferer(amp="none", channels_last=False)(image, network)
    assert seen == [True, False]


def test_amp_auto_uses_bf16_only_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for native, expected in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
        assert autocast_dtype("auto", cpu) is expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amp": "half"}, "amp must be one of"),
        ({"overlap": 1.0}, "overlap must be at least 0 and below 1"),
        ({"sw_batch_size": 0}, "sw_batch_size must be at least 1"),
        ({"mode": "median"}, "mode must be 'gaussian' or 'constant'"),
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inferer(**options)
