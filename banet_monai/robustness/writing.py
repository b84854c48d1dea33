"""The files of a run: JSON, tables, plot and page, each whole or not there."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from banet_monai.files import write_beside
from banet_monai.robustness.measuring import CaseRow
from banet_monai.robustness.page import page
from banet_monai.robustness.plots import draw
from banet_monai.robustness.tables import to_csv
from banet_monai.uncertainty import calibration_error

__all__ = ["CASES", "PAGE", "PLOT", "SUMMARY", "TABLE", "write_results"]

SUMMARY, TABLE, CASES, PLOT, PAGE = (
    "robustness.json",
    "robustness.csv",
    "robustness_cases.csv",
    "robustness.svg",
    "robustness.html",
)
DIGITS = 6


def write_results(folder: Path, summary: Mapping[str, Any], rows: Sequence[CaseRow]) -> list[Path]:
    """Write all files.

    Args:
        folder: where; it is made.
        summary: of :func:`banet_monai.robustness.summary.summarise`; facts of the run under ``"facts"``.
        rows: of the cases.

    Returns:
        Their paths, the page first.

    Raises:
        OSError: when one cannot be written.
    """
    contents = {
        PAGE: page(summary),
        SUMMARY: json.dumps(summary, indent=1, allow_nan=False) + "\n",
        TABLE: to_csv(summary),
        CASES: _cases(rows),
        PLOT: draw(summary),
    }
    return [_write(folder / name, text) for name, text in contents.items()]


def _write(path: Path, text: str) -> Path:
    content = text.encode("utf-8", "backslashreplace")  # a file name that is no UTF-8
    return write_beside(path, lambda partial: partial.write_bytes(content))


def _cases(rows: Sequence[CaseRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = ("ja", "boundary_iou", "ece", "expected_error")
    writer.writerow(["case", "corruption", "strength", "amount", *figures, "missed"])
    for row in rows:
        ece = float(calibration_error(np.array(row.bins)))
        values = (row.ja, row.boundary_iou, ece, row.expected_error)
        cells = [f"{value:.{DIGITS}f}" for value in values]
        writer.writerow([row.case, row.corruption, row.strength, row.amount, *cells, int(row.missed)])
    return text.getvalue()
