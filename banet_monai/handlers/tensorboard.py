"""TensorBoard: one event file per run."""

from __future__ import annotations

import atexit
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banet_monai.handlers.processes import process_rank

__all__ = ["EventWriter"]


class EventWriter:
    """Writer of one TensorBoard event file; with several processes only that of rank 0 writes.

    All handlers of a run share it. The file is made by the first entry.

    Args:
        log_dir: folder of the event file.
    """

    def __init__(self, log_dir: str) -> None:
        self.log_dir = log_dir
        self._writer: Any = None

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Adds a point to the curve ``tag``."""
        if process_rank() == 0:
            self._opened().add_scalar(tag, scalar_value, global_step)

    def add_image(self, tag: str, image: NDArray[np.uint8], global_step: int) -> None:
        """Adds a picture ``(rows, columns, 3)`` uint8."""
        if process_rank() == 0:
            self._opened().add_image(tag, image, global_step, dataformats="HWC")

    def flush(self) -> None:
        """Writes to the disk what was added."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Writes what is left; the next entry would open a second file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _opened(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and not needed for inference

            self._writer = SummaryWriter(self.log_dir)
            atexit.register(self.close)
        return self._writer
