"""What the figures of all pictures say: calibration, temperature, correlation, referral, places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from monai.metrics.calibration import CalibrationErrorMetric
from numpy.typing import NDArray

from banet_monai.metrics import bootstrap_interval
from banet_monai.metrics.table import LOW_JA
from banet_monai.uncertainty import (
    CalibrationBins,
    brier_score,
    correlation,
    expected_error,
    fit_temperature,
    refer,
)
from banet_monai.uncertainty.referral import detection
from banet_monai.uncertainty.temperature import negative_log_likelihood
from benchmarks.uncertainty.measure import Measured

__all__ = ["NUMBERS", "analyse"]

NUMBERS = (
    "expected_error",
    "expected_error_with_temperature",
    "near_entropy",
    "disagreement",
    "near_variance",
    "near_mutual_information",
)
REFERRED = ("expected_error", "expected_error_with_temperature", "near_entropy", "disagreement")
SHARES = (0.05, 0.1, 0.2)
CURVE = tuple(round(0.02 * step, 2) for step in range(1, 26))
FOLDS = 5
BINS = 20
EVERY = 4  # pixels along each axis between those that a temperature is fitted on


def analyse(measured: Sequence[Measured], *, seed: int = 0) -> dict[str, Any]:
    """All results of one method."""
    figures = {key: np.array([item.figures[key] for item in measured]) for key in measured[0].figures}
    error = 1 - figures["ja"]
    folds = np.random.default_rng(seed).permutation(len(measured)) % min(FOLDS, len(measured))
    whole, held_out = _temperatures(measured, folds)
    figures["expected_error_with_temperature"] = _expected_errors(measured, held_out)
    varying = [name for name in NUMBERS if np.ptp(figures[name]) > 0]  # one pass has nothing to disagree with
    return {
        "ja": _mean(figures["ja"]),
        "boundary_iou": _mean(figures["boundary_iou"]),
        "low_ja": int((figures["ja"] < LOW_JA).sum()),
        "seconds_per_picture": _quartiles(figures["seconds"]),
        "time_relative_to_one_pass": _quartiles(figures["seconds"] / figures["seconds_of_one_pass"]),
        "temperature": round(whole, 4),
        "calibration": _calibration(measured, np.ones(len(measured))),
        "calibration_with_temperature": _calibration(measured, held_out),
        "numbers": {name: _number(figures[name], figures["ja"]) for name in varying},
        "referral": {name: _referral(figures[name], error, seed) for name in REFERRED if name in varying},
        "entropy": _entropy(figures),
        "cases": [{"name": item.name, **_rounded(item.figures)} for item in measured],
    }


# ---- calibration -----------------------------------------------------------------------------------------------------


def _temperatures(measured: Sequence[Measured], folds: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """The temperature of all pictures, and for each picture that of the folds it is not in."""
    pixels = [
        (
            torch.from_numpy(item.logits[::EVERY, ::EVERY].astype(np.float32)),
            torch.from_numpy(item.truth[::EVERY, ::EVERY]),
        )
        for item in measured
    ]

    def fit(chosen: NDArray[np.bool_]) -> float:
        parts = [pixels[index] for index in np.flatnonzero(chosen)]
        logits, truth = (torch.cat([part[k].flatten() for part in parts]) for k in (0, 1))
        return fit_temperature(logits, truth)

    held_out = np.ones(len(measured))
    for fold in np.unique(folds):
        if (folds != fold).any():
            held_out[folds == fold] = fit(folds != fold)
    return fit(np.ones(len(measured), dtype=bool)), held_out


def _expected_errors(measured: Sequence[Measured], temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    """The number of each case when its probabilities have been through the temperature of the other folds."""
    found = []
    for item, temperature in zip(measured, temperatures, strict=True):
        logits = torch.from_numpy(item.logits.astype(np.float32))
        found.append(float(expected_error((logits / float(temperature)).sigmoid(), logits >= 0)))
    return np.array(found)


def _calibration(measured: Sequence[Measured], temperatures: NDArray[np.float64]) -> dict[str, Any]:
    bins, per_picture = CalibrationBins(BINS), CalibrationErrorMetric(num_bins=BINS)
    brier, likelihood = [], []
    for item, temperature in zip(measured, temperatures, strict=True):
        logits = torch.from_numpy(item.logits.astype(np.float32)) / float(temperature)
        probability, truth = logits.sigmoid(), torch.from_numpy(item.truth)
        bins.add(probability, truth)
        per_picture(y_pred=probability[None, None], y=truth[None, None].float())
        brier.append(brier_score(probability, truth))
        likelihood.append(float(negative_log_likelihood(logits, truth)))
    pooled = {name: round(value, 5) for name, value in bins.errors().items()}
    return {
        **pooled,
        "ece_per_picture": round(float(per_picture.aggregate()), 5),  # type: ignore[arg-type]
        "brier": round(float(np.mean(brier)), 5),
        "negative_log_likelihood": round(float(np.mean(likelihood)), 5),
        "reliability": [
            {**asdict(row), "confidence": _or_none(row.confidence), "frequency": _or_none(row.frequency)}
            for row in bins.rows()
        ],
    }


# ---- the number of a case --------------------------------------------------------------------------------------------


def _number(values: NDArray[np.float64], ja: NDArray[np.float64]) -> dict[str, Any]:
    spearman, pearson = correlation(values, ja), correlation(values, ja, ranks=False)
    return {
        "spearman_with_ja": _or_none(spearman.value),
        "spearman_interval": _pair(spearman.interval),
        "pearson_with_ja": _or_none(pearson.value),
        "pearson_interval": _pair(pearson.interval),
        "auc_of_low_ja": _or_none(detection(values, ja < LOW_JA)),
    }


def _referral(values: NDArray[np.float64], error: NDArray[np.float64], seed: int) -> dict[str, Any]:
    rows = [_rounded(asdict(row)) for row in refer(values, error, shares=SHARES, seed=seed)]
    curve = [row.error for row in refer(values, error, shares=CURVE, resamples=1, seed=seed)]
    oracle = [row.oracle for row in refer(values, error, shares=CURVE, resamples=1, seed=seed)]
    return {
        "shares": rows,
        "curve": {
            "share": list(CURVE),
            "error_left": [round(value, 4) for value in curve],
            "oracle": [round(value, 4) for value in oracle],
        },
    }


def _entropy(figures: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Where it lies; the ratio of wrong to right parts of the outline is of pictures that have both."""
    both = np.isfinite(figures["near_right"]) & np.isfinite(figures["near_wrong"])
    difference = figures["near_wrong"][both] - figures["near_right"][both]
    spread = (
        correlation(figures["near_entropy"], figures["wrong_share"])
        if np.isfinite(figures["wrong_share"]).all()
        else None
    )
    return {
        "share_near_the_outline": _mean(figures["entropy_near"]),
        "area_near_the_outline": _mean(figures["area_near"]),
        "pictures_with_right_and_wrong_outline": int(both.sum()),
        "near_right_outline": _mean(figures["near_right"][both]),
        "near_wrong_outline": _mean(figures["near_wrong"][both]),
        "difference": _mean(difference),
        "higher_near_wrong_outline": round(float((difference > 0).mean()), 4) if both.any() else None,
        "spearman_of_mean_entropy_and_wrong_share": None if spread is None else round(spread.value, 4),
    }


# ---- rounding --------------------------------------------------------------------------------------------------------


def _mean(values: NDArray[np.float64]) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"mean": None, "interval": None}
    return {"mean": round(float(finite.mean()), 4), "interval": _pair(bootstrap_interval(finite))}


def _quartiles(values: NDArray[np.float64]) -> dict[str, float]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {
        "median": round(float(middle), 3),
        "first_quartile": round(float(low), 3),
        "third_quartile": round(float(high), 3),
    }


def _pair(ends: Sequence[float]) -> list[float | None]:
    return [_or_none(float(end)) for end in ends]


def _or_none(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _pair(value) if isinstance(value, tuple) else _or_none(value) if isinstance(value, float) else value
        for name, value in figures.items()
    }
