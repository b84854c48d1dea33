"""Means with intervals per condition, and which shifts break the outlines without the uncertainty noticing.

The rule, in the units of JA:

* A shift **breaks** the outlines when the mean JA falls by more than 0.05 against the same cases without it, and the
  95 % interval of that fall leaves out 0. A single case has no interval; then the fall alone decides.
* The rise of the uncertainty number is worth as much error as the line through the clean cases says: error (1 - JA)
  over number, by least squares; with less than 10 cases, or a number that does not vary or does not rise with the
  error, one to one, because the number is an expected error.
* A broken shift goes **unnoticed** when the rise is worth less than half of the fall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banet_monai.metrics import bootstrap_interval
from banet_monai.robustness.catalogue import CLEAN, CORRUPTIONS, Condition
from banet_monai.robustness.measuring import CaseRow
from banet_monai.uncertainty import calibration_error

__all__ = ["BREAKS", "HOLDS", "NOTICED", "NOTICED_SHARE", "UNNOTICED", "slope_of", "summarise", "verdict_of"]

BREAKS = 0.05  # a fall of the mean JA by more than this
NOTICED_SHARE = 0.5  # of the fall that the rise of the number must be worth
FEWEST_CASES = 10  # for a line through the clean ones
HOLDS, NOTICED, UNNOTICED = "holds", "breaks, noticed", "breaks unnoticed"
LEVEL, RESAMPLES = 0.95, 2000
DIGITS = 5

Values = NDArray[np.float64]


def summarise(rows: Sequence[CaseRow], *, failures: Mapping[str, str] | None = None, seed: int = 0) -> dict[str, Any]:
    """Figures of every condition, in the order of the rows.

    Args:
        rows: of the same cases under every condition, the clean one among them.
        failures: cases that are left out, and why.
        seed: of the bootstrap over cases.

    Returns:
        JSON values: ``cases``, ``failed``, ``rule`` and ``conditions``. With a single case every ``interval`` of the
        conditions is None: one case says nothing of how much cases differ.

    Raises:
        ValueError: without rows, without the clean condition, or when conditions are of different cases.
    """
    if not rows:
        raise ValueError("no case could be measured, so there is nothing to summarise.")
    grouped: dict[Condition, dict[str, CaseRow]] = {}
    for row in rows:
        grouped.setdefault(row.condition, {})[row.case] = row
    clean = grouped.get(Condition(CLEAN, 0))
    if clean is None:
        raise ValueError(f"the condition '{CLEAN}' is needed to compare the others with.")
    names = list(clean)
    if any(set(of_condition) != set(names) for of_condition in grouped.values()):
        raise ValueError("all conditions must be measured on the same cases.")
    slope, fitted = slope_of(_column(clean, names, "expected_error"), 1 - _column(clean, names, "ja"))
    return {
        "cases": len(names),
        "failed": dict(failures or {}),
        "interval": {"method": "percentile bootstrap over cases", "level": LEVEL, "resamples": RESAMPLES, "seed": seed},
        "rule": {
            "breaks": BREAKS,
            "noticed_share": NOTICED_SHARE,
            "slope": round(slope, DIGITS),
            "slope_from_clean_cases": fitted,
        },
        "conditions": [_condition(key, group, clean, names, slope, seed) for key, group in grouped.items()],
    }


def slope_of(number: Values, error: Values) -> tuple[float, bool]:
    """How much error a rise of the number by 1 is worth, and whether the cases could tell; see the module."""
    if len(number) < FEWEST_CASES or np.ptp(number) == 0:
        return 1.0, False
    slope = float(np.polyfit(number, error, 1)[0])
    return (slope, True) if slope > 0 else (1.0, False)


def verdict_of(fall: float, lowest_fall: float | None, rise: float, slope: float) -> str:
    """One of :data:`HOLDS`, :data:`NOTICED`, :data:`UNNOTICED`.

    Args:
        fall: of the mean JA.
        lowest_fall: lower end of its interval; None where there is none.
        rise: of the mean number.
        slope: of :func:`slope_of`.
    """
    if fall <= BREAKS or (lowest_fall is not None and lowest_fall <= 0):
        return HOLDS
    return UNNOTICED if slope * rise < NOTICED_SHARE * fall else NOTICED


def _condition(
    condition: Condition,
    rows: Mapping[str, CaseRow],
    clean: Mapping[str, CaseRow],
    names: Sequence[str],
    slope: float,
    seed: int,
) -> dict[str, Any]:
    ja, number = (_column(rows, names, name) for name in ("ja", "expected_error"))
    fall = _mean(_column(clean, names, "ja") - ja, seed)
    rise = _mean(number - _column(clean, names, "expected_error"), seed)
    corruption = CORRUPTIONS.get(condition.corruption)
    result = {
        "corruption": condition.corruption,
        "title": "Clean" if corruption is None else corruption.title,
        "strength": condition.strength,
        "amount": condition.amount,
        "unit": "" if corruption is None else corruption.unit,
        "ja": _mean(ja, seed),
        "boundary_iou": _mean(_column(rows, names, "boundary_iou"), seed),
        "ece": _calibration(np.array([rows[name].bins for name in names]), seed),
        "expected_error": _mean(number, seed),
        "missed": sum(rows[name].missed for name in names),
    }
    if corruption is None:
        return result
    worth = round(slope * rise["mean"], DIGITS)
    lowest_fall = fall["interval"][0] if fall["interval"] else None
    verdict = verdict_of(fall["mean"], lowest_fall, rise["mean"], slope)
    return {**result, "fall_of_ja": fall, "rise_of_number": rise, "rise_is_worth": worth, "verdict": verdict}


def _column(rows: Mapping[str, CaseRow], names: Sequence[str], field: str) -> Values:
    return np.array([getattr(rows[name], field) for name in names], dtype=np.float64)


def _mean(values: Values, seed: int) -> dict[str, Any]:
    if len(values) == 1:
        return _figure(float(values[0]), None)
    low, high = bootstrap_interval(values, seed=seed, resamples=RESAMPLES, level=LEVEL)
    return _figure(float(values.mean()), (float(low), float(high)))


def _calibration(sums: Values, seed: int) -> dict[str, Any]:
    """Expected calibration error of the pixels of all cases together, and its interval over cases."""
    value = float(calibration_error(sums.sum(axis=0)))
    if len(sums) == 1:
        return _figure(value, None)
    rng, cases = np.random.default_rng(seed), len(sums)
    drawn = rng.multinomial(cases, np.full(cases, 1 / cases), size=RESAMPLES).astype(np.float64)
    errors = calibration_error(np.einsum("rc,cpb->rpb", drawn, sums))
    low, high = np.quantile(errors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return _figure(value, (float(low), float(high)))


def _figure(mean: float, interval: tuple[float, float] | None) -> dict[str, Any]:
    ends = None if interval is None else [round(end, DIGITS) for end in interval]
    return {"mean": round(mean, DIGITS), "interval": ends}
