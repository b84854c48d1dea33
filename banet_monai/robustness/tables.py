"""The summary as CSV and as Markdown: all figures, and what the model card says of each kind of shift."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from banet_monai.robustness.catalogue import CLEAN
from banet_monai.robustness.summary import HOLDS, NOTICED, UNNOTICED

__all__ = [
    "by_corruption",
    "card_cells",
    "card_table",
    "figures_cells",
    "figures_table",
    "rule_in_words",
    "to_csv",
]

FIGURES = {"ja": "JA", "boundary_iou": "Boundary IoU", "ece": "ECE", "expected_error": "expected error"}
COMPARED = ("fall_of_ja", "rise_of_number")
NONE = "none"


def to_csv(summary: Mapping[str, Any]) -> str:
    """One line per condition; intervals as ``*_low`` and ``*_high``, empty for a single case, which has none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{name}{end}" for name in (*FIGURES, *COMPARED) for end in ("", "_low", "_high")]
    writer.writerow(
        ["corruption", "strength", "amount", "unit", "cases", *columns, "missed", "rise_is_worth", "verdict"]
    )
    for row in summary["conditions"]:
        figures: list[object] = []
        for name in (*FIGURES, *COMPARED):
            figure = row.get(name)
            figures += ["", "", ""] if figure is None else [figure["mean"], *(figure["interval"] or ["", ""])]
        head = [row["corruption"], row["strength"], row["amount"], row["unit"], summary["cases"]]
        writer.writerow([*head, *figures, row["missed"], row.get("rise_is_worth", ""), row.get("verdict", "")])
    return text.getvalue()


def figures_table(summary: Mapping[str, Any]) -> str:
    """:func:`figures_cells` as Markdown."""
    return _markdown(figures_cells(summary))


def card_table(summary: Mapping[str, Any]) -> str:
    """:func:`card_cells` as Markdown."""
    return _markdown(card_cells(summary))


def figures_cells(summary: Mapping[str, Any]) -> list[list[str]]:
    """Every condition with its figures; the first row is the head."""
    rows = []
    for row in summary["conditions"]:
        cells = [_with_interval(row[name]) for name in FIGURES]
        fall, worth = row.get("fall_of_ja"), row.get("rise_is_worth")
        compared = ["", "", ""] if fall is None else [_with_interval(fall, "+"), f"{worth:+.3f}", _bold(row["verdict"])]
        rows.append([_amount(row), *cells, str(row["missed"]), *compared])
    head = ["shift", *FIGURES.values(), "missed", "JA falls by", "number notices", "verdict"]
    return [head, *rows]


def card_cells(summary: Mapping[str, Any]) -> list[list[str]]:
    """One line per kind of shift, for a model card: where it breaks the outlines, and where unnoticed."""
    rows = []
    for conditions in by_corruption(summary).values():
        breaking = [row for row in conditions if row["verdict"] != HOLDS]
        silent = [row for row in conditions if row["verdict"] == UNNOTICED]
        worst = max(conditions, key=lambda row: row["fall_of_ja"]["mean"])
        name = f"{conditions[0]['title']} ({conditions[0]['unit']})"
        lowest = f"{worst['ja']['mean']:.3f} at {worst['amount']:g}"
        unnoticed = f"**{_amounts(silent)}**" if silent else NONE
        rows.append([name, _amounts(conditions), _amounts(breaking) or NONE, unnoticed, lowest])
    return [["shift", "tried", "breaks the outlines", "and the uncertainty does not notice", "lowest mean JA"], *rows]


def rule_in_words(summary: Mapping[str, Any]) -> str:
    """The rule behind the verdicts, with its figures."""
    rule = summary["rule"]
    slope = (
        f"{rule['slope']:.2f} of error (1 - JA) per 1 of the number, the line through the clean cases"
        if rule["slope_from_clean_cases"]
        else "one to one, because the clean cases give no line"
    )
    falls = f"when the mean JA falls by more than {rule['breaks']:g} and the 95 % interval of that fall leaves out 0"
    if summary["cases"] == 1:
        falls = f"when the JA of this single case, which has no interval, falls by more than {rule['breaks']:g}"
    return (
        f"A shift breaks the outlines {falls}. The uncertainty notices when the rise of its number is worth at least "
        f"{100 * rule['noticed_share']:.0f} % of the fall; a rise is worth {slope}."
    )


def by_corruption(summary: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Conditions of each kind of corruption, without the clean one."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in summary["conditions"]:
        if row["corruption"] != CLEAN:
            groups.setdefault(row["corruption"], []).append(row)
    return groups


def _amount(row: Mapping[str, Any]) -> str:
    return row["title"] if not row["strength"] else f"{row['title']}, {row['amount']:g} ({row['unit']})"


def _amounts(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{row['amount']:g}" for row in rows)


def _with_interval(figure: Mapping[str, Any], sign: str = "") -> str:
    if figure["interval"] is None:
        return f"{figure['mean']:{sign}.3f}"
    low, high = figure["interval"]
    return f"{figure['mean']:{sign}.3f} ({low:.3f} to {high:.3f})"


def _bold(verdict: str) -> str:
    return {HOLDS: verdict, NOTICED: verdict, UNNOTICED: f"**{verdict}**"}[verdict]


def _markdown(cells: Sequence[Sequence[str]]) -> str:
    head, *rows = cells
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])
