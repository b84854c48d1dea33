"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["WeightAveraging", "WeightAveragingHandler"]


class WeightAveraging:
    """Exponential moving average of weights and buffers, updated after every step; switched off by ``decay=0``.

    Args:
        network: the network that is trained (not a distributed wrapper).
        decay: share of the old average kept at each step, in [0, 1); 0 means no averaging. The first steps keep less,
            ``(1 + step) / (10 + step)``, so that the weights of the start are soon forgotten.

    Attributes:
        network: the network to evaluate and to save: the average, or the trained network itself when switched off.

    Raises:
        ValueError: when ``decay`` is outside [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float = 0.0) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {decay}; 0 switches averaging off, 0.999 is usual.")
        self.decay = decay
        self.trained = network
        self.averaged: AveragedModel | None = None
        if decay > 0:
            self.averaged = AveragedModel(network, multi_avg_fn=_growing_average(decay), use_buffers=True)
        self.network: nn.Module = network if self.averaged is None else self.averaged.module

    def begin(self) -> None:
        """Starts from the weights as they are now, unless a resumed run brought an average."""
        if self.averaged is not None and int(self.averaged.n_averaged) == 0:
            self.averaged.module.load_state_dict(self.trained.state_dict())

    def update(self) -> None:
        """Takes the present weights into the average."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.trained)

    def share_buffers(self) -> None:
        """Gives every process the buffers of rank 0, so that all validate the same network.

        Weights and their averages are equal in all processes, but each has normalised batches of its own.
        """
        if dist.is_available() and dist.is_initialized():
            for buffer in self.network.buffers():
                dist.broadcast(buffer, src=0)

    def state_dict(self) -> dict[str, Any]:
        """State of the average, empty when switched off."""
        return {} if self.averaged is None else self.averaged.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what ``state_dict`` gave.

        Raises:
            ValueError: when the state was saved with averaging and this run has none, or the other way round.
        """
        if bool(state) != (self.averaged is not None):
            raise ValueError("the saved run and this one differ in weight averaging: give the same 'ema_decay'.")
        if self.averaged is not None:
            self.averaged.load_state_dict(state)


def _growing_average(decay: float) -> Any:
    @torch.no_grad()
    def update(averages: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor) -> None:
        kept = min(decay, (1.0 + float(count)) / (10.0 + float(count)))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), 1.0 - kept)
            else:
                average.copy_(value)

    return update


class WeightAveragingHandler:
    """Updates a ``WeightAveraging`` after every step of the trainer; attach it before validation.

    Args:
        averaging: the average to keep.
    """

    def __init__(self, averaging: WeightAveraging) -> None:
        self.averaging = averaging

    def attach(self, engine: Engine) -> None:
        """Registers for the start of the run, every step and every epoch end of ``engine``, the trainer."""
        engine.add_event_handler(Events.STARTED, lambda engine: self.averaging.begin())
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: self.averaging.update())
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: self.averaging.share_buffers())
