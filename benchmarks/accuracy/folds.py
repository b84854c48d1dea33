"""Folds of one data set put together: every case judged by the network that was trained without it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

__all__ = ["parts_of", "with_folds_together"]

Result = Mapping[str, Any]

_FOLD = re.compile(r"(.+)_fold\d+")


def with_folds_together(groups: Mapping[str, list[Result]], datasets: Collection[str]) -> dict[str, list[Result]]:
    """The groups, and for data sets ``NAME_fold0``, ``NAME_fold1``, ... one more, ``NAME_folds``.

    It holds each experiment and seed that was run on all folds of the data set, with the cases of all of them.

    Args:
        groups: results by ``budget/dataset``.
        datasets: names of all data sets that are defined, so that a fold that waits is missed.

    Raises:
        ValueError: when a case is held back in two folds, or when the folds of an experiment differ in more than that.
    """
    folds: dict[str, list[str]] = {}
    for name in sorted(datasets):
        if fold := _FOLD.fullmatch(name):
            folds.setdefault(fold[1], []).append(name)
    together = dict(groups)
    for budget in dict.fromkeys(name.split("/")[0] for name in groups):
        for stem, members in folds.items():
            by_run: dict[tuple[str, int], list[Result]] = {}
            for member in members:
                for result in groups.get(f"{budget}/{member}", []):
                    by_run.setdefault((result["experiment"], result["seed"]), []).append(result)
            pooled = [_pooled(f"{stem}_folds", parts) for parts in by_run.values() if len(parts) == len(members)]
            if pooled:
                together[f"{budget}/{stem}_folds"] = pooled
    return together


def parts_of(result: Result) -> Sequence[Result]:
    """The runs in a result of several folds; any other result alone."""
    parts: Sequence[Result] = result.get("parts", [result])
    return parts


def _pooled(dataset: str, parts: list[Result]) -> Result:
    """One result with the cases of all ``parts``; what it says of training and of the machine is the first one's."""
    first = parts[0]
    rows = [row for part in parts for row in part["cases"]["rows"]]
    held_back = [{row[0] for row in part["cases"]["rows"]} for part in parts]
    cases = set().union(*held_back)
    names = ", ".join(part["name"] for part in parts)
    if len({_without_fold(part["definition"]) for part in parts}) > 1:
        raise ValueError(f"these are not folds of one experiment, their definitions differ: {names}.")
    if len(cases) < sum(map(len, held_back)):
        raise ValueError(f"these are no folds, a case is held back in two of them: {names}.")
    return {
        **first,
        "name": f"{first['budget']}/{dataset}/{first['experiment']}/seed{first['seed']}",
        "judged": f"each case by the one of {len(parts)} networks that was trained without it: {first['judged']}",
        "definition": {**first["definition"], "dataset": dataset, "held_back": None},
        "summary": {**first["summary"], "n": len(cases)},
        "cases": {**first["cases"], "rows": rows},
        "parts": parts,
    }


def _without_fold(definition: Mapping[str, Any]) -> str:
    """The definition but for what makes a fold: the data set, its held-back cases, and its own run to go on from."""
    overrides = {key: value for key, value in definition["overrides"].items() if key != "val_ids"}
    if isinstance(overrides.get("init"), str):
        overrides["init"] = overrides["init"].replace(f"/{definition['dataset']}/", "/FOLD/")
    return json.dumps({**definition, "dataset": None, "held_back": None, "overrides": overrides}, sort_keys=True)
