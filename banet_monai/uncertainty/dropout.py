"""Monte Carlo dropout: only the dropout layers are active, and one sample is one thinned network.

Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016, https://arxiv.org/abs/1506.02142. What a layer
drops depends on the seed and the number of the sample alone, so the same channels are missing in every window and
slice of an image, in every image, in whatever order and batches they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.hooks import RemovableHandle

from banet_monai.export import OptimizedBANet, optimized_form
from banet_monai.networks import BANet
from banet_monai.uncertainty.statistics import RunningMoments

__all__ = ["ActiveDropout", "SampledNetwork", "has_dropout", "unwrapped"]

CHANNELWISE = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
NOT_SAMPLED = (nn.AlphaDropout, nn.FeatureAlphaDropout)


def has_dropout(network: nn.Module) -> bool:
    """Whether a network has a dropout layer that drops anything."""
    return any(isinstance(module, _DropoutNd) and module.p > 0 for module in network.modules())


class ActiveDropout:
    """Within ``with``, dropout layers drop what :meth:`start` has chosen, and everything else is in eval mode.

    Dropout that is called as a function inside a layer, as in some attention layers, cannot be reached.

    Args:
        network: a network with dropout layers.
        seed: of what is dropped.

    Attributes:
        calls: how often a dropout layer has run in the present sample.

    Raises:
        TypeError: when the network is no module.
        ValueError: when it has no dropout layer with a probability above 0, or one of a kind that cannot be sampled.
    """

    def __init__(self, network: nn.Module, *, seed: int = 0) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(f"MC dropout needs a torch.nn.Module, got {type(network).__name__}.")
        layers = [module for module in network.modules() if isinstance(module, _DropoutNd) and module.p > 0]
        if strange := sorted({type(layer).__name__ for layer in layers if isinstance(layer, NOT_SAMPLED)}):
            raise ValueError(f"MC dropout knows Dropout and its channel-wise forms, the network has {strange}.")
        if not layers:
            raise ValueError(
                "the network has no dropout layer with a probability above 0, so all samples would be equal; give "
                "network_def a dropout such as 0.1 (with weights trained so), or choose tta or ensemble."
            )
        self.network = network
        self.layers = layers
        self.seed = seed
        self.sample = 0
        self.calls = 0
        self._modes: list[tuple[nn.Module, bool]] = []
        self._hooks: dict[nn.Module, RemovableHandle] = {}

    def start(self, sample: int) -> None:
        """Begin a pass of the sample of this number."""
        self.sample, self.calls = sample, 0

    def stand_in(self, module: nn.Module, layer: _DropoutNd) -> None:
        """Let a module that returns its input, in another form of the network, drop as ``layer`` does."""
        if module not in self._hooks:
            self._hooks[module] = module.register_forward_hook(self._dropping(layer))

    def __enter__(self) -> ActiveDropout:
        self._modes = [(module, module.training) for module in self.network.modules()]
        self.network.eval()
        for layer in self.layers:
            self.stand_in(layer, layer)  # in eval mode it returns its input
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks.values():
            hook.remove()
        for module, mode in self._modes:
            module.training = mode
        self._hooks, self._modes = {}, []

    def _dropping(self, layer: _DropoutNd) -> Callable[..., torch.Tensor]:
        p, channelwise = float(layer.p), isinstance(layer, CHANNELWISE)

        def hook(module: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            kept = self._kept(p, output, channelwise=channelwise)
            self.calls += 1
            return output * kept.to(output)

        return hook

    def _kept(self, p: float, x: torch.Tensor, *, channelwise: bool) -> torch.Tensor:
        """Factors 0 and ``1 / (1 - p)``, the same for every item of the batch."""
        state = np.random.SeedSequence([self.seed, self.sample, self.calls]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]) >> 1)
        shape = (1, x.shape[1], *[1] * (x.ndim - 2)) if channelwise else (1, *x.shape[1:])
        kept = torch.rand(shape, generator=generator) >= p
        return kept / (1 - p) if p < 1 else torch.zeros(shape)


class SampledNetwork:
    """A network as a function that gives the moments of its samples instead of logits, for an inferer to call.

    The samples are taken inside the inferer, window by window, because there the encoder can be used again: a network
    with ``encode(x)`` and ``decode(*features, size)``, such as :class:`banet_monai.networks.BANet`, runs the first once
    and the second per sample, provided that no dropout layer runs in ``encode``.

    Args:
        dropout: of the network, entered.
        samples: how many.
        activation: see :func:`banet_monai.uncertainty.statistics.probabilities`.
        threshold: see :class:`banet_monai.uncertainty.statistics.RunningMoments`.
        optimize: compute with the fast form of a BA-Net (:func:`banet_monai.export.optimized_form`).

    Shapes:
        - input: ``(B, C_in, *spatial)``
        - output: :meth:`banet_monai.uncertainty.statistics.Moments.stacked`
    """

    def __init__(
        self,
        dropout: ActiveDropout,
        *,
        samples: int,
        activation: str = "sigmoid",
        threshold: float = 0.5,
        optimize: bool = False,
    ) -> None:
        self.dropout = dropout
        self.samples = samples
        self.activation = activation
        self.threshold = threshold
        self.optimize = optimize

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        network: Any = unwrapped(self.dropout.network)
        fast = self._fast_form(network, x) if self.optimize else None
        if fast is None:
            return self._moments(network, x)
        with torch.autocast(x.device.type, enabled=False):  # it computes in its own type
            return self._moments(fast.network, x.to(dtype=fast.dtype, memory_format=fast.order))

    def _fast_form(self, network: nn.Module, x: torch.Tensor) -> OptimizedBANet | None:
        """The fast form, whose dropout layer does nothing, made to drop like the network's; None where it cannot be."""
        if not isinstance(network, BANet) or self.dropout.layers != [network.dropout]:
            return None
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        fast = optimized_form(network, dtype)
        if not isinstance(fast, OptimizedBANet) or fast.compiled:
            return None
        self.dropout.stand_in(fast.network.dropout, network.dropout)  # type: ignore[arg-type]
        return fast

    def _moments(self, network: Any, x: torch.Tensor) -> torch.Tensor:
        moments = RunningMoments(activation=self.activation, threshold=self.threshold)
        for logits in self._predictions(network, x):
            moments.add(logits)
        return moments.result().stacked()

    def _predictions(self, network: Any, x: torch.Tensor) -> Iterator[torch.Tensor]:
        features: tuple[Any, ...] | None = None
        if hasattr(network, "encode") and hasattr(network, "decode"):
            self.dropout.start(0)
            features = network.encode(x)
            features = features if self.dropout.calls == 0 else None
        for sample in range(self.samples):
            self.dropout.start(sample)
            yield network(x) if features is None else network.decode(*features, list(x.shape[2:]))


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside ``torch.compile`` and data-parallel wrappers, whose own passes go round the hooks."""
    if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrapped(network.module)
    inner = getattr(network, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else network
