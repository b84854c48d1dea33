"""All speed benchmarks of the CPU, one after the other: ``python -m benchmarks.everything --help``.

A benchmark whose result was taken at this commit is left out, so that a run that was stopped can be taken up again;
then docs/performance.md is filled. Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import current_commit
from benchmarks.reporting import RESULTS, ROOT, load_report


class Step(NamedTuple):
    """A benchmark.

    Attributes:
        module: in ``benchmarks``.
        result: its result file, without ending; with ``--quick`` it ends in ``_quick``.
        arguments: of the full run.
        data: it needs pictures that are not part of the project.
        quick: arguments beside ``--quick``; None leaves it out of a quick run.
    """

    module: str
    result: str
    arguments: tuple[str, ...] = ()
    data: bool = False
    quick: tuple[str, ...] | None = ()


STEPS = (
    Step("forms_speed", "forms_speed_cpu", ("--rounds", "2", "--steps", "7"), quick=("--rounds", "1")),
    Step("windows_speed", "windows_speed_cpu"),
    Step("pipeline_speed", "pipeline_speed", ("--rounds", "3")),
    Step(
        "pipeline_speed",
        "pipeline_speed_resnet50",
        ("--encoder", "resnet50", "--only", "png", "nifti", "--rounds", "2"),
        quick=None,
    ),
    Step("one_picture", "one_picture"),
    Step("training_table", "training_table"),
    Step("int8", "int8", data=True),
    Step("growth", "growth"),
    Step("training_speed", "training_speed"),
    Step("dicom_speed", "dicom_speed", ("--rounds", "5")),
    Step("network_speed", "network_speed_cpu_float32", ("--rounds", "2", "--steps", "4", "--train-batch", "2")),
)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.everything", description=__doc__)
    names = list(dict.fromkeys(step.module for step in STEPS))
    parser.add_argument("--quick", action="store_true", help="the quick form of each, into runs/bench-quick")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--again", action="store_true", help="also those whose result was taken at this commit")
    parser.add_argument(
        "--dataset-dir",
        type=Path,
        default=os.environ.get("BANET_DATA") and Path(os.environ["BANET_DATA"], "isic2017"),
        help="folder with train/ and val/ (default: isic2017 in BANET_DATA); without it int8 is left out",
    )
    return parser.parse_args(arguments)


def why_not(step: Step, options: argparse.Namespace, commit: str | None) -> str:
    """Why a benchmark is left out; "" where it is run."""
    if not (ROOT / "benchmarks" / f"{step.module}.py").is_file():
        return "there is no such benchmark here"
    if step.data and options.dataset_dir is None:
        return "it needs --dataset-dir or BANET_DATA"
    if options.quick and step.quick is None:
        return "it has no quick form"
    if options.quick or options.again or commit is None:
        return ""
    report = load_report(step.result, RESULTS)
    taken = "" if report is None else str(report.get("machine", {}).get("commit")).rstrip("+")
    return "its result is of this commit; --again repeats it" if taken == commit.rstrip("+") else ""


def command(step: Step, options: argparse.Namespace) -> list[str]:
    """What is run."""
    words = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{step.module}"]
    if options.quick:
        words += ["--quick", "--out", str(ROOT / "runs" / "bench-quick"), *(step.quick or ())]
    else:
        words += step.arguments
    if step.data:
        words += ["--dataset-dir", str(options.dataset_dir)]
    return words


def main(arguments: list[str] | None = None) -> int:
    """Run them; 1 where one failed."""
    options, failed, commit = parse_arguments(arguments), [], current_commit()
    for step in STEPS:
        if step.module not in options.only:
            continue
        if reason := why_not(step, options, commit):
            print(f"== {step.module}: left out, {reason}", flush=True)
            continue
        print(f"== {step.result}", flush=True)
        start = time.perf_counter()
        code = subprocess.run(command(step, options), cwd=ROOT, check=False).returncode
        print(
            f"== {step.module}: {'done' if not code else 'FAILED'} in {time.perf_counter() - start:.0f} s", flush=True
        )
        failed += [step.module] if code else []
    if not options.quick:
        subprocess.run([sys.executable, "-m", "benchmarks.performance", "--write"], cwd=ROOT, check=True)
    if failed:
        print(f"failed: {', '.join(failed)}; the others stand, and running this again repeats only what is missing.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
