"""A table with one row per case and class, and its summary with bootstrap intervals.

Columns: ``case``, ``class``, the metrics of :data:`METRICS`, ``unit`` of the distances (``mm`` or ``px``), the pixels
of truth and prediction, and ``missed``: 1 where the truth holds foreground and the prediction overlaps none of it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from banet_monai.files import write_text_beside
from banet_monai.machine import one_core
from banet_monai.metrics.boundary import DILATION_RATIO, boundary_iou
from banet_monai.metrics.distances import TOLERANCE, assd, hd95, nsd
from banet_monai.metrics.masks import Spacing, foreground_masks
from banet_monai.metrics.overlap import accuracy, dice, jaccard, sensitivity, specificity

__all__ = ["METRICS", "CaseRow", "CaseTable", "bootstrap_interval", "format_summary"]

OVERLAP = {"ja": jaccard, "dice": dice, "sensitivity": sensitivity, "specificity": specificity, "accuracy": accuracy}
METRICS = (*OVERLAP, "boundary_iou", "hd95", "assd", "nsd")
IN_UNITS = ("hd95", "assd", "nsd")  # depend on the unit of the spacing
LOW_JA = 0.65  # threshold of the ISIC 2018 challenge: below it an outline counts as failed
RESAMPLES = 2000  # bootstrap samples
LEVEL = 0.95  # of the interval
DIGITS = 6


@dataclass(frozen=True)
class CaseRow:
    """Figures of one class of one case; distances in ``unit``."""

    case: str
    class_name: str
    ja: float
    dice: float
    sensitivity: float
    specificity: float
    accuracy: float
    boundary_iou: float
    hd95: float
    assd: float
    nsd: float
    unit: str
    true_pixels: int
    predicted_pixels: int
    missed: bool

    @property
    def false_alarm(self) -> bool:
        """Foreground was predicted where the truth holds none."""
        return self.true_pixels == 0 and self.predicted_pixels > 0


class CaseTable:
    """Collects the rows of a validation or test set.

    Args:
        class_names: names of the foreground classes, in the order of their label ids 1, 2, ...
        tolerance: of NSD, in mm for cases whose spacing is known, else in pixels.
        dilation_ratio: width of the Boundary IoU band as a share of the image diagonal.

    Raises:
        ValueError: when there is no class or a name comes twice.
    """

    def __init__(
        self, class_names: Sequence[str], *, tolerance: float = TOLERANCE, dilation_ratio: float = DILATION_RATIO
    ) -> None:
        self.class_names = tuple(class_names)
        if isinstance(class_names, str) or not self.class_names or len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f"class_names must be a list of different names, at least one, got {class_names!r}.")
        self.tolerance = tolerance
        self.dilation_ratio = dilation_ratio
        self.rows: list[CaseRow] = []

    def add(
        self, case: str, pred: torch.Tensor, label: torch.Tensor, *, spacing: Spacing | None = None
    ) -> list[CaseRow]:
        """Measure one case, and keep and return its rows, one per class.

        Args:
            case: name of the case.
            pred: predicted mask, channel first: label ids ``(1, *spatial)``, one binary mask per class, or one-hot with
                the background first.
            label: true mask of the same size, in any of these forms.
            spacing: distance between pixels and its unit; pixels by default.

        Raises:
            ValueError: naming the case, when sizes differ or a mask holds anything but label ids or 0 and 1.
        """
        try:
            with one_core():  # short operations on masks; SciPy, which takes the time, has one anyhow
                rows = self._measure(case, pred, label, spacing or Spacing((1.0,) * (label.ndim - 1), "px"))
        except ValueError as error:
            raise ValueError(f"case '{case}': {error}") from error
        self.rows += rows
        return rows

    def _measure(self, case: str, pred: torch.Tensor, label: torch.Tensor, spacing: Spacing) -> list[CaseRow]:
        if pred.shape[1:] != label.shape[1:]:
            raise ValueError(
                f"prediction and truth must have one size, got {tuple(pred.shape[1:])} and {tuple(label.shape[1:])}."
            )
        n_classes = len(self.class_names)
        y_pred, y = (foreground_masks(mask.cpu(), n_classes)[None] for mask in (pred, label))
        steps = spacing.values
        values = {name: function(y_pred, y)[0] for name, function in OVERLAP.items()}
        values["boundary_iou"] = boundary_iou(y_pred, y, dilation_ratio=self.dilation_ratio)[0]
        values["hd95"] = hd95(y_pred, y, spacing=steps)[0]
        values["assd"] = assd(y_pred, y, spacing=steps)[0]
        values["nsd"] = nsd(y_pred, y, tolerance=self.tolerance, spacing=steps)[0]

        rows = []
        for index, class_name in enumerate(self.class_names):
            n_true, n_pred = int(y[0, index].sum()), int(y_pred[0, index].sum())
            missed = n_true > 0 and not bool((y[0, index] & y_pred[0, index]).any())
            figures = {name: float(of_class[index]) for name, of_class in values.items()}
            rows.append(
                CaseRow(
                    case,
                    class_name,
                    **figures,
                    unit=spacing.unit,
                    true_pixels=n_true,
                    predicted_pixels=n_pred,
                    missed=missed,
                )
            )
        return rows

    def to_csv(self) -> str:
        """The table as CSV text, one line per case and class, in the order they were added."""
        text = io.StringIO()
        names = [field.name for field in fields(CaseRow)]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["class" if name == "class_name" else name for name in names])
        for row in self.rows:
            writer.writerow([_cell(value) for value in asdict(row).values()])
        return text.getvalue()

    def summary(self, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Any]:
        """Mean, 95 % interval and median of every metric, and the counts that a mean hides.

        ``overall`` takes the mean over the classes of each case; its ``misses`` and ``false_alarms`` count cases with
        at least one. Distances of cases in mm and in pixels are not averaged together: then they are ``None``. One case
        alone says nothing of how cases differ: its intervals are ``None``.

        Args:
            seed: of the bootstrap; the same seed and rows give the same intervals.
            resamples: number of bootstrap samples over cases.

        Raises:
            ValueError: when no case was added.
        """
        if not self.rows:
            raise ValueError("the table holds no case: add at least one before asking for a summary.")
        by_case: dict[str, list[CaseRow]] = {}
        for row in self.rows:
            by_case.setdefault(row.case, []).append(row)
        if len(by_case) * len(self.class_names) != len(self.rows):
            raise ValueError("each case must be added once: two cases of the table have the same name.")
        units = {row.unit for row in self.rows}
        groups = {
            name: [[row for row in rows if row.class_name == name] for rows in by_case.values()]
            for name in self.class_names
        }
        mixed = len(units) > 1
        return {
            "n": len(by_case),
            "unit": units.pop() if len(units) == 1 else "mixed",
            "nsd_tolerance": self.tolerance,
            "boundary_iou_ratio": self.dilation_ratio,
            "low_ja": LOW_JA,
            "interval": {
                "method": "percentile bootstrap over cases",
                "level": LEVEL,
                "resamples": resamples,
                "seed": seed,
            },
            "overall": _summarise(list(by_case.values()), seed, resamples, mixed_units=mixed),
            "classes": {name: _summarise(rows, seed, resamples, mixed_units=mixed) for name, rows in groups.items()},
        }

    def write(self, csv_path: Path, summary_path: Path, summary: dict[str, Any]) -> None:
        """Write both files, each complete or not at all.

        Raises:
            OSError: naming the file, when the folder is not writable or full.
        """
        _write_whole(Path(csv_path), self.to_csv())
        _write_whole(Path(summary_path), json.dumps(summary, indent=4) + "\n")


def bootstrap_interval(
    values: npt.NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Percentile bootstrap interval of the mean over cases.

    Args:
        values: ``(cases,)`` or ``(cases, metrics)``; the metrics of one case stay together.
        seed: of NumPy's default generator.
        resamples: number of samples drawn, with replacement, each of as many cases as there are.
        level: of the interval, 0 to 1.

    Returns:
        Lower and upper bound, each of shape ``()`` or ``(metrics,)``.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    generator = np.random.default_rng(seed)
    n_cases = len(values)
    means = [values[generator.integers(n_cases, size=n_cases)].mean(axis=0) for _ in range(resamples)]
    low, high = np.quantile(np.stack(means), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _summarise(cases: list[list[CaseRow]], seed: int, resamples: int, *, mixed_units: bool) -> dict[str, Any]:
    """Summary over cases, each given by the rows of one or of all classes."""
    values = np.array([[np.mean([getattr(row, name) for row in rows]) for name in METRICS] for rows in cases])
    low, high = bootstrap_interval(values, seed=seed, resamples=resamples)
    figures = np.stack([values.mean(axis=0), low, high, np.median(values, axis=0)], axis=1).round(DIGITS).tolist()
    metrics: dict[str, Any] = {}
    for name, (mean, lower, upper, median) in zip(METRICS, figures, strict=True):
        metrics[name] = {"mean": mean, "interval": [lower, upper] if len(cases) > 1 else None, "median": median}
    if mixed_units:
        metrics |= dict.fromkeys(IN_UNITS)
    return {
        "n": len(cases),
        "misses": sum(any(row.missed for row in rows) for rows in cases),
        "false_alarms": sum(any(row.false_alarm for row in rows) for rows in cases),
        "ja_below_low": int((values[:, METRICS.index("ja")] < LOW_JA).sum()),
        "metrics": metrics,
    }


def format_summary(summary: dict[str, Any]) -> str:
    """The summary of :meth:`CaseTable.summary` as Markdown: one line of counts and one table per class."""
    groups = dict(summary["classes"])
    if len(groups) > 1:
        groups["mean over classes"] = summary["overall"]
    interval = f"{100 * summary['interval']['level']:g} % interval"
    blocks = []
    for name, group in groups.items():
        lines = [
            f"**{name}**: {group['n']} cases, {group['misses']} missed, {group['false_alarms']} false alarms, "
            f"{group['ja_below_low']} with JA below {summary['low_ja']:g}",
            "",
            f"| metric | mean | {interval} | median |",
            "|---|---|---|---|",
        ]
        lines += [_line(_label(metric, summary), figures) for metric, figures in group["metrics"].items()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _label(metric: str, summary: dict[str, Any]) -> str:
    unit = summary["unit"]
    if metric == "nsd":
        return f"NSD at {summary['nsd_tolerance']:g} {unit}"
    names = {"ja": "JA", "hd95": f"HD95 ({unit})", "assd": f"ASSD ({unit})", "boundary_iou": "Boundary IoU"}
    return names.get(metric, metric.capitalize())


def _line(name: str, figures: dict[str, Any] | None) -> str:
    if figures is None:
        return f"| {name} | cases in mm and in pixels | | |"
    interval = " to ".join(f"{end:.4f}" for end in figures["interval"] or ())  # one case alone has none
    return f"| {name} | {figures['mean']:.4f} | {interval} | {figures['median']:.4f} |"


def _cell(value: str | float | int | bool) -> str | int:
    if isinstance(value, float):
        return f"{value:.{DIGITS}f}"
    return int(value) if isinstance(value, bool) else value


def _write_whole(path: Path, text: str) -> None:
    try:
        write_text_beside(path, text)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write the table: {error.strerror}; choose a writable folder with free space",
            str(path),
        ) from error
