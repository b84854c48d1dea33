"""Training of large inputs in less memory: features are computed again in the backward pass instead of being kept."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from banet_monai.flags import as_flag
from banet_monai.networks.banet import BANet
from banet_monai.networks.gradients import gradients_as_now
from banet_monai.networks.mobilenet import MobileNet

__all__ = ["checkpoint_activations"]


def checkpoint_activations(network: BANet, *, enabled: bool | str = True) -> BANet:
    """Keep only the features between the network's blocks for the backward pass, in place.

    What lies inside a block (a residual block of the encoder, the edges and the tasks of a stage, the context,
    a step of the decoder) is computed a second time when its gradients are needed. A training step takes about a third
    longer; gradients, running statistics of batch norms and dropout are the same. Evaluation does not change.

    Args:
        network: in training mode or not; names of weights stay as they are.
        enabled: False leaves the network as it is, so that a configuration can hold the switch.

    Returns:
        ``network``. It can be copied and trained in several processes, but not scripted.
    """
    if as_flag(enabled, "enabled"):
        for block in _blocks(network):
            block.forward = _Checkpointed(block)
    return network


class _Checkpointed:
    """The ``forward`` of one module; copies along with it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, *inputs: Any) -> Any:
        forward = functools.partial(type(self.module).forward, self.module)
        if not (self.module.training and torch.is_grad_enabled()):
            return forward(*inputs)
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Surroundings of the first and of the second computation."""
        return nullcontext(), _again(self.module, gradients_as_now())


@contextmanager
def _again(module: nn.Module, forms: AbstractContextManager[Any]) -> Iterator[None]:
    """The second computation: with the forms of operations of the first one, whose results it must have again."""
    with forms, _keep_statistics(module):
        yield


@contextmanager
def _keep_statistics(module: nn.Module) -> Iterator[None]:
    """Running statistics inside ``module`` stay as they are: the second computation sees the same batch again."""
    norms = [norm for norm in module.modules() if isinstance(norm, _NormBase) and norm.running_mean is not None]
    momenta = [norm.momentum for norm in norms]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)


def _blocks(network: BANet) -> Iterator[nn.Module]:
    encoder = network.encoder
    if isinstance(encoder, MobileNet):
        yield from encoder.features
    else:
        for stage in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
            yield from stage
    yield from (network.context, *network.edges, *network.tasks, network.cross)
    yield from (*network.decoder.merges, network.decoder.refine)
