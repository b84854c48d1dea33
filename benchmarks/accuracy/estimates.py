"""What several seeds on the same cases say about one method, and about the difference between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from banet_monai.metrics import bootstrap_interval
from banet_monai.metrics.table import LEVEL, METRICS, RESAMPLES

__all__ = ["Difference", "Scores", "compare", "scores_of"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One experiment on one set of cases.

    Attributes:
        experiment: its name.
        seeds: in the order of the first axis of ``values``.
        cases: names, in the order of the second axis.
        values: ``(seeds, cases, metrics)``, metrics in the order of ``METRICS``; means over the classes of a case.
        missed: ``(seeds, cases)``, whether any class of the case was missed.
    """

    experiment: str
    seeds: tuple[int, ...]
    cases: tuple[str, ...]
    values: Array
    missed: npt.NDArray[np.bool_]

    def of(self, metric: str) -> Array:
        """``(seeds, cases)`` of one metric."""
        return self.values[:, :, METRICS.index(metric)]

    def mean(self, metric: str) -> float:
        """Mean over seeds and cases."""
        return float(self.of(metric).mean())

    def deviation(self, metric: str) -> float | None:
        """Standard deviation over seeds of the mean over cases (n - 1); None for one seed."""
        return float(self.of(metric).mean(axis=1).std(ddof=1)) if len(self.seeds) > 1 else None

    def interval(self, metric: str) -> tuple[float, float]:
        """95 % bootstrap interval of the mean over cases, each case the mean over seeds: another draw of cases."""
        low, high = bootstrap_interval(self.of(metric).mean(axis=0))
        return float(low), float(high)

    def misses(self) -> float:
        """Missed cases, mean over seeds."""
        return float(self.missed.sum(axis=1).mean())


@dataclass(frozen=True)
class Difference:
    """Paired difference of a metric between two experiments.

    Attributes:
        mean: over cases and the seeds that both have.
        by_cases: 95 % interval when cases are drawn anew, each case the mean over seeds.
        by_both: 95 % interval when cases and seeds are drawn anew; None for one seed.
        per_seed: mean over cases for each seed.
    """

    mean: float
    by_cases: tuple[float, float]
    by_both: tuple[float, float] | None
    per_seed: tuple[float, ...]

    @property
    def clear(self) -> bool:
        """Whether the wider interval leaves out 0; never with one seed."""
        return self.by_both is not None and not self.by_both[0] <= 0 <= self.by_both[1]


def scores_of(results: Sequence[Mapping[str, Any]]) -> Scores:
    """Put the results of one experiment together.

    Raises:
        ValueError: when they are of several experiments or definitions, a seed stands twice, or the cases differ.
    """
    results = sorted(results, key=lambda result: result["seed"])
    name = results[0]["experiment"]
    definitions = {_without_seed(result["definition"]) for result in results}
    if len({result["experiment"] for result in results}) > 1 or len(definitions) > 1:
        names = ", ".join(result["name"] for result in results)
        raise ValueError(f"these results are not seeds of one experiment, their definitions differ: {names}.")
    seeds = tuple(result["seed"] for result in results)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"experiment '{name}' has a seed twice: {seeds}.")
    tables = [_by_case(result["cases"]) for result in results]
    cases = tuple(sorted(tables[0]))
    for result, table in zip(results, tables, strict=True):
        if tuple(sorted(table)) != cases:
            raise ValueError(f"{result['name']} was judged on other cases than {results[0]['name']}.")
    rows = [[table[case] for case in cases] for table in tables]
    values = np.array([[[np.mean([row[m] for row in case]) for m in METRICS] for case in seed] for seed in rows])
    missed = np.array([[any(row["missed"] for row in case) for case in seed] for seed in rows], dtype=bool)
    return Scores(name, seeds, cases, values, missed)


def compare(one: Scores, other: Scores, metric: str, *, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Difference ``one - other``, cases paired, over the seeds that both have.

    Args:
        one: scores of a method.
        other: scores of the method it is compared with.
        metric: one of ``METRICS``.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: when the cases differ or there is no common seed.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
    """
    if one.cases != other.cases:
        raise ValueError(f"'{one.experiment}' and '{other.experiment}' were judged on different cases.")
    seeds = [number for number in one.seeds if number in other.seeds]
    if not seeds:
        raise ValueError(f"'{one.experiment}' and '{other.experiment}' have no common seed.")
    first, second = (s.of(metric)[[s.seeds.index(number) for number in seeds]] for s in (one, other))
    differences = first - second
    low, high = bootstrap_interval(differences.mean(axis=0), seed=seed, resamples=resamples)
    return Difference(
        float(differences.mean()),
        (float(low), float(high)),
        _both(differences, resamples, seed) if len(seeds) > 1 else None,
        tuple(float(value) for value in differences.mean(axis=1)),
    )


def _both(differences: Array, resamples: int, seed: int) -> tuple[float, float]:
    """Interval of the mean of ``(seeds, cases)`` when both axes are drawn anew, with replacement."""
    generator = np.random.default_rng(seed)
    n_seeds, n_cases = differences.shape
    means = np.empty(resamples)
    for index in range(resamples):
        of_seeds = differences[generator.integers(n_seeds, size=n_seeds)].mean(axis=0)
        means[index] = of_seeds[generator.integers(n_cases, size=n_cases)].mean()
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _by_case(table: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    cases: dict[str, list[dict[str, Any]]] = {}
    for values in table["rows"]:
        row = dict(zip(table["columns"], values, strict=True))
        cases.setdefault(row["case"], []).append(row)
    return cases


def _without_seed(definition: Mapping[str, Any]) -> str:
    overrides = {key: value for key, value in definition["overrides"].items() if key != "seed"}
    return repr({**definition, "overrides": overrides})
