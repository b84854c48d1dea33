"""Forward pass and training step of BA-Net beside MONAI's networks: ``python -m benchmarks.network_speed --help``.

Every measurement runs in a process of its own. The order goes round by round through all networks, each round
starting one network further, so that a machine that slows down or warms up does so for all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.candidates import ALL, QUICK, REFERENCE
from benchmarks.reporting import RESULTS, measure_apart, measured_on, quartiles, write_report

MODES = ("forward", "train")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line; ``--quick`` overrides size, rounds and steps."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network_speed", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="four networks at 128 pixels, one round: under two minutes"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and Markdown")
    parser.add_argument("--networks", nargs="+", metavar="TEXT", help="only networks whose name contains one of these")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of autocast")
    parser.add_argument("--image-size", type=int, default=256, help="pixels along a side, a multiple of 32")
    parser.add_argument("--forward-batch", type=int, default=1)
    parser.add_argument("--train-batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3, help="processes for each network and mode")
    parser.add_argument("--steps", type=int, default=5, help="timed steps in each process")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the timed ones")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="computing threads on the CPU")
    options = parser.parse_args(arguments)
    if options.quick:
        options.image_size, options.train_batch = 128, 2
        options.rounds, options.steps, options.warmup = 1, 3, 1
    return options


def choose_networks(options: argparse.Namespace) -> list[str]:
    """Names in the order of the table."""
    names = [name for name in ALL if not options.quick or name in QUICK]
    if options.networks:
        names = [name for name in names if any(text.lower() in name.lower() for text in options.networks)]
    if not names:
        raise SystemExit(f"no network's name contains any of {options.networks}; there are:\n  " + "\n  ".join(ALL))
    return names


def plan_jobs(names: list[str], options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Network and mode of each measurement, rotated by one network from round to round."""
    for turn in range(options.rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            for mode in MODES:
                yield name, mode


def run_job(name: str, mode: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure in a process of its own; the parent imports no torch, so that cores and memory are the child's."""
    job = {
        "definition": ALL[name],
        "mode": mode,
        "image_size": options.image_size,
        "batch_size": options.forward_batch if mode == "forward" else options.train_batch,
        "device": options.device,
        "dtype": options.dtype,
        "threads": options.threads,
        "warmup": options.warmup,
        "steps": options.steps,
    }
    return measure_apart("benchmarks.measure", json.dumps(job), what=f"{name}, {mode}", threads=options.threads)


def summarize(results: dict[tuple[str, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row for each network and mode; relative times are paired round by round with the reference's.

    Before the end a round may be missing on either side: it has no pair then.
    """
    rows = []
    for (name, mode), rounds in results.items():
        seconds = sorted(value for one in rounds for value in one["seconds"])
        low, median, high = quartiles(seconds)
        row = {
            "network": name,
            "mode": mode,
            "parameters": rounds[0]["parameters"],
            "flops": rounds[0]["flops"],
            "median_s": median,
            "quartiles_s": [low, high],
            "timed_steps": len(seconds),
            "peak_memory_mib": max(one["peak_memory_mib"] for one in rounds),
            "relative_time": None,
        }
        if (REFERENCE, mode) in results:
            pairs = zip(rounds, results[REFERENCE, mode], strict=False)
            row["relative_time"] = statistics.median(
                statistics.median(one["seconds"]) / statistics.median(reference["seconds"]) for one, reference in pairs
            )
        rows.append(row)
    return rows


def format_markdown(report: dict[str, Any]) -> str:
    """Two tables, forward pass and training step, under a line about the machine."""
    conditions, size = report["conditions"], report["conditions"]["image_size"]
    lines = [
        "# Speed and memory of the networks",
        "",
        measured_on(report["machine"], device=conditions["device"], threads=conditions["threads"]),
        f"Pictures of {size} x {size} pixels, three channels, {conditions['dtype']}. Time is the median, with the "
        f"quartiles in brackets; processes per row: {conditions['rounds']}, timed steps in each: "
        f"{conditions['steps']}, steps before to warm up: {conditions['warmup']}.",
        "GFLOP: one forward pass of one picture in evaluation, a multiply-add counting as two. Memory: peak of the "
        "process above Python and its libraries, the network included (on CUDA: what PyTorch had allocated).",
    ]
    for mode, title, batch in (
        ("forward", "Forward pass, evaluation", conditions["forward_batch"]),
        ("train", "Training step: forward, loss, backward, AdamW", conditions["train_batch"]),
    ):
        lines += ["", f"## {title}, batch of {batch}", ""]
        lines += ["| network | parameters (M) | GFLOP | time (ms) | relative | peak memory (MiB) |"]
        lines += ["|---|---:|---:|---:|---:|---:|"]
        lines += [_format_row(row) for row in report["rows"] if row["mode"] == mode]
    return "\n".join(lines) + "\n"


def _format_row(row: dict[str, Any]) -> str:
    low, median, high = (1e3 * seconds for seconds in (row["quartiles_s"][0], row["median_s"], row["quartiles_s"][1]))
    relative = "" if row["relative_time"] is None else f"{row['relative_time']:.2f}"
    return (
        f"| {row['network']} | {row['parameters'] / 1e6:.1f} | {row['flops'] / 1e9:.1f} "
        f"| {median:.1f} ({low:.1f}-{high:.1f}) | {relative} | {row['peak_memory_mib']:.0f} |"
    )


def make_report(
    results: dict[tuple[str, str], list[dict[str, Any]]], names: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """What was measured so far, in the order of the table."""
    found = {(name, mode): results[name, mode] for name in names for mode in MODES if (name, mode) in results}
    return {
        "machine": next(iter(found.values()))[0]["machine"],
        "conditions": {key: value for key, value in vars(options).items() if key not in ("out", "networks")},
        "rows": summarize(found),
        "seconds_of_each_process": [
            {"network": name, "mode": mode, "seconds": [one["seconds"] for one in rounds]}
            for (name, mode), rounds in found.items()
        ],
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write JSON and Markdown; until the end those of what was measured so far lie beside."""
    options = parse_arguments(arguments)
    names = choose_networks(options)
    jobs = list(plan_jobs(names, options))
    stem = f"network_speed_{options.device.replace(':', '')}_{options.dtype}" + ("_quick" if options.quick else "")
    so_far = f"{stem}_so_far"
    results: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for number, (name, mode) in enumerate(jobs, start=1):
        result = run_job(name, mode, options)
        results[name, mode].append(result)
        print(
            f"{number:3d}/{len(jobs)}  {mode:8s} {statistics.median(result['seconds']) * 1e3:9.1f} ms  {name}",
            flush=True,
        )
        report = make_report(results, names, options)
        with redirect_stdout(None):  # the table is shown once, at the end
            write_report(options.out, so_far, report, format_markdown(report))
    write_report(options.out, stem, report, format_markdown(report))
    for suffix in (".json", ".md"):
        (options.out / f"{so_far}{suffix}").unlink()


if __name__ == "__main__":
    main()
