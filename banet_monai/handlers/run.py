"""Course of a run: its folder, first validation, progress, early stop, closing words."""

from __future__ import annotations

import logging
import os
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch.distributed as dist
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.engines import Evaluator
from monai.handlers import ValidationHandler

from banet_monai.flags import as_flag, as_whole
from banet_monai.handlers.processes import process_rank
from banet_monai.handlers.state import BestCheckpoint

__all__ = [
    "EarlierRun",
    "EarlyStop",
    "EpochValidation",
    "FirstValidation",
    "Progress",
    "RunSummary",
    "output_loss",
    "require_run_folder",
]

logger = logging.getLogger(__name__)

OF_A_RUN = ("state.pt", "state.partial", "model.pt", "events.out.tfevents.*")  # at least one is in its folder
LOGS = (".log", ".out", ".err", ".txt")
FIRST_METRIC = "first_metric"  # attribute of the trainer's state


def require_run_folder(output_dir: str, resume: bool | str = False) -> str:
    """Make the folder of a run, or refuse one that cannot be written or that holds anything else and no run.

    Nothing is moved yet: :class:`EarlierRun` does that, when training begins. With several processes rank 0 does so
    and the others wait for it.

    Args:
        output_dir: folder of the run.
        resume: whether what is there will be taken up; "true" and "false" work too.

    Returns:
        ``output_dir``.

    Raises:
        OSError: when the folder cannot be written, naming it.
        ValueError: when it holds something else than a run, or is the working directory or a folder above it.
    """
    folder, taken_up = Path(output_dir), as_flag(resume, "resume")
    if process_rank() == 0:  # if this raises, torchrun ends the others, which wait below
        try:
            if not taken_up and _holds_results(folder):
                _require_run(folder)
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".write-test"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise _unwritable(folder, error) from error
    _wait_for_others()
    return output_dir


class EarlierRun:
    """Moves an earlier run in the folder aside when training begins, to the next free ``<name>-<number>``.

    Until then the earlier run stays in its place: a start that fails leaves it there, and ``init="present"`` finds its
    weights. With several processes rank 0 does so and the others wait for it.

    Args:
        output_dir: folder of the run, as :func:`require_run_folder` has seen it.
        resume: keep what is there, because it is taken up; "true" and "false" work too.

    Raises:
        OSError: when training begins and the folder cannot be moved, naming it.
    """

    def __init__(self, output_dir: str, resume: bool | str = False) -> None:
        self.folder = Path(output_dir)
        self.stays = as_flag(resume, "resume")

    def attach(self, engine: Engine) -> None:
        """Registers for the start of ``engine``, the trainer; attach it before whatever writes into the folder."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if not self.stays and process_rank() == 0:
            try:
                _move_aside(self.folder)
            except OSError as error:
                raise _unwritable(self.folder, error) from error
        self.stays = True  # a federated client starts anew in every round
        _wait_for_others()


def _move_aside(folder: Path) -> None:
    if not _holds_results(folder):
        return
    number = next(n for n in range(1, 10_000) if not folder.with_name(f"{folder.name}-{n}").exists())
    aside = folder.with_name(f"{folder.name}-{number}")
    folder.rename(aside)
    folder.mkdir()
    logger.info("Results of an earlier run moved to '%s'.", aside)


def _holds_results(folder: Path) -> bool:
    return folder.is_dir() and any(not _is_log(path) for path in folder.iterdir())


def _unwritable(folder: Path, error: OSError) -> OSError:
    return OSError(f"cannot write to folder '{folder}': {error.strerror or error}; give another by --output_dir.")


def _wait_for_others() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def _is_log(path: Path) -> bool:
    """Whether a file may have been made before the run for what it prints, or is hidden."""
    return path.name.startswith(".") or (path.suffix in LOGS and path.is_file())


def _require_run(folder: Path) -> None:
    """Refuse a folder that may be somebody's data."""
    here = Path.cwd().resolve()
    if folder.resolve() in (here, *here.parents):
        raise ValueError(f"output_dir '{folder}' holds the working directory; give a folder of its own.")
    if not any(next(folder.glob(pattern), None) for pattern in OF_A_RUN):
        raise ValueError(
            f"output_dir '{folder}' holds files, and they are of no earlier run: give another folder, or an empty one."
        )


class FirstValidation:
    """Validates once before the first step, so that a run says where it began.

    Args:
        validator: the MONAI evaluator of the run.
        best: the checkpoint writer among the validator's handlers.
        keep: whether the weights of the start count, so that they remain the best until training surpasses them.
            Otherwise what was trained replaces them, better or not; "true" and "false" work too.
    """

    def __init__(self, validator: Any, best: BestCheckpoint | None = None, keep: bool | str = True) -> None:
        self.validator = validator
        self.best = best
        self.keep = as_flag(keep, "keep_start")

    def attach(self, engine: Engine) -> None:
        """Registers for the first epoch of ``engine``, the trainer; attach it before ``EpochSeeder``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.epoch == 1:
            before = self.validator.state.best_metric
            with nullcontext() if self.keep or self.best is None else self.best.suspended():
                self.validator.run(1)
            name = self.validator.state.key_metric_name
            if name not in self.validator.state.metrics:
                raise ValueError(
                    "there is no validation case to measure training by; give more cases, or set a larger share aside. "
                    "(To an annotation server, submit at least three labels.)"
                )
            self.validator.state.best_metric_epoch = 0
            if not self.keep:
                self.validator.state.best_metric = before
            first = float(self.validator.state.metrics[name])
            setattr(engine.state, FIRST_METRIC, first)
            logger.info("Before training: %s %.4f.", name, first)


class EpochValidation(ValidationHandler):
    """MONAI's handler, which also validates after the last epoch: no training ends with weights that nobody measured.

    Args:
        validator: the MONAI evaluator of the run.
        interval: epochs from one validation to the next.
    """

    def __init__(self, validator: Evaluator, interval: int = 1) -> None:
        super().__init__(interval=as_whole(interval, "val_interval"), validator=validator, epoch_level=True)

    def attach(self, engine: Engine) -> None:
        """Registers for epoch ends of ``engine``, the trainer."""
        super().attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_last)

    def _after_last(self, engine: Engine) -> None:
        if engine.state.epoch == engine.state.max_epochs and engine.state.epoch % self.interval:
            self(engine)


class EarlyStop:
    """Ends training when the key metric of validation has not risen for ``patience`` epochs.

    It counts from the epoch of the best validation, which ``ValidatorState`` keeps for a resumed run: one that had
    ended by patience ends at once again.

    Args:
        validator: the MONAI evaluator of the run.
        patience: epochs without a rise before the end; 0 switches it off.
        interval: epochs from one validation to the next.

    Raises:
        ValueError: when no validation would come before the end, or a number is none.
    """

    def __init__(self, validator: Any, patience: int, interval: int = 1) -> None:
        patience = as_whole(patience, "patience", least=0)
        if 0 < patience < interval:
            raise ValueError(
                f"patience {patience} would end training before the next validation, which comes after {interval} "
                "epochs: give a patience of at least val_interval, or 0."
            )
        self.validator = validator
        self.patience = patience
        self.has_begun = False

    def attach(self, engine: Engine) -> None:
        """Registers for start and epoch ends of ``engine``, the trainer; attach it after the state of the run."""
        if self.patience > 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        """The first start alone may be of a resumed run; a federated client starts anew in every round."""
        if not self.has_begun:
            self.has_begun = True
            self(engine)

    def __call__(self, engine: Engine) -> None:
        state = self.validator.state
        if engine.state.epoch - max(state.best_metric_epoch, 0) >= self.patience:
            logger.info(
                "Stopping: %s has not risen since epoch %d.", state.key_metric_name, max(state.best_metric_epoch, 0)
            )
            engine.terminate()


class Progress(ProgressBar):
    """tqdm bar over the steps of an epoch; silent when the output is not a terminal, and on all ranks but 0.

    Over a :class:`banet_monai.data.CaseLoader`, whose batches hold several cases, it counts cases.

    Args:
        desc: text before the bar.
        loss: show the loss of the last step; for trainers.
    """

    def __init__(self, desc: str, *, loss: bool = False) -> None:
        super().__init__(persist=True, desc=desc, disable=True if process_rank() > 0 else None)
        self.loss = loss

    def attach(  # type: ignore[override]
        self, engine: Engine, metric_names: str | list[str] | None = None, output_transform: Any = None
    ) -> None:
        """Registers for every step of ``engine``."""
        if hasattr(getattr(engine, "data_loader", None), "cases"):
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._close)
            return
        shown = output_transform or (_shown_loss if self.loss else None)
        super().attach(engine, metric_names=metric_names, output_transform=shown)

    def _count(self, engine: Any) -> None:
        is_new = self.pbar is None
        if is_new:
            self._reset(engine.data_loader.cases)
        bar: Any = self.pbar
        if is_new:
            bar.n = 0  # ignite begins at 1
            bar.set_description(self.tqdm_kwargs["desc"])
        bar.update(len(engine.state.batch))


def _shown_loss(output: Any) -> dict[str, float]:
    return {"loss": output_loss(output)}


def output_loss(output: Any) -> float:
    """Loss of a training step, from the output of a MONAI trainer, decollated or not."""
    first = output[0] if isinstance(output, list) else output
    return float(first["loss"].detach())


class RunSummary:
    """Says at the end of training where it began, what was reached, where the weights lie and how to use them.

    Args:
        validator: the MONAI evaluator of the run.
        checkpoint: path of the best weights.
    """

    def __init__(self, validator: Any, checkpoint: str) -> None:
        self.validator = validator
        self.checkpoint = checkpoint

    def attach(self, engine: Engine) -> None:
        """Registers for the end of ``engine``, the trainer."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        state = self.validator.state
        began = getattr(engine.state, FIRST_METRIC, None)
        logger.info(
            "Finished after epoch %d: best %s %.4f at epoch %d%s.",
            engine.state.epoch,
            state.key_metric_name,
            state.best_metric,
            state.best_metric_epoch,
            "" if began is None else f", before training {began:.4f}",
        )
        path = shlex.quote(os.path.relpath(self.checkpoint))
        logger.info("Best weights: %s. To use them, add to the inference command: --checkpoint %s", path, path)
