"""Several processes on one piece of work: which one this is, and what all of them know."""

from __future__ import annotations

import json
import os
from typing import Any

import torch
import torch.distributed as dist
from monai.utils import string_list_all_gather

__all__ = ["gather", "process_count", "process_device", "process_rank", "processes_here"]


def process_rank() -> int:
    """Rank of this process; 0 when there is only one."""
    return dist.get_rank() if _together() else 0


def process_count() -> int:
    """How many processes work together; 1 when there is only one."""
    return dist.get_world_size() if _together() else 1


def processes_here() -> int:
    """How many of them ``torchrun`` started on this machine; 1 where it started none."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def process_device() -> torch.device:
    """The GPU of this process, which others use too where there are more processes than GPUs; without a GPU the CPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % count) if count else torch.device("cpu")


def gather(value: Any) -> list[Any]:
    """What each process holds, in the order of their ranks; every process must call it.

    Args:
        value: plain values that JSON knows; tuples come back as lists.

    Returns:
        One entry per process, the same list in all of them.
    """
    return [json.loads(text) for text in string_list_all_gather([json.dumps(value)])]


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
