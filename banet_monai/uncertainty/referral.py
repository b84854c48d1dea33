"""Does the number find the bad cases: correlation with quality, and the error left when unsure cases are referred."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Correlation", "Referral", "correlation", "detection", "refer"]

LEVEL = 0.95
RESAMPLES = 2000
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """A correlation and its interval.

    Attributes:
        value: -1 to 1; nan where one of the two does not vary.
        interval: 95 %, percentile bootstrap over cases; nan where it has no value.
    """

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Referral:
    """What is left when the least certain cases go to a person.

    Attributes:
        share: of the cases that are referred.
        referred: how many that is.
        error: mean error of the cases that stay, by the number.
        interval: 95 % of it, percentile bootstrap over cases.
        at_random: the same when cases are picked blindly: the mean error of all.
        oracle: the same when the worst cases are picked, which needs the truth.
        gain: ``at_random - error``; above 0 where the number is of use.
        gain_interval: 95 % of it; the number is of use where this lies above 0.
    """

    share: float
    referred: int
    error: float
    interval: tuple[float, float]
    at_random: float
    oracle: float
    gain: float
    gain_interval: tuple[float, float]


def correlation(
    uncertainty: ArrayLike, quality: ArrayLike, *, ranks: bool = True, resamples: int = RESAMPLES, seed: int = 0
) -> Correlation:
    """Spearman's (of ranks) or Pearson's correlation, with a bootstrap interval.

    Args:
        uncertainty: a number per case.
        quality: such as JA, in the same order.
        ranks: Spearman's, else Pearson's.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: when the two differ in length, are shorter than two, or hold NaN.
    """
    x, y = _checked(uncertainty, quality)

    def measure(rows: NDArray[np.int64]) -> float:
        a, b = x[rows], y[rows]
        return _pearson(_ranks(a), _ranks(b)) if ranks else _pearson(a, b)

    return Correlation(measure(np.arange(len(x))), _bootstrap(measure, len(x), resamples=resamples, seed=seed))


def refer(
    uncertainty: ArrayLike,
    error: ArrayLike,
    *,
    shares: Sequence[float] = (0.05, 0.1, 0.2),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Referral]:
    """Refer the least certain cases, for several shares.

    ``round(share * cases)`` cases are referred, at least one, and at least one stays.

    Args:
        uncertainty: a number per case; among equal ones the first are referred first.
        error: such as 1 - JA, in the same order.
        shares: between 0 and 1.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: when the two differ in length, are shorter than two, or hold NaN; for a share out of range.
    """
    x, wrong = _checked(uncertainty, error)
    if strange := [share for share in shares if not 0 < share < 1]:
        raise ValueError(f"a share of cases lies between 0 and 1, got {strange}.")
    results = []
    for share in shares:

        def left(rows: NDArray[np.int64], share: float = share) -> float:
            return _left(x[rows], wrong[rows], share)

        def gain(rows: NDArray[np.int64], share: float = share) -> float:
            return float(wrong[rows].mean()) - _left(x[rows], wrong[rows], share)

        everyone = np.arange(len(x))
        results.append(
            Referral(
                share=share,
                referred=_referred(share, len(x)),
                error=left(everyone),
                interval=_bootstrap(left, len(x), resamples=resamples, seed=seed),
                at_random=float(wrong.mean()),
                oracle=_left(wrong, wrong, share),
                gain=gain(everyone),
                gain_interval=_bootstrap(gain, len(x), resamples=resamples, seed=seed),
            )
        )
    return results


def detection(uncertainty: ArrayLike, bad: ArrayLike) -> float:
    """Area under the ROC curve of finding bad cases: the chance that a bad one has a higher number than a good one.

    Args:
        uncertainty: a number per case.
        bad: whether the case is bad, in the same order.

    Returns:
        0 to 1, 0.5 for a blind guess; nan without a bad or without a good case.
    """
    x, y = _checked(uncertainty, bad)
    positive = y > 0
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        return float("nan")
    return float((_ranks(x)[positive].sum() - count * (count + 1) / 2) / (count * others))


def _left(uncertainty: Values, error: Values, share: float) -> float:
    kept = np.argsort(-uncertainty, kind="stable")[_referred(share, len(error)) :]
    return float(error[kept].mean())


def _referred(share: float, cases: int) -> int:
    return min(max(1, round(share * cases)), cases - 1)


def _checked(first: ArrayLike, second: ArrayLike) -> tuple[Values, Values]:
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2:
        raise ValueError(f"two numbers for each of at least two cases are needed, got {x.shape} and {y.shape}.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("the numbers hold NaN or infinity; leave out cases without a number.")
    return x, y


def _pearson(a: Values, b: Values) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip(a @ b / size, -1, 1)) if size > 0 else float("nan")


def _ranks(values: Values) -> Values:
    """Ranks from 1; equal values share their mean rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Values = (last - (counts - 1) / 2)[group]
    return ranks


def _bootstrap(
    measure: Callable[[NDArray[np.int64]], float], cases: int, *, resamples: int, seed: int
) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    found = np.array([measure(rng.integers(0, cases, cases)) for _ in range(resamples)])
    found = found[np.isfinite(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
