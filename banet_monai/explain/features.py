"""What the modules of BA-Net add to their inputs, read by forward hooks from one pass of the unchanged network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from banet_monai.networks.blocks import CrossFeatureFusion, InteractiveAttention, MiniMultiTaskLearning
from banet_monai.networks.layers import resize_linear

__all__ = ["Explanation", "evaluating", "explain"]


@dataclass(frozen=True)
class Explanation:
    """What a network did on the way to its logits; maps at the size of the image, finest stage first.

    Attributes:
        logits: ``(B, C, *spatial)``, those of the plain network.
        edges: one map per stage, the probability that a pixel lies on an edge (of any class): ``(B, 1, *spatial)``,
            0 to 1. Empty for a network without mini multi-task learning.
        added: what a module changed: mean over the channels of ``|output - input|``, ``(B, 1, *spatial)``, 0 and more,
            in the units of the features. By name:

            * ``"ia1_mask"`` to ``"ia4_mask"``: what interactive attention sends from the edge to the mask branch;
            * ``"ia1_edge"`` to ``"ia4_edge"``: what it sends from the mask to the edge branch;
            * ``"cff1"`` to ``"cff4"``: what cross feature fusion brings from the three other stages.
    """

    logits: torch.Tensor
    edges: tuple[torch.Tensor, ...] = ()
    added: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def boundary(self) -> torch.Tensor | None:
        """The edge maps of all stages fused: their mean, ``(B, 1, *spatial)``; None without edge maps."""
        return torch.stack(self.edges).mean(dim=0) if self.edges else None


def explain(network: nn.Module, image: torch.Tensor) -> Explanation:
    """Run a network once in eval mode and keep what its modules added.

    Nothing of the network changes: hooks are removed and modes restored, also after an error.

    Args:
        network: a :class:`banet_monai.networks.BANet`, or any other network, of which only the logits are known then.
        image: ``(B, C, *spatial)``, as the network takes it.

    Raises:
        TypeError: when the network returns no tensor.
    """
    size = [int(length) for length in image.shape[2:]]
    edges: dict[str, torch.Tensor] = {}
    added: dict[str, torch.Tensor] = {}

    def attention(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], outputs: tuple[torch.Tensor, ...]) -> None:
            for branch, before, after in zip(("mask", "edge"), inputs, outputs, strict=True):
                added[f"{name}_{branch}"] = _change(before, after, size)

        return hook

    def fusion(module: nn.Module, inputs: tuple[list[torch.Tensor]], outputs: list[torch.Tensor]) -> None:
        for stage, (before, after) in enumerate(zip(inputs[0], outputs, strict=True), start=1):
            added[f"cff{stage}"] = _change(before, after, size)

    def tasks(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: tuple[torch.Tensor], outputs: tuple[torch.Tensor, ...]) -> None:
            _, mask, edge = outputs
            _, logits = module.logits(mask, edge)
            edges[name] = resize_linear(logits.float(), size).sigmoid().amax(dim=1, keepdim=True)

        return hook

    with evaluating(network), torch.no_grad(), _hooks(network, attention, fusion, tasks):
        logits = network(image)
    if not isinstance(logits, torch.Tensor):
        raise TypeError(f"the network must return a tensor of logits in eval mode, got {type(logits).__name__}.")
    return Explanation(logits.float(), tuple(edges[name] for name in sorted(edges)), added)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in eval mode; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _hooks(
    network: nn.Module,
    attention: Callable[[str], Callable[..., None]],
    fusion: Callable[..., None],
    tasks: Callable[[str], Callable[..., None]],
) -> Iterator[None]:
    handles = []
    stages = [module for module in network.modules() if isinstance(module, MiniMultiTaskLearning)]
    for number, stage in enumerate(stages, start=1):
        handles.append(stage.register_forward_hook(tasks(f"edge{number}")))
        if isinstance(stage.attention, InteractiveAttention):
            handles.append(stage.attention.register_forward_hook(attention(f"ia{number}")))
    handles += [m.register_forward_hook(fusion) for m in network.modules() if isinstance(m, CrossFeatureFusion)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _change(before: torch.Tensor, after: torch.Tensor, size: list[int]) -> torch.Tensor:
    return resize_linear((after - before).float().abs().mean(dim=1, keepdim=True), size)
