"""Mean, variance, entropy and votes of many predictions, without keeping any of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

__all__ = ["ACTIVATIONS", "Moments", "RunningMoments", "entropy", "log_odds", "probabilities"]

ACTIVATIONS = ("sigmoid", "softmax")
SMALLEST_SHARE = 1e-6  # probabilities nearer to 0 and 1 come back as logits of this size, about 13.8


def probabilities(logits: torch.Tensor, activation: str) -> torch.Tensor:
    """``(B, C, *spatial)`` logits to probabilities, float32: of each channel alone, or over the channels.

    Raises:
        ValueError: for an activation that is none of :data:`ACTIVATIONS`.
    """
    check_activation(activation)
    return logits.float().sigmoid() if activation == "sigmoid" else logits.float().softmax(dim=1)


def log_odds(probability: torch.Tensor, activation: str) -> torch.Tensor:
    """Logits that :func:`probabilities` turns into ``probability``."""
    if activation == "sigmoid":
        return torch.logit(probability, eps=SMALLEST_SHARE)
    return probability.clamp_min(SMALLEST_SHARE).log()


def entropy(probability: torch.Tensor, activation: str) -> torch.Tensor:
    """Entropy of every pixel, 0 (certain) to 1 (nothing is known).

    Args:
        probability: ``(B, C, *spatial)``.
        activation: ``"sigmoid"``: each channel is a question of its own, in bits: ``(B, C, *spatial)``. ``"softmax"``:
            over the channels, divided by its largest value ``log C``: ``(B, 1, *spatial)``.
    """
    if activation == "sigmoid":
        other = 1 - probability
        return -(torch.xlogy(probability, probability) + torch.xlogy(other, other)) / math.log(2)
    parts = torch.xlogy(probability, probability).sum(dim=1, keepdim=True)
    return -parts / math.log(max(2, probability.shape[1]))


def check_activation(activation: str) -> None:
    """Refuse a word that is none of :data:`ACTIVATIONS`."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {ACTIVATIONS}, got '{activation}'.")


@dataclass(frozen=True)
class Moments:
    """What is known of some predictions of the same images.

    Attributes:
        mean: mean probability ``(B, C, *spatial)``.
        variance: of the probabilities, divided by their number, 0 to 0.25.
        expected_entropy: mean of the predictions' own entropies, with the channels of :func:`entropy`.
        votes: share of the predictions that call a pixel this class.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    expected_entropy: torch.Tensor
    votes: torch.Tensor

    def stacked(self) -> torch.Tensor:
        """All four along the channels, so that an inferer can blend windows of them; :meth:`unstacked` undoes it."""
        return torch.cat([self.mean, self.variance, self.expected_entropy, self.votes], dim=1)

    @classmethod
    def unstacked(cls, channels: torch.Tensor, activation: str) -> Moments:
        """The four parts of :meth:`stacked`. Where windows overlap, each is the blend of the windows' own."""
        count = channels.shape[1]
        classes = count // 4 if activation == "sigmoid" else (count - 1) // 3
        entropies = classes if activation == "sigmoid" else 1
        mean, variance, own_entropy, votes = torch.split(channels, [classes, classes, entropies, classes], dim=1)
        # a blend of ones may be 1 + 1e-7, of which there is no entropy
        return cls(mean.clamp(0, 1), variance, own_entropy, votes.clamp(0, 1))

    def mutual_information(self, activation: str) -> torch.Tensor:
        """What the predictions disagree about: entropy of the mean minus mean of the entropies, at least 0."""
        return (entropy(self.mean, activation) - self.expected_entropy).clamp_min(0)

    def agreement(self, activation: str, threshold: float) -> torch.Tensor:
        """Share of the predictions that decide like their mean whether a pixel is foreground, ``(B, 1, *spatial)``.

        With softmax all classes but the first, which is background, count as one. Of sigmoid channels, each of which is
        a question of its own, the smallest share.
        """
        if activation == "softmax":
            background = self.votes[:, :1]
            return torch.where(self.mean.argmax(dim=1, keepdim=True) > 0, 1 - background, background)
        like_the_mean = torch.where(self.mean >= threshold, self.votes, 1 - self.votes)
        return like_the_mean.amin(dim=1, keepdim=True)


class RunningMoments:
    """Takes predictions one by one (Welford's way); memory holds four maps, however many come.

    Args:
        activation: see :func:`probabilities`.
        threshold: probability from which a sigmoid channel counts as a vote. With softmax the largest wins.

    Raises:
        ValueError: for an unknown activation.
    """

    def __init__(self, *, activation: str = "sigmoid", threshold: float = 0.5) -> None:
        check_activation(activation)
        self.activation = activation
        self.threshold = threshold
        self.count = 0
        self._moments: Moments | None = None

    def add(self, logits: torch.Tensor) -> None:
        """Take the logits ``(B, C, *spatial)`` of one prediction.

        Raises:
            TypeError: when it is no tensor.
            ValueError: when its shape differs from the first one's.
        """
        if not isinstance(logits, torch.Tensor):
            raise TypeError(f"a prediction must be a tensor of logits, got {type(logits).__name__}.")
        # in one memory order: a turned view must not differ by the rounding of another code path
        probability = probabilities(logits.contiguous(), self.activation)
        own_entropy, votes = entropy(probability, self.activation), self._votes(probability)
        self.count += 1
        if self._moments is None:
            # the logits may live in a buffer of the network, so nothing of them is kept
            self._moments = Moments(probability, torch.zeros_like(probability), own_entropy, votes)
            return
        mean, variance = self._moments.mean, self._moments.variance
        if probability.shape != mean.shape:
            raise ValueError(f"all predictions must be {tuple(mean.shape)}, got {tuple(probability.shape)}.")
        step = probability - mean
        mean += step / self.count
        variance += (step * (probability - mean) - variance) / self.count
        self._moments.expected_entropy.add_((own_entropy - self._moments.expected_entropy) / self.count)
        self._moments.votes.add_((votes - self._moments.votes) / self.count)

    def result(self) -> Moments:
        """What is known so far.

        Raises:
            RuntimeError: before the first prediction.
        """
        if self._moments is None:
            raise RuntimeError("there is no prediction to take the mean of; add() comes first.")
        return self._moments

    def _votes(self, probability: torch.Tensor) -> torch.Tensor:
        if self.activation == "sigmoid":
            return (probability >= self.threshold).float()
        winner = probability.argmax(dim=1, keepdim=True)
        return torch.zeros_like(probability).scatter_(1, winner, 1.0)
