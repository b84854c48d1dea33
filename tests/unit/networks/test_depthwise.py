"""Depthwise convolutions in quick forms give what PyTorch's own give, and their gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from banet_monai.inferers import AutocastInferer
from banet_monai.networks.depthwise import dilated_by_parts, quick_depthwise

CPU = torch.device("cpu")


def convolution(channels=4, **options):
    torch.manual_seed(0)
    return nn.Conv2d(channels, channels, 3, groups=channels, **options)


def with_gradients(module, image):
    image = image.detach().requires_grad_()
    module.zero_grad()
    result = module(image)
    result.square().sum().backward()
    return result, image.grad, *[parameter.grad.clone() for parameter in module.parameters()]


def test_a_dilated_convolution_by_parts_reads_the_pixels_that_lie_apart():
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1.0
    weight = torch.arange(9.0).view(1, 1, 3, 3)
    result = dilated_by_parts(image, weight, torch.tensor([10.0]), 2)
    expected = torch.full((5, 5), 10.0)
    expected[::2, ::2] += weight[0, 0].flip(0, 1)  # a convolution of PyTorch is a correlation
    assert torch.equal(result[0, 0], expected)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (4, 13)])
@pytest.mark.parametrize("dilation", [2, 3])
def test_a_dilated_convolution_by_parts_is_pytorchs(size, dilation):
    torch.manual_seed(0)
    image, weight = torch.randn(2, 3, *size, dtype=torch.float64), torch.randn(3, 1, 3, 3, dtype=torch.float64)
    expected = F.conv2d(image, weight, padding=dilation, dilation=dilation, groups=3)
    torch.testing.assert_close(dilated_by_parts(image, weight, None, dilation), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 2, "dilation": 2, "bias": False},
        {"padding": 3, "dilation": 3},
        {"padding": 1, "stride": 2, "bias": False},
        {"padding": 1, "stride": 2},
    ],
)
def test_values_and_gradients_under_autocast_are_those_of_pytorch(options):
    module, image = convolution(**options), torch.randn(2, 4, 12, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = with_gradients(module, image)
        with quick_depthwise(CPU, torch.bfloat16):
            found = with_gradients(module, image)
    assert found[0].dtype == torch.bfloat16
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    "module",
    [
        convolution(padding=1),
        convolution(padding=0, dilation=2),
        convolution(padding=(2, 3), dilation=(2, 3)),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 8, 3, padding=1, stride=2, groups=4),
    ],
)
def test_every_other_convolution_is_left_alone(module):
    image = torch.randn(2, 4, 12, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = module(image)
        with quick_depthwise(CPU, torch.bfloat16):
            assert torch.equal(module(image), expected)


def test_a_map_smaller_than_the_taps_reach_is_left_to_pytorch():
    module, image = convolution(padding=6, dilation=6), torch.randn(1, 4, 8, 8)
    with quick_depthwise(CPU, torch.bfloat16):
        assert torch.equal(module(image), F.conv2d(image, module.weight, module.bias, padding=6, dilation=6, groups=4))


@pytest.mark.parametrize(
    ("device", "dtype", "gradients"),
    [("cpu", None, True), ("cpu", torch.float16, True), ("cuda", torch.bfloat16, True), ("cpu", torch.bfloat16, False)],
)
def test_nothing_changes_without_bfloat16_gradients_on_a_cpu(device, dtype, gradients):
    module, image = convolution(padding=1, stride=2), torch.randn(1, 4, 8, 8)
    with torch.set_grad_enabled(gradients), quick_depthwise(torch.device(device), dtype):
        assert module(image).dtype == torch.float32


def test_the_training_inferer_computes_in_the_quick_forms():
    seen = []
    module = convolution(padding=1, stride=2)
    module.register_forward_hook(lambda _, __, output: seen.append(output.grad_fn.name()))
    AutocastInferer(amp="bf16")(torch.randn(1, 4, 8, 8), module)
    AutocastInferer(amp="none")(torch.randn(1, 4, 8, 8), module)
    assert seen == ["ToCopyBackward0", "ConvolutionBackward0"]
