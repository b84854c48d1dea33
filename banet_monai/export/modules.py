"""The modules of BA-Net in the form in which evaluation needs the least work; same results, same calls.

Each takes the place of the module that it was made from, see :mod:`banet_monai.networks.blocks` for the formulas.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from torch import nn

from banet_monai.export.fusing import FusedConvolution, computes_as, fuse_chain
from banet_monai.networks.blocks import (
    ASPP,
    Decoder,
    InteractiveAttention,
    MiniMultiTaskLearning,
    PyramidEdgeExtraction,
)
from banet_monai.networks.encoders import ResNetEncoder
from banet_monai.networks.layers import box_average, resize_linear
from banet_monai.networks.mobilenet import MobileNet

__all__ = [
    "FastASPP",
    "FastCrossFeatureFusion",
    "FastDecoder",
    "FastEdgeExtraction",
    "FastMultiTask",
    "FastResidual",
    "fast_encoder",
    "levels_of",
    "shell",
]

Module = TypeVar("Module", bound=nn.Module)

_LARGE_WINDOW = 5  # pixels along a side from which two passes are quicker than one


class FastResidual(nn.Module):
    """A residual block of a ResNet or MobileNet: the shortcut is added by the last convolution.

    Args:
        layers: chain of fused layers of which the last is a convolution.
        shortcut: what the input passes through; None for none at all, ``nn.Identity`` for the input itself.
    """

    def __init__(self, layers: nn.Sequential, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.first, self.last, self.shortcut = layers[:-1], layers[-1], shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.shortcut is None:
            return self.last(self.first(x))
        return self.last(self.first(x), self.shortcut(x))


class FastEdgeExtraction(nn.Module):
    """Pyramid edge extraction with the subtraction in the weights.

    ``W_0 F + sum_k W_k (F - avg_k(F)) = (W_0 + sum_k W_k) F - sum_k W_k avg_k(F)``.
    """

    def __init__(self, module: PyramidEdgeExtraction) -> None:
        super().__init__()
        self.reduce, self.fuse = fuse_chain(module.reduce), fuse_chain(module.fuse)
        self.kernel_sizes = module.kernel_sizes
        if self.kernel_sizes:
            mix: Any = self.fuse[0]
            parts = list(mix.weight.chunk(len(self.kernel_sizes) + 1, dim=1))
            mix.weight = torch.cat([torch.stack(parts).sum(dim=0), *(-part for part in parts[1:])], dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.reduce(x)
        if not self.kernel_sizes:
            return x
        return self.fuse(torch.cat([x, *(_box_average(x, k) for k in self.kernel_sizes)], dim=1))


class FastMultiTask(MiniMultiTaskLearning):
    """Mini multi-task learning; the reverse gate as ``E' = E + S - sigma(E) * S``, whose sum both tasks share."""

    def __init__(self, module: MiniMultiTaskLearning) -> None:
        nn.Module.__init__(self)
        self.mask_in, self.edge_in = fuse_chain(module.mask_in), fuse_chain(module.edge_in)
        self.mask_out, self.edge_out = fuse_chain(module.mask_out), fuse_chain(module.edge_out)
        self.aggregate = fuse_chain(module.aggregate)
        self.mask_head, self.edge_head = fuse_chain(module.mask_head), fuse_chain(module.edge_head)  # type: ignore[assignment]
        attention = copy.deepcopy(module.attention)
        reverse = attention is not None and computes_as(attention, InteractiveAttention) and attention.reverse
        self.attention = _FastReverseAttention() if reverse else attention


class _FastReverseAttention(InteractiveAttention):
    def forward(self, mask: torch.Tensor, edge: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both = mask + edge
        return (
            torch.addcmul(both, torch.sigmoid(mask), edge, value=-1),
            torch.addcmul(both, torch.sigmoid(edge), mask, value=-1),
        )


class FastCrossFeatureFusion(nn.Module):
    """Cross feature fusion in which maps of one size are added before they are resized, and resized once per size.

    Args:
        levels: a number for each stage, equal for stages whose maps have the same size (:func:`levels_of`).
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)

    def forward(self, stages: list[torch.Tensor]) -> list[torch.Tensor]:
        gates = [torch.sigmoid(x) for x in stages]
        sent = [gate * x for gate, x in zip(gates, stages, strict=True)]
        members = {level: [k for k, other in enumerate(self.levels) if other == level] for level in self.levels}
        totals = {level: _sum([sent[k] for k in group]) for level, group in members.items()}

        fused: list[torch.Tensor] = []
        for level, group in members.items():
            size = list(stages[group[0]].shape[2:])
            far = [resize_linear(total, size) for other, total in totals.items() if other != level]
            for i in group:
                received = _sum([*([_sum(far)] if far else []), *(sent[k] for k in group if k != i)])
                fused.append(torch.addcmul(stages[i] + received, gates[i], received, value=-1))
        return fused


class FastDecoder(nn.Module):
    """The decoder without resizing between maps of one size.

    Args:
        module: the decoder.
        levels: as for :class:`FastCrossFeatureFusion`.
    """

    def __init__(self, module: Decoder, levels: Sequence[int]) -> None:
        super().__init__()
        self.merges = nn.ModuleList(fuse_chain(merge) for merge in module.merges)
        self.refine = fuse_chain(module.refine)
        self.levels = tuple(levels)

    def forward(self, stages: list[torch.Tensor], context: torch.Tensor) -> torch.Tensor:
        x, level = context, self.levels[-1]
        for stage, stage_level, merge in zip(stages[::-1], self.levels[::-1], self.merges, strict=True):
            if stage_level != level:
                x, level = resize_linear(x, list(stage.shape[2:])), stage_level
            x = merge(torch.cat([stage, x], dim=1))
        return self.refine(x)


class FastASPP(nn.Module):
    """Atrous spatial pyramid pooling; what the pooled branch gives to the projection is computed for one pixel.

    The projection's kernel size is 1, so ``W concat(x, p) = W_x x + W_p p``, and ``p`` is the same for all pixels.
    """

    def __init__(self, module: ASPP) -> None:
        super().__init__()
        self.branches = nn.ModuleList(fuse_chain(branch) for branch in module.branches)
        self.pooled, self.project = fuse_chain(module.pooled), fuse_chain(module.project)
        mix: Any = self.project[0]
        self.constant: FusedConvolution | None = None
        if mix.norm is None:  # a norm that is not folded sees the sum
            dense = mix.weight.shape[1] // (len(self.branches) + 1) * len(self.branches)
            self.constant = mix.part(dense, mix.weight.shape[1], linear=True)
            self.project[0] = mix.part(0, dense)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        contexts = [branch(x) for branch in self.branches]
        pooled = self.pooled(x)
        if self.constant is None:
            return self.project(torch.cat([*contexts, pooled.expand_as(contexts[0])], dim=1))
        order = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        constant = self.constant(pooled).expand(-1, -1, *x.shape[2:]).contiguous(memory_format=order)
        return self.project[1:](self.project[0](torch.cat(contexts, dim=1), constant))


def fast_encoder(encoder: ResNetEncoder | MobileNet) -> nn.Module:
    """A copy of an encoder with its layers fused; it returns its four maps as before."""
    fast = shell(encoder)
    if isinstance(encoder, MobileNet):
        fast.features = nn.Sequential(*(_fast_layer(layer) for layer in encoder.features))
        return fast

    fast.conv1 = FusedConvolution(encoder.conv1, encoder.bn1, encoder.act)
    fast.bn1, fast.act, fast.maxpool = nn.Identity(), nn.Identity(), copy.deepcopy(encoder.maxpool)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        setattr(fast, name, nn.Sequential(*(_fast_block(block) for block in getattr(encoder, name))))
    return fast


def shell(module: Module) -> Module:
    """A copy that shares its children with ``module`` until they are replaced."""
    copied = copy.copy(module)
    for registry in ("_modules", "_parameters", "_buffers"):
        setattr(copied, registry, dict(getattr(module, registry)))
    return copied


def levels_of(encoder: ResNetEncoder | MobileNet) -> tuple[int, ...]:
    """A number for each of the four stages: the same as the stage's before where the size of the map is the same."""
    levels = [0]
    for layers in encoder.stages()[1:]:
        modules = (module for layer in layers for module in layer.modules())
        strided = any(max(m.stride) > 1 for m in modules if isinstance(m, (nn.Conv2d, nn.Conv3d)))
        levels.append(levels[-1] + int(strided))
    return tuple(levels)


def _fast_layer(layer: nn.Module) -> nn.Module:
    """A layer of a MobileNet: a chain, or an inverted residual, which holds one as ``conv`` (V2) or ``block`` (V3)."""
    chain = getattr(layer, "conv", getattr(layer, "block", None))
    if not isinstance(chain, nn.Sequential):
        return fuse_chain(layer)
    return FastResidual(fuse_chain(chain), nn.Identity() if layer.add else None)


def _fast_block(block: ResNetBlock | ResNetBottleneck) -> FastResidual:
    layers = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
    if isinstance(block, ResNetBottleneck):
        layers.append((block.conv3, block.bn3))
    chain = nn.Sequential(*(FusedConvolution(conv, norm, block.act) for conv, norm in layers))
    shortcut = fuse_chain(block.downsample) if isinstance(block.downsample, nn.Module) else nn.Identity()
    return FastResidual(chain, shortcut)


def _box_average(x: torch.Tensor, k: int) -> torch.Tensor:
    """:func:`~banet_monai.networks.layers.box_average` along one axis after the other, where that is quicker.

    A volume becomes planes for it: PyTorch's 3D pooling is slow in this memory order and knows no half precision.
    """
    if x.ndim == 4:
        if k < _LARGE_WINDOW:
            return box_average(x, k)
        return _average_along(_average_along(x, [k, 1]), [1, k])

    batch, channels, *spatial = x.shape
    last = x.permute(0, 2, 3, 4, 1)  # (batch, x, y, z, channels)
    rows = last.reshape(batch, spatial[0], spatial[1] * spatial[2], channels)
    rows = _average_along(rows.permute(0, 3, 1, 2), [k, 1]).permute(0, 2, 3, 1)
    planes = rows.reshape(batch * spatial[0], spatial[1], spatial[2], channels).permute(0, 3, 1, 2)
    planes = _average_along(_average_along(planes, [k, 1]), [1, k]).permute(0, 2, 3, 1)
    return planes.reshape(batch, *spatial, channels).permute(0, 4, 1, 2, 3)


def _average_along(x: torch.Tensor, window: list[int]) -> torch.Tensor:
    """Mean over a window of which only the part inside the map counts."""
    return F.avg_pool2d(x, window, [1, 1], [k // 2 for k in window], False, False)


def _sum(maps: list[torch.Tensor]) -> torch.Tensor:
    total = maps[0]
    for other in maps[1:]:
        total = total + other
    return total
