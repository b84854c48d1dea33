"""Other decoders on the encoder of BA-Net: U-Net, FCN, DeepLabv3 and CE-Net, so that the decoder is what is compared.

All take the four maps of :func:`banet_monai.networks.build_encoder` at the same output stride, with the same ImageNet
weights, the same kinds of convolution and the same dropout as BA-Net. They are the published decoders fitted to these
maps: the finest is at stride 4, and the logits are enlarged from there (FCN: 8, DeepLabv3: the output stride).
In training and in evaluation they return logits of the image's size, which ``BANetLoss`` takes as the mask alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn

from banet_monai.networks import build_encoder
from banet_monai.networks.blocks import ASPP
from banet_monai.networks.layers import conv_norm_act, resize_linear

__all__ = ["FCN", "CENet", "DeepLabV3", "FinalMap", "UNet"]

_DIMS = 2
_PAPER_RATES = (6, 12, 18)  # of the ASPP at output stride 8


class _Peer(nn.Module):
    """Encoder, decoder and enlargement; the subclasses say what the decoder makes of the four maps.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        encoder: name of the encoder, see :func:`banet_monai.networks.build_encoder`.
        output_stride: 8 or 16.
        width: channels of the decoder.
        separable: depthwise-separable 3x3 convolutions, as in BA-Net.
        dropout: probability of dropping a channel before the last convolution.

    Shapes:
        - input: ``(batch, in_channels, x, y)``
        - output: logits ``(batch, out_channels, x, y)``, in training too
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 1,
        encoder: str = "mobilenet_v2",
        output_stride: int = 16,
        width: int = 96,
        separable: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder, in_channels=in_channels, output_stride=output_stride)
        self.output_stride, self.separable = output_stride, separable
        self.build_decoder(self.encoder.channels, width)
        self.dropout = nn.Dropout2d(dropout)
        self.head = _conv_1(self.decoded_channels, out_channels)
        for name, module in self.named_children():
            if name != "encoder":
                module.apply(_initialize)

    decoded_channels: int

    def build_decoder(self, channels: Sequence[int], width: int) -> None:
        """Make the decoder's layers for maps of these channels, and set ``decoded_channels``."""
        raise TypeError(f"{type(self).__name__} has no decoder: use one of its subclasses.")

    def decode(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Features from the four maps, finest first."""
        raise TypeError(f"{type(self).__name__} has no decoder: use one of its subclasses.")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.head(self.dropout(self.decode(self.encoder(x))))
        return resize_linear(logits, list(x.shape[2:]))

    def phi_3(self, in_channels: int, out_channels: int) -> nn.Module:
        """3x3 convolution (separable where asked for), batch norm, ReLU."""
        return conv_norm_act(_DIMS, in_channels, out_channels, kernel_size=3, separable=self.separable)


class UNet(_Peer):
    """Two 3x3 convolutions per level on the concatenation of the enlarged features and the encoder's map.

    Reference:
        Ronneberger et al., "U-Net: convolutional networks for biomedical image segmentation",
        https://arxiv.org/abs/1505.04597
    """

    def build_decoder(self, channels: Sequence[int], width: int) -> None:
        self.levels = nn.ModuleList()
        coming = channels[-1]
        for skip in reversed(channels[:-1]):
            self.levels.append(nn.Sequential(self.phi_3(coming + skip, width), self.phi_3(width, width)))
            coming = width
        self.decoded_channels = width

    def decode(self, maps: list[torch.Tensor]) -> torch.Tensor:
        x = maps[-1]
        for level, skip in zip(self.levels, reversed(maps[:-1]), strict=True):
            x = level(torch.cat([resize_linear(x, list(skip.shape[2:])), skip], dim=1))
        return x


class FCN(_Peer):
    """FCN-8s: scores of the maps at stride 16 and 8 are added to those of the deepest map.

    Reference:
        Long et al., "Fully convolutional networks for semantic segmentation", https://arxiv.org/abs/1411.4038
    """

    def build_decoder(self, channels: Sequence[int], width: int) -> None:
        self.deep = self.phi_3(channels[3], width)
        self.third, self.second = _conv_1(channels[2], width), _conv_1(channels[1], width)
        self.decoded_channels = width

    def decode(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """The sum before the common 1x1 convolution, which makes scores of it: both are linear."""
        x = resize_linear(self.deep(maps[3]), list(maps[2].shape[2:])) + self.third(maps[2])
        return resize_linear(x, list(maps[1].shape[2:])) + self.second(maps[1])


class DeepLabV3(_Peer):
    """Atrous spatial pyramid pooling on the deepest map, a 3x3 convolution, and one enlargement to the image.

    Reference:
        Chen et al., "Rethinking atrous convolution for semantic image segmentation", https://arxiv.org/abs/1706.05587
    """

    def build_decoder(self, channels: Sequence[int], width: int) -> None:
        rates = [rate * 8 // self.output_stride for rate in _PAPER_RATES]
        context = 256  # channels of the paper and of BA-Net's own context
        self.context = ASPP(_DIMS, channels[-1], out_channels=context, rates=rates, separable=self.separable)
        self.refine = self.phi_3(context, context)
        self.decoded_channels = context

    def decode(self, maps: list[torch.Tensor]) -> torch.Tensor:
        return self.refine(self.context(maps[-1]))


class CENet(_Peer):
    """Dense atrous convolutions and multi-kernel pooling on the deepest map, then additive skips and narrow blocks.

    Enlargement is linear interpolation instead of the paper's transposed convolution where the map does not double.

    Reference:
        Gu et al., "CE-Net: context encoder network for 2D medical image segmentation",
        https://arxiv.org/abs/1903.02740
    """

    def build_decoder(self, channels: Sequence[int], width: int) -> None:
        self.context = _DenseAtrous(channels[-1])
        self.pyramid = _MultiKernelPooling(channels[-1])
        self.blocks = nn.ModuleList()
        coming = channels[-1] + self.pyramid.added
        for skip in reversed(channels[:-1]):
            self.blocks.append(self._block(coming, skip))
            coming = skip
        self.refine = self._block(coming, width)
        self.decoded_channels = width

    def _block(self, in_channels: int, out_channels: int) -> nn.Module:
        inner = max(in_channels // 4, 8)
        return nn.Sequential(
            conv_norm_act(_DIMS, in_channels, inner),
            self.phi_3(inner, inner),
            conv_norm_act(_DIMS, inner, out_channels),
        )

    def decode(self, maps: list[torch.Tensor]) -> torch.Tensor:
        x = self.pyramid(self.context(maps[-1]))
        for block, skip in zip(self.blocks, reversed(maps[:-1]), strict=True):
            x = block(resize_linear(x, list(skip.shape[2:]))) + skip
        return self.refine(x)


class _DenseAtrous(nn.Module):
    """The DAC block: cascades of atrous convolutions with rates 1, 3 and 5, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rate_1, self.rate_3, self.rate_5 = (
            nn.Conv2d(channels, channels, 3, padding=rate, dilation=rate) for rate in (1, 3, 5)
        )
        self.mix = _conv_1(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.rate_1(x)
        second = self.rate_3(first)
        branches = (first, self.mix(self.rate_3(x)), self.mix(second), self.mix(self.rate_5(second)))
        for branch in branches:
            x = x + F.relu(branch)
        return x


class _MultiKernelPooling(nn.Module):
    """The RMP block: four max poolings, each reduced to one channel, enlarged and put beside the input."""

    kernel_sizes = (2, 3, 5, 6)
    added = len(kernel_sizes)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = _conv_1(channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = list(x.shape[2:])
        pooled = [F.max_pool2d(x, min(kernel, *size)) for kernel in self.kernel_sizes]
        return torch.cat([*(resize_linear(self.reduce(p), size) for p in pooled), x], dim=1)


class FinalMap(nn.Module):
    """The last of several outputs of a network that returns a list, as MONAI's ``BasicUNetPlusPlus`` does.

    Args:
        network: network whose output is a list of logits, of which the last is the final one.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)[-1]


def _conv_1(in_channels: int, out_channels: int) -> nn.Module:
    return Convolution(_DIMS, in_channels, out_channels, kernel_size=1, conv_only=True)


def _initialize(module: nn.Module) -> None:
    """As BA-Net does for all but its encoder."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
