"""How much memory cases take, and a bound on what is held of them at a time."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel

from banet_monai.data.stored import open_picture

__all__ = ["MemoryBudget", "decoded_bytes"]

FLOAT = 4  # bytes of a value after loading
COLOURS = 3
NIFTI_SUFFIXES = (".nii", ".nii.gz")
UNKNOWN_FACTOR = 4  # bytes after loading per byte of a file whose header is not looked at here (16-bit DICOM: 2)


def decoded_bytes(image: str | Path | Sequence[str | Path]) -> int:
    """Estimated size of an image once it is loaded as float32, from headers and sizes of files alone.

    Args:
        image: a picture, a volume, a folder, or the files of a series.

    Returns:
        Bytes; 0 for what is not there or broken, which takes none.
    """
    if not isinstance(image, str | Path):
        return sum(_file_bytes(Path(file)) for file in image) * UNKNOWN_FACTOR
    path = Path(image)
    try:
        if path.is_dir():
            return sum(_file_bytes(file) for file in path.iterdir()) * UNKNOWN_FACTOR
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            shape: Sequence[int] = nibabel.load(path).shape  # type: ignore[attr-defined]
            return math.prod(shape) * FLOAT
        with open_picture(path) as picture:
            return math.prod(picture.size) * COLOURS * FLOAT
    except Exception:  # whatever a damaged header provokes: the reader says what is wrong with it
        return _file_bytes(path) * UNKNOWN_FACTOR


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


class MemoryBudget:
    """What may be held of all cases together between the beginning of their reading and the end of their writing.

    Whoever reads a case enters it; it leaves when it was written. A case larger than the whole budget enters when
    nothing else is held, so that large volumes go through one at a time.

    Args:
        mib: the bound, in MiB of decoded float32 images (:func:`decoded_bytes`). A case that is being worked on takes
            several times as much for a while.

    Raises:
        ValueError: when ``mib`` is not positive.
    """

    def __init__(self, mib: float = 1024) -> None:
        if not mib > 0:
            raise ValueError(f"a memory budget must be a positive number of MiB, got {mib}.")
        self.limit = int(mib * 2**20)
        self._held: dict[Any, int] = {}
        self._claimed: set[Any] = set()
        self._changed = threading.Condition()

    @property
    def held(self) -> int:
        """Bytes of the cases that are held."""
        with self._changed:
            return sum(self._held.values())

    def enter(self, case: Any, size: int, *, wait: bool = False) -> bool:
        """Hold ``size`` bytes for ``case``, if there is room or nothing else is held.

        Args:
            case: what names it.
            size: bytes.
            wait: wait for room.

        Returns:
            Whether there was room; always true after waiting.
        """
        with self._changed:
            while self._held and sum(self._held.values()) + size > self.limit:
                if not wait:
                    return False
                self._changed.wait()
            self._held[case] = size
            return True

    def claim(self, case: Any) -> None:
        """Whoever claims a case lets it leave; the reader does not."""
        with self._changed:
            self._claimed.add(case)

    def passed_on(self, case: Any) -> None:
        """The reader has handed a case over: it leaves, unless somebody claimed it meanwhile."""
        with self._changed:
            if case not in self._claimed:
                self._leave(case)

    def leave(self, case: Any) -> None:
        """The case is done; one that is not held is passed over."""
        with self._changed:
            self._leave(case)

    def clear(self) -> None:
        """Nothing is held any more: a run ended before its time."""
        with self._changed:
            self._held.clear()
            self._claimed.clear()
            self._changed.notify_all()

    def _leave(self, case: Any) -> None:
        self._held.pop(case, None)
        self._claimed.discard(case)
        self._changed.notify_all()
