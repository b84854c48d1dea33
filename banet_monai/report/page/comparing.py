"""Figures against truth for runs that had none: the same metrics and intervals as ``banet evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from banet_monai.report.page.loading import CaseArrays

if TYPE_CHECKING:
    from banet_monai.metrics.table import CaseRow

__all__ = ["compare", "figures_of", "highest_label", "summary_of"]

ONE_CLASS = "foreground"


def highest_label(case: CaseArrays) -> int:
    """Number of classes that prediction and truth of a case show, at least one."""
    arrays = [array for array in (case.labels, case.truth) if array is not None]
    return max([1, *(int(array.max(initial=0)) for array in arrays)])


def compare(name: str, case: CaseArrays, num_classes: int) -> list[CaseRow]:
    """One row per class; none where the case lacks a mask or a truth."""
    import torch

    from banet_monai.metrics.masks import Spacing
    from banet_monai.metrics.table import CaseTable

    if case.labels is None or case.truth is None:
        return []
    pred, truth = (torch.from_numpy(ids.copy())[None] for ids in (case.labels, case.truth))
    return CaseTable(_names(num_classes)).add(name, pred, truth, spacing=Spacing(case.spacing, case.unit))


def figures_of(rows: Sequence[CaseRow]) -> dict[str, dict[str, float]]:
    """Class name to figures, as :class:`banet_monai.report.page.results.CaseResult` has them."""
    return {
        row.class_name: {key: float(value) for key, value in asdict(row).items() if isinstance(value, (int, float))}
        for row in rows
    }


def summary_of(rows: Sequence[CaseRow], num_classes: int) -> dict[str, Any]:
    """Means and intervals as ``summary.json`` has them; empty without any row."""
    from banet_monai.metrics.table import CaseTable

    table = CaseTable(_names(num_classes))
    table.rows = list(rows)
    return table.summary() if rows else {}


def _names(num_classes: int) -> list[str]:
    return [ONE_CLASS] if num_classes == 1 else [f"label {number}" for number in range(1, num_classes + 1)]
