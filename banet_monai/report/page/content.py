"""What a page is made from: its cases and the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from banet_monai.report.page.figures import Column, unit_of
from banet_monai.report.page.html import Html
from banet_monai.report.page.results import CaseResult, Results

__all__ = ["Page", "PageCase"]


@dataclass(frozen=True)
class PageCase:
    """A case as the page shows it.

    Attributes:
        result: what the run says of it.
        figures: by the keys of the columns.
        unit: of lengths that were measured; those against truth have the unit of the table.
        notes: warnings of the run and what could not be shown.
        private: attributes of the patient to show, where somebody asked for them.
        has_card: whether it stands among the pictures, not in the table alone.
        pictures: its strips as markup.
        shows: what is to be seen on them: ``"truth"``, ``"chords"``, ``"uncertainty"``.
    """

    result: CaseResult
    figures: Mapping[str, float]
    unit: str = "px"
    notes: tuple[str, ...] = ()
    private: Mapping[str, str] = field(default_factory=dict)
    has_card: bool = False
    pictures: Html = field(default_factory=lambda: Html(""))
    shows: frozenset[str] = frozenset()

    def unit_of(self, column: Column) -> str:
        """Unit of a figure of this case, as it is written."""
        return unit_of(column, self.result.unit if column.group == "truth" else self.unit)


@dataclass(frozen=True)
class Page:
    """All that a page shows.

    Attributes:
        title: heading and name of the page.
        results: the folder.
        cases: in their first order.
        columns: figures that at least one case has.
        sorted_by: key of the figure that decides the order, or "name".
        ascending: its direction.
        summary: means and intervals, as ``summary.json`` has them; empty without truth.
    """

    title: str
    results: Results
    cases: Sequence[PageCase]
    columns: Sequence[Column]
    sorted_by: str
    ascending: bool
    summary: Mapping[str, Any]

    def units(self, column: Column) -> list[str]:
        """Units in which the cases have a figure: normally one."""
        return sorted({case.unit_of(column) for case in self.cases if column.key in case.figures})

    @property
    def columns_with_units(self) -> list[tuple[Column, str]]:
        """Columns of the table: cases in mm and in pixels do not share one."""
        return [(column, unit) for column in self.columns for unit in self.units(column)]

    @property
    def cards(self) -> list[tuple[int, PageCase]]:
        """Cases with pictures, with their numbers in the first order from 1."""
        return [(number, case) for number, case in enumerate(self.cases, start=1) if case.has_card]
