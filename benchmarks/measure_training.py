"""Training steps of one network at one size, in its own process: ``python -m benchmarks.measure_training '<job>'``."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

import torch

from benchmarks.measure import machine_on, peak_mib
from benchmarks.training_speed import load_parser, time_training

__all__ = ["measure"]


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """What :func:`~benchmarks.training_speed.time_training` finds for the bundle's training with another network."""
    torch.set_num_threads(job["threads"])
    parser = load_parser(Namespace(**job["options"]))
    if job["definition"] is not None:
        parser["network_def"] = job["definition"]
    parser["train::dataset::progress"] = False
    device = torch.device(parser.get_parsed_content("device"))
    return {
        **time_training(parser, job["steps"], warmup=1),
        "peak_memory_mib": peak_mib(device),
        "machine": machine_on(device),
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
