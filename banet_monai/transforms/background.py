"""Post-processing and writing of results beside the network: by threads, bounded, with every failure told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from monai.transforms import Compose

from banet_monai.data.memory import MemoryBudget
from banet_monai.machine import helper_pool, one_core, single_threaded, worker_threads

__all__ = ["InBackground", "RunEnds"]

LARGE = 16 * 2**20  # bytes of a case from which its operations may use all cores


class RunEnds(Protocol):
    """Whoever opens and closes a run; :class:`banet_monai.report.RunReport` is one."""

    def at_begin(self, action: Callable[[], None]) -> None:
        """Have ``action`` called when the run begins, or at once where it has begun."""

    def before_end(self, action: Callable[[], None]) -> None:
        """Have ``action`` called before anything is closed."""


class InBackground(Compose):
    """MONAI's ``Compose`` for single cases that can work in threads, so that the network goes on with the next cases.

    It stands where an evaluator takes its post-processing. Before :meth:`begin`, which the run's report calls, it is
    a ``Compose`` like any other, which takes one core for a small case. After it a call returns at once, with the
    record's ``"name"`` alone, and :meth:`finish` waits for all of them. The transforms of a case are done in one
    thread, one after the other. At most ``waiting`` cases are unfinished: then the next call waits. An exception is
    raised by the next call or by :meth:`finish`, and what has not begun by then is left.

    Args:
        transforms: each takes a record; they restore, threshold and write it.
        num_workers: threads; 0 calls the transforms in between. ``"auto"``: the cores beside one, at most 8.
        waiting: cases that may be unfinished.
        budget: what the loader entered the cases in; they leave when they are done.
        report: begins the work in threads, and waits for them before it is closed, however the run ends.

    Raises:
        ValueError: for a number that is out of range.
    """

    def __init__(
        self,
        transforms: Sequence[Callable[[Any], Any]] | Callable[[Any], Any],
        *,
        num_workers: int | str = "auto",
        waiting: int = 32,
        budget: MemoryBudget | None = None,
        report: RunEnds | None = None,
    ) -> None:
        if waiting < 1:
            raise ValueError(f"waiting must be at least 1, got {waiting}.")
        super().__init__(transforms)
        self.num_workers = worker_threads(num_workers)
        self.budget = budget or MemoryBudget()
        self.cores = torch.get_num_threads()
        self._room = threading.BoundedSemaphore(waiting)
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._running: dict[Future[Any], str] = {}
        self._error: BaseException | None = None
        self._begun = False
        if report is not None:
            report.at_begin(self.begin)
            report.before_end(self.stop)

    def __call__(
        self,
        data: Mapping[Any, Any],
        start: int = 0,
        end: int | None = None,
        threading: bool = False,
        lazy: bool | None = None,
    ) -> Any:
        if not self._begun:
            with one_core() if _tensor_bytes(data) < LARGE else nullcontext():
                return super().__call__(data, start, end, threading, lazy)
        name = str(data.get("name", ""))
        self.budget.claim(name)
        if not self.num_workers:
            try:
                self._transform(data)
            finally:
                self.budget.leave(name)
            return {"name": name}
        self._raise()
        self._room.acquire()
        with self._lock:
            self._pool = self._pool or helper_pool(self.num_workers, "write")
            future = self._pool.submit(self._work, data)
            self._running[future] = name
        future.add_done_callback(self._done)
        return {"name": name}

    def begin(self) -> None:
        """From here on work in threads."""
        self._begun = True

    def finish(self) -> None:
        """Wait until all cases are done.

        Raises:
            Exception: the first that the transform raised.
        """
        self._close(cancel=False)
        self._raise()

    def stop(self) -> None:
        """Wait for the cases that have begun and leave the others; after :meth:`finish` there are none."""
        self._close(cancel=True)

    def _transform(self, data: Mapping[Any, Any]) -> Any:
        return super().__call__(data)

    def _work(self, data: Mapping[Any, Any]) -> None:
        if self._error is not None:
            return
        with torch.no_grad():
            if _tensor_bytes(data) >= LARGE:
                torch.set_num_threads(self.cores)
                self._transform(data)
            else:
                single_threaded(self._transform, data)

    def _done(self, future: Future[Any]) -> None:
        with self._lock:
            name = self._running.pop(future)
        if not future.cancelled() and future.exception() is not None and self._error is None:
            self._error = future.exception()
        self.budget.leave(name)
        self._room.release()

    def _close(self, *, cancel: bool) -> None:
        self._begun = False
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=cancel)

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            self._close(cancel=True)
            raise error


def _tensor_bytes(data: Mapping[Any, Any]) -> int:
    return sum(value.nbytes for value in data.values() if isinstance(value, torch.Tensor))
