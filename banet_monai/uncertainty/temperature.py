"""Temperature scaling: one number that logits are divided by, so that probabilities become frequencies.

Guo et al., "On calibration of modern neural networks", ICML 2017, https://arxiv.org/abs/1706.04599. Above 1 it makes a
network less sure. The most likely class of a pixel stays what it is, and so does a mask at threshold 0.5. With several
samples it comes after their mean (Rahaman and Thiery, NeurIPS 2021, https://arxiv.org/abs/2007.08792), so that each
method has a temperature of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from banet_monai.files import write_beside
from banet_monai.uncertainty.statistics import check_activation

__all__ = ["CALIBRATION", "fit_temperature", "negative_log_likelihood", "read_temperature", "write_temperatures"]

CALIBRATION = "calibration.json"  # beside the weights
LOWEST, HIGHEST = 0.05, 20.0  # what a fit is kept within
STEPS = 50


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
        parameter = torch.zeros((), dtype=torch.float64, requires_grad=True)
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


def read_temperature(value: float | str | Path, method: str) -> float:
    """A temperature from a configuration.

    Args:
        value: a number, or the file that :func:`write_temperatures` wrote.
        method: whose temperature is wanted from a file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the number is not positive and finite, or the file has none for this method.
    """
    number = _as_number(value)
    if number is None:
        number = _from_file(Path(value), method)  # type: ignore[arg-type]
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"temperature must be a positive number, got {number}; 1 changes nothing.")
    return number


def _as_number(value: float | str | Path) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _from_file(path: Path, method: str) -> float:
    if not path.is_file():
        raise FileNotFoundError(f"temperature must be a number or a file of fitted ones, there is no file '{path}'.")
    try:
        fitted = json.loads(path.read_text(encoding="utf-8"))["temperature"]
        known = {str(name): float(number) for name, number in fitted.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        form = '{"temperature": {"none": 1.2, ...}}'
        raise ValueError(f"'{path}' holds no fitted temperatures; it should hold {form}.") from error
    if method not in known:
        raise ValueError(f"'{path}' has no temperature for '{method}', only for {sorted(known)}; give a number.")
    return known[method]
