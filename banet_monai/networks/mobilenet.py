"""MobileNetV2 and MobileNetV3-Large as encoders, in 2D and 3D, with the parameter names of torchvision.

The layers after the last bottleneck (``features.18`` and ``features.16``, the classifier's widening) are not built: a
segmentation network has no use for them.

References:
    Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", https://arxiv.org/abs/1801.04381
    Howard et al., "Searching for MobileNetV3", https://arxiv.org/abs/1905.02244
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers import Conv, Norm, Pool
from torch import nn

__all__ = ["MobileNet", "MobileNetV2", "MobileNetV3Large"]

# expansion, channels, blocks, stride of the first block (table 2 of the paper)
_V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# kernel, expanded channels, channels, squeeze-and-excitation, hard-swish (else ReLU), stride (table 1 of the paper)
_V3_LARGE_BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
_V3_NORM = {"eps": 1e-3, "momentum": 0.01}
_STEM_CHANNELS_V2, _STEM_CHANNELS_V3 = 32, 16
_SQUEEZE = 4  # squeeze-and-excitation narrows the expanded channels by this factor


def _round_to_eight(channels: float) -> int:
    """Nearest multiple of 8 that is not more than 10 % below ``channels`` (the rule of both papers' code)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def _conv(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int,
    stride: int | Sequence[int],
    groups: int,
) -> nn.Module:
    return Conv["conv", spatial_dims](
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        stride=stride if isinstance(stride, int) else tuple(stride),
        padding=kernel_size // 2,
        groups=groups,
        bias=False,
    )


class _InvertedResidualV2(nn.Module):
    """Expand, depthwise 3x3, project; added to the input where the shape allows."""

    __constants__ = ("add",)

    def __init__(self, spatial_dims: int, in_channels: int, *, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        norm, hidden = Norm["batch", spatial_dims], in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            expand = _conv(spatial_dims, in_channels, hidden, kernel_size=1, stride=1, groups=1)
            layers.append(nn.Sequential(expand, norm(hidden), nn.ReLU6(inplace=True)))
        depthwise = _conv(spatial_dims, hidden, hidden, kernel_size=3, stride=stride, groups=hidden)
        layers.append(nn.Sequential(depthwise, norm(hidden), nn.ReLU6(inplace=True)))
        layers.append(_conv(spatial_dims, hidden, out_channels, kernel_size=1, stride=1, groups=1))
        layers.append(norm(out_channels))
        self.conv = nn.Sequential(*layers)
        self.add = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.add else self.conv(x)


class _SqueezeExcitation(nn.Module):
    """Channel gate from the global mean, in the names of torchvision (``fc1``, ``fc2``)."""

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        conv, squeezed = Conv["conv", spatial_dims], _round_to_eight(channels / _SQUEEZE)
        self.avgpool = Pool["ADAPTIVEAVG", spatial_dims](1)
        self.fc1 = conv(channels, squeezed, kernel_size=1)
        self.fc2 = conv(squeezed, channels, kernel_size=1)
        self.activation = nn.ReLU(inplace=True)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.fc2(self.activation(self.fc1(self.avgpool(x)))))


class _InvertedResidualV3(nn.Module):
    """As in V2, with squeeze-and-excitation and hard-swish where the table says so."""

    __constants__ = ("add",)

    def __init__(self, spatial_dims: int, in_channels: int, *, row: tuple[int, int, int, bool, bool, int]) -> None:
        super().__init__()
        kernel_size, hidden, out_channels, squeeze, hard_swish, stride = row
        norm, act = Norm["batch", spatial_dims], nn.Hardswish if hard_swish else nn.ReLU
        layers: list[nn.Module] = []
        if hidden != in_channels:
            expand = _conv(spatial_dims, in_channels, hidden, kernel_size=1, stride=1, groups=1)
            layers.append(nn.Sequential(expand, norm(hidden, **_V3_NORM), act(inplace=True)))
        depthwise = _conv(spatial_dims, hidden, hidden, kernel_size=kernel_size, stride=stride, groups=hidden)
        layers.append(nn.Sequential(depthwise, norm(hidden, **_V3_NORM), act(inplace=True)))
        if squeeze:
            layers.append(_SqueezeExcitation(spatial_dims, hidden))
        project = _conv(spatial_dims, hidden, out_channels, kernel_size=1, stride=1, groups=1)
        layers.append(nn.Sequential(project, norm(out_channels, **_V3_NORM)))
        self.block = nn.Sequential(*layers)
        self.add = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x) if self.add else self.block(x)


class MobileNet(nn.Module):
    """A chain of layers, some of which are tapped; ``features`` is filled by the subclasses.

    Attributes:
        name: name of the encoder.
        channels: channels of the four maps.
        strides: pixels of the image per pixel of the finest map, per axis.
        taps: index in ``features`` of the layer that gives each of the four maps.
    """

    __constants__ = ("channels", "name", "strides", "taps")
    name: str
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    taps: tuple[int, ...]

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def stages(self) -> list[list[nn.Module]]:
        """The layers between the taps, one list per map."""
        layers, starts = list(self.features), (0, *(tap + 1 for tap in self.taps[:-1]))
        return [layers[start : tap + 1] for start, tap in zip(starts, self.taps, strict=True)]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                maps.append(x)
        return maps


class MobileNetV2(MobileNet):
    """MobileNetV2 (width 1.0) without its last layer and classifier.

    Args:
        spatial_dims: number of spatial dimensions, 2 or 3.
        in_channels: channels of the image.
        stem_strides: stride of the first convolution along each spatial axis.

    Shapes:
        - input: ``(batch, in_channels, *spatial)``
        - output: list of 24, 32, 96 and 320 channels at stride 4, 8, 16 and 32 (with stem stride 2)
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, stem_strides: Sequence[int]) -> None:
        stem = _conv(spatial_dims, in_channels, _STEM_CHANNELS_V2, kernel_size=3, stride=stem_strides, groups=1)
        norm = Norm["batch", spatial_dims](_STEM_CHANNELS_V2)
        layers: list[nn.Module] = [nn.Sequential(stem, norm, nn.ReLU6(inplace=True))]
        channels = _STEM_CHANNELS_V2
        for expansion, out_channels, blocks, stride in _V2_STAGES:
            for block in range(blocks):
                layers.append(
                    _InvertedResidualV2(
                        spatial_dims,
                        channels,
                        out_channels=out_channels,
                        stride=stride if block == 0 else 1,
                        expansion=expansion,
                    )
                )
                channels = out_channels
        super().__init__(layers)
        self.name, self.channels, self.taps = "mobilenet_v2", (24, 32, 96, 320), (3, 6, 13, 17)
        self.strides = tuple(2 * stride for stride in stem_strides)


class MobileNetV3Large(MobileNet):
    """MobileNetV3-Large (width 1.0) without its last layer and classifier.

    Args:
        spatial_dims: number of spatial dimensions, 2 or 3.
        in_channels: channels of the image.
        stem_strides: stride of the first convolution along each spatial axis.

    Shapes:
        - input: ``(batch, in_channels, *spatial)``
        - output: list of 24, 40, 112 and 160 channels at stride 4, 8, 16 and 32 (with stem stride 2)
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, stem_strides: Sequence[int]) -> None:
        stem = _conv(spatial_dims, in_channels, _STEM_CHANNELS_V3, kernel_size=3, stride=stem_strides, groups=1)
        norm = Norm["batch", spatial_dims](_STEM_CHANNELS_V3, **_V3_NORM)
        layers: list[nn.Module] = [nn.Sequential(stem, norm, nn.Hardswish(inplace=True))]
        channels = _STEM_CHANNELS_V3
        for row in _V3_LARGE_BLOCKS:
            layers.append(_InvertedResidualV3(spatial_dims, channels, row=row))
            channels = row[2]
        super().__init__(layers)
        self.name, self.channels, self.taps = "mobilenet_v3_large", (24, 40, 112, 160), (3, 6, 12, 15)
        self.strides = tuple(2 * stride for stride in stem_strides)
