"""What was run and what waits, as a table: one row for each block of a budget."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from benchmarks.accuracy.definitions import Run, plan

__all__ = ["table_of_progress"]

HEADINGS = ("budget", "data set", "run (seeds)", "waits (seeds)")
LEFT_OUT = ("quick",)  # proves the harness and measures nothing


def table_of_progress(definitions: Mapping[str, Any], finished: Collection[str]) -> str:
    """Markdown table of all budgets but those that measure nothing.

    Args:
        definitions: from :func:`benchmarks.accuracy.definitions.load_definitions`.
        finished: names of the runs that have a result.
    """
    rows = [
        [name, runs[0].dataset, _listed(runs, finished, done=True), _listed(runs, finished, done=False)]
        for name in definitions["budgets"]
        if name not in LEFT_OUT
        for runs in _blocks(definitions, name)
    ]
    lines = [list(HEADINGS), ["---"] * len(HEADINGS), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _blocks(definitions: Mapping[str, Any], budget: str) -> list[list[Run]]:
    """The runs of every block of a budget."""
    runs, blocks = plan(definitions, budget), []
    for block in definitions["budgets"][budget]["blocks"]:
        size = len(block["experiments"]) * len(block["seeds"])
        blocks.append(runs[:size])
        runs = runs[size:]
    return blocks


def _listed(runs: list[Run], finished: Collection[str], *, done: bool) -> str:
    """Titles with their seeds, those with equal seeds together."""
    seeds: dict[str, list[str]] = {}
    for run in runs:
        if (run.name in finished) == done:
            seeds.setdefault(run.title, []).append(str(run.seed))
    titles: dict[str, list[str]] = {}
    for title, numbers in seeds.items():
        titles.setdefault(", ".join(numbers), []).append(title)
    return "; ".join(f"{' · '.join(names)} ({numbers})" for numbers, names in titles.items())
