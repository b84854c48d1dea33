"""Operations of training in bfloat16 on a CPU, in forms whose gradient is quick. What is computed stays the same.

* Depthwise convolutions with a stride or a dilation: oneDNN has fast gradients of those that have neither, and takes
  ten times as long for the others, which was a fifth of a training step of the light network.
* Averages in a window (PEE): PyTorch's gradient of one in bfloat16 takes seven times as long as the average itself,
  which was a tenth of what was left.
* Enlarging a map of one channel (the logits of every stage): its gradient took a twentieth; as two small products
  of matrices it takes a tenth of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

__all__ = ["box_averaged", "dilated_by_parts", "gradients_as_now", "quick_gradients", "resized_by_products"]

_is_quick: ContextVar[bool] = ContextVar("quick_gradients", default=False)  # in the code that runs now


def quick_gradients(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Within it, 2D operations whose gradients are slow are computed in the forms of this module.

    Args:
        device: where the network computes.
        dtype: type of its autocast, None for none.

    Returns:
        A context that does nothing unless gradients are wanted, of bfloat16, on a CPU.
    """
    wanted = device.type == "cpu" and dtype is torch.bfloat16 and torch.is_grad_enabled()
    return _QuickGradients() if wanted else nullcontext()


def gradients_as_now() -> AbstractContextManager[Any]:
    """A context for later, in which operations are computed in the forms that they have where this is called."""
    return _QuickGradients() if _is_quick.get() else nullcontext()


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


def box_averaged(x: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """Mean over a square window of which only the part inside the map counts, with a gradient that is a mean again.

    Args:
        x: ``(batch, channels, rows, columns)``.
        kernel_size: odd size of the window, in pixels of this map.

    Returns:
        What ``avg_pool2d`` gives with stride 1, a padding that keeps the size, and ``count_include_pad=False``.
    """
    return _BoxAverage.apply(x, kernel_size)  # type: ignore[no-untyped-call]


def resized_by_products(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Linear interpolation, corners not aligned, as products with the weights of both axes, added up in float32.

    Args:
        x: ``(batch, channels, rows, columns)``; quick for one channel.
        size: rows and columns of the result.

    Returns:
        What ``interpolate`` gives with ``mode="bilinear"``, in the type of ``x``.
    """
    down, across = (_interpolation(length, wanted) for length, wanted in zip(x.shape[2:], size, strict=True))
    with torch.autocast(x.device.type, enabled=False):
        return (down @ x.float() @ across.T).to(x.dtype)


@lru_cache(maxsize=64)
def _interpolation(length: int, wanted: int) -> torch.Tensor:
    """Weights ``(wanted, length)`` of linear interpolation along an axis."""
    with torch.no_grad():
        return F.interpolate(torch.eye(length)[None], size=wanted, mode="linear", align_corners=False)[0].T.contiguous()


class _BoxAverage(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: torch.Tensor, kernel_size: int) -> torch.Tensor:
        context.kernel_size = kernel_size
        return F.avg_pool2d(x, kernel_size, 1, kernel_size // 2, count_include_pad=False)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Each pixel hands its gradient back to its window in equal parts: as many as lie inside the map."""

        def average(values: torch.Tensor) -> torch.Tensor:
            return F.avg_pool2d(values, context.kernel_size, 1, context.kernel_size // 2, count_include_pad=True)

        inside = average(torch.ones(1, 1, *gradient.shape[2:]))  # share of the window that counts
        return average(gradient / inside.to(gradient.dtype)), None


class _QuickGradients(TorchFunctionMode):
    """Looks at every function of PyTorch and hands on all but those that :data:`_FORMS` has a quick form of."""

    def __enter__(self) -> _QuickGradients:
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
        quick = _FORMS[func](*args, **(kwargs or {})) if func in _FORMS else None
        return func(*args, **(kwargs or {})) if quick is None else quick


def _convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor | None:
    """A quick form of ``conv2d`` as ``nn.Conv2d`` calls it, None for all that is no slow depthwise one."""
    as_module = isinstance(stride, tuple) and isinstance(dilation, tuple)
    if not (as_module and x.ndim == 4 and groups == x.shape[1] == weight.shape[0] > 1):
        return None
    if _is_strided(stride, dilation):
        return _in_float32(x, weight, bias, stride, padding, groups)
    if _keeps_size(stride, padding, dilation, weight) and min(x.shape[2:]) >= 2 * dilation[0]:
        return dilated_by_parts(x, weight, bias, dilation[0])
    return None


def _average(
    x: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> torch.Tensor | None:
    """A quick form of ``avg_pool2d`` as ``avg_k`` of the paper calls it, None for any other."""
    size = kernel_size[0] if isinstance(kernel_size, list) else 0
    boxes = [kernel_size, stride, padding] == [[size, size], [1, 1], [size // 2, size // 2]] and size % 2 == 1
    if boxes and x.ndim == 4 and x.dtype is torch.bfloat16 and not count_include_pad and divisor_override is None:
        return box_averaged(x, size)
    return None


def _resized(
    x: torch.Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> torch.Tensor | None:
    """A quick form of ``interpolate`` for a map of one channel, None for any other."""
    linear = mode == "bilinear" and not align_corners and not antialias
    if linear and isinstance(size, list) and x.ndim == 4 and x.shape[1] == 1:
        return resized_by_products(x, size)
    return None


_FORMS: Mapping[Callable[..., Any], Callable[..., torch.Tensor | None]] = {
    F.conv2d: _convolution,
    F.avg_pool2d: _average,
    F.interpolate: _resized,
}


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
