"""The boundary map of the network as an output, through any inferer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import nn

from banet_monai.explain.features import evaluating
from banet_monai.flags import as_flag

__all__ = ["BoundaryInferer"]


class BoundaryInferer(Inferer):
    """An inferer's result with one further channel behind it: the stage edges of the network, fused.

    Like the channels of :class:`banet_monai.uncertainty.UncertaintyInferer` it is taken off by
    :class:`banet_monai.uncertainty.SplitUncertaintyd` before anything else is done with the logits. It costs a second
    pass of the encoder, in evaluation, whatever mode the network is in; it is left as it came.

    Args:
        inferer: gives the result.
        windows: runs the boundary map in windows and slices, such as ``SegmentationInferer``; None: ``inferer``, which
            must then be one that hands its result on as the network gives it.
        enabled: False hands every image to ``inferer`` alone; "true" and "false" work too.

    Returns:
        What ``inferer`` returns, and with it ``(B, 1, *spatial)``, the probability that a pixel lies on an edge (of any
        class), 0 to 1. A ``MetaTensor`` if the input is one.

    Raises:
        ValueError: when the network has no ``boundary_map``.
    """

    def __init__(
        self, inferer: Callable[..., Any], *, windows: Callable[..., Any] | None = None, enabled: bool | str = True
    ) -> None:
        self.inferer = inferer
        self.windows = inferer if windows is None else windows
        self.enabled = as_flag(enabled, "boundary")

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        result = self.inferer(inputs, network, *args, **kwargs)
        if not self.enabled:
            return result
        owner: Any = getattr(network, "module", network)
        boundary_map = getattr(owner, "boundary_map", None)
        if boundary_map is None:
            raise ValueError(f"a boundary map needs a network with boundary_map(), {type(network).__name__} has none.")
        with evaluating(owner) if isinstance(owner, nn.Module) else nullcontext(), torch.no_grad():
            boundary = self.windows(inputs, boundary_map).amax(dim=1, keepdim=True)
        values = _plain(result)
        joined = torch.cat([values, _plain(boundary).to(values)], dim=1)
        if isinstance(inputs, MetaTensor):
            return MetaTensor(joined).copy_meta_from(inputs, copy_attr=False)  # type: ignore[no-untyped-call]
        return joined


def _plain(values: torch.Tensor) -> torch.Tensor:
    return values.as_tensor() if isinstance(values, MetaTensor) else values
