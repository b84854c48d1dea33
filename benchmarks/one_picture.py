"""What one picture costs: the command from its start to its end, and the decoding of a PNG.

    python -m benchmarks.one_picture [--quick]

``banet segment`` of a single picture is mostly Python and the loading of libraries, so the table has what loading them
costs by itself beside it. All rows take turns, each a process of its own; user and system time are of all its cores.
Decoding is timed on the noisy PNGs of :mod:`benchmarks.pipeline_speed`, file by file with libspng and with Pillow in
turn, through the bundle's own reader; *relative* is the median of the ratios.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting import RESULTS, ROOT, measured_on, quartiles, write_report

LIBRARIES = "torch, MONAI and ignite alone"
COMMAND = "banet segment"
SIDE = 512


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_picture", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds, few pictures; no figures to keep")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and Markdown")
    parser.add_argument("--rounds", type=int, default=10, help="starts of each command")
    parser.add_argument("--pictures", type=int, default=60, help="pictures that are decoded")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.pictures = 2, 6
    return options


def commands(picture: Path, output: Path) -> dict[str, list[str]]:
    """Each row's command line."""
    return {
        "Python alone": [sys.executable, "-c", "pass"],
        "torch alone": [sys.executable, "-c", "import torch"],
        LIBRARIES: [sys.executable, "-c", "import torch, monai.bundle"],
        COMMAND: [sys.executable, "-m", "banet_monai", "segment", str(picture), "-o", str(output)],
    }


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Wall and processor seconds of a process.

    Raises:
        SystemExit: when it fails, with what it said.
    """
    before, start = _processor_seconds(), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{command} ended with exit code {done.returncode}\n{done.stderr[-2000:]}")
    return wall, _processor_seconds() - before


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def start_rows(picture: Path, output: Path, rounds: int) -> list[dict[str, Any]]:
    """A row for each command, after one round that counts for nothing."""
    lines = commands(picture, output)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
    for number in range(rounds + 1):
        for name, line in lines.items():
            taken = timed(line)
            if number:
                times[name].append(taken)
    return [
        {
            "what": name,
            "wall_s": quartiles([wall for wall, _ in taken]),
            "processor_s": statistics.median(processor for _, processor in taken),
        }
        for name, taken in times.items()
    ]


def decode_rows(pictures: Sequence[Path]) -> list[dict[str, Any]]:
    """A row for each decoder: milliseconds of a picture, and relative to Pillow."""
    from banet_monai.transforms import PictureReader
    from banet_monai.transforms import pictures as reading

    reader = PictureReader()
    libspng = reading._png_decoder()
    if libspng is None:
        raise SystemExit('imagecodecs is not installed (pip install "banet-monai[tiles]"): nothing to compare.')
    decoders: dict[str, Callable[[bytes], Any] | None] = {"libspng": libspng, "Pillow": None}
    times: dict[str, list[float]] = {name: [] for name in decoders}
    original = reading._png_decoder
    try:
        for picture in [*pictures[:3], *pictures]:
            for name, decoder in decoders.items():
                reading._png_decoder = lambda decoder=decoder: decoder  # type: ignore[assignment, misc]
                start = time.perf_counter()
                reader.get_data(reader.read(picture))
                times[name].append(time.perf_counter() - start)
    finally:
        reading._png_decoder = original
    counted = {name: taken[3:] for name, taken in times.items()}
    ratios = {name: [a / b for a, b in zip(taken, counted["Pillow"], strict=True)] for name, taken in counted.items()}
    return [
        {"what": name, "ms": [1e3 * value for value in quartiles(taken)], "relative": statistics.median(ratios[name])}
        for name, taken in counted.items()
    ]


def format_markdown(report: dict[str, Any]) -> str:
    """Two tables under a line about the machine."""
    conditions = report["conditions"]
    lines = [
        "# One picture",
        "",
        measured_on(report["machine"]),
        f"A picture of {SIDE} x {SIDE} pixels; medians of {conditions['rounds']} starts, quartiles in brackets; files "
        "and libraries lie in the system's cache. Load average at the end, this run's own included: "
        f"{report['load_average_at_end'][0]:.1f}.",
        "",
        "| from start to end | seconds | processor seconds |",
        "|---|---:|---:|",
    ]
    for row in report["starts"]:
        low, middle, high = row["wall_s"]
        lines.append(f"| {row['what']} | {middle:.2f} ({low:.2f}-{high:.2f}) | {row['processor_s']:.2f} |")
    lines += ["", f"| reading a noisy PNG, {conditions['pictures']} files | ms | relative |", "|---|---:|---:|"]
    for row in report["decoders"]:
        low, middle, high = row["ms"]
        lines.append(f"| {row['what']} | {middle:.2f} ({low:.2f}-{high:.2f}) | {row['relative']:.2f} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Make pictures, measure, print, and write JSON and Markdown."""
    options = parse_arguments(arguments)
    from benchmarks.machine import describe_machine
    from benchmarks.pipeline_speed import make_inputs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "in")
        make_inputs("png", folder, pictures=options.pictures, slices=0, quick=options.quick)
        files = sorted(folder.iterdir())
        starts = start_rows(files[0], Path(name, "out"), options.rounds)
        decoders = decode_rows(files)
    report = {
        "machine": describe_machine(),
        "load_average_at_end": os.getloadavg(),
        "conditions": {"rounds": options.rounds, "pictures": options.pictures, "quick": options.quick},
        "starts": starts,
        "decoders": decoders,
    }
    stem = "one_picture_quick" if options.quick else "one_picture"
    write_report(options.out, stem, report, format_markdown(report))


if __name__ == "__main__":
    main()
