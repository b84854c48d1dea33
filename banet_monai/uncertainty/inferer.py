"""Uncertainty by name, as an inferer round an inferer, so that every engine that takes an inferer has it.

MONAI's engines, MONAI Label and Deploy hand on nothing of an inferer but its tensor. So what is known beside the mask
travels as further channels of that tensor; :class:`banet_monai.uncertainty.maps.SplitUncertaintyd` takes them off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer

from banet_monai.choices import UNCERTAINTY
from banet_monai.flags import as_number
from banet_monai.inferers import FlipInferer
from banet_monai.uncertainty.dropout import ActiveDropout, SampledNetwork
from banet_monai.uncertainty.members import Members, member_files
from banet_monai.uncertainty.statistics import Moments, RunningMoments, check_activation, log_odds

__all__ = ["SAMPLE_CHANNELS", "UncertaintyInferer"]

SAMPLE_CHANNELS = ("variance", "mutual_information", "agreement")  # after the logits


class UncertaintyInferer(Inferer):
    """Logits of the mean probability of several predictions, and beside them what these disagree about.

    ================  ==================================================================================================
    method            predictions
    ================  ==================================================================================================
    ``"none"``        one; the result is that of ``inferer``, without further channels
    ``"entropy"``     one; the further channels say that nothing disagrees, and its own entropy is the map
    ``"mc_dropout"``  ``samples`` thinned networks (:mod:`banet_monai.uncertainty.dropout`), window by window inside
                      ``inferer``, so that the encoder runs once
    ``"tta"``         the first ``samples`` of the exact flips and quarter turns of :class:`FlipInferer`
    ``"ensemble"``    the network, and the network with the weights of each of ``members``
    ================  ==================================================================================================

    Nothing depends on the order of images or on their batches, and memory does not grow with the number of predictions:
    running means are all that is kept.

    Args:
        inferer: gives logits ``(B, C, *spatial)`` for an image ``(B, C_in, *spatial)``, of any size; it must work
            linearly on what the network returns, as blended windows and means over flips do.
        method: see above.
        samples: predictions of ``"mc_dropout"``, at least 2; of ``"tta"`` at most so many.
        activation: ``"sigmoid"`` or ``"softmax"``, what turns the logits into probabilities.
        threshold: probability from which a sigmoid channel is foreground.
        flip_axes: of ``"tta"``, see :class:`FlipInferer`.
        quarter_turns: of ``"tta"``, see :class:`FlipInferer`.
        members: of ``"ensemble"``: weight files beside the network's own, in a list or with commas between them.
        checkpoint: file of the network's own weights, to compare ``members`` with before anything runs.
        seed: of ``"mc_dropout"``.

    Returns:
        float32 ``(B, C, *spatial)`` for ``"none"``, else ``(B, C + 3, *spatial)``: logits of the mean probability,
        variance of the probability (0 to 0.25), mutual information (0 to 1) and the share of predictions that decide
        like the mean whether a pixel is foreground. Of several channels the largest variance and information and, with
        sigmoid, the smallest share; with softmax all classes but the first count as one. A ``MetaTensor`` if the input
        is one.

    Raises:
        FileNotFoundError: when a file of ``members`` does not exist.
        ValueError: for an option out of range, weights that do not fit together, or a network without dropout layers.
        TypeError: when the inferer returns no tensor.
    """

    def __init__(
        self,
        inferer: Callable[..., Any],
        *,
        method: str = "none",
        samples: int | str = 8,
        activation: str = "sigmoid",
        threshold: float | str = 0.5,
        flip_axes: Sequence[int] = (0, 1),
        quarter_turns: bool = True,
        members: str | Sequence[str | Path] | None = None,
        checkpoint: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        if method not in UNCERTAINTY:
            raise ValueError(f"uncertainty must be one of {', '.join(UNCERTAINTY)}, got '{method}'.")
        count = as_number(samples, "uncertainty_samples")
        if method in ("mc_dropout", "tta") and (count != int(count) or count < 2):
            raise ValueError(f"{method} needs at least 2 samples to compare, got {samples}; 8 is usual.")
        check_activation(activation)
        self.inferer = inferer
        self.method = method
        self.samples = int(count)
        self.activation = activation
        self.threshold = as_number(threshold, "threshold")
        self.views = FlipInferer(inferer, flip_axes=flip_axes, quarter_turns=quarter_turns)
        self.seed = seed
        self.members: Members | None = None
        if method == "ensemble":
            files = member_files(members)
            if not files:
                raise ValueError("an ensemble needs the weight files of its further members, got none.")
            self.members = Members(files, checkpoint=checkpoint)

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        with torch.no_grad():
            if self.method == "none":
                result = self._checked(self.inferer(image, network, *args, **kwargs))
            else:
                result = self._channels(self._moments(image, network, *args, **kwargs))
        if isinstance(inputs, MetaTensor):
            return MetaTensor(result).copy_meta_from(inputs, copy_attr=False)  # type: ignore[no-untyped-call]
        return result

    def _moments(self, image: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Moments:
        if self.method == "mc_dropout":
            with ActiveDropout(network, seed=self.seed) as dropout:  # type: ignore[arg-type]
                sampled = SampledNetwork(
                    dropout,
                    samples=self.samples,
                    activation=self.activation,
                    threshold=self.threshold,
                    optimize=_optimizes(self.inferer),
                )
                stacked = self._checked(self.inferer(image, sampled, *args, **kwargs))
            return Moments.unstacked(stacked, self.activation)
        moments = RunningMoments(activation=self.activation, threshold=self.threshold)
        if self.method == "tta":
            for logits in self.views.predictions(image, network, *args, at_most=self.samples, **kwargs):
                moments.add(logits)
        else:
            networks = [network] if self.members is None else self.members.networks(network)  # type: ignore[arg-type]
            for member in networks:
                moments.add(self._checked(self.inferer(image, member, *args, **kwargs)))
        return moments.result()

    def _channels(self, moments: Moments) -> torch.Tensor:
        return torch.cat(
            [
                log_odds(moments.mean, self.activation),
                moments.variance.amax(dim=1, keepdim=True),
                moments.mutual_information(self.activation).amax(dim=1, keepdim=True),
                moments.agreement(self.activation, self.threshold),
            ],
            dim=1,
        )

    def _checked(self, output: Any) -> torch.Tensor:
        if not isinstance(output, torch.Tensor):
            raise TypeError(f"the inferer must return a tensor of logits, got {type(output).__name__}.")
        return output.as_tensor() if isinstance(output, MetaTensor) else output


def _optimizes(inferer: Any) -> bool:
    """Whether the innermost of nested inferers computes with the fast form of a network."""
    while (inner := getattr(inferer, "inferer", None)) is not None:
        inferer = inner
    return bool(getattr(inferer, "optimize", False))
