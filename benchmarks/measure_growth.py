"""One image from its file to a written mask, in its own process: ``python -m benchmarks.measure_growth '<job>'``."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from banet_monai.segmenter import Segmenter
from banet_monai.transforms import SaveResultd
from benchmarks.machine import describe_machine, resident_mib

__all__ = ["measure"]


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each repetition, of the start, and memory of the whole process when ready and at its peak."""
    torch.set_num_threads(job["threads"])
    segmenter = Segmenter(device="cpu", options=job["options"])
    with tempfile.TemporaryDirectory() as folder:
        save = SaveResultd("pred", folder)

        def segment(file: str) -> float:
            start = time.perf_counter()
            result = segmenter(file)
            save({"pred": result.labels, "image": result.image, "name": Path(file).stem})
            return time.perf_counter() - start

        start_s = time.time() - job["began"]
        segment(job["warm_up"])
        ready_mib = resident_mib("VmRSS")
        seconds = [segment(job["file"]) for _ in range(job["repeats"])]
    return {
        "seconds": seconds,
        "start_s": round(start_s, 2),
        "ready_mib": round(ready_mib, 1),
        "peak_mib": round(resident_mib("VmHWM"), 1),
        "machine": describe_machine(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
