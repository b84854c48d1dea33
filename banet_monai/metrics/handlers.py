"""Ignite handler that writes the table of cases of a MONAI evaluator."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor, decollate_batch
from monai.utils import ImageMetaKey

from banet_monai.metrics.boundary import DILATION_RATIO
from banet_monai.metrics.distances import TOLERANCE
from banet_monai.metrics.masks import grid_spacing
from banet_monai.metrics.table import METRICS, RESAMPLES, CaseRow, CaseTable, format_summary
from banet_monai.processes import gather, process_count, process_rank

__all__ = ["CaseTableHandler", "case_names"]

logger = logging.getLogger(__name__)


class _Source(NamedTuple):
    """Where a case came from: the name it was given and the path of its file, each "" where it is not known."""

    given: str
    path: str


class CaseTableHandler:
    """Writes ``cases.csv`` and ``summary.json`` of every run of an evaluator, and logs the summary.

    Attached to the evaluator, it reads ``engine.state.output`` after each iteration (post-processing included) and
    measures every case in the geometry of its label. At the end of the epoch it gathers the rows of all processes,
    writes both files on rank 0 (each complete or not at all; those of an earlier run are replaced) and puts the means
    and the number of misses into ``engine.state.metrics``, as ``<metric_prefix>ja`` and so on. Under several processes
    a case that the sampler has handed out twice counts once.

    A case is called by the ``"name"`` of its data dictionary, or else after its file. One with a non-empty
    ``"failure"`` (see :class:`banet_monai.data.CaseDataset`) is left out and counted as ``failed`` in the summary; when
    every case failed, no file is written.

    Args:
        output_dir: folder of both files, created when missing.
        class_names: names of the foreground classes, in the order of their label ids 1, 2, ...
        filename: name of the table.
        summary_filename: name of the summary.
        metric_prefix: put before the names in ``engine.state.metrics``.
        image_key: entry whose meta data name a case that has no ``"name"``: file name without folder and suffix.
        pred_key: entry of the prediction: label ids ``(1, *spatial)``, one binary mask per class, or one-hot.
        label_key: entry of the truth, in any of these forms; its affine gives the spacing, see
            :func:`banet_monai.metrics.grid_spacing`.
        nsd_tolerance: in mm for cases whose spacing is known, else in pixels.
        dilation_ratio: width of the Boundary IoU band as a share of the image diagonal.
        resamples: number of bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: in a run, when an entry is missing, sizes differ, a mask holds other values, or no case came.
        OSError: when a file cannot be written.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        filename: str = "cases.csv",
        summary_filename: str = "summary.json",
        metric_prefix: str = "val_",
        image_key: str = "image",
        pred_key: str = "pred",
        label_key: str = "label",
        nsd_tolerance: float = TOLERANCE,
        dilation_ratio: float = DILATION_RATIO,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.filename = filename
        self.summary_filename = summary_filename
        self.metric_prefix = metric_prefix
        self.image_key, self.pred_key, self.label_key = image_key, pred_key, label_key
        self.resamples = resamples
        self.seed = seed
        self.table = CaseTable(class_names, tolerance=nsd_tolerance, dilation_ratio=dilation_ratio)
        self._sources: list[_Source] = []  # one per case of the table
        self._failed: list[str] = []  # names of the cases that are left out

    def attach(self, engine: Engine) -> None:
        """Follow the epochs of ``engine``, a MONAI evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self.table.rows.clear()
        self._sources.clear()
        self._failed.clear()

    def _collect(self, engine: Engine) -> None:
        cases, inputs = _items(engine.state.output), _items(engine.state.batch)
        if len(inputs) != len(cases):  # an engine whose batch is no list of data dictionaries
            inputs = cases
        for case, data in zip(cases, inputs, strict=True):
            given = str(data.get("name") or "")
            if data.get("failure"):
                self._failed.append(given)
                continue
            if missing := [key for key in (self.pred_key, self.label_key) if key not in case]:
                raise ValueError(
                    f"the evaluator's output lacks {missing}, it has {sorted(case)}; a table needs predictions and "
                    "their labels: check pred_key and label_key, or leave the handler out."
                )
            pred, label = (torch.as_tensor(case[key]) for key in (self.pred_key, self.label_key))
            path = _source_path(case.get(self.image_key)) or _source_path(label)
            name = given or _stem(path) or f"number {len(self._sources) + 1}"
            try:
                spacing = grid_spacing(label)
            except ValueError as error:
                raise ValueError(f"case '{name}': {error}") from error
            self.table.add(name, pred, label, spacing=spacing)
            self._sources.append(_Source(given, path))

    def _finish(self, engine: Engine) -> None:
        self.table.rows, failed = self._gather()
        if failed and not self.table.rows:
            logger.error("All %d cases failed: there is no table.", failed)
            if process_rank() == 0:
                for name in (self.filename, self.summary_filename):  # those of an earlier run would pass for ours
                    (self.output_dir / name).unlink(missing_ok=True)
            return
        summary = {**self.table.summary(seed=self.seed, resamples=self.resamples), "failed": failed}
        overall = summary["overall"]
        for name in METRICS:
            if overall["metrics"][name] is not None:
                engine.state.metrics[f"{self.metric_prefix}{name}"] = overall["metrics"][name]["mean"]
        engine.state.metrics[f"{self.metric_prefix}misses"] = overall["misses"]
        if process_rank() == 0:
            csv_path = self.output_dir / self.filename
            self.table.write(csv_path, self.output_dir / self.summary_filename, summary)
            left_out = f", {failed} failed and left out" if failed else ""
            logger.info("%d cases%s, table in %s\n%s", summary["n"], left_out, csv_path, format_summary(summary))

    def _gather(self) -> tuple[list[CaseRow], int]:
        """Rows of all processes under their final names, sorted by case, and the number of failed cases."""
        n_classes = len(self.table.class_names)
        rows = [asdict(row) for row in self.table.rows]
        cases = [[*source, rows[i * n_classes : (i + 1) * n_classes]] for i, source in enumerate(self._sources)]
        parts = gather([cases, self._failed])
        gathered = [(_Source(given, path), rows) for cases, _ in parts for given, path, rows in cases]
        failed = [name for _, names in parts for name in names]
        if process_count() > 1:
            known = {source: rows for source, rows in reversed(gathered) if any(source)}
            gathered = [*known.items(), *(item for item in gathered if not any(item[0]))]
            failed = sorted(set(failed))
        names = [source.given for source, _ in gathered]
        if not all(names) or len(set(names)) < len(names):
            names = case_names([source.path for source, _ in gathered])
        named = sorted(zip(names, (rows for _, rows in gathered), strict=True), key=lambda item: item[0])
        return [replace(CaseRow(**row), case=name) for name, rows in named for row in rows], len(failed)


def case_names(sources: Sequence[str]) -> list[str]:
    """Short names of cases from the paths of their files, all different and free of absolute paths.

    The file's name without suffix; where several files share it, the path below their common folder; where that is
    still not enough (several cases of one file), a running number that makes it the name of no other case. A case
    without a path is ``case_0001`` and so on.
    """
    stems = [_stem(source) for source in sources]
    counts = Counter(stems)
    # a list may mix relative and absolute paths
    folders = [PurePath(os.path.normpath(Path(source).absolute())).parent for source in sources]
    shared = [folder for folder, stem in zip(folders, stems, strict=True) if stem and counts[stem] > 1]
    root = os.path.commonpath(shared) if shared else ""
    names = []
    for number, (folder, stem) in enumerate(zip(folders, stems, strict=True), start=1):
        name = stem or f"case_{number:04d}"
        if stem and counts[stem] > 1:
            name = PurePath(os.path.relpath(folder, root), stem).as_posix()
        names.append(name)
    return _all_different(names)


def _all_different(names: Sequence[str]) -> list[str]:
    """The first of equal names stays; the others get a number from 2 on that makes no name of another case."""
    given, used = set(names), dict[str, None]()  # which keeps the order
    for name in names:
        different, number = name, 1
        while different in used or (number > 1 and different in given):
            number += 1
            different = f"{name}_{number}"
        used[different] = None
    return list(used)


def _items(batch: Any) -> list[Any]:
    """The cases of a batch, decollated or not; none for what is neither."""
    if isinstance(batch, Mapping):
        return list(decollate_batch(batch))
    return list(batch) if isinstance(batch, Sequence) and all(isinstance(case, Mapping) for case in batch) else []


def _source_path(image: Any) -> str:
    """Path of the file an image was read from, of the folder for several files, "" where it is not known."""
    if not isinstance(image, MetaTensor):
        return ""
    name = image.meta.get(ImageMetaKey.FILENAME_OR_OBJ, "")
    if isinstance(name, str | os.PathLike):
        return os.fspath(name)
    paths = [os.fspath(path) for path in name]
    return os.path.commonpath(paths) if paths else ""


def _stem(source: str) -> str:
    """Name of a file without its suffix; an all-digit ending belongs to the name (DICOM files named by their UID)."""
    name = PurePath(source).name
    for suffix in (".nii.gz", PurePath(name).suffix):
        if suffix and not suffix[1:].isdigit() and name.lower().endswith(suffix.lower()):
            return name[: -len(suffix)]
    return name
