"""Operations of training in quick forms give what PyTorch's own give, and their gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from banet_monai.inferers import AutocastInferer
from banet_monai.networks.gradients import box_averaged, dilated_by_parts, quick_gradients, resized_by_products
from banet_monai.networks.layers import box_average, resize_linear

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
def test_values_and_gradients_under_autocast_are_right_but_for_rounding_as_pytorchs_are(options):
    module, image = convolution(**options), torch.randn(2, 4, 12, 12)
    exact = with_gradients(convolution(**options).double(), image.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pytorchs = with_gradients(module, image)
        with quick_gradients(CPU, torch.bfloat16):
            found = with_gradients(module, image)
    assert found[0].dtype == torch.bfloat16
    for result in (pytorchs, found):  # each processor rounds bfloat16 in its own way
        for one, expected in zip(result[:2], exact[:2], strict=True):
            torch.testing.assert_close(one.double(), expected, rtol=2e-2, atol=2e-2)
        for one, expected in zip(result[2:], exact[2:], strict=True):  # of parameters: sums over all pixels
            assert (one.double() - expected).abs().max() < 0.015 * expected.abs().max()


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
        with quick_gradients(CPU, torch.bfloat16):
            assert torch.equal(module(image), expected)


def test_a_map_smaller_than_the_taps_reach_is_left_to_pytorch():
    module, image = convolution(padding=6, dilation=6), torch.randn(1, 4, 8, 8)
    with quick_gradients(CPU, torch.bfloat16):
        assert torch.equal(module(image), F.conv2d(image, module.weight, module.bias, padding=6, dilation=6, groups=4))


@pytest.mark.parametrize(
    ("device", "dtype", "gradients"),
    [("cpu", None, True), ("cpu", torch.float16, True), ("cuda", torch.bfloat16, True), ("cpu", torch.bfloat16, False)],
)
def test_nothing_changes_without_bfloat16_gradients_on_a_cpu(device, dtype, gradients):
    module, image = convolution(padding=1, stride=2), torch.randn(1, 4, 8, 8)
    with torch.set_grad_enabled(gradients), quick_gradients(torch.device(device), dtype):
        assert module(image).dtype == torch.float32


def test_the_training_inferer_computes_in_the_quick_forms():
    seen = []
    module = convolution(padding=1, stride=2)
    module.register_forward_hook(lambda _, __, output: seen.append(output.grad_fn.name()))
    AutocastInferer(amp="bf16")(torch.randn(1, 4, 8, 8), module)
    AutocastInferer(amp="none")(torch.randn(1, 4, 8, 8), module)
    assert seen == ["ToCopyBackward0", "ConvolutionBackward0"]


def test_the_gradient_of_an_average_is_shared_among_the_pixels_inside_the_map():
    row = torch.tensor([[[[3.0, 6.0, 9.0]]]], requires_grad=True)
    average = box_averaged(row, 3)
    torch.testing.assert_close(average[0, 0, 0], torch.tensor([4.5, 6.0, 7.5]))
    average.sum().backward()  # the outer pixels have windows of two, the middle one of three
    torch.testing.assert_close(row.grad[0, 0, 0], torch.tensor([1 / 2 + 1 / 3, 1 / 2 + 1 / 3 + 1 / 2, 1 / 3 + 1 / 2]))


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), kernel_size=st.sampled_from([3, 5, 7]))
def test_averages_and_their_gradients_are_pytorchs(rows, columns, kernel_size):
    torch.manual_seed(0)
    image, weights = torch.randn(2, 3, rows, columns), torch.randn(2, 3, rows, columns)
    found, expected = image.clone().requires_grad_(), image.clone().requires_grad_()
    (box_averaged(found, kernel_size) * weights).sum().backward()
    (F.avg_pool2d(expected, kernel_size, 1, kernel_size // 2, count_include_pad=False) * weights).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad)


def test_a_row_is_enlarged_between_the_centres_of_its_pixels():
    row = torch.tensor([[[[0.0, 1.0]]]])
    assert resized_by_products(row, [1, 4])[0, 0, 0].tolist() == [0.0, 0.25, 0.75, 1.0]


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), down=st.integers(1, 40), across=st.integers(1, 40))
def test_maps_resized_by_products_and_their_gradients_are_pytorchs(rows, columns, down, across):
    torch.manual_seed(0)
    image, weights = torch.randn(2, 1, rows, columns), torch.randn(2, 1, down, across)
    found, expected = image.clone().requires_grad_(), image.clone().requires_grad_()
    result = resized_by_products(found, [down, across])
    reference = F.interpolate(expected, size=[down, across], mode="bilinear", align_corners=False)
    torch.testing.assert_close(result, reference, rtol=1e-5, atol=1e-5)
    (result * weights).sum().backward()
    (reference * weights).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "channels"), [(lambda x: box_average(x, 5), 4), (lambda x: resize_linear(x, [48, 36]), 1)]
)
def test_averages_and_maps_of_the_network_are_those_of_pytorch_in_bfloat16(function, channels):
    torch.manual_seed(0)
    image = torch.randn(2, channels, 12, 9, dtype=torch.bfloat16)
    results = []
    for context in (quick_gradients(CPU, None), quick_gradients(CPU, torch.bfloat16)):
        x = image.clone().requires_grad_()
        with context:
            result = function(x)
        result.float().square().sum().backward()
        results.append((result, x.grad))
    names = [result.grad_fn.name() for result, _ in results]
    assert names[0] != names[1]
    for found, expected in zip(results[1], results[0], strict=True):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), expected.float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.avg_pool2d(x, 3),
        lambda x: F.avg_pool2d(x, [3, 3], [1, 1], [1, 1]),
        lambda x: F.avg_pool2d(x, [3, 3], [1, 1], [1, 1], False, False, 2),
        lambda x: F.avg_pool2d(x, [3, 5], [1, 1], [1, 2], False, False),
        lambda x: F.interpolate(x[:, :1], scale_factor=2, mode="bilinear"),
        lambda x: F.interpolate(x[:, :1], size=[9, 9]),
        lambda x: F.interpolate(x[:, :1], size=[9, 9], mode="bilinear", align_corners=True),
        lambda x: F.interpolate(x, size=[9, 9], mode="bilinear"),
    ],
)
def test_every_other_average_and_map_is_left_alone(function):
    image = torch.randn(2, 4, 12, 12, dtype=torch.bfloat16, requires_grad=True)
    with quick_gradients(CPU, torch.bfloat16):
        found = function(image)
    expected = function(image)
    assert torch.equal(found, expected)
    assert found.grad_fn.name() == expected.grad_fn.name()
