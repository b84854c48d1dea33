"""The three operations of which the modules of BA-Net consist: ``phi_k``, ``up`` and ``avg_k``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn

from banet_monai.machine import one_core

__all__ = [
    "LayerSpec",
    "box_average",
    "conv_norm_act",
    "fit_act",
    "fit_norm",
    "modules_of",
    "on_device",
    "resize_linear",
]

LayerSpec = str | tuple[str, dict[str, Any]]
"""A MONAI layer: its name, or its name and a dictionary of its arguments."""

_MAX_GROUPS = 32  # groups of a "group" norm that does not name them: the default of Wu & He 2018


def fit_norm(norm: LayerSpec, channels: int) -> LayerSpec:
    """Give a plain ``"group"`` norm a number of groups that divides ``channels``.

    Args:
        norm: MONAI norm, such as ``"batch"``, ``"instance"``, ``"group"`` or ``("group", {"num_groups": 8})``.
        channels: channels that will be normalised.

    Returns:
        ``norm`` itself, or for a group norm without ``num_groups`` one with the largest divisor of ``channels`` that is
        at most 32 and leaves at least two channels to a group where that is possible.
    """
    name, arguments = (norm, {}) if isinstance(norm, str) else (norm[0], dict(norm[1]))
    if str(name).lower() != "group" or "num_groups" in arguments:
        return norm

    most = min(_MAX_GROUPS, max(1, channels // 2))
    groups = max(n for n in range(1, most + 1) if channels % n == 0)
    return name, {**arguments, "num_groups": groups}


def fit_act(act: LayerSpec) -> LayerSpec:
    """Make a plain ReLU work in place; any other activation stays as it is."""
    return ("relu", {"inplace": True}) if isinstance(act, str) and act.lower() == "relu" else act


def conv_norm_act(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int = 1,
    dilation: int = 1,
    norm: LayerSpec = "batch",
    act: LayerSpec = "relu",
    separable: bool = False,
) -> nn.Sequential:
    """``phi_k`` of the paper: convolution, normalisation, activation; the spatial size is kept.

    Args:
        spatial_dims: number of spatial dimensions, 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd kernel size.
        dilation: distance between the kernel's taps, in pixels of this map.
        norm: MONAI norm; a plain ``"group"`` gets a fitting number of groups.
        act: MONAI activation.
        separable: split a kernel larger than 1 into a depthwise and a pointwise convolution.

    Returns:
        Module that maps ``(batch, in_channels, *spatial)`` to ``(batch, out_channels, *spatial)``.
    """
    split = separable and kernel_size > 1
    mix = Convolution(
        spatial_dims,
        in_channels,
        out_channels,
        kernel_size=1 if split else kernel_size,
        dilation=1 if split else dilation,
        adn_ordering="NA",
        norm=fit_norm(norm, out_channels),
        act=fit_act(act),
        bias=False,
    )
    if not split:
        return mix

    depthwise = Convolution(
        spatial_dims,
        in_channels,
        in_channels,
        kernel_size=kernel_size,
        dilation=dilation,
        groups=in_channels,
        conv_only=True,
        bias=False,
    )
    return nn.Sequential(depthwise, mix)


def modules_of(network: nn.Module) -> Iterator[nn.Module]:
    """A network and all modules in it, one that stands in several places several times; quicker than ``modules()``."""
    waiting = [network]
    while waiting:
        module = waiting.pop()
        yield module
        waiting += [child for child in module._modules.values() if child is not None]


@one_core()
def on_device(network: nn.Module, device: torch.device | str, *, training: bool = True) -> nn.Module:
    """Move a network to a device in the memory order that its convolutions are fastest in: channels last.

    Args:
        network: changed in place; a 3D network gets ``torch.channels_last_3d``.
        device: where to.
        training: False puts it into evaluation mode, so that an evaluator has nothing to switch for each batch.

    Returns:
        ``network``.
    """
    if not training:
        network.eval()
    ranks = {parameter.ndim for parameter in network.parameters()}
    if 5 in ranks:
        return network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def resize_linear(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    """``up`` of the paper: (bi-, tri-)linear interpolation of ``x`` to the spatial ``size``, corners not aligned."""
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return F.interpolate(x, size=size, mode=mode, align_corners=False)


def box_average(x: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """``avg_k`` of the paper: mean over a square or cubic window of which only the part inside the map counts.

    A cube is averaged along one axis after the other: that is the same, costs ``3 k`` instead of ``k^3``, and a map
    smaller than the window is allowed, which PyTorch's 3D pooling refuses.

    Args:
        x: ``(batch, channels, *spatial)`` with 2 or 3 spatial dimensions.
        kernel_size: odd size of the window, in pixels of this map.

    Returns:
        Tensor of the shape of ``x``.
    """
    k, pad = kernel_size, kernel_size // 2
    if x.ndim == 4:
        return F.avg_pool2d(x, [k, k], [1, 1], [pad, pad], False, False)

    # PyTorch's 3D pooling on a CPU knows no half precision
    half = x.device.type == "cpu" and (x.dtype == torch.bfloat16 or x.dtype == torch.float16)
    values = x.float() if half else x
    inside = _pad_and_average(torch.ones_like(values[:1, :1]), k)
    average = _pad_and_average(values, k) / inside
    return average.to(x.dtype) if half else average


def _pad_and_average(x: torch.Tensor, k: int) -> torch.Tensor:
    """Mean over ``k^3`` voxels, where those outside the volume are zero."""
    x = F.pad(x, [k // 2] * 6)
    x = F.avg_pool3d(x, [k, 1, 1], [1, 1, 1])
    x = F.avg_pool3d(x, [1, k, 1], [1, 1, 1])
    return F.avg_pool3d(x, [1, 1, k], [1, 1, 1])
