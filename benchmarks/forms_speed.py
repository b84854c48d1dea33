"""The forms of BA-Net beside a plain implementation: ``python -m benchmarks.forms_speed --help``.

Every measurement runs in a process of its own. The order goes round by round through all rows, each round starting one
row further; *relative* pairs each time with the reference's of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.candidates import BANET, LIGHT_V3, REFERENCE
from benchmarks.reporting import RESULTS, measure_apart, measured_on, quartiles, write_report

LIGHT, PAPER, SEPARABLE = REFERENCE, "BA-Net resnet50, os 8 (the paper's)", "BA-Net resnet50, os 16, separable"
NETWORKS = (PAPER, SEPARABLE, LIGHT, LIGHT_V3)


class Row(NamedTuple):
    """What one row of the table measures."""

    network: str
    form: str
    dtype: str


PLAIN = Row(PAPER, "plain", "float32")
"""The row whose time is 1."""

GOALS = {
    Row(PAPER, "optimized", "bfloat16"): "at most 0.45 of the plain form",
    Row(SEPARABLE, "optimized", "bfloat16"): "at most 0.15 of the plain form",
    Row(LIGHT, "optimized", "bfloat16"): "at most 20 ms",
}
IN_TORCH = [
    Row(network, form, dtype)
    for network in NETWORKS
    for form in ("plain", "eager", "optimized")
    for dtype in ("float32", "bfloat16")
    if (form, dtype) != ("plain", "bfloat16")
]
ELSEWHERE = [
    Row(network, form, dtype)
    for network in (PAPER, LIGHT, LIGHT_V3)
    for form, dtype in (
        ("torchscript", "float32"),
        ("torch-export", "float32"),
        ("onnx", "float32"),
        ("openvino", "float32"),
        ("openvino", "bfloat16"),
    )
]
QUICK = [PLAIN, *GOALS]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forms_speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the rows that the goals speak of alone")
    parser.add_argument("--compiled", action="store_true", help="torch.compile too, which takes minutes to begin")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and Markdown")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1; on CUDA the forms of PyTorch alone")
    parser.add_argument("--image-size", type=int, default=256, help="pixels along a side, a multiple of 32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="processes for each row")
    parser.add_argument("--steps", type=int, default=10, help="timed calls in each process")
    parser.add_argument("--warmup", type=int, default=3, help="calls before the timed ones")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="computing threads on the CPU")
    return parser.parse_args(arguments)


def choose_rows(options: argparse.Namespace) -> list[Row]:
    """The rows in the order of the table."""
    if options.quick:
        return list(QUICK)
    rows = [*IN_TORCH, *(ELSEWHERE if options.device == "cpu" else [])]
    if options.compiled:
        rows += [Row(network, "compiled", "bfloat16") for network in NETWORKS]
    return sorted(rows, key=lambda row: NETWORKS.index(row.network))


def run_job(row: Row, folder: Path, options: argparse.Namespace, *, export_alone: bool = False) -> dict[str, Any]:
    """Measure in a process of its own, or only make the file that the row runs, which no measurement then includes."""
    job = {
        "definition": BANET[row.network],
        "form": row.form,
        "dtype": row.dtype,
        "folder": str(folder / str(list(BANET).index(row.network))),
        "device": options.device,
        "image_size": options.image_size,
        "batch_size": options.batch,
        "threads": options.threads,
        "warmup": 0 if export_alone else options.warmup,
        "steps": 0 if export_alone else options.steps,
    }
    return measure_apart("benchmarks.measure_form", json.dumps(job), what=" | ".join(row), threads=options.threads)


def summarize(results: dict[Row, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One entry for each row; relative times are medians over rounds of the ratio of medians."""
    entries = []
    for row, rounds in results.items():
        seconds = sorted(value for one in rounds for value in one["seconds"])
        low, median, high = quartiles(seconds)
        ratios = [
            statistics.median(one["seconds"]) / statistics.median(reference["seconds"])
            for one, reference in zip(rounds, results.get(PLAIN, []), strict=False)
        ]
        entries.append(
            {
                **row._asdict(),
                "median_s": median,
                "quartiles_s": [low, high],
                "fastest_s": seconds[0],
                "relative_time": statistics.median(ratios) if ratios else None,
                "relative_time_of_rounds": ratios,
                "timed_calls": len(seconds),
                "ready_s": rounds[-1]["ready_s"],
                "peak_memory_mib": max(one["peak_memory_mib"] for one in rounds),
                "goal": GOALS.get(row),
            }
        )
    return entries


def format_markdown(report: dict[str, Any]) -> str:
    """The table under a line about the machine."""
    conditions, size = report["conditions"], report["conditions"]["image_size"]
    lines = [
        "# Forms of BA-Net beside a plain implementation",
        "",
        measured_on(report["machine"], device=conditions["device"], threads=conditions["threads"]),
        f"Batch of {conditions['batch']}, pictures of {size} x {size} pixels. Time is the median, with quartiles in "
        "brackets; relative to the plain paper's form is the median over rounds of paired times. Processes per row: "
        f"{conditions['rounds']}, timed calls in each: {conditions['steps']}, calls before to warm up: "
        f"{conditions['warmup']}. Memory: peak of the process above Python and its libraries.{_on_gpu(report)}",
        "",
        "| network | form | type | time (ms) | fastest | relative | goal | peak memory (MiB) |",
        "|---|---|---|---:|---:|---:|---|---:|",
    ]
    return "\n".join([*lines, *map(_format_entry, report["rows"])]) + "\n"


def _on_gpu(report: dict[str, Any]) -> str:
    """What is different on a GPU; a result that does not know its convolutions says nothing of them."""
    if report["conditions"]["device"] == "cpu":
        return ""
    tf32 = report["machine"].get("tf32_convolutions")
    kind = "" if tf32 is None else f" Convolutions of the float32 rows: {'TF32' if tf32 else 'float32'}."
    return f" On CUDA: what PyTorch had allocated.{kind}"


def _format_entry(entry: dict[str, Any]) -> str:
    low, median, high, fastest = (
        f"{1e3 * value:.1f}"
        for value in (entry["quartiles_s"][0], entry["median_s"], entry["quartiles_s"][1], entry["fastest_s"])
    )
    relative = "" if entry["relative_time"] is None else f"{entry['relative_time']:.3f}"
    return (
        f"| {entry['network']} | {entry['form']} | {entry['dtype']} | {median} ({low}-{high}) | {fastest} | {relative} "
        f"| {entry['goal'] or ''} | {entry['peak_memory_mib']:.0f} |"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write JSON and Markdown."""
    options = parse_arguments(arguments)
    rows = choose_rows(options)
    results: dict[Row, list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            if row in ELSEWHERE:
                run_job(row, Path(folder), options, export_alone=True)
        for turn in range(options.rounds):
            start = turn % len(rows)
            for row in rows[start:] + rows[:start]:
                result = run_job(row, Path(folder), options)
                results[row].append(result)
                print(
                    f"{turn + 1}  {statistics.median(result['seconds']) * 1e3:9.1f} ms  {' | '.join(row)}", flush=True
                )

    conditions = {key: value for key, value in vars(options).items() if key != "out"}
    report = {
        "machine": results[rows[0]][0]["machine"],
        "conditions": conditions,
        "rows": summarize({row: results[row] for row in rows}),
    }
    stem = f"forms_speed_{options.device.replace(':', '')}" + ("_quick" if options.quick else "")
    write_report(options.out, stem, report, format_markdown(report))


if __name__ == "__main__":
    main()
