"""What a run asks of the machine: threads that share its cores, and memory that is used again."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from banet_monai.flags import as_number
from banet_monai.processes import processes_here

__all__ = ["helper_pool", "in_parts", "one_core", "reuse_memory", "single_threaded", "worker_threads"]

MAX_THREADS = 8  # more only wait for each other
HELPER_NICENESS = 10  # of threads beside the network: its parts wait for each other, so none may be held up
# parameters of glibc's mallopt, and their values: memory below the first is not handed back at once, blocks above the
# second (the largest that glibc takes) come from the system each time
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, LARGEST_KEPT_BLOCK = 2**31 - 1, 32 * 2**20


def worker_threads(wish: int | str) -> int:
    """Threads for a wish: a number, or ``"auto"``: the cores beside one, at least 1 and at most 8.

    Processes that ``torchrun`` started on this machine share its cores.

    Raises:
        ValueError: for a negative number, a fraction, or another word.
    """
    if wish == "auto":
        return min(MAX_THREADS, max(1, _cores() // processes_here() - 1))
    number = as_number(wish, "num_workers")
    if number < 0 or number != int(number):
        raise ValueError(f"the number of threads must be 'auto', or a whole number from 0 on, got {wish}.")
    return int(number)


def helper_pool(threads: int, name: str) -> ThreadPoolExecutor:
    """Threads that read or write beside a network, and that step back for it where the system allows it (Linux)."""
    torch.get_num_threads()  # settles the number of this thread before others settle theirs
    return ThreadPoolExecutor(threads, name, initializer=_step_back)


def single_threaded(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function`` with one core for each operation of PyTorch, as it is right beside other threads.

    PyTorch keeps this number for every thread of its own; that of the other threads stays.
    """
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    return function(*arguments)


@contextmanager
def one_core() -> Iterator[None]:
    """Within it, operations of PyTorch in this thread take one core: small ones, of which others are in need.

    A second one would be kept busy for milliseconds by waiting for more.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def in_parts(function: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
    """``function`` of a batch, on a CPU in parts side by side, each with its share of the cores.

    The operations of a small network are short, and threads that share each of them spend much of their time waiting
    for each other: so they share the images instead. Each image must come out as it would alone.

    Args:
        function: gives ``(B, ...)`` for ``(B, ...)``; it is called by several threads at a time, without gradients.
        batch: images.

    Returns:
        What ``function`` gives for the whole batch, but for rounding.
    """
    threads = torch.get_num_threads()
    count = min(threads, len(batch))
    if batch.device.type != "cpu" or count < 2:
        return function(batch)
    inference = torch.is_inference_mode_enabled()

    def call(part: torch.Tensor) -> torch.Tensor:
        if torch.get_num_threads() != threads // count:
            torch.set_num_threads(threads // count)
        with torch.inference_mode(inference), torch.no_grad():  # both belong to a thread
            return function(part)

    results = list(_sharing_pool(os.getpid(), count, threads // count).map(call, batch.tensor_split(count)))
    with one_core():  # afterwards new threads begin with the number of this one again, not with that of the parts
        return torch.cat(results)


def reuse_memory() -> bool:
    """Keep the memory that tensors give back within the process, where the C library is glibc.

    Else large tensors get fresh pages from the system each time, which cost a training step on a CPU up to a fifth of
    its time. The process then stays as large as it once was. Settings of glibc in the environment (``MALLOC_...``) win.

    Returns:
        Whether it was done.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # Windows, macOS, musl
        return False
    # one that fails leaves its default, so that both must be asked for
    done = [mallopt(M_TRIM_THRESHOLD, KEPT_BYTES), mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK)]
    return all(done)


@lru_cache(maxsize=4)
def _sharing_pool(process: int, count: int, threads: int) -> ThreadPoolExecutor:
    """Threads for parts that compute with ``threads`` cores; ``process`` is its number, since a fork has no threads."""
    return ThreadPoolExecutor(count, "network")


def _step_back() -> None:
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + HELPER_NICENESS)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
