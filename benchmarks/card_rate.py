"""How much of a card's matrix rate the network reaches: ``python -m benchmarks.card_rate --help``.

The rate is the best of a few square matrix products in the same type, measured in the same run. The network is the
paper's ResNet-50 form in its fast form, eager and compiled; its FLOPs are those of the unchanged network.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

from banet_monai.export import optimize
from banet_monai.networks import BANet, on_device
from benchmarks.candidates import BANET
from benchmarks.forms_speed import PAPER
from benchmarks.machine import describe_machine
from benchmarks.reporting import RESULTS, measured_on, write_report

SIDES = (4096, 8192, 16384)
GOAL = 0.3


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.card_rate", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and Markdown")
    parser.add_argument("--device", default="cuda", help="cuda or cuda:1; cpu to try it out")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES), help="sides of the matrices")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes to begin")
    return parser.parse_args(arguments)


def seconds_of(call: Callable[[], object], steps: int, device: torch.device) -> float:
    """Median seconds of a call after two that are not timed."""
    seconds = []
    for step in range(-2, steps):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        if step >= 0:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(options: argparse.Namespace) -> float:
    """The highest FLOP per second of the square products."""
    device, rates = torch.device(options.device), []
    for side in options.sides:
        a = torch.randn(side, side, device=device, dtype=getattr(torch, options.dtype))
        rates.append(2 * side**3 / seconds_of(lambda a=a: a @ a, options.steps, device))
    return max(rates)


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The card's rate, and each form's time and share of that rate: a report after each form, the next longer."""
    device, dtype, size = torch.device(options.device), getattr(torch, options.dtype), options.image_size
    network: BANet = ConfigParser({"network": BANET[PAPER]}).get_parsed_content("network").eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size, size))
    flops = counter.get_total_flops() * options.batch
    on_device(network, device)
    forms = {"optimized": None, "compiled": "reduce-overhead"}
    if options.no_compile:
        del forms["compiled"]
    images = torch.rand(options.batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        rate, rows = matrix_rate(options), []
    for name, mode in forms.items():
        with torch.inference_mode():
            fast = optimize(network, dtype=dtype, compile_mode=mode)
            seconds = seconds_of(lambda fast=fast: fast(images), options.steps, device)
        rows.append({"form": name, "median_s": seconds, "share": flops / seconds / rate})
        yield {
            "machine": describe_machine(),
            "conditions": {key: value for key, value in vars(options).items() if key != "out"},
            "matrix_flops_per_s": rate,
            "network_flops": flops,
            "rows": rows,
        }


def format_markdown(report: dict[str, Any]) -> str:
    """The table under a line about the machine."""
    conditions = report["conditions"]
    lines = [
        "# Share of the card's matrix rate",
        "",
        measured_on(report["machine"], device=conditions["device"]),
        f"{PAPER}, batch of {conditions['batch']} at {conditions['image_size']} pixels, {conditions['dtype']}; matrix "
        f"products reach {report['matrix_flops_per_s'] / 1e12:.1f} TFLOP/s here. Goal: {GOAL:g}.",
        "",
        "| form | time of a batch (ms) | share of the matrix rate |",
        "|---|---:|---:|",
        *(f"| {row['form']} | {1e3 * row['median_s']:.1f} | {row['share']:.2f} |" for row in report["rows"]),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write JSON and Markdown after each form: compiling may take minutes, and fail."""
    options = parse_arguments(arguments)
    for report in measure(options):
        write_report(options.out, "card_rate", report, format_markdown(report))


if __name__ == "__main__":
    main()
