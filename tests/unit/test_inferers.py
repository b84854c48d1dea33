from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer
from torch import nn

from banet_monai.inferers import AutocastInferer, FlipInferer, SegmentationInferer, autocast_dtype
from banet_monai.networks import BANet


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
    in_order = image.contiguous(memory_format=torch.channels_last)  # of memory; in another the last digits may differ
    assert torch.equal(inferer()(image, network), network.network(in_order))
    assert network.shapes == [(2, 3, 16, 16)]


def test_pictures_of_one_window_go_through_as_they_were_batched_and_others_by_sw_batch_size() -> None:
    network = Recorder(textured())
    inferer(sw_batch_size=2)(torch.randn(5, 3, 16, 16), network)
    assert [shape[0] for shape in network.shapes] == [5]
    network = Recorder(textured(), fits=3)
    image = torch.randn(5, 3, 16, 16)
    torch.testing.assert_close(inferer(sw_batch_size=4)(image, network), network.network(image))
    assert [shape[0] for shape in network.shapes] == [2, 2, 1]  # half of five, once they do not fit
    network = Recorder(textured())
    inferer(sw_batch_size=2, overlap=0)(torch.randn(1, 3, 16, 48), network)
    assert [shape[0] for shape in network.shapes] == [2, 1]


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


class WithDropout(nn.Module):
    """Batch statistics and dropout; in training it returns a dict, as BANet does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Dropout2d(0.5), nn.Conv2d(8, 1, 1))
        self.modes: list[tuple[bool, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        self.modes.append(tuple(module.training for module in (self, *self.layers)))
        logits: torch.Tensor = self.layers(x)
        return {"mask": logits} if self.training else logits


def test_of_a_network_in_training_mode_only_the_dropout_trains() -> None:
    network = WithDropout().train()
    statistics = network.layers[1].running_mean.clone()  # type: ignore[union-attr, operator]
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        first, second = inferer()(image, network), inferer()(image, network)
    assert set(network.modes) == {(False, False, False, True, False)}
    assert (first != second).any()
    assert torch.equal(network.layers[1].running_mean, statistics)  # type: ignore[arg-type]
    assert all(module.training for module in network.modules())  # as it came


def test_a_network_in_eval_mode_drops_nothing() -> None:
    network = WithDropout().eval()
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(inferer()(image, network), inferer()(image, network))
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("options", [{"overlap": "much"}, {"sw_batch_size": "many"}])
def test_options_that_are_no_numbers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be a number"):
        inferer(**options)


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


# Test-time augmentation


def in_plane_weights(x: torch.Tensor, network: Any) -> torch.Tensor:
    """Logits that depend on where a pixel lies: its value plus its place along the first spatial axis."""
    return x + torch.arange(float(x.shape[2])).reshape(1, 1, -1, *[1] * (x.ndim - 3))


def test_flips_and_quarter_turns_of_a_picture_are_the_eight_views_of_a_square() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    seen: list[torch.Tensor] = []
    FlipInferer(lambda x, net: seen.append(x) or x)(image, None)
    plain = [torch.rot90(image, turns, (2, 3)) for turns in range(4)]
    expected = plain + [view.flip(2) for view in plain]
    assert len(seen) == 8
    assert torch.equal(seen[0], image)
    assert all(sum(torch.equal(view, one) for one in seen) == 1 for view in expected)


@pytest.mark.parametrize(
    ("flip_axes", "quarter_turns", "views"),
    [((), False, 1), ((0,), False, 2), ((0, 1), False, 4), ((), True, 4), ((0,), True, 8), ((0, 1, 2), True, 16)],
)
def test_no_view_is_taken_twice(flip_axes: tuple[int, ...], quarter_turns: bool, views: int) -> None:
    seen: list[torch.Tensor] = []
    volume = torch.arange(27.0).reshape(1, 1, 3, 3, 3)
    FlipInferer(lambda x, net: seen.append(x) or x, flip_axes=flip_axes, quarter_turns=quarter_turns)(volume, None)
    assert len(seen) == views
    assert len({tuple(view.flatten().tolist()) for view in seen}) == views


@pytest.mark.parametrize("shape", [(2, 3, 9, 6), (1, 3, 9, 6, 1), (1, 3, 6, 9, 4)])
def test_views_are_undone_so_that_a_pointwise_network_gives_the_same(shape: tuple[int, ...]) -> None:
    image = torch.randn(shape)
    averaged = FlipInferer(inferer(sw_batch_size=2))(image, pointwise())
    torch.testing.assert_close(averaged, inferer(sw_batch_size=2)(image, pointwise()), atol=1e-5, rtol=1e-5)


def test_a_3d_network_is_flipped_along_all_axes() -> None:
    volume = torch.randn(1, 3, 16, 16, 16)
    averaged = FlipInferer(inferer(spatial_dims=3), flip_axes=(0, 1, 2))(volume, pointwise(3))
    torch.testing.assert_close(averaged, pointwise(3)(volume), atol=1e-5, rtol=1e-5)


def test_the_result_is_the_mean_over_the_views() -> None:
    image = torch.zeros(1, 1, 5, 3)
    flipped = FlipInferer(in_plane_weights, flip_axes=(0,), quarter_turns=False)(image, None)
    assert torch.equal(flipped, torch.full((1, 1, 5, 3), 2.0))  # 0..4 and 4..0
    turned = FlipInferer(in_plane_weights)(image, None)
    assert torch.equal(turned, torch.full((1, 1, 5, 3), 1.5))  # half of the views run along the three


def test_switched_off_it_is_the_inferer_itself() -> None:
    image = torch.randn(1, 3, 16, 16)
    network = Recorder(textured())
    switched_off = FlipInferer(inferer(), enabled="false")(image, network)
    assert torch.equal(switched_off, inferer()(image, network.network))
    assert len(network.shapes) == 1


def test_the_mean_keeps_the_meta_of_the_input_and_leaves_it_unchanged() -> None:
    image = MetaTensor(torch.randn(1, 3, 16, 16), meta={"filename_or_obj": "a.png"})
    before = image.clone()
    result = FlipInferer(inferer())(image, textured())
    assert isinstance(result, MetaTensor)
    assert result.meta["filename_or_obj"] == "a.png"
    assert torch.equal(image, before)


def test_the_output_of_the_inferer_is_not_written_into() -> None:
    kept: list[torch.Tensor] = []
    image = torch.arange(4.0).reshape(1, 1, 2, 2)
    FlipInferer(lambda x, net: kept.append(x.clone()) or kept[-1])(image, None)
    assert torch.equal(kept[0], image)


def test_axes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match=r"different spatial axes out of 0, 1, 2, got \(0, 3\)"):
        FlipInferer(inferer(), flip_axes=(0, 3))
    with pytest.raises(ValueError, match=r"got \(1, 1\)"):
        FlipInferer(inferer(), flip_axes=(1, 1))
    with pytest.raises(ValueError, match="cannot be flipped along spatial axis 2"):
        FlipInferer(inferer(), flip_axes=(0, 2))(torch.zeros(1, 3, 16, 16), pointwise())
    with pytest.raises(TypeError, match="must return a tensor of logits, got dict"):
        FlipInferer(lambda x, net: {"mask": x})(torch.zeros(1, 3, 16, 16), None)


def test_cores_that_share_the_windows_of_a_batch_give_what_one_core_gives() -> None:
    torch.manual_seed(0)
    network = BANet(encoder="mobilenet_v2", output_stride=16, width=8, separable=True).eval()
    images, before, sizes = torch.randn(5, 3, 32, 32), torch.get_num_threads(), []
    plain = AutocastInferer.__call__

    class Noting(AutocastInferer):
        def __call__(self, inputs, network, *args, **kwargs):
            sizes.append(len(inputs))
            return plain(self, inputs, network, *args, **kwargs)

    ours = inferer(roi_size=(32, 32), amp="none")
    ours.single_pass = Noting(amp="none")
    with torch.inference_mode():
        try:
            torch.set_num_threads(1)
            expected = ours(images, network)
            torch.set_num_threads(3)
            shared = ours(images, network)
        finally:
            torch.set_num_threads(before)
    assert sorted(sizes) == [1, 2, 2, 5]
    torch.testing.assert_close(shared, expected, atol=1e-4, rtol=1e-4)


def test_a_method_of_a_network_in_training_mode_leaves_it_as_it_came() -> None:
    """Such as boundary_map(), which writes the statistics of batch norm as forward() does."""

    class Normalising(nn.BatchNorm2d):
        def method(self, x: torch.Tensor) -> torch.Tensor:
            return self(x)

    network, image = Normalising(1).train(), torch.full((1, 1, 8, 8), 5.0)
    with torch.no_grad():
        result = SegmentationInferer(roi_size=8, amp="none")(image, network.method)
    torch.testing.assert_close(result, image, atol=1e-3, rtol=0)  # its mean is 0 and its variance 1
    assert network.running_mean.tolist() == [0.0]
    assert network.training
