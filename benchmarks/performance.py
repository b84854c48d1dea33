"""Fills docs/performance.md from the result files: goals with what was measured, and the tables below them.

    python -m benchmarks.performance --write            # fill the blocks of docs/performance.md
    python -m benchmarks.performance --check            # exit code 1 where it says something else than the results

A block stands between ``<!-- performance: NAME -->`` and ``<!-- end -->``; the names are those of :func:`blocks`. What
was not measured is said to wait, with the command that measures it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from banet_monai.files import write_beside
from benchmarks.blocks import fill_blocks
from benchmarks.goals import GOALS, Goal
from benchmarks.reporting import RESULTS, ROOT, load_report

__all__ = ["blocks", "main"]

PAGE = ROOT / "docs" / "performance.md"
KIND = "performance"
BLOCK = re.compile(r"<!-- performance: (?P<name>\S+) -->\n.*?<!-- end -->", re.DOTALL)
TABLES = {  # name of a block to the result whose Markdown it shows, without its title
    "forms": "forms_speed_cpu",
    "windows": "windows_speed_cpu",
    "pipeline": "pipeline_speed",
    "pipeline-resnet50": "pipeline_speed_resnet50",
    "one-picture": "one_picture",
    "training": "training_table",
    "int8": "int8",
    "growth": "growth",
}
PLOTS = {
    "growth_side": "time and memory over the side of a picture",
    "growth_slices": "time and memory over the slices of a volume",
    "growth_settings": "time over windows per call, threads and overlap",
}
COMMANDS = {
    "forms": "python -m benchmarks.forms_speed",
    "windows": "python -m benchmarks.windows_speed",
    "pipeline": "python -m benchmarks.pipeline_speed",
    "pipeline-resnet50": "python -m benchmarks.pipeline_speed --encoder resnet50 --only png nifti",
    "one-picture": "python -m benchmarks.one_picture",
    "training": "python -m benchmarks.training_table",
    "int8": "python -m benchmarks.int8 --dataset-dir DIR",
    "growth": "python -m benchmarks.growth",
}


def blocks(results: Path = RESULTS) -> dict[str, str]:
    """Every block of the page, as Markdown."""
    found = {"goals": goal_table(lambda stem: load_report(stem, results))}
    for name, stem in TABLES.items():
        path = results / f"{stem}.md"
        found[name] = _without_title(path.read_text(encoding="utf-8")) if path.is_file() else _waits(COMMANDS[name])
        if path.is_file() and name == "growth":
            found[name] += "\n\n" + "\n".join(f"![{words}](images/{file}.png)" for file, words in PLOTS.items())
    found["networks"] = _networks(load_report("network_speed_cpu_float32", results))
    found["dicom"] = _dicom(load_report("dicom_speed", results))
    found["epoch"] = _epoch(load_report("training_speed", results))
    return found


def goal_table(load: Callable[[str], dict[str, Any] | None]) -> str:
    """Goal, measured, met or why not; one row for each goal.

    Args:
        load: gives the result of that name, None where it was not taken.
    """
    return "\n".join(["| goal | measured | met |", "|---|---|---|", *(_goal_row(goal, load) for goal in GOALS)])


def _goal_row(goal: Goal, load: Callable[[str], dict[str, Any] | None]) -> str:
    report = None if goal.result is None else load(goal.result)
    finding = None if report is None else goal.look(report)
    if finding is None:
        return f"| {goal.words} | waits: `{goal.command}` | |"
    verdict = "yes" if finding.met else f"no: {goal.why_not}" if goal.why_not else "no"
    return f"| {goal.words} | {finding.words} | {verdict} |"


def _without_title(markdown: str) -> str:
    """Headings of the parts become one level lower: the page has a heading for the table."""
    lines = markdown.strip().splitlines()[1:]
    return "\n".join(f"#{line}" if line.startswith("## ") else line for line in lines).strip()


def _waits(command: str) -> str:
    return f"Not measured yet: `{command}`."


def _networks(report: dict[str, Any] | None) -> str:
    if report is None:
        return _waits("python -m benchmarks.network_speed")
    lines = ["| network | parameters (M) | GFLOP at 256 x 256 | forward (ms) | training step (ms) |"]
    lines += ["|---|---:|---:|---:|---:|"]
    training = {row["network"]: row for row in report["rows"] if row["mode"] == "train"}
    for row in report["rows"]:
        if row["mode"] == "forward":
            name = row["network"]
            step = f"{1e3 * training[name]['median_s']:.0f}" if name in training else ""
            lines.append(
                f"| {name} | {row['parameters'] / 1e6:.1f} | {row['flops'] / 1e9:.1f} | {1e3 * row['median_s']:.1f} "
                f"| {step} |"
            )
    return "\n".join(lines)


def _dicom(report: dict[str, Any] | None) -> str:
    if report is None:
        return _waits("python -m benchmarks.dicom_speed")
    lines = ["| way | median of pairs | seconds | peak memory in volumes of float32 |", "|---|---:|---:|---:|"]
    lines += [
        f"| {row['way']} | {row['relative_time']:.2f} | {row['median_s']:.2f} "
        f"| {row['peak_memory_in_float32_volumes']:.2f} |"
        for row in report["rows"]
    ]
    return "\n".join(lines)


def _epoch(report: dict[str, Any] | None) -> str:
    if report is None:
        return _waits("python -m benchmarks.training_speed")
    training, validation, options = report["training"], report["validation"], report["options"]
    machine = report["machine"]
    return (
        f"{machine['gpu'] or machine['processor']}, {machine['cores']} cores. Batches of {options['batch_size']} at "
        f"{options['image_size']} pixels: {training['pictures_per_s']:.1f} "
        f"pictures per second, {100 * training['waiting_share']:.1f} % of a step spent waiting for data; a cached "
        f"validation of {validation['pictures']} pictures takes {validation['second_s']:.1f} s. The process and its "
        f"largest worker reach {report['peak_memory_gib']:.2f} GiB together, with the cached pictures, which they "
        "share, counted in both."
    )


def _problems(text: str, known: dict[str, str]) -> Iterator[str]:
    for match in BLOCK.finditer(text):
        if match.group() != fill_blocks(match.group(), KIND, known):
            yield match["name"]


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; 1 where it is behind."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="fill the blocks")
    what.add_argument("--check", action="store_true", help="are they up to date?")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    options = parser.parse_args(arguments)
    text, known = options.page.read_text(encoding="utf-8"), blocks(options.results)
    if options.check:
        for name in (behind := list(_problems(text, known))):
            print(f"{options.page}: the block '{name}' is behind the results: python -m benchmarks.performance --write")
        return int(bool(behind))
    write_beside(options.page, lambda partial: partial.write_text(fill_blocks(text, KIND, known), encoding="utf-8"))
    print(f"Written: {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
