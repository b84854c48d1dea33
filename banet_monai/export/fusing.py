"""Convolution, batch norm, sum and activation as one operation, with weights in the order that the processor likes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

__all__ = ["FusedConvolution", "computes_as", "dilated_by_taps", "fuse_chain"]

MANY_CHANNELS, WIDE_DILATION = 2048, 4  # from where on dilated_by_taps pays

_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm)
_Scalars = list[float | None]


class FusedConvolution(nn.Module):
    """``act(norm(conv(x)) + add)`` for evaluation, with a batch norm folded into the weights of the convolution.

    After :meth:`pack`, a processor with oneDNN computes convolution, sum and activation in a single call, with weights
    that are put into its own order at the first call. Elsewhere they are PyTorch's own operations. The weights are
    buffers: they are copies, and nothing trains them.

    Args:
        conv: convolution whose weights are copied.
        norm: what follows it: a batch norm with running statistics is folded, any other norm is copied.
        act: activation at the end; none by default.

    Shapes:
        - input: as for ``conv``; ``add`` (optional) of the output's shape
        - output: as of ``conv``
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self, conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, norm: nn.Module | None = None, act: nn.Module | None = None
    ) -> None:
        super().__init__()
        weight, bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None:
            weight, bias = _folded(weight, bias, norm)
            norm = None
        self.register_buffer("weight", weight.clone())
        self.register_buffer("bias", None if bias is None else bias.clone())
        self.norm, self.act = copy.deepcopy(norm), copy.deepcopy(act)
        self.stride, self.padding = list(conv.stride), [int(width) for width in conv.padding]
        self.dilation, self.groups = list(conv.dilation), conv.groups
        self.wants_packing = False
        self.packed: torch.Tensor | None = None  # weights in oneDNN's order, which no file and no copy can hold

    def forward(self, x: torch.Tensor, add: torch.Tensor | None = None) -> torch.Tensor:
        if self.wants_packing and self.norm is None and _has_fused_convolution(self.weight):
            return self._packed_forward(x, add)
        convolve = F.conv2d if self.weight.ndim == 4 else F.conv3d
        y = convolve(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if self.norm is not None:
            y = self.norm(y)
        if add is not None:
            y = y + add
        return y if self.act is None else self.act(y)

    def part(self, start: int, stop: int, *, linear: bool = False) -> FusedConvolution:
        """A copy that takes the input channels from ``start`` to ``stop`` alone; ``linear``: no bias, no ``act``."""
        part = copy.deepcopy(self)
        part.weight = self.weight[:, start:stop].clone()
        if linear:
            part.bias, part.act = None, None
        return part

    def pack(self) -> None:
        """Use oneDNN's fused convolution where this PyTorch, the processor and the type of the weights allow it."""
        self.wants_packing = True

    def _packed_forward(self, x: torch.Tensor, add: torch.Tensor | None) -> torch.Tensor:
        if self._is_better_by_taps():
            y = dilated_by_taps(x, self.weight, self.bias, self.dilation)
            y = y if add is None else y + add
            return y if self.act is None else self.act(y)
        where = (self.padding, self.stride, self.dilation, self.groups)
        if self.packed is None:
            order = torch.ops.mkldnn._reorder_convolution_weight
            self.packed = order(self.weight, *where, list(x.shape))
        # with a sum, oneDNN knows no activation but ReLU
        name, scalars = _onednn_activation(self.act) if add is None or isinstance(self.act, nn.ReLU) else ("", [])
        convolve = torch.ops.mkldnn._convolution_pointwise
        if add is None:
            y = convolve(x, self.packed, self.bias, *where, name or "none", scalars, "")
        else:
            y = convolve.binary(x, add, self.packed, self.bias, *where, "add", 1.0, name or None, scalars, "")
        return y if name or self.act is None else self.act(y)

    def _is_better_by_taps(self) -> bool:
        """Whether oneDNN is slow at this one: many channels and a wide dilation, as in the paper's ASPP.

        Each of its branches took 26 to 36 ms with AMX, and 0.8 to 5 ms by taps; of fewer channels, with less dilation
        and in float32 oneDNN is as fast or faster.
        """
        return (
            self.weight.dtype is torch.bfloat16
            and self.weight.ndim == 4
            and self.weight.shape[1] >= MANY_CHANNELS
            and self.groups == 1
            and self.stride == [1, 1]
            and min(self.dilation) >= WIDE_DILATION
            and self.padding == [d * (k // 2) for d, k in zip(self.dilation, self.weight.shape[2:], strict=True)]
        )

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> FusedConvolution:
        self.packed = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": None}


def dilated_by_taps(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dilation: Sequence[int]
) -> torch.Tensor:
    """A dilated convolution as a sum over its taps, each a product of matrices over the pixels that it sees.

    Pixels whose tap lies in the padding are left out: of a map of 32 x 32 under a dilation of 36 the middle tap alone
    is left. Products are summed in float32.

    Args:
        x: ``(batch, channels, rows, columns)``.
        weight: ``(out_channels, channels, k, l)``, ``k`` and ``l`` odd.
        bias: ``(out_channels,)`` or None.
        dilation: distance between the kernel's taps, in rows and in columns.

    Returns:
        What ``conv2d`` gives with a padding that keeps the size, of the type of ``x``, channels last in memory.
    """
    pixels = x.permute(0, 2, 3, 1)
    batch, rows, columns, _ = pixels.shape
    result = pixels.new_zeros((batch, rows, columns, weight.shape[0]), dtype=torch.float32)
    if bias is not None:
        result += bias
    for i, j in product(range(weight.shape[2]), range(weight.shape[3])):
        (seen_rows, to_rows), (seen_columns, to_columns) = (
            _overlap(size, (tap - taps // 2) * step)
            for size, tap, taps, step in zip((rows, columns), (i, j), weight.shape[2:], dilation, strict=True)
        )
        seen = pixels[:, seen_rows, seen_columns]
        if seen.numel():  # in one piece: a product of what lies scattered takes ten times as long
            product_of = seen.reshape(-1, seen.shape[-1]) @ weight[:, :, i, j].t()
            result[:, to_rows, to_columns] += product_of.view(*seen.shape[:3], -1)
    return result.to(x.dtype).permute(0, 3, 1, 2)


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Where an axis of ``size`` is seen through a tap that lies ``shift`` further, and by which pixels."""
    seen = slice(max(0, shift), max(0, min(size, size + shift)))
    return seen, slice(max(0, -shift), max(0, min(size, size - shift)))


def fuse_chain(module: nn.Module) -> nn.Sequential:
    """A chain of layers with every convolution, and the norm and activation that follow it, fused.

    Args:
        module: nested ``nn.Sequential``, such as a ``phi_k`` of the paper, or a single layer.

    Returns:
        Sequence of :class:`FusedConvolution` and of copies of the layers that belong to no convolution, with the same
        result in evaluation.
    """
    layers, fused = list(_flatten(module)), []
    while layers:
        layer = layers.pop(0)
        if not isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            fused.append(copy.deepcopy(layer))
            continue
        norm = layers.pop(0) if layers and isinstance(layers[0], _NORMS) else None
        act = layers.pop(0) if layers and _is_activation(layers[0]) else None
        fused.append(FusedConvolution(layer, norm, act))
    return nn.Sequential(*fused)


def computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether ``module`` is of this kind and computes as the kind does: a subclass may do something else."""
    return isinstance(module, kind) and type(module).forward is kind.forward


def _flatten(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested sequences (MONAI's ``Convolution`` is one) in the order in which they run."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _flatten(child)
    else:
        yield module


def _is_activation(layer: nn.Module) -> bool:
    return type(layer).__module__ == nn.ReLU.__module__


def _folded(
    weight: torch.Tensor, bias: torch.Tensor | None, norm: _BatchNorm
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weights and bias that do what convolution and batch norm do, with factors computed in float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded: it normalises with what it sees.")
    factor = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        factor = factor * norm.weight.detach().double()
    offset = -norm.running_mean.double() if bias is None else bias.double() - norm.running_mean.double()
    offset = offset * factor
    if norm.bias is not None:
        offset = offset + norm.bias.detach().double()
    scaled = weight * factor.to(weight.dtype).reshape(-1, *[1] * (weight.ndim - 1))
    return scaled, offset.to(weight.dtype)


def _has_fused_convolution(weight: torch.Tensor) -> bool:
    """Whether oneDNN's fused convolutions are there for a tensor of this device and type."""
    if weight.device.type != "cpu" or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return (weight.dtype is torch.float32 and _ONEDNN) or (weight.dtype is torch.bfloat16 and _ONEDNN_BF16)


def _onednn_activation(act: nn.Module | None) -> tuple[str, _Scalars]:
    """Name and numbers of an activation that oneDNN computes with the convolution; "" for any other."""
    if isinstance(act, nn.Hardtanh):  # ReLU6 is one
        return "hardtanh", [act.min_val, act.max_val]
    if isinstance(act, nn.LeakyReLU):
        return "leaky_relu", [act.negative_slope]
    if isinstance(act, nn.ReLU):
        return "relu", []
    return ("hardswish", []) if isinstance(act, nn.Hardswish) else ("", [])


# Operations of torch.compile without a public name: they are asked for, and done without where they are missing.
_ONEDNN: bool = torch.backends.mkldnn.is_available() and all(  # type: ignore[no-untyped-call]
    hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_reorder_convolution_weight")
)
_ONEDNN_BF16 = _ONEDNN and getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)()
