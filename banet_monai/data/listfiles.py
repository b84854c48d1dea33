"""Data lists: CSV tables and JSON files that name images, masks and, where known, split, fold and patient."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections import Counter
from pathlib import Path

from banet_monai.data.cases import Case, Inventory, leaves_folder

__all__ = ["read_data_list"]

GROUP_COLUMNS = ("group", "patient", "patient_id", "sequence")
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

JSON_FORM = 'must hold a list of cases or {"training": [...], "validation": [...]}'

Row = dict[str, str]


def read_data_list(path: str | Path, *, folders_hold_cases: bool = False) -> Inventory:
    """Read the cases of a data list; its paths are relative to its own folder.

    CSV: a header line with the columns ``image`` and ``label``, and where wanted ``name``, ``split`` (train, val or
    test), ``fold``, and one of ``group``, ``patient``, ``patient_id``, ``sequence``. JSON: a list of such rows, or
    MONAI's and the Decathlon's form ``{"training": [rows], "validation": [rows]}``. Test cases need no label and
    are left out.

    Args:
        path: ``.csv`` or ``.json`` file.
        folders_hold_cases: a JSON object that lists no training case is then no error (the folders beside it do).

    Raises:
        FileNotFoundError: when a file named in the list does not exist.
        ValueError: when the list cannot be understood; the message says what is missing.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise ValueError(f"'{path.name}' is no data list: give a folder, or a list that ends in .csv or .json.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _csv_rows(text) if suffix == ".csv" else _json_rows(json.loads(text))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the data list '{path.name}' is no text in UTF-8: save it as UTF-8 (in Excel CSV UTF-8)."
        ) from error
    except (json.JSONDecodeError, csv.Error) as error:
        raise ValueError(f"the data list '{path.name}' cannot be read: {error}.") from error
    except ValueError as error:
        raise ValueError(f"the data list '{path.name}' {error}") from error
    if not rows and not folders_hold_cases:
        form = "" if suffix == ".csv" else f": it {JSON_FORM}"
        raise ValueError(f"the data list '{path.name}' names no case{form}.")

    cases = [_case(row, path, number) for number, row in enumerate(rows, start=1) if row.get("split") != "test"]
    return _with_unique_names(cases, path.parent)


def _csv_rows(text: str) -> list[Row]:
    table = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    columns = [(column or "").strip().lower() for column in table.fieldnames or ()]
    if missing := [column for column in ("image", "label") if column not in columns]:
        raise ValueError(
            f"has no column {' and '.join(missing)}; its header is '{','.join(columns)}', and columns are separated by "
            "commas."
        )
    table.fieldnames = columns
    rows = [{key: (value or "").strip() for key, value in row.items() if isinstance(value, str)} for row in table]
    return [_normal_row(row) for row in rows if any(row.values())]


def _json_rows(content: object) -> list[Row]:
    if isinstance(content, list):
        return [_json_row(entry) for entry in content]
    if not isinstance(content, dict):
        raise ValueError(f"{JSON_FORM}.")
    training = [_json_row(entry) for entry in content.get("training") or []]
    # The Decathlon lists test images as plain names; they carry no label and are not read here.
    held = [
        {**_json_row(entry), "split": "val"} for entry in content.get("validation") or [] if isinstance(entry, dict)
    ]
    if held:
        training = [{**row, "split": row.get("split") or "train"} for row in training]
    return training + held


def _json_row(entry: object) -> Row:
    if not isinstance(entry, dict):
        raise ValueError(
            f'has the entry {str(entry)[:60]!r}; each case must look like {{"image": path, "label": path}}.'
        )
    row: Row = {}
    for key, value in entry.items():
        column = str(key).strip().lower()
        if column in ("image", "label") and not isinstance(value, str):
            raise ValueError(f"has a case whose '{column}' is no path; one file per {column} is supported.")
        row[column] = "" if value is None else str(value).strip()
    return _normal_row(row)


def _normal_row(row: Row) -> Row:
    if split := row.get("split", ""):
        if split.lower() not in SPLITS:
            raise ValueError(f"has the split {split!r}; what works: train, val, test.")
        row["split"] = SPLITS[split.lower()]
    groups = [column for column in GROUP_COLUMNS if row.get(column)]
    if len(groups) > 1:
        raise ValueError(
            f"has several columns to group by ({', '.join(groups)}); keep the one that must not be divided."
        )
    row["group"] = row[groups[0]] if groups else ""
    return row


def _case(row: Row, path: Path, number: int) -> Case:
    files = []
    for key in ("image", "label"):
        if not row.get(key):
            raise ValueError(f"the data list '{path.name}' gives no {key} for case {number}.")
        file = path.parent / row[key]
        if not file.exists():
            hint = " (folders are separated by /)" if "\\" in row[key] else ""
            raise FileNotFoundError(
                f"case {number} of the data list '{path.name}' names '{row[key]}', which does not exist{hint}."
            )
        files.append(str(file))
    name = row.get("name") or _stem(Path(files[0]).name)
    if leaves_folder(name):
        raise ValueError(
            f"case {number} of the data list '{path.name}' has a name that leaves the folder of results; take '..' and "
            "a leading '/' out of it."
        )
    return Case(files[0], files[1], name, row["group"], row.get("split", ""), _whole(row.get("fold", "")))


def _whole(fold: str) -> str:
    """``"1"`` for ``"1.0"``, as tables with gaps have it."""
    number, _, rest = fold.partition(".")
    return number if number.isdigit() and rest.strip("0") == "" else fold


def _stem(name: str) -> str:
    return name[:-7] if name.lower().endswith(".nii.gz") else Path(name).stem


def _with_unique_names(cases: list[Case], folder: Path) -> Inventory:
    """Cases whose file names repeat (``p1/001.png``, ``p2/001.png``) are named by their path instead."""
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        repeated = {name for name, count in Counter(names).items() if count > 1}
        images = [Path(os.path.abspath(case.image)) for case in cases]  # noqa: PTH100 (links stay as they are)
        base = Path(os.path.abspath(folder))  # noqa: PTH100
        if not all(image.is_relative_to(base) for image in images):
            base = Path(os.path.commonpath([image.parent for image in images]))
        cases = [
            _named_by_path(case, image.relative_to(base)) if case.name in repeated else case
            for case, image in zip(cases, images, strict=True)
        ]
    problems = []
    seen: set[str] = set()
    for case in cases:
        if case.name in seen:
            problems.append(f"the list names {case.name} twice")
        seen.add(case.name)
    return Inventory(cases, problems)


def _named_by_path(case: Case, image: Path) -> Case:
    return dataclasses.replace(case, name=(image.parent / _stem(image.name)).as_posix())
