"""Deterministic splits into training and validation cases, by patient or sequence where one is known."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

__all__ = ["divided_groups", "read_val_ids", "validation_indices"]


def validation_indices(
    names: Sequence[str], groups: Sequence[str] | None = None, *, val_fraction: float = 0.1, seed: int = 0
) -> set[int]:
    """Choose the validation cases of a set that brings no split of its own.

    Every group gets a place in a queue from a hash of ``seed`` and its name; validation takes groups from the front
    until it holds ``val_fraction`` of the cases (rounded, at least one). The order of the input does not matter, and
    a case that is added later moves no other case but, at most, the last one of the queue's front.

    Args:
        names: one unique name per case.
        groups: patient or sequence of each case; all cases of one group fall on one side. Default: every case alone.
        val_fraction: share of the cases to validate on, 0 (none) up to, but not including, 1.
        seed: another seed gives another split.

    Returns:
        The positions in ``names`` of the validation cases.

    Raises:
        ValueError: when ``val_fraction`` is out of range, a name stands twice or there is only one group to split.
    """
    if not 0.0 <= val_fraction < 1.0:
        raise ValueError(f"val_fraction must be at least 0 and below 1, got {val_fraction}.")
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"every case needs a name of its own to be split, repeated: {', '.join(repeated[:10])}.")
    if val_fraction == 0.0 or not names:
        return set()

    members: dict[str, list[int]] = {}
    for index, group in enumerate(names if groups is None else groups):
        members.setdefault(group, []).append(index)
    if len(members) < 2:
        kind = "case" if groups is None else "group (patient or sequence)"
        raise ValueError(
            f"one {kind} cannot be split into training and validation: add another, or give a split; to "
            "evaluate it alone, set val_fraction 1."
        )

    wanted = max(1, round(val_fraction * len(names)))
    queue = sorted(members, key=lambda group: (_place(group, seed), group))
    chosen: set[int] = set()
    for group in queue[:-1]:  # the last group always trains
        if len(chosen) >= wanted:
            break
        chosen.update(members[group])
    return chosen


def _place(group: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{group}".encode()).digest()


def divided_groups(groups: Sequence[str], validation: set[int]) -> list[str]:
    """Names of the groups (patients, sequences) that stand on both sides of a split, sorted; "" is no group."""
    held = {groups[index] for index in validation if groups[index]}
    return sorted({group for index, group in enumerate(groups) if index not in validation} & held)


def read_val_ids(path: str | Path) -> list[str]:
    """Read the names of the validation cases from a file.

    Args:
        path: a text file with one name per line (empty lines and lines that begin with ``#`` are skipped), or a JSON
            file with a list of names or an object that holds such a list under ``"validation"``.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file holds no names or is not of one of these forms.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the list of validation names '{path}' does not exist.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        content: object = json.loads(text) if path.suffix.lower() == ".json" else _lines(text)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"the list of validation names '{path.name}' cannot be read: {error}.") from error

    if isinstance(content, dict):
        content = content.get("validation")
    names = [name for name in content if isinstance(name, str)] if isinstance(content, list) else []
    if not names or names != content:
        raise ValueError(
            f"'{path.name}' names no validation case: write one name per line, or as JSON a list of names "
            'or {"validation": [names]}.'
        )
    return names


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
