"""Temperature scaling: one number that logits are divided by, so that probabilities become frequencies.

Guo et al., "On calibration of modern neural networks", ICML 2017, https://arxiv.org/abs/1706.04599. Above 1 it makes a
network less sure. With several samples it comes after their mean (Rahaman and Thiery, NeurIPS 2021,
https://arxiv.org/abs/2007.08792), so that each method has a temperature of its own.

It never changes a mask: what is inside is decided by the probabilities as the network gives them. It changes what is
said about the mask: the uncertainty map, the number of a case, and the probabilities that are written.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from banet_monai.files import write_beside
from banet_monai.report.manifest import file_sha256
from banet_monai.uncertainty.statistics import check_activation

__all__ = [
    "CALIBRATION",
    "FITTED",
    "TemperProbabilityd",
    "find_temperature",
    "fit_temperature",
    "fitted_problem",
    "negative_log_likelihood",
    "read_temperature",
    "temper",
    "write_temperatures",
]

logger = logging.getLogger(__name__)

CALIBRATION = "calibration.json"  # beside the weights
FITTED = "fitted"  # in place of a number: what that file says, where it is for these weights
WEIGHTS_SHA256 = "weights_sha256"  # the fact that tells which these are
HOW_TO_FIT = "python -m benchmarks.uncertainty --calibration fits one"
LOWEST, HIGHEST = 0.05, 20.0  # what a fit is kept within
STEPS = 50
STARTS = 13  # a factor of 1.65 apart


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor, *, activation: str = "sigmoid") -> float:
    """The temperature with the smallest negative log likelihood, by L-BFGS on its logarithm.

    Args:
        logits: ``(N,)`` of one sigmoid channel, or ``(N, C)`` of pixels of any number of images.
        labels: 0 and 1 in the shape of ``logits`` for a sigmoid; class indices ``(N,)`` for a softmax.
        activation: ``"sigmoid"`` or ``"softmax"``.

    Returns:
        Between 0.05 and 20. Labels that logits predict without one mistake have no best temperature: it is small then.

    Raises:
        ValueError: without a pixel, or when logits are not finite.
    """
    check_activation(activation)
    if logits.numel() == 0 or not bool(torch.isfinite(logits).all()):
        raise ValueError(f"a temperature needs finite logits of at least one pixel, got {tuple(logits.shape)}.")
    logits = logits.detach().float()
    low, high = math.log(LOWEST), math.log(HIGHEST)
    with torch.inference_mode(False), torch.enable_grad():
        logits, labels = logits.clone(), labels.clone()
        # from the best of a few: a long first step might end where the bounds have no slope
        starts = torch.linspace(low, high, STARTS, dtype=torch.float64)
        losses = [
            negative_log_likelihood(logits / start.exp().float(), labels, activation=activation) for start in starts
        ]
        parameter = starts[int(torch.stack(losses).argmin())].clone().requires_grad_()
        optimizer = torch.optim.LBFGS([parameter], max_iter=STEPS, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            temperature = parameter.clamp(low, high).exp()
            loss = negative_log_likelihood(logits / temperature.float(), labels, activation=activation)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(parameter.detach().clamp(low, high).exp())


def negative_log_likelihood(logits: torch.Tensor, labels: torch.Tensor, *, activation: str = "sigmoid") -> torch.Tensor:
    """Mean over all pixels, in nats; arguments as for :func:`fit_temperature`."""
    if activation == "sigmoid":
        return F.binary_cross_entropy_with_logits(logits, labels.float())
    return F.cross_entropy(logits, labels.long())


def write_temperatures(path: Path, temperatures: Mapping[str, float], *, facts: Mapping[str, Any]) -> Path:
    """Write the temperatures of methods as JSON.

    Args:
        path: such as ``calibration.json`` beside the weights.
        temperatures: method to temperature.
        facts: what they were fitted on, such as the data, the number of pictures and the SHA-256 of the weights.

    Raises:
        OSError: when the file cannot be written.
    """
    content = {**facts, "temperature": {name: round(value, 4) for name, value in temperatures.items()}}
    text = json.dumps(content, indent=4, ensure_ascii=False) + "\n"
    return write_beside(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def find_temperature(
    value: float | str | Path, *, method: str = "none", checkpoint: str | Path = "", weights_sha256: str = ""
) -> float:
    """The temperature that a configuration asks for.

    Args:
        value: ``"fitted"``: the one of ``calibration.json`` beside ``checkpoint``; 1 where there is none, and, with a
            warning, where the file has none for this method or was made for other weights. Else as for
            :func:`read_temperature`.
        method: of uncertainty; each has a temperature of its own.
        checkpoint: file of the network's weights, whose SHA-256 the file of temperatures must state.
        weights_sha256: this SHA-256, where ``checkpoint`` is an exported file, which was made from them. "": its own.

    Raises:
        FileNotFoundError: when a file that was named does not exist.
        ValueError: for a number that is not positive and finite, a damaged file, or a named one that has no temperature
            for this method or was made for other weights.
    """
    if value != FITTED:
        return read_temperature(value, method, checkpoint=checkpoint, weights_sha256=weights_sha256)
    if problem := fitted_problem(method, checkpoint, weights_sha256):
        logger.warning("%s.", problem)
        return 1.0
    path = Path(checkpoint).parent / CALIBRATION
    return read_temperature(path, method) if path.is_file() and Path(checkpoint).is_file() else 1.0


def fitted_problem(method: str, checkpoint: str | Path, weights_sha256: str = "") -> str:
    """Why the temperatures beside the weights cannot be used, in words; "" where they can, or where there are none.

    Args:
        method: of uncertainty.
        checkpoint: file of the network's weights.
        weights_sha256: see :func:`find_temperature`.

    Raises:
        ValueError: when the file is damaged.
    """
    path = Path(checkpoint).parent / CALIBRATION
    if not path.is_file() or not Path(checkpoint).is_file():
        return ""
    content = _content(path)
    problem = _other_weights(path, content, checkpoint, weights_sha256)
    if not problem and method not in content["temperature"]:
        problem = f"'{path}' has no temperature for '{method}'"
    if not problem:
        return ""
    return f"{problem}: probabilities stay as the network gives them (temperature 1); {HOW_TO_FIT}"


def read_temperature(
    value: float | str | Path, method: str, *, checkpoint: str | Path = "", weights_sha256: str = ""
) -> float:
    """A temperature from a number or a file.

    Args:
        value: a number, or the file that :func:`write_temperatures` wrote.
        method: whose temperature is wanted from a file.
        checkpoint: file of weights; a file of temperatures that states other ones is refused. "": not asked.
        weights_sha256: see :func:`find_temperature`.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the number is not positive and finite, or the file has none for this method and these weights.
    """
    number = _as_number(value)
    if number is None:
        number = _from_file(Path(value), method, checkpoint, weights_sha256)  # type: ignore[arg-type]
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"temperature must be a positive number, got {number}; 1 changes nothing.")
    return number


def temper(probability: torch.Tensor, temperature: float, *, activation: str = "sigmoid") -> torch.Tensor:
    """Probabilities as they are after their logits were divided by a temperature, pixel by pixel.

    Args:
        probability: ``(C, *spatial)``, 0 to 1.
        temperature: above 0.
        activation: ``"sigmoid"``: each channel by itself; what lies below, at or above one half stays there.
            ``"softmax"``: over the channels.
    """
    check_activation(activation)
    if temperature == 1:
        return probability
    probability = probability.clamp(0, 1)  # interpolation may have left 1 + 1e-7
    if activation == "softmax":
        return (probability.log() / temperature).softmax(dim=0)
    return (torch.logit(probability) / temperature).sigmoid()


class TemperProbabilityd(MapTransform):
    """Brings probabilities that are written to their temperature; the mask was decided before and stays.

    It comes after :class:`banet_monai.transforms.DiscretizeLabelsd`, and takes the ``"level"`` that this leaves in the
    meta through the same temperature, so that contours at that level stay round the mask.

    Args:
        keys: keys of probabilities ``(C, *spatial)``.
        temperature: above 0; 1 changes nothing.
        activation: ``"sigmoid"`` or ``"softmax"``.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: for a temperature that is not positive and finite, or an unknown activation.
    """

    def __init__(
        self,
        keys: KeysCollection = "probability",
        *,
        temperature: float = 1.0,
        activation: str = "sigmoid",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        check_activation(activation)
        self.temperature = read_temperature(temperature, "none")
        self.activation = activation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        if self.temperature == 1:
            return d
        for key in self.key_iterator(d):
            given = d[key]
            values = given.as_tensor() if isinstance(given, MetaTensor) else given
            tempered = temper(values.float(), self.temperature, activation=self.activation)
            d[key] = tempered
            if isinstance(given, MetaTensor):
                meta = dict(given.meta)
                if self.activation == "sigmoid" and 0 < float(meta.get("level", 0)) < 1:
                    meta["level"] = float(temper(torch.tensor(meta["level"], dtype=torch.float64), self.temperature))
                d[key] = MetaTensor(tempered, meta=meta, applied_operations=given.applied_operations)
        return d


def _as_number(value: float | str | Path) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _from_file(path: Path, method: str, checkpoint: str | Path, weights_sha256: str) -> float:
    if not path.is_file():
        raise FileNotFoundError(
            f"temperature must be a number, '{FITTED}' or a file of fitted ones, there is no file '{path}'."
        )
    content = _content(path)
    known: dict[str, float] = content["temperature"]
    if WEIGHTS_SHA256 in content and (problem := _other_weights(path, content, checkpoint, weights_sha256)):
        raise ValueError(f"{problem}; give a number, or '{FITTED}' to go without. {HOW_TO_FIT}.")
    if method not in known:
        raise ValueError(f"'{path}' has no temperature for '{method}', only for {sorted(known)}; give a number.")
    return known[method]


def _content(path: Path) -> dict[str, Any]:
    """What a file of temperatures holds."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        fitted = {str(name): float(number) for name, number in content["temperature"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        form = '{"temperature": {"none": 1.2, ...}}'
        raise ValueError(f"'{path}' holds no fitted temperatures; it should hold {form}.") from error
    return {**content, "temperature": fitted}


def _other_weights(path: Path, content: Mapping[str, Any], checkpoint: str | Path, weights_sha256: str) -> str:
    """Why the temperatures are not those of these weights, "" where they are or there are none to compare with."""
    if not Path(checkpoint).is_file():
        return ""
    stated = content.get(WEIGHTS_SHA256)
    if stated is None:
        return f"'{path}' does not say which weights its temperatures were fitted for"
    if stated != (weights_sha256 or file_sha256(checkpoint)):
        return f"the temperatures of '{path}' were fitted for other weights than '{checkpoint}' (its SHA-256 differs)"
    return ""
