"""Depthwise convolutions of training in bfloat16 on a CPU, in forms whose gradient is quick.

oneDNN has fast bfloat16 gradients of depthwise convolutions that have neither stride nor dilation. Of the others it
takes ten times as long, which was a fifth of a training step of the light network. What is computed stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["depthwise_as_now", "dilated_by_parts", "quick_depthwise"]

_is_quick: ContextVar[bool] = ContextVar("quick_depthwise", default=False)  # in the code that runs now


def quick_depthwise(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Within it, 2D depthwise convolutions with a stride or a dilation are computed in the forms of this module.

    Args:
        device: where the network computes.
        dtype: type of its autocast, None for none.

    Returns:
        A context that does nothing unless gradients are wanted, of bfloat16, on a CPU.
    """
    wanted = device.type == "cpu" and dtype is torch.bfloat16 and torch.is_grad_enabled()
    return _QuickDepthwise() if wanted else nullcontext()


def depthwise_as_now() -> AbstractContextManager[Any]:
    """A context for later, in which depthwise convolutions are computed as they are where this is called."""
    return _QuickDepthwise() if _is_quick.get() else nullcontext()


def dilated_by_parts(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dilation: int) -> torch.Tensor:
    """A dilated depthwise convolution as one without dilation over the pixels that lie ``dilation`` apart.

    Args:
        x: ``(batch, channels, rows, columns)``.
        weight: ``(channels, 1, k, k)``, ``k`` odd.
        bias: ``(channels,)`` or None.
        dilation: distance between the kernel's taps in both axes.

    Returns:
        What ``conv2d`` gives with ``groups=channels`` and a padding that keeps the size.
    """
    batch, channels, rows, columns = x.shape
    x = F.pad(x, (0, -columns % dilation, 0, -rows % dilation))
    down, across = x.shape[2] // dilation, x.shape[3] // dilation
    parts = x.permute(0, 2, 3, 1).reshape(batch, down, dilation, across, dilation, channels)
    parts = parts.permute(0, 2, 4, 1, 3, 5).reshape(-1, down, across, channels).permute(0, 3, 1, 2)
    parts = F.conv2d(parts, weight, bias, padding=weight.shape[-1] // 2, groups=channels)
    parts = parts.permute(0, 2, 3, 1).reshape(batch, dilation, dilation, down, across, channels)
    whole = parts.permute(0, 3, 1, 4, 2, 5).reshape(batch, down * dilation, across * dilation, channels)
    return whole.permute(0, 3, 1, 2)[:, :, :rows, :columns]


class _QuickDepthwise(TorchFunctionMode):
    """Looks at every ``conv2d`` of PyTorch and hands on all that is no slow depthwise one."""

    def __enter__(self) -> _QuickDepthwise:
        self._before = _is_quick.set(True)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _is_quick.reset(self._before)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.conv2d and len(args) == 7 and not kwargs:  # as nn.Conv2d calls it
            x, weight, bias, stride, padding, dilation, groups = args
            if x.ndim == 4 and groups == x.shape[1] == weight.shape[0] > 1:
                if _is_strided(stride, dilation):
                    return _in_float32(x, weight, bias, stride, padding, groups)
                if _keeps_size(stride, padding, dilation, weight) and min(x.shape[2:]) >= 2 * dilation[0]:
                    return dilated_by_parts(x, weight, bias, dilation[0])
        return func(*args, **(kwargs or {}))


def _is_strided(stride: Sequence[int], dilation: Sequence[int]) -> bool:
    return max(stride) > 1 and max(dilation) == 1


def _keeps_size(stride: Sequence[int], padding: Any, dilation: Sequence[int], weight: torch.Tensor) -> bool:
    """Whether it is dilated, the same in both axes, without stride and with a padding that keeps the size."""
    first, second = dilation
    same = [first * (length // 2) for length in weight.shape[2:]]
    square_and_odd = weight.shape[2] == weight.shape[3] and weight.shape[2] % 2 == 1
    return first == second > 1 and max(stride) == 1 and list(padding) == same and square_and_odd


def _in_float32(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: Any, padding: Any, groups: int
) -> torch.Tensor:
    """A depthwise convolution of bfloat16 values, added up in float32: twice the memory, a third of the time."""
    with torch.autocast("cpu", enabled=False):
        x, weight = x.bfloat16().float(), weight.bfloat16().float()
        result = F.conv2d(x, weight, None if bias is None else bias.float(), stride, padding, 1, groups)
    return result.bfloat16()
