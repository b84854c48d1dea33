"""Data lists of images to segment: CSV tables and JSON files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

__all__ = ["LIST_SUFFIXES", "read_input_list"]

LIST_SUFFIXES = (".csv", ".json")


def read_input_list(path: Path) -> list[dict[str, Any]]:
    """Entries of a data list, each with ``image``: a path, or the paths of the files of one series.

    Raises:
        ValueError: when it cannot be read, or an entry names no image.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
        rows: Any = json.loads(content) if path.suffix.lower() == ".json" else _csv_rows(content)
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ValueError(f"the data list '{path.name}' cannot be read ({type(error).__name__}: {error}).") from error
    if isinstance(rows, dict):
        rows = next((rows[key] for key in ("testing", "test") if isinstance(rows.get(key), list)), None)
    entries = [row if isinstance(row, dict) else {"image": row} for row in rows] if isinstance(rows, list) else []
    if not entries or not all(_names_an_image(entry) for entry in entries):
        raise ValueError(
            f"the data list '{path.name}' does not name an image in each entry; what works: a CSV with a column "
            "'image', a JSON list of paths or of {\"image\": path}, or such a list under 'testing'."
        )
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry.get("label") or "", str):
            raise ValueError(
                f"entry {number} of the data list '{path.name}' has a label that is no path; give one file."
            )
    return entries


def _names_an_image(entry: dict[str, Any]) -> bool:
    image = entry.get("image")
    files = image if isinstance(image, list) else [image]
    return bool(files) and all(isinstance(file, str) and file for file in files)


def _csv_rows(content: str) -> list[dict[str, str]]:
    table = csv.DictReader(io.StringIO(content, newline=""), skipinitialspace=True)
    table.fieldnames = [(column or "").strip().lower() for column in table.fieldnames or ()]
    rows = [{key: (value or "").strip() for key, value in row.items() if isinstance(value, str)} for row in table]
    return [row for row in rows if any(row.values())]
