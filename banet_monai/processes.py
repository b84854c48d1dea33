"""Several processes on one piece of work: which one this is, and what all of them know."""

from __future__ import annotations

import json
from typing import Any

import torch.distributed as dist
from monai.utils import string_list_all_gather

__all__ = ["gather", "process_count", "process_rank"]


def process_rank() -> int:
    """Rank of this process; 0 when there is only one."""
    return dist.get_rank() if _together() else 0


def process_count() -> int:
    """How many processes work together; 1 when there is only one."""
    return dist.get_world_size() if _together() else 1


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
