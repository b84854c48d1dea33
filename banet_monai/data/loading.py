"""Cases read ahead by threads, in order and within a bounded memory, small pictures of one shape in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import Dataset, MetaTensor, list_data_collate

from banet_monai.data.memory import MemoryBudget, decoded_bytes
from banet_monai.flags import as_number
from banet_monai.machine import helper_pool, one_core, single_threaded, worker_threads

__all__ = ["CaseLoader"]

_PLAIN = (str, float, int, bool, type(None))
SMALL = 8 * 2**20  # bytes of an image on the network's grid, up to which several share a batch


class CaseLoader:
    """Batches of a dataset for an evaluator: the next cases are read while the network computes.

    Cases come in the order of the dataset, or of ``sampler``, and their values are those of reading one by one.
    Pictures that follow each other and have the same shape and kind of meta data share a batch; volumes and large
    pictures are alone. It has no length, because the number of batches shows only as they come; ``cases`` is the
    number of cases.

    Args:
        dataset: gives a data dictionary, or a list of one, for each index; ``dataset.data`` the records, of which
            ``"image"`` (a path or several) tells the size and ``"name"`` the case.
        batch_size: pictures in a batch at most.
        num_workers: threads that read; 0 reads in between. ``"auto"``: the cores beside one, at least 1, at most 8.
        read_ahead: cases that are read before they are wanted, at most.
        budget: bound on the memory of what is read ahead, shared with who writes results
            (:class:`banet_monai.transforms.InBackground`). None: one of its own.
        sampler: indices in place of all. None: all, in order.
        device: batches for a CUDA device are put into pinned memory, from which they are copied without waiting.

    Raises:
        ValueError: for a number that is out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int = 1,
        num_workers: int | str = "auto",
        read_ahead: int = 32,
        budget: MemoryBudget | None = None,
        sampler: Iterable[int] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.batch_size, self.read_ahead = (
            _at_least_one(value, name) for value, name in ((batch_size, "batch_size"), (read_ahead, "read_ahead"))
        )
        self.num_workers = worker_threads(num_workers)
        self.dataset = dataset
        self.budget = budget or MemoryBudget()
        self.sampler = sampler
        self.pinned = torch.device(device).type == "cuda" and torch.cuda.is_available()

    @property
    def cases(self) -> int:
        """Number of cases."""
        return len(self._indices())

    def __iter__(self) -> Iterator[Any]:
        """The batches, each collated as :func:`monai.data.list_data_collate` does it."""
        indices = self._indices()
        # one case has nothing to overlap with: its reader may use all cores instead
        numbered = self._read_between(indices) if len(indices) < 2 or not self.num_workers else self._read(indices)
        group: list[tuple[int, Any]] = []
        common: Any = None  # form of those in the group
        try:
            for found in numbered:
                form = None if found is None else _shared_form(found[1])
                if group and (form is None or form != common):
                    yield from self._batch(group)
                    group = []
                if found is not None:
                    group.append(found)
                    common = form
                if len(group) == self.batch_size or (group and form is None):
                    yield from self._batch(group)
                    group = []
            if group:
                yield from self._batch(group)
        except BaseException:  # also when the run ends before its time: what was read ahead is let go
            self.budget.clear()
            raise

    def _batch(self, group: Sequence[tuple[int, Any]]) -> Iterator[Any]:
        samples = [sample for _, item in group for sample in (item if isinstance(item, list) else [item])]
        with one_core() if self.num_workers else nullcontext():  # the others are busy
            batch = _collated(samples)
        del samples
        if self.pinned and isinstance(batch.get("image"), torch.Tensor):
            batch["image"] = batch["image"].pin_memory()
        yield batch
        for index, _ in group:
            self.budget.passed_on(self._name(index))

    def _read_between(self, indices: Sequence[int]) -> Iterator[tuple[int, Any] | None]:
        """Each case with its index; None before waiting for room, which those that came before take."""
        for index in indices:
            if not self._enter(index):
                yield None
                self._enter(index, wait=True)
            yield index, self.dataset[index]

    def _read(self, indices: Sequence[int]) -> Iterator[tuple[int, Any] | None]:
        """The same, read ahead."""
        pool = helper_pool(self.num_workers, "read")
        waiting, running = deque(indices), deque[tuple[int, Future[Any]]]()

        def start() -> None:
            waited = waiting.popleft()
            running.append((waited, pool.submit(single_threaded, self.dataset.__getitem__, waited)))

        try:
            while waiting or running:
                while waiting and len(running) < self.read_ahead and self._enter(waiting[0]):
                    start()
                if not running:
                    yield None
                    self._enter(waiting[0], wait=True)
                    start()
                index, future = running.popleft()
                yield index, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _enter(self, index: int, *, wait: bool = False) -> bool:
        return self.budget.enter(self._name(index), self._size(index), wait=wait)

    def _indices(self) -> list[int]:
        return list(range(len(self.dataset))) if self.sampler is None else [int(index) for index in self.sampler]

    def _name(self, index: int) -> str:
        return str(self.dataset.data[index].get("name", index))

    def _size(self, index: int) -> int:
        image = self.dataset.data[index].get("image")
        return decoded_bytes(image) if isinstance(image, str | Path | list | tuple) else 0


def _collated(samples: list[Any]) -> Any:
    """What :func:`monai.data.list_data_collate` gives; a volume, which is alone, is not copied for it."""
    sample = samples[0]
    image = sample.get("image") if isinstance(sample, dict) else None
    if len(samples) > 1 or not isinstance(image, MetaTensor) or image.ndim < 4:
        return list_data_collate(samples)
    placeholder = MetaTensor(torch.empty(0), meta=image.meta, applied_operations=image.applied_operations)
    batch = list_data_collate([{**sample, "image": placeholder}])
    whole = MetaTensor(image.as_tensor()[None]).copy_meta_from(batch["image"])  # type: ignore[no-untyped-call]
    return {**batch, "image": whole}


def _at_least_one(value: int, name: str) -> int:
    number = int(as_number(value, name))
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")
    return number


def _shared_form(item: Any) -> Any:
    """What items that share a batch have in common, so that each comes out of it as it went in; None: it is alone."""
    image = item.get("image") if isinstance(item, dict) else None
    small = isinstance(image, torch.Tensor) and image.ndim == 3 and image.nbytes <= SMALL
    return _form(item) if small else None


def _form(value: Any) -> Any:
    """What two values must have in common to be collated: types, shapes, and the names of meta data."""
    if type(value) in _PLAIN:  # most are
        return type(value)
    if isinstance(value, MetaTensor):
        return value.shape, value.dtype, _form(value.meta), _form(value.applied_operations)
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.shape, value.dtype
    if isinstance(value, Mapping):
        return {key: _form(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_form(entry) for entry in value]
    return type(value)
