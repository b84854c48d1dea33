"""The figures of cases: what they are called, how they are written, which of them a table has, and the first order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "COLUMNS",
    "MISSING",
    "Column",
    "columns_of",
    "first_order",
    "known_figures",
    "mean_figures",
    "unit_of",
    "written",
]

MISSING = "–"  # noqa: RUF001  # an en dash, where there is no figure


@dataclass(frozen=True)
class Column:
    """One figure.

    Attributes:
        key: its name in the figures of a case.
        heading: over its column, without the unit.
        unit: ``"length"``, ``"area"``, ``"volume"``, a unit as it is written, or "".
        digits: after the decimal point; None: three significant ones.
        worst: which cases come first when somebody sorts by it: ``"low"`` or ``"high"``.
        group: ``"truth"``, ``"uncertainty"`` or ``"measured"``.
        on_card: whether it stands beside the pictures of a case too, not in the table alone.
    """

    key: str
    heading: str
    unit: str = ""
    digits: int | None = None
    worst: str = "high"
    group: str = "measured"
    on_card: bool = True


COLUMNS = (
    Column("ja", "JA", "", 3, "low", "truth"),
    Column("dice", "Dice", "", 3, "low", "truth"),
    Column("boundary_iou", "Boundary IoU", "", 3, "low", "truth"),
    Column("hd95", "HD95", "length", None, "high", "truth"),
    Column("assd", "ASSD", "length", None, "high", "truth"),
    Column("nsd", "NSD", "", 3, "low", "truth"),
    Column("sensitivity", "Sensitivity", "", 3, "low", "truth", on_card=False),
    Column("specificity", "Specificity", "", 3, "low", "truth", on_card=False),
    Column("uncertainty", "Uncertainty", "", 3, "high", "uncertainty"),
    Column("area", "Area", "area"),
    Column("volume", "Volume", "volume"),
    Column("perimeter", "Perimeter", "length"),
    Column("surface", "Surface", "area"),
    Column("longest_diameter", "Longest diameter", "length"),
    Column("perpendicular_diameter", "Perpendicular", "length"),
    Column("equivalent_diameter", "Equivalent diameter", "length"),
    Column("circularity", "Circularity", "", 3, "low"),
    Column("sphericity", "Sphericity", "", 3, "low"),
    Column("solidity", "Solidity", "", 3, "low"),
    Column("border_irregularity", "Border irregularity", "", 3),
    Column("asymmetry", "Asymmetry", "", 3),
    Column("components", "Components", "", 0),
    Column("border_distance", "To the border", "length", None, "low"),
)
POWERS = {"length": "", "area": "²", "volume": "³"}


def unit_of(column: Column, unit: str) -> str:
    """The unit of a column where lengths are in ``unit``; volumes in mm are written in ml."""
    if column.unit == "volume" and unit == "mm":
        return "ml"
    return f"{unit}{POWERS[column.unit]}" if column.unit in POWERS else column.unit


def mean_figures(classes: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Figures of a case against truth: the means over its classes."""
    known = {column.key for column in COLUMNS if column.group == "truth"}
    rows = list(classes.values())
    return {key: sum(row.get(key, math.nan) for row in rows) / len(rows) for key in known if rows and key in rows[0]}


def columns_of(cases: Sequence[Mapping[str, float]]) -> list[Column]:
    """Columns that at least one case has a figure for, in the order of :data:`COLUMNS`."""
    return [column for column in COLUMNS if any(column.key in figures for figures in cases)]


def known_figures(classes: Mapping[str, Mapping[str, float]], uncertainty: float | None) -> dict[str, float]:
    """What is known of a case before anything of it is opened."""
    return {**mean_figures(classes), **({} if uncertainty is None else {"uncertainty": uncertainty})}


def first_order(cases: Sequence[tuple[str, Mapping[str, float]]]) -> tuple[list[int], str, bool]:
    """Which cases come first: with truth those with the lowest JA, else the least certain, else by name.

    Args:
        cases: name and figures of each.

    Returns:
        Indices in order, the key of the figure that decides ("name" for none), and whether it ascends.
    """
    for key, ascending in (("ja", True), ("uncertainty", False)):
        if any(math.isfinite(figures.get(key, math.nan)) for _, figures in cases):

            def place(index: int, key: str = key, ascending: bool = ascending) -> tuple[bool, float, str]:
                name, figures = cases[index]
                value = figures.get(key, math.nan)
                is_missing = math.isnan(value)
                return is_missing, 0.0 if is_missing else value if ascending else -value, name

            return sorted(range(len(cases)), key=place), key, ascending
    return sorted(range(len(cases)), key=lambda index: cases[index][0]), "name", True


def written(value: float, digits: int | None) -> str:
    """A figure as text with ``digits`` decimals; None: with about three digits that say something."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if digits is not None:
        return f"{value:.{digits}f}"
    for smallest, decimals in ((100, 0), (10, 1), (1, 2), (0.1, 3)):
        if abs(value) >= smallest:
            return f"{value:.{decimals}f}"
    return f"{value:.3g}"
