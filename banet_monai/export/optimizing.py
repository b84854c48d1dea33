"""One call that gives a trained network the form in which evaluation is fastest."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from banet_monai.export.fusing import FusedConvolution, computes_as, fuse_chain
from banet_monai.export.modules import (
    FastASPP,
    FastCrossFeatureFusion,
    FastDecoder,
    FastEdgeExtraction,
    FastMultiTask,
    fast_encoder,
    levels_of,
    shell,
)
from banet_monai.machine import one_core
from banet_monai.networks.banet import BANet
from banet_monai.networks.blocks import (
    ASPP,
    CrossFeatureFusion,
    Decoder,
    MiniMultiTaskLearning,
    PyramidEdgeExtraction,
)
from banet_monai.networks.encoders import ResNetEncoder
from banet_monai.networks.layers import modules_of
from banet_monai.networks.mobilenet import MobileNet

__all__ = ["OptimizedBANet", "fused_copy", "optimize", "optimized_form"]

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")
_PACKAGES = ("banet_monai", "monai", "torch")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@one_core()
def optimize(
    network: nn.Module, *, dtype: torch.dtype = torch.float32, compile_mode: str | None = None
) -> OptimizedBANet:
    """The network in the form in which evaluation is fastest, as a copy; ``network`` itself stays as it is.

    Batch norms are folded into the convolutions, sums and activations are computed by the convolution before them,
    arithmetic that two branches share is done once, maps of equal size are not resized, weights and maps are channels
    last. In float32 the logits differ by rounding alone.

    Args:
        network: a :class:`BANet` with its weights loaded, on the device where it will run.
        dtype: type that the copy computes in, whatever autocast says: ``torch.bfloat16`` is fastest where the device
            has it. Its weights are converted once, which autocast does at every call.
        compile_mode: mode of ``torch.compile``, for long runs with few sizes of input; ``"reduce-overhead"`` uses CUDA
            graphs. Needs a C++ compiler on a CPU and Triton on a GPU; the first call of every size takes minutes.

    Returns:
        Module in evaluation, for images ``(batch, in_channels, *spatial)`` of any type; logits are float32.

    Raises:
        TypeError: when ``network`` is no BANet.
        ValueError: for another type or mode.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, _DTYPES))}, got {dtype}.")
    if compile_mode is not None and compile_mode not in COMPILE_MODES:
        raise ValueError(f"compile_mode must be None or one of {', '.join(COMPILE_MODES)}, got '{compile_mode}'.")
    fast = fused_copy(network)
    order = torch.channels_last if fast.spatial_dims == 2 else torch.channels_last_3d
    fast = fast.to(dtype=dtype, memory_format=order)  # type: ignore[call-overload]
    if compile_mode is not None:
        return OptimizedBANet(torch.compile(fast, mode=compile_mode), dtype, order, compiled=True)  # type: ignore[arg-type]
    for module in fast.modules():
        if isinstance(module, FusedConvolution):
            module.pack()
    return OptimizedBANet(fast, dtype, order)


class OptimizedBANet(nn.Module):
    """What :func:`optimize` returns: evaluation alone, in a type of its own.

    Args:
        network: fused network of type ``dtype``, in evaluation.
        dtype: type of its weights.
        order: memory order of its weights.
        compiled: the network reuses the memory of its results.

    Raises:
        RuntimeError: for training mode and for weights to load, which belong to the original.
    """

    def __init__(
        self, network: BANet, dtype: torch.dtype, order: torch.memory_format, *, compiled: bool = False
    ) -> None:
        super().__init__()
        self.network, self.dtype, self.order, self.compiled = network, dtype, order, compiled
        self.spatial_dims, self.in_channels, self.out_channels = (
            network.spatial_dims,
            network.in_channels,
            network.out_channels,
        )
        self.training = False

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            logits: torch.Tensor = self.network(self._prepared(x))
        return logits.clone() if self.compiled else logits

    @torch.no_grad()
    def boundary_map(self, x: torch.Tensor) -> torch.Tensor:
        """See :meth:`BANet.boundary_map`."""
        with torch.autocast(x.device.type, enabled=False):
            return self.network.boundary_map(self._prepared(x))

    def train(self, mode: bool = True) -> OptimizedBANet:
        """Refused, unless it is ``eval()``: what training needs is folded away."""
        if mode:
            raise RuntimeError(
                "an optimized network cannot be trained: its batch norms are folded into its convolutions. Train the "
                "network that was given to optimize(), then call optimize() again."
            )
        return super().train(False)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> NoReturn:
        """Refused: weights belong to the original."""
        raise RuntimeError(
            "an optimized network takes no weights: load them into the network that was given to optimize(), then call "
            "optimize() again."
        )

    def _prepared(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != self.spatial_dims + 2:
            return x  # the network refuses it
        return x.to(dtype=self.dtype, memory_format=self.order)


class _AtLeastFloat32(nn.Module):
    """The low-resolution logits before they are resized: half precision would show in the outline."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.promote_types(x.dtype, torch.float32))


def fused_copy(network: nn.Module) -> BANet:
    """A copy of a network in evaluation with all its modules in their fast form, of the same type and device.

    It is made of PyTorch's own operations and can be traced and exported. A part of the network that holds modules of
    other packages, put in place of ours, is copied as it is.

    Args:
        network: stays as it is; nothing is shared with it.

    Raises:
        TypeError: when it is no BANet.
    """
    if not isinstance(network, BANet):
        hint = "; give the BANet inside it" if isinstance(getattr(network, "module", None), BANet) else ""
        raise TypeError(f"optimize() knows the modules of a BANet, got {type(network).__name__}{hint}.")
    fast = shell(network)
    levels = levels_of(network.encoder) if _is_known(network.encoder) else tuple(range(len(network.edges)))
    forms: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
        ResNetEncoder: fast_encoder,
        MobileNet: fast_encoder,
        ASPP: FastASPP,
        PyramidEdgeExtraction: FastEdgeExtraction,
        MiniMultiTaskLearning: FastMultiTask,
        CrossFeatureFusion: lambda _: FastCrossFeatureFusion(levels),
        Decoder: lambda module: FastDecoder(module, levels),
    }

    def fast_form(module: nn.Module) -> Any:
        if not _is_known(module):
            return copy.deepcopy(module)
        known = [form for kind, form in forms.items() if computes_as(module, kind)]
        return known[0](module) if known else fuse_chain(module)

    fast.encoder, fast.context, fast.cross, fast.decoder = (
        fast_form(module) for module in (network.encoder, network.context, network.cross, network.decoder)
    )
    fast.edges = nn.ModuleList(fast_form(module) for module in network.edges)
    fast.tasks = nn.ModuleList(fast_form(module) for module in network.tasks)
    fast.dropout = nn.Identity()
    fast.head = nn.Sequential(fast_form(network.head), _AtLeastFloat32())  # type: ignore[assignment]
    return fast.eval()


def _is_known(part: nn.Module) -> bool:
    """Whether it is made of modules of this package and of those that it uses; others may compute anything."""
    return all(type(module).__module__.partition(".")[0] in _PACKAGES for module in part.modules())


def optimized_form(network: Any, dtype: torch.dtype) -> Any:
    """The optimized form of a network that computes without gradients in evaluation, made once and kept with it.

    It is made again when weights were changed or moved: in place, as ``load_state_dict`` and ``to`` do it, or by any
    optimizer of ``torch.optim``, also a fused one, whose writes PyTorch does not count; or when a part was replaced. A
    write through ``.data`` is not seen.

    Args:
        network: anything that an inferer calls.
        dtype: type to compute in.

    Returns:
        :func:`optimize` of a :class:`BANet`. ``network`` itself when it is something else, when a part of it is in
        training mode (as dropout is for Monte Carlo samples), when gradients are wanted, when its ``forward`` was
        replaced (as ``monai.networks.trt_compile`` does), or when a part of it has forward hooks, which would not be
        called.
    """
    if not isinstance(network, BANet) or torch.is_grad_enabled() or "forward" in vars(network):
        return network
    parts: list[tuple[int, int]] = []
    for module in modules_of(network):
        if module.training or module._forward_hooks or module._forward_pre_hooks:
            return network
        parts.append((id(module), id(type(module))))
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                if tensor.is_inference():  # its changes are not counted
                    return network
                parts.append((tensor.data_ptr(), tensor._version))
    state = (dtype, tuple(parts))
    known = _FORMS.get(network)
    if known is None or known[0] != state:
        known = _FORMS[network] = (state, optimize(network, dtype=dtype))
    return known[1]


_FORMS: WeakKeyDictionary[BANet, tuple[Any, OptimizedBANet]] = WeakKeyDictionary()


def _forget_stepped(optimizer: Optimizer, *_: Any) -> None:
    """Let go of the forms of networks whose weights an optimizer has just stepped."""
    if not _FORMS:
        return
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for network in list(_FORMS):
        if any(id(parameter) in stepped for parameter in network.parameters()):
            _FORMS.pop(network, None)


# a comparison of the weights themselves would take longer than all else that optimized_form does at every call
register_optimizer_step_post_hook(_forget_stepped)
