"""One form of one network, timed in a process of its own: ``python -m benchmarks.measure_form '<job as JSON>'``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from benchmarks.forms import callable_form
from benchmarks.machine import resident_mib
from benchmarks.measure import machine_on, peak_mib


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each call, seconds until the form was ready, peak memory in MiB above Python and its libraries."""
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    device, size = torch.device(job["device"]), job["image_size"]
    before, start = resident_mib("VmRSS"), time.perf_counter()
    network = ConfigParser({"network": job["definition"]}).get_parsed_content("network")
    call = callable_form(job["form"], network, dtype=job["dtype"], device=device, folder=Path(job["folder"]))
    images = torch.rand(job["batch_size"], 3, size, size, device=device).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(job["warmup"]):
            call(images)
        ready = time.perf_counter() - start
        seconds = [_time(call, images, device) for _ in range(job["steps"])]
    return {
        "seconds": seconds,
        "ready_s": round(ready, 2),
        "peak_memory_mib": peak_mib(device, above=before),
        "machine": machine_on(device),
    }


def _time(call: Any, images: torch.Tensor, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
