"""Figures of calibration, referral and robustness in the documents, written from the result files and held to them.

A document asks for a block by a pair of marks, ``<!-- figures: NAME -->`` and ``<!-- end -->``; the names are those of
:func:`blocks`.

    python -m benchmarks.figures            # writes the blocks of the documents
    python -m benchmarks.figures --check    # exit code 1 where one differs from the results
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from banet_monai.files import write_beside
from banet_monai.robustness.catalogue import CLEAN
from banet_monai.robustness.summary import HOLDS, UNNOTICED
from banet_monai.robustness.tables import by_corruption, card_table, figures_table, rule_in_words
from banet_monai.uncertainty.scores import SCORES
from benchmarks.blocks import fill_blocks
from benchmarks.uncertainty.plots import TITLES

__all__ = ["blocks", "main"]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("docs/robustness.md", "docs/validation.md", "bundle/docs/README.md")


def blocks() -> dict[str, str]:
    """Every block that a document may ask for, as Markdown, from the results that are there."""
    found: dict[str, str] = {}
    if (file := RESULTS / "robustness.json").is_file():
        found |= _robustness(json.loads(file.read_text(encoding="utf-8")))
    if (file := RESULTS / "uncertainty_isic2017.json").is_file():
        found |= _uncertainty(json.loads(file.read_text(encoding="utf-8")))
    return found


def _robustness(summary: dict[str, Any]) -> dict[str, str]:
    facts, clean = summary["facts"], next(row for row in summary["conditions"] if row["corruption"] == CLEAN)
    kinds = by_corruption(summary)
    broken = {name: rows for name, rows in kinds.items() if any(row["verdict"] != HOLDS for row in rows)}
    silent = {name: rows for name, rows in broken.items() if any(row["verdict"] == UNNOTICED for row in rows)}
    caption = (
        f"{summary['cases']} pictures of {facts['data']}, weights `{facts['weights_sha256'][:12]}`, "
        f"{len(kinds)} kinds of shift. Without any: JA {clean['ja']['mean']:.4f}, Boundary IoU "
        f"{clean['boundary_iou']['mean']:.4f}, ECE {clean['ece']['mean']:.4f}, mean of the uncertainty number "
        f"{clean['expected_error']['mean']:.3f}, {clean['missed']} missed."
    )
    words = [
        f"Of {len(kinds)} kinds of shift, {len(broken)} break the outlines at some strength that was tried"
        + (f" ({', '.join(_named(rows) for rows in broken.values())})." if broken else "."),
        "The uncertainty does not notice: " + "; ".join(_from(rows) for rows in silent.values()) + "."
        if silent
        else "There is none that the uncertainty does not notice.",
    ]
    return {
        "robustness-caption": caption,
        "robustness-words": " ".join(words),
        "robustness-rule": rule_in_words(summary),
        "robustness-shifts": card_table(summary),
        "robustness-all": figures_table(summary),
    }


def _named(rows: Sequence[dict[str, Any]]) -> str:
    title: str = rows[0]["title"]
    return title if title.isupper() else title.lower()


def _from(rows: Sequence[dict[str, Any]]) -> str:
    """One kind of shift that goes unnoticed, in words."""
    silent = [row for row in rows if row["verdict"] == UNNOTICED]
    amounts = ", ".join(f"{row['amount']:g}" for row in silent)
    worst = max(silent, key=lambda row: row["fall_of_ja"]["mean"])
    fall = f"JA falls by up to {worst['fall_of_ja']['mean']:.3f}"
    return f"{_named(rows)} at {amounts} ({rows[0]['unit']}; {fall})"


def _uncertainty(content: dict[str, Any]) -> dict[str, str]:
    methods: dict[str, Any] = content["methods"]
    head = ["method", "temperature", "ECE without", "ECE with it", "rank correlation with JA", "AUC of JA below 0.65"]
    rows = []
    for method, result in methods.items():
        number = result["numbers"].get(f"{SCORES[0]}_with_temperature", result["numbers"][SCORES[0]])
        low, high = number["spearman_interval"]
        auc = number["auc_of_low_ja"]
        rows.append(
            [
                TITLES[method],
                f"{result['temperature']:.2f}",
                f"{result['calibration']['ece']:.4f}",
                f"{result['calibration_with_temperature']['ece']:.4f}",
                f"{number['spearman_with_ja']:.2f} ({low:.2f} to {high:.2f})",
                "none" if auc is None else f"{auc:.2f}",
            ]
        )
    referred = []
    for method, result in methods.items():
        table = result["referral"][SCORES[0]]["shares"]
        cells = [
            f"{row['error']:.3f} ({row['gain_interval'][0]:.3f} to {row['gain_interval'][1]:.3f})" for row in table
        ]
        referred.append([TITLES[method], f"{table[0]['at_random']:.3f}", *cells])
    shares = [f"{100 * row['share']:.0f} % referred" for row in methods["entropy"]["referral"][SCORES[0]]["shares"]]
    return {
        "uncertainty-calibration": _table(head, rows),
        "uncertainty-referral": _table(["method", "none or at random", *shares], referred),
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the documents."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("pages", nargs="*", type=Path, help="default: the documents of the project")
    options = parser.parse_args(arguments)
    known, stale = blocks(), []
    for page in options.pages or [ROOT / name for name in PAGES]:
        if not page.is_file():
            continue
        text = page.read_text(encoding="utf-8")
        new = fill_blocks(text, "figures", known)
        if new == text:
            continue
        stale.append(page)
        if not options.check:
            write_beside(page, lambda path, new=new: path.write_text(new, encoding="utf-8"))  # type: ignore[misc]
    for page in stale:
        print(f"{page}: {'differs from the results' if options.check else 'written'}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
