"""Sliding windows beside the network alone and MONAI's own inferers: ``python -m benchmarks.windows_speed --help``.

All ways run the same network over the same windows in the same batches, in turn within one process for each input.
*Share* is the time of the network alone divided by that of the inferer, in pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.candidates import BANET, REFERENCE, VOLUME_NETWORK
from benchmarks.reporting import RESULTS, measure_apart, measured_on, write_report

GOAL_SHARE, GOAL_STOCK = 0.9, 1.5  # of the network's own throughput; times that of MONAI's inferer


class Case(NamedTuple):
    """An input and the network that takes it in windows."""

    name: str
    definition: dict[str, Any]
    shape: tuple[int, ...]
    roi_size: tuple[int, ...]
    rounds: int = 3


LIGHT = BANET[REFERENCE]
CASES = (
    Case("picture of 4096 x 4096, 2D network", LIGHT, (4096, 4096), (256, 256)),
    Case("volume of 512 x 512 x 64, slice by slice, 2D network", LIGHT, (512, 512, 64), (256, 256)),
    Case("volume of 160 x 160 x 160, 3D network", VOLUME_NETWORK, (160, 160, 160), (48, 56, 48)),
)
QUICK = (
    Case("picture of 1024 x 1024, 2D network", LIGHT, (1024, 1024), (256, 256)),
    Case("volume of 512 x 512 x 4, slice by slice, 2D network", LIGHT, (512, 512, 4), (256, 256)),
    Case("volume of 72 x 84 x 72, 3D network", VOLUME_NETWORK, (72, 84, 72), (48, 56, 48)),
)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.windows_speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small inputs: under a minute")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and Markdown")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--batch", type=int, default=8, help="windows per call of the network")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="computing threads on the CPU")
    return parser.parse_args(arguments)


def run_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one input in a process of its own."""
    job = {
        "definition": case.definition,
        "shape": case.shape,
        "roi_size": case.roi_size,
        "batch_size": options.batch,
        "overlap": options.overlap,
        "device": options.device,
        "dtype": options.dtype,
        "threads": options.threads,
        "rounds": case.rounds,
    }
    return measure_apart("benchmarks.measure_windows", json.dumps(job), what=case.name, threads=options.threads)


def summarize(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """One row: throughputs, and the two ratios of the goal as medians over pairs."""
    seconds, windows = result["seconds"], result["windows"]

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    share, against_stock = ratio("network", "banet"), ratio("stock", "banet")
    return {
        "input": name,
        "windows": windows,
        "windows_per_s": {way: windows / statistics.median(times) for way, times in seconds.items()},
        "share_of_network": share,
        "share_of_network_of_stock": ratio("network", "stock"),
        "against_stock": against_stock,
        "around_against_stock": ratio("stock_free", "banet_free"),
        "met": share >= GOAL_SHARE or against_stock >= GOAL_STOCK,
        "relative_difference": result["relative_difference"],
        "peak_memory_mib": result["peak_memory_mib"],
        "seconds": seconds,
    }


def format_markdown(report: dict[str, Any]) -> str:
    """The table under a line about the machine."""
    conditions = report["conditions"]
    lines = [
        "# Sliding windows",
        "",
        measured_on(report["machine"], device=conditions["device"], threads=conditions["threads"]),
        f"{conditions['batch']} windows per call, overlap {conditions['overlap']}, Gaussian weights, "
        f"{conditions['dtype']}. Share: throughput of the inferer over that of the network alone on windows that lie "
        "ready (median of pairs); the goal is "
        f"{GOAL_SHARE:g}, or {GOAL_STOCK:g} times MONAI's inferer with the same network. Around: microseconds per "
        "window with a network that costs nothing. Difference: the largest of all logits between the two inferers, "
        "over the largest logit.",
        "",
        "| input | windows | network (1/s) | banet (1/s) | share | MONAI (1/s) | share | banet / MONAI "
        "| around, banet (us) | around, MONAI (us) | difference |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in report["rows"]:
        speed = row["windows_per_s"]
        lines.append(
            f"| {row['input']} | {row['windows']} | {speed['network']:.1f} | {speed['banet']:.1f} "
            f"| {row['share_of_network']:.2f} | {speed['stock']:.1f} | {row['share_of_network_of_stock']:.2f} "
            f"| {row['against_stock']:.2f} | {1e6 / speed['banet_free']:.0f} | {1e6 / speed['stock_free']:.0f} "
            f"| {row['relative_difference']:.0e} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write JSON and Markdown."""
    options = parse_arguments(arguments)
    cases, rows, machine = QUICK if options.quick else CASES, [], None
    for case in cases:
        result = run_case(case, options)
        machine = machine or result["machine"]
        rows.append(summarize(case.name, result))
        print(f"{rows[-1]['share_of_network']:6.2f} of the network's throughput  {case.name}", flush=True)
    conditions = {key: value for key, value in vars(options).items() if key != "out"}
    report = {"machine": machine, "conditions": conditions, "rows": rows}
    stem = f"windows_speed_{options.device.replace(':', '')}" + ("_quick" if options.quick else "")
    write_report(options.out, stem, report, format_markdown(report))


if __name__ == "__main__":
    main()
