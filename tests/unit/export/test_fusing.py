"""Dilated convolutions by their taps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from banet_monai.export import fusing
from banet_monai.export.fusing import FusedConvolution, dilated_by_taps


@pytest.mark.parametrize("dilation", [(1, 1), (2, 3), (5, 4), (12, 12), (9, 40)])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (5, 1)])
def test_taps_add_up_to_the_convolution(kernel, dilation):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 11, 8, dtype=torch.float64)
    weight, bias = torch.randn(4, 3, *kernel, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    padding = [d * (k // 2) for d, k in zip(dilation, kernel, strict=True)]
    expected = F.conv2d(x, weight, bias, padding=padding, dilation=dilation)
    torch.testing.assert_close(dilated_by_taps(x, weight, bias, dilation), expected, rtol=1e-5, atol=1e-5)


def test_a_tap_shifts_the_image_and_the_padding_is_zero():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 2, 0] = 1  # what lies two rows below and two columns to the left
    expected = torch.zeros(1, 1, 3, 4)
    expected[0, 0, 0, 2:] = torch.tensor([8.0, 9.0])
    torch.testing.assert_close(dilated_by_taps(x, weight, None, (2, 2)), expected)


def test_beyond_the_image_the_middle_tap_is_left():
    x, weight = torch.randn(1, 5, 4, 4), torch.randn(2, 5, 3, 3)
    expected = F.conv2d(x, weight[:, :, 1:2, 1:2])
    torch.testing.assert_close(dilated_by_taps(x, weight, None, (4, 7)), expected)


@pytest.mark.parametrize(
    ("channels", "dilation", "dtype", "by_taps"),
    [
        (2048, 12, torch.bfloat16, 1),  # as in the paper's ASPP
        (2048, 2, torch.bfloat16, 0),
        (64, 12, torch.bfloat16, 0),
        (2048, 12, torch.float32, 0),
    ],
)
def test_wide_branches_in_bfloat16_are_computed_by_taps(monkeypatch, channels, dilation, dtype, by_taps):
    if dtype is torch.bfloat16 and not fusing._ONEDNN_BF16:
        pytest.skip("this processor has no bfloat16")
    calls = []

    def noted(*arguments):
        calls.append(arguments)
        return dilated_by_taps(*arguments)

    monkeypatch.setattr(fusing, "dilated_by_taps", noted)
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(channels, 4, 3, padding=dilation, dilation=dilation)
    fused = FusedConvolution(conv, torch.nn.BatchNorm2d(4).eval(), torch.nn.ReLU()).to(dtype)
    x, add = torch.randn(2, channels, 16, 13), torch.randn(2, 4, 16, 13)
    fused.pack()
    with torch.no_grad():
        expected = torch.relu(conv(x) / (1 + 1e-5) ** 0.5 + add)
        found = fused(x.to(dtype), add.to(dtype)).float()
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    assert len(calls) == by_taps
