"""Pictures per second in training beside MONAI's networks: ``python -m benchmarks.training_table --help``.

The training of the bundle, its loading, augmentation, loss and optimiser, with its own network and with two of MONAI's,
at several sizes. Each measurement is a process of its own; the networks take turns at each size.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.candidates import MONAI, REFERENCE
from benchmarks.reporting import RESULTS, measure_apart, measured_on, write_report

NETWORKS: dict[str, dict[str, Any] | None] = {
    REFERENCE: None,  # the configuration's own
    "BasicUNet": MONAI["BasicUNet"],
    "FlexibleUNet efficientnet-b0": MONAI["FlexibleUNet efficientnet-b0"],
}
SIZES = (224, 256, 352, 512)
MOST_WAITING = 0.1  # goal: share of a step


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_table", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="128 pixels alone, batches of 4: a minute")
    parser.add_argument("--dataset-dir", default=None, help="folder or data list; by default the demonstration data")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="pixels of the short side")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--limit", type=int, default=48, help="pictures of the training data")
    parser.add_argument("--steps", type=int, default=4, help="timed steps, after one that is not")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="computing threads")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and Markdown")
    options = parser.parse_args(arguments)
    if options.quick:
        options.sizes, options.batch_size, options.limit, options.steps = [128], 4, 16, 2
    return options


def run_job(name: str, size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure in a process of its own."""
    job = {
        "definition": NETWORKS[name],
        "steps": options.steps,
        "threads": options.threads,
        "options": {
            "image_size": size,
            "batch_size": options.batch_size,
            "num_workers": options.num_workers,
            "limit": options.limit,
            "dataset_dir": options.dataset_dir,
        },
    }
    what = f"{name}, {size} px"
    return measure_apart("benchmarks.measure_training", json.dumps(job), what=what, threads=options.threads)


def format_markdown(report: dict[str, Any]) -> str:
    """The table under a line about the machine."""
    conditions, rows = report["conditions"], report["rows"]
    lines = [
        "# Training beside MONAI's networks",
        "",
        measured_on(
            report["machine"], device="cuda" if report["machine"]["gpu"] else "cpu", threads=conditions["threads"]
        ),
        f"Pictures per second, in brackets the share of a step spent waiting for data (goal: below "
        f"{100 * MOST_WAITING:g} %); batches of {conditions['batch_size']}, {conditions['num_workers']} loading "
        f"process, {conditions['steps']} timed steps. All networks get the data, loss and optimiser of the bundle; "
        "BA-Net pays for its nine maps, the others for one.",
        "",
        "| network | " + " | ".join(f"{size} px" for size in conditions["sizes"]) + " |",
        "|---|" + "---:|" * len(conditions["sizes"]),
    ]
    for name in NETWORKS:
        cells = [
            f"{row['pictures_per_s']:.1f} ({100 * row['waiting_share']:.1f} %)"
            for row in sorted(rows, key=lambda row: row["image_size"])
            if row["network"] == name
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write JSON and Markdown."""
    options = parse_arguments(arguments)
    rows, machine = [], None
    for size in sorted(options.sizes):
        for name in NETWORKS:
            result = run_job(name, size, options)
            machine = machine or result["machine"]
            rows.append({"network": name, "image_size": size, **{k: v for k, v in result.items() if k != "machine"}})
            print(f"{result['pictures_per_s']:8.1f} pictures/s  {size} px  {name}", flush=True)
    conditions = {key: value for key, value in vars(options).items() if key not in ("out", "dataset_dir")}
    conditions["sizes"] = sorted(options.sizes)
    report = {"machine": machine, "conditions": conditions, "rows": rows}
    stem = "training_table" + ("_cuda" if machine and machine["gpu"] else "") + ("_quick" if options.quick else "")
    write_report(options.out, stem, report, format_markdown(report))


if __name__ == "__main__":
    main()
