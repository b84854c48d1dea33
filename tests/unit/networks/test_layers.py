import pytest
import torch
from torch import nn

from banet_monai.networks.layers import box_average, conv_norm_act, fit_norm, modules_of, on_device, resize_linear


def test_box_average_counts_only_pixels_inside_the_map():
    impulse = torch.zeros(1, 1, 3, 3)
    impulse[0, 0, 1, 1] = 36.0
    expected = torch.tensor([[9.0, 6.0, 9.0], [6.0, 4.0, 6.0], [9.0, 6.0, 9.0]])  # 36 / 4, 36 / 6, 36 / 9
    torch.testing.assert_close(box_average(impulse, 3)[0, 0], expected)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_box_average_of_a_volume_equals_cubic_pooling(kernel_size):
    torch.manual_seed(0)
    x = torch.rand(2, 3, 9, 7, 8)
    cube = torch.nn.functional.avg_pool3d(x, kernel_size, 1, kernel_size // 2, count_include_pad=False)
    torch.testing.assert_close(box_average(x, kernel_size), cube)


@pytest.mark.parametrize("spatial", [(2, 1), (2, 1, 3)])
def test_box_average_with_a_window_larger_than_the_map_is_its_mean(spatial):
    torch.manual_seed(0)
    x = torch.rand(1, 2, *spatial)
    mean = x.flatten(2).mean(dim=2).reshape(1, 2, *(1 for _ in spatial)).expand_as(x)
    torch.testing.assert_close(box_average(x, 7), mean)


def test_resize_linear_does_not_align_corners():
    line = torch.tensor([0.0, 4.0]).reshape(1, 1, 1, 2)
    torch.testing.assert_close(resize_linear(line, [1, 4]).flatten(), torch.tensor([0.0, 1.0, 3.0, 4.0]))


def test_resize_linear_is_trilinear_for_volumes():
    line = torch.tensor([0.0, 4.0]).reshape(1, 1, 1, 1, 2)
    resized = resize_linear(line, [2, 3, 4])
    torch.testing.assert_close(resized[0, 0, 1, 2], torch.tensor([0.0, 1.0, 3.0, 4.0]))


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 32), (24, 12), (40, 20), (7, 1), (1, 1), (2, 1), (96, 32), (160, 32), (112, 28)]
)
def test_plain_group_norm_gets_a_divisor_of_the_channels(channels, groups):
    assert fit_norm("group", channels) == ("group", {"num_groups": groups})


@pytest.mark.parametrize("norm", ["batch", "instance", ("group", {"num_groups": 8}), ("instance", {"affine": True})])
def test_norms_that_say_enough_stay_as_they_are(norm):
    assert fit_norm(norm, 24) == norm


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("separable", [False, True])
def test_conv_norm_act_keeps_the_spatial_size(spatial_dims, separable):
    block = conv_norm_act(spatial_dims, 4, 6, kernel_size=3, dilation=2, separable=separable).eval()
    spatial = (7, 5, 6)[:spatial_dims]
    assert block(torch.rand(2, 4, *spatial)).shape == (2, 6, *spatial)


@pytest.mark.parametrize(
    ("separable", "kernel_size", "count"),
    [
        (False, 3, 4 * 6 * 9 + 12),  # kernel, then scale and shift of the norm; no bias
        (True, 3, 4 * 9 + 4 * 6 + 12),  # depthwise, pointwise, norm
        (True, 1, 4 * 6 + 12),  # nothing to split in a 1x1 convolution
    ],
)
def test_conv_norm_act_has_the_parameters_of_its_formula(separable, kernel_size, count):
    block = conv_norm_act(2, 4, 6, kernel_size=kernel_size, separable=separable)
    assert sum(parameter.numel() for parameter in block.parameters()) == count


@pytest.mark.parametrize(("dims", "order"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_on_device_orders_the_kernels_channels_last_and_keeps_their_values(dims, order):
    network = nn.Sequential(nn.Conv2d(4, 6, 3) if dims == 2 else nn.Conv3d(4, 6, 3), nn.ReLU())
    before = network[0].weight.detach().clone()
    assert on_device(network, "cpu") is network
    assert network[0].weight.is_contiguous(memory_format=order)
    torch.testing.assert_close(network[0].weight.detach(), before, rtol=0, atol=0)


def test_on_device_leaves_training_on_unless_it_is_told_otherwise():
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())
    assert on_device(network, "cpu").training
    assert not any(module.training for module in on_device(network, "cpu", training=False).modules())


def test_on_device_and_modules_of_leave_the_other_cores_alone(monkeypatch):
    changes, threads = [], [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: (changes.append(number), threads.append(number)))
    list(modules_of(nn.ReLU()))  # it is asked at every batch and computes nothing
    assert changes == []
    on_device(nn.Linear(2, 2), "cpu")
    assert changes == [1, 4]


def test_modules_of_finds_every_place_of_a_module_and_no_empty_one():
    shared, inner = nn.ReLU(), nn.Sequential(nn.Conv2d(4, 6, 3))
    network = nn.Sequential(shared, inner, shared)
    network.register_module("empty", None)
    found = list(modules_of(network))
    assert found[0] is network
    assert sorted(map(id, found)) == sorted(map(id, [network, shared, shared, inner, inner[0]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_box_average_of_a_volume_knows_half_precision(dtype):
    impulse = torch.zeros(1, 1, 3, 3, 3, dtype=dtype)
    impulse[0, 0, 1, 1, 1] = 216.0
    found = box_average(impulse, 3)
    assert found.dtype is dtype
    assert found[0, 0, 0].tolist() == [[27.0, 18.0, 27.0], [18.0, 12.0, 18.0], [27.0, 18.0, 27.0]]  # 216 / 8, 12, 18
    assert found[0, 0, 1, 1, 1].item() == 8.0
