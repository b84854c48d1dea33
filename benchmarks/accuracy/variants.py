"""Forms of BA-Net's parts that the ablation asks for and the package does not offer, each made from a built network.

The functions change the network that they are given and return it, so that a configuration can nest them:
``{"_target_": "benchmarks.accuracy.variants.with_pooled_maps", "network": {"_target_": "banet_monai...BANet", ...}}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution
from scipy.ndimage import distance_transform_edt
from torch import nn
from torch.utils.data import Sampler

from banet_monai.inferers import AutocastInferer
from banet_monai.networks import BANet
from banet_monai.networks.blocks import MiniMultiTaskLearning, PyramidEdgeExtraction
from banet_monai.networks.layers import box_average, conv_norm_act, resize_linear

__all__ = [
    "AddedLoss",
    "BoundaryLoss",
    "MatchedSampler",
    "MixedSizeInferer",
    "StrideTwo",
    "gentle_encoder",
    "with_learned_gates",
    "with_mask_output",
    "with_pooled_maps",
]

_STEM_LAYER = 1  # of MobileNetV2's ``features``: the last at stride 2


def with_pooled_maps(network: BANet) -> BANet:
    """PEE with the pooled maps themselves in place of their difference from the features."""
    for index, extraction in enumerate(network.edges):
        network.edges[index] = _PooledMaps(extraction)
    return network


def with_mask_output(network: BANet) -> BANet:
    """The stage's output from the mask features alone; the edge branch still learns and still helps in IA."""
    for index, task in enumerate(network.tasks):
        network.tasks[index] = _MaskOutput(task)
    return network


def with_learned_gates(network: BANet) -> BANet:
    """IA whose gates are learned 1x1 convolutions of the receiver instead of ``1 - sigma(receiver)``."""
    for task in network.tasks:
        task.attention = _LearnedGates(task.mask_head.conv.in_channels)
    return network


class _PooledMaps(nn.Module):
    def __init__(self, extraction: PyramidEdgeExtraction) -> None:
        super().__init__()
        self.reduce, self.fuse, self.kernel_sizes = extraction.reduce, extraction.fuse, extraction.kernel_sizes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.reduce(x)
        return self.fuse(torch.cat([x, *(box_average(x, kernel_size) for kernel_size in self.kernel_sizes)], dim=1))


class _MaskOutput(MiniMultiTaskLearning):
    def __init__(self, task: MiniMultiTaskLearning) -> None:
        nn.Module.__init__(self)
        for name, module in task.named_children():
            self.add_module(name, module)
        channels = task.mask_head.conv.in_channels
        self.aggregate = conv_norm_act(2, channels, channels)
        self.attention = task.attention

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mask, edge = self.mask_in(x), self.edge_in(x)
        if self.attention is not None:
            mask, edge = self.attention(mask, edge)
        mask, edge = self.mask_out(mask), self.edge_out(edge)
        return self.aggregate(mask), mask, edge


class _LearnedGates(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mask_gate, self.edge_gate = (
            Convolution(2, channels, channels, kernel_size=1, conv_only=True) for _ in range(2)
        )

    def forward(self, mask: torch.Tensor, edge: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask_gate, edge_gate = torch.sigmoid(self.mask_gate(mask)), torch.sigmoid(self.edge_gate(edge))
        return mask + mask_gate * edge, edge + edge_gate * mask


class StrideTwo(nn.Module):
    """BA-Net whose decoder goes one step further, to stride 2, with the features of the encoder's stem.

    Args:
        network: BA-Net with mini-MTL on MobileNetV2.
        width: channels at stride 2.

    Raises:
        ValueError: for another encoder or without mini-MTL.

    Shapes:
        As of :class:`banet_monai.networks.BANet`.
    """

    def __init__(self, network: BANet, width: int = 32) -> None:
        super().__init__()
        if network.encoder.name != "mobilenet_v2" or not network.use_mtl:
            raise ValueError("StrideTwo needs a BANet with encoder='mobilenet_v2' and use_mtl=True.")
        self.network = network
        stem_channels = 16  # of MobileNetV2 at stride 2
        self.merge = conv_norm_act(
            2, network.head.conv.in_channels + stem_channels, width, kernel_size=3, separable=True
        )
        self.head = Convolution(2, width, network.out_channels, kernel_size=1, conv_only=True)
        network.head = nn.Identity()

    @property
    def encoder(self) -> nn.Module:
        """The encoder, for loading its weights."""
        return self.network.encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor | list[torch.Tensor]]:
        network, size = self.network, list(x.shape[2:])
        stem, maps = self._encode(x)
        stages, masks, edges = [], [], []
        for extract, task, feature in zip(network.edges, network.tasks, maps, strict=True):
            stage, mask, edge = task(extract(feature))
            stages.append(stage)
            masks.append(mask)
            edges.append(edge)
        if network.use_cff:
            stages = network.cross(stages)
        decoded = network.decoder(stages, network.dropout(network.context(maps[-1])))
        finer = self.merge(torch.cat([resize_linear(decoded, list(stem.shape[2:])), stem], dim=1))
        logits = resize_linear(self.head(network.dropout(finer)), size)
        if not self.training:
            return logits
        pairs = [task.logits(mask, edge) for task, mask, edge in zip(network.tasks, masks, edges, strict=True)]
        return {
            "mask": logits,
            "stage_masks": [resize_linear(mask, size) for mask, _ in pairs],
            "stage_edges": [resize_linear(edge, size) for _, edge in pairs],
        }

    def _encode(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        encoder, stem, maps = self.network.encoder, x, []
        for index, layer in enumerate(encoder.features):
            x = layer(x)
            if index == _STEM_LAYER:
                stem = x
            if index in encoder.taps:
                maps.append(x)
        return stem, maps


def gentle_encoder(network: nn.Module, learning_rate: float, share: float) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser: what ImageNet taught the encoder changes more slowly than the new layers.

    Args:
        network: with an ``encoder``.
        learning_rate: of the other layers.
        share: learning rate of the encoder as a share of it.
    """
    encoder = {id(parameter) for parameter in network.encoder.parameters()}  # type: ignore[operator,union-attr]
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in network.parameters():
        groups[id(parameter) in encoder].append(parameter)
    return [{"params": groups[False], "lr": learning_rate}, {"params": groups[True], "lr": share * learning_rate}]


class MatchedSampler(Sampler[int]):
    """Draws pictures of an archive so that its ranges of numbers come up as often as among other pictures.

    Pictures with near numbers often came together, from one place and camera; the parts of a challenge can differ in
    that. An epoch has as many draws as cases; each case comes up as often as its weight says, rounded down or up at
    random (systematic sampling), in random order.

    Args:
        cases: data dictionaries with the ``name`` of each picture, which ends in its number.
        bounds: ascending numbers at which a new range begins; the first range begins below all of them.
        counts: of the pictures to be like, by range, one more than ``bounds``.
        limit: before the weights are scaled to one draw a case in the mean, they lie between its inverse and it.

    Raises:
        ValueError: for another number of counts, or a limit below 1.
    """

    def __init__(
        self, cases: Sequence[Mapping[str, str]], bounds: Sequence[int], counts: Sequence[int], limit: float
    ) -> None:
        if len(counts) != len(bounds) + 1 or limit < 1:
            raise ValueError(f"{len(bounds)} bounds need {len(bounds) + 1} counts, and limit must be 1 or more.")
        numbers = torch.tensor([int(re.sub(r".*?(\d+)$", r"\1", case["name"])) for case in cases])
        ranges = torch.bucketize(numbers, torch.tensor(bounds), right=True)
        here = torch.bincount(ranges, minlength=len(counts)).clamp(min=1) / len(cases)
        there = torch.tensor(counts) / sum(counts)
        weights = (there / here).clamp(1 / limit, limit)[ranges].double()
        self.weights = weights * (len(cases) / weights.sum())

    def __len__(self) -> int:
        return len(self.weights)

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(len(self))
        points = torch.arange(len(self)) + torch.rand((), dtype=torch.float64)
        drawn = order[torch.searchsorted(self.weights[order].cumsum(0), points).clamp(max=len(self) - 1)]
        return iter(drawn[torch.randperm(len(self))].tolist())


class MixedSizeInferer(AutocastInferer):
    """Training steps at sizes drawn at random: the batch is scaled before the network and every map of logits back.

    The network meets each lesion at several scales without losing sight of what surrounds it, as closer crops do; the
    loss stays that of the size the batch came in. Draws from PyTorch's global generator.

    Args:
        sizes: sides in pixels that a step draws from; another side of the batch keeps its proportion.
        amp: see :class:`banet_monai.inferers.AutocastInferer`.

    Raises:
        ValueError: without a size, or for one below 1.

    Shapes:
        - input: ``(batch, channels, x, y)``; ``x`` is what ``sizes`` replace.
        - output: as of the network, in training and else, at the size of the input.
    """

    def __init__(self, sizes: Sequence[int], *, amp: str = "auto") -> None:
        super().__init__(amp=amp)
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes must hold sides of at least 1 pixel, got {list(sizes)}.")
        self.sizes = tuple(sizes)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | dict[str, Any]:
        image, original = torch.as_tensor(inputs), list(inputs.shape[2:])
        side = self.sizes[int(torch.randint(len(self.sizes), ()))]
        size = [round(length * side / original[0]) for length in original]
        output = super().__call__(resize_linear(image, size), network, *args, **kwargs)
        if isinstance(output, torch.Tensor):
            return resize_linear(output, original)
        return {
            name: resize_linear(maps, original)
            if isinstance(maps, torch.Tensor)
            else [resize_linear(one, original) for one in maps]
            for name, maps in output.items()
        }


class AddedLoss(nn.Module):
    """A loss and, weighted, another one on the final mask alone.

    Args:
        base: takes what the network returns in training, and the label.
        added: takes logits and label of one size.
        weight: of the second.
    """

    def __init__(self, base: nn.Module, added: nn.Module, weight: float) -> None:
        super().__init__()
        self.base, self.added, self.weight = base, added, weight

    def forward(
        self, predictions: torch.Tensor | Mapping[str, torch.Tensor | Sequence[torch.Tensor]], label: torch.Tensor
    ) -> torch.Tensor:
        mask = predictions if isinstance(predictions, torch.Tensor) else predictions["mask"]
        with torch.autocast(label.device.type, enabled=False):
            extra = self.added(torch.as_tensor(mask).float(), torch.as_tensor(label).float())
        return self.base(predictions, label) + self.weight * extra


class BoundaryLoss(nn.Module):
    """Mean of the probability times the signed distance to the true outline, in units of the picture's side.

    Outside the mask the distance is positive, inside negative; a mask without an outline counts as 0.

    Shapes:
        - logits and label: ``(batch, 1, x, y)``

    Reference:
        Kervadec et al., "Boundary loss for highly unbalanced segmentation", https://arxiv.org/abs/1812.07032
    """

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        distances = [_signed_distance(mask) for mask in label[:, 0].detach().cpu()]
        return (torch.sigmoid(logits[:, 0]) * torch.stack(distances).to(logits)).mean()


def _signed_distance(mask: torch.Tensor) -> torch.Tensor:
    inside = mask.numpy() > 0
    if inside.all() or not inside.any():
        return torch.zeros(mask.shape)
    distance = distance_transform_edt(~inside) - distance_transform_edt(inside)
    return torch.from_numpy(distance / max(mask.shape)).float()
