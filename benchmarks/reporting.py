"""What the benchmarks share: a measuring process of its own, spread of times, the line about the machine, result files.

It imports no torch, so that a process that only starts others leaves cores and memory to them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "ROOT", "load_report", "measure_apart", "measured_on", "quartiles", "write_report"]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def measure_apart(module: str, *arguments: str, what: str, threads: int | None = None) -> dict[str, Any]:
    """Run ``python -m module ARGUMENTS`` and read the JSON of its last line.

    Args:
        module: such as ``"benchmarks.measure"``.
        arguments: of its command line, often one job as JSON.
        what: is measured, for the message when it fails.
        threads: computing threads; None leaves the choice to the process.

    Raises:
        SystemExit: when the process fails, with the end of what it said.
    """
    limits = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | limits,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{what}: measurement failed with exit code {done.returncode}\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def quartiles(seconds: Sequence[float]) -> list[float]:
    """First quartile, median and third quartile; of a single value three times that value."""
    if len(seconds) < 2:
        return list(seconds) * 3
    return statistics.quantiles(seconds, n=4, method="inclusive")


def measured_on(machine: dict[str, Any], *, device: str = "cpu", threads: int | None = None) -> str:
    """The line about hardware and versions under a title."""
    where = machine["processor"] if device == "cpu" else machine["gpu"]
    cores = f"{machine['cores']} cores" if threads is None else f"{threads} threads"
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    return (
        f"Measured on: {where}, {cores}; {machine['system']}, Python {machine['python']}, {versions}; "
        f"commit {machine['commit']}."
    )


def write_report(folder: Path, stem: str, report: dict[str, Any], markdown: str) -> None:
    """Write ``stem.json`` and ``stem.md``, and print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (folder / f"{stem}.md").write_text(markdown, encoding="utf-8")
    print(markdown)
    print(f"Written: {folder / stem}.json and .md")


def load_report(stem: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The result file of a benchmark; None where it was not run."""
    path = folder / f"{stem}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
