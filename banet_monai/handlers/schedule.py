"""Learning-rate schedules."""

from __future__ import annotations

import torch
from torch.optim.lr_scheduler import LambdaLR

from banet_monai.flags import as_whole

__all__ = ["warmup_poly"]


def warmup_poly(
    optimizer: torch.optim.Optimizer,
    *,
    max_epochs: int,
    epoch_length: int,
    warmup_epochs: float = 1.0,
    power: float = 0.9,
    final_fraction: float = 0.01,
) -> LambdaLR:
    """Learning rate per step: linear warm-up, then ``(1 - progress) ** power`` down to a small rest.

    Args:
        optimizer: its learning rate is the peak.
        max_epochs: epochs of the whole run.
        epoch_length: optimiser steps per epoch.
        warmup_epochs: length of the warm-up in epochs; a run shorter than twice that warms up for half its steps.
        power: exponent of the decay.
        final_fraction: share of the peak that the last step still has.

    Raises:
        ValueError: when there is no step to schedule, or ``max_epochs`` is no whole number.
    """
    max_epochs = as_whole(max_epochs, "max_epochs", least=0)
    total = max_epochs * epoch_length
    if total < 1:
        raise ValueError(f"nothing to schedule: {max_epochs} epochs of {epoch_length} steps; both must be at least 1.")
    warmup = min(int(warmup_epochs * epoch_length), total // 2)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min((step - warmup) / max(total - warmup, 1), 1.0)
        return final_fraction + (1.0 - final_fraction) * float((1.0 - progress) ** power)

    return LambdaLR(optimizer, factor)
