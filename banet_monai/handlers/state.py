"""State of a run: reseeding, best checkpoint, exact resume."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from monai.handlers import CheckpointSaver

from banet_monai.flags import as_flag
from banet_monai.handlers.processes import process_rank

__all__ = ["BestCheckpoint", "EpochSeeder", "TrainingState", "ValidatorState"]

logger = logging.getLogger(__name__)


class EpochSeeder:
    """Reseeds every source of randomness when an epoch starts, with a mixture of seed, epoch and rank.

    The random state is then a function of these alone: a resumed run repeats what an uninterrupted one does.

    Args:
        seed: seed of the run.
        dataset: its random transforms are reseeded too (MONAI keeps a generator in each).
    """

    def __init__(self, seed: int, dataset: torch.utils.data.Dataset[Any] | None = None) -> None:
        self.seed = seed
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        """Registers for the start of every epoch of ``engine``, the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        seed = (self.seed + 1_000_003 * engine.state.epoch + 7_368_787 * process_rank()) % (2**32)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - libraries below still draw from the global generator
        torch.manual_seed(seed)
        if self.dataset is not None:
            set_rnd(self.dataset, seed=seed)


def _keep(filename: str) -> None:
    """Leave the file where it is."""


class BestCheckpoint(CheckpointSaver):
    """MONAI's ``CheckpointSaver`` for the best validation, as a flat state dictionary written beside and then renamed.

    Args:
        save_dir: folder of the checkpoint; made when it does not exist.
        save_dict: exactly one entry, so that the file is a flat state dictionary (the model zoo's form).
        key_metric_filename: name of the file.
    """

    def __init__(self, save_dir: str, save_dict: dict[str, Any], key_metric_filename: str = "model.pt") -> None:
        super().__init__(save_dir, save_dict, save_key_metric=True, key_metric_filename=key_metric_filename)
        disk: Any = self._key_metric_checkpoint.save_handler  # type: ignore[union-attr]
        disk._atomic = True
        disk.remove = _keep  # the file is replaced under its own name; removed first, a kill would leave none
        self._suspended = False

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Within it, a validation neither writes a checkpoint nor counts for the best one."""
        self._suspended = True
        try:
            yield
        finally:
            self._suspended = False

    def metrics_completed(self, engine: Engine) -> None:
        if self._suspended:
            return
        super().metrics_completed(engine)
        path = Path(self.save_dir) / self._key_metric_checkpoint.save_handler.filename  # type: ignore[union-attr]
        if process_rank() == 0 and path.is_file():
            path.chmod(0o644)  # the atomic writer leaves a file that only its owner can read

    def record(self) -> list[tuple[float, str]]:
        """Metric and file name of the checkpoint that is on disk, in a list of at most one."""
        return list(self._key_metric_checkpoint.state_dict()["_saved"])  # type: ignore[union-attr]


class TrainingState:
    """Writes the whole state of a run after every epoch and takes it up again: an interrupted run loses one epoch.

    Random state needs no saving because ``EpochSeeder`` makes it a function of the epoch. The file is written beside
    and renamed, so that a kill at any moment leaves the last complete one.

    Args:
        path: file of the state, a tensor-only dictionary (loads with ``weights_only=True``).
        parts: objects with ``state_dict`` and ``load_state_dict`` by name: network, optimiser, schedule, averaging, …
        resume: take up the state when the file exists; otherwise start anew and overwrite it. "true" and "false" work
            too.
    """

    def __init__(self, path: str, parts: Mapping[str, Any], resume: bool | str = False) -> None:
        self.path = Path(path)
        self.parts = dict(parts)
        self.resume = as_flag(resume, "resume")

    def attach(self, engine: Engine) -> None:
        """Registers for start and epoch end of ``engine``, the trainer; attach it after validation."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: Engine) -> None:
        """Writes the state (rank 0 only)."""
        if process_rank() != 0:
            return
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state["progress"] = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".partial")
        torch.save(state, beside)
        beside.replace(self.path)

    def load(self, engine: Engine) -> None:
        """Takes up the state, if asked for and there.

        Raises:
            ValueError: when the file does not belong to this configuration.
        """
        if not self.resume:
            return
        if not self.path.is_file():
            logger.info("No run to resume at '%s': starting anew.", self.path)
            return
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        missing = sorted(self.parts.keys() ^ (state.keys() - {"progress"}))
        if missing:
            raise ValueError(f"'{self.path}' was written by another configuration: {missing} differ; use resume=False.")
        for name, part in self.parts.items():
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, KeyError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise ValueError(f"'{self.path}' does not fit this configuration in '{name}': {reason}") from error
        epoch, iteration = state["progress"]["epoch"], state["progress"]["iteration"]
        length = engine.state.epoch_length
        if length is not None and iteration != epoch * length:
            raise ValueError(
                f"'{self.path}' does not fit this configuration: its epochs have {iteration / max(1, epoch):g} steps, "
                f"and now {length}; use the same training cases, batch_size and number of processes, or "
                "resume=False."
            )
        engine.state.epoch, engine.state.iteration = epoch, iteration
        logger.info("Resumed after epoch %d.", engine.state.epoch)


class ValidatorState:
    """The part of a validator that a resumed run needs: its best value and the record of the best checkpoint.

    Args:
        validator: MONAI evaluator.
        best: the checkpoint writer among its handlers.
    """

    def __init__(self, validator: Any, best: BestCheckpoint) -> None:
        self.validator = validator
        self.best = best

    def state_dict(self) -> dict[str, Any]:
        """Best value, its epoch and the record of the checkpoint writer."""
        state = self.validator.state
        return {
            "best_metric": float(state.best_metric),
            "best_metric_epoch": int(state.best_metric_epoch),
            "saved": [[float(priority), name] for priority, name in self.best.record()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what ``state_dict`` gave."""
        self.validator.state.best_metric = state["best_metric"]
        self.validator.state.best_metric_epoch = state["best_metric_epoch"]
        self.best.load_state_dict({"_saved": [(priority, name) for priority, name in state["saved"]]})
