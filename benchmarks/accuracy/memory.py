"""Peak memory on a GPU, which only the process that used it knows."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from banet_monai.files import write_beside

__all__ = ["write_gpu_peak"]


def write_gpu_peak(path: str) -> float | None:
    """Write the most that PyTorch's allocator held so far, in MiB; null without a GPU.

    A larger figure of an earlier start of the run, which lies there already, stays.
    """
    peak = round(torch.cuda.max_memory_allocated() / 2**20, 1) if torch.cuda.is_available() else None
    if Path(path).is_file():
        before = json.loads(Path(path).read_text(encoding="utf-8"))["peak_gpu_memory_mib"]
        peak = max((known for known in (before, peak) if known is not None), default=None)
    write_beside(Path(path), lambda partial: partial.write_text(json.dumps({"peak_gpu_memory_mib": peak})))
    return peak
