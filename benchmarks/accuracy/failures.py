"""The worst cases of an evaluation as one picture: ``python -m benchmarks.accuracy failures --help``.

Each cell shows a case with the reference (orange) and the prediction (green), and its JA.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from banet_monai.data import validation_cases
from banet_monai.files import write_beside
from banet_monai.report.overlays import PALETTE, contact_sheet, draw_outline

__all__ = ["main", "sheet_of_worst", "worst"]

PREDICTION, REFERENCE = PALETTE[0], PALETTE[1]
CELL = 200  # pixels

Rgb = npt.NDArray[np.uint8]


def worst(table: Path, count: int) -> list[tuple[str, float]]:
    """Names and JA of the cases with the lowest JA, the lowest first; equal ones by name.

    Args:
        table: ``cases.csv`` of an evaluation of one class.
        count: how many, at most.

    Raises:
        FileNotFoundError: when there is no such table.
    """
    with table.open(encoding="utf-8", newline="") as file:
        rows = sorted((float(row["ja"]), row["case"]) for row in csv.DictReader(file))
    return [(name, ja) for ja, name in rows[:count]]


def sheet_of_worst(evaluation: Path, cases: Sequence[Mapping[str, str]], *, count: int = 12, columns: int = 6) -> Rgb:
    """The worst cases side by side, the worst first.

    Args:
        evaluation: folder of ``cases.csv`` and the predicted masks ``<name>_mask.png``.
        cases: records with ``name``, ``image`` and ``label`` (paths of pictures).
        count: cells, at most.
        columns: cells in a row.

    Returns:
        ``(rows, columns, 3)`` uint8.

    Raises:
        FileNotFoundError: when the table or a mask is missing.
        ValueError: when the table names a case that the records do not have.
    """
    records = {case["name"]: case for case in cases}
    cells = []
    for name, ja in worst(evaluation / "cases.csv", count):
        if name not in records:
            raise ValueError(f"the evaluation has a case '{name}' that the data do not hold.")
        picture = np.asarray(Image.open(records[name]["image"]).convert("RGB"))
        for path, color in ((records[name]["label"], REFERENCE), (evaluation / f"{name}_mask.png", PREDICTION)):
            with Image.open(path) as mask:
                inside = np.asarray(mask.convert("L")) > 0
            picture = draw_outline(picture, inside.astype(np.uint8), color=color, width=max(picture.shape) / 120)
        cells.append(_labelled(picture, f"JA {ja:.2f}"))
    return contact_sheet(cells, columns=columns, cell=CELL)


def _labelled(picture: Rgb, text: str) -> Rgb:
    tile = Image.fromarray(picture)
    tile.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    ImageDraw.Draw(tile).text((6, 4), text, fill="white", stroke_width=2, stroke_fill="black", font_size=15)
    return np.asarray(tile)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy failures", description=__doc__)
    parser.add_argument("evaluation", type=Path, help="folder that `banet evaluate` wrote")
    parser.add_argument("--data", required=True, help="the data set that was evaluated")
    parser.add_argument("--val-ids", default=None, help="list of held-back names, where the evaluation had one")
    parser.add_argument("--count", type=int, default=12, help="cases")
    parser.add_argument("--write", type=Path, required=True, help="the picture, .jpg or .png")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and write: 0, or 2 for what is missing or wrong."""
    options = parse_arguments(arguments)
    try:
        cases = validation_cases(options.data, val_ids=options.val_ids)
        sheet = Image.fromarray(sheet_of_worst(options.evaluation, cases, count=options.count))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    kind = "png" if options.write.suffix.lower() == ".png" else "jpeg"
    write_beside(options.write, lambda partial: sheet.save(partial, format=kind, quality=88))
    print(f"written: {options.write}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
