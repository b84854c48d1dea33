"""``large_files.yml``: where the files lie that are too large for the model zoo's repository.

The form is the zoo's (``path``, ``url``, ``hash_val``, ``hash_type``). It is written and read without a YAML package,
as far as the form goes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["FILE_NAME", "LIMIT", "LargeFile", "read_large_files", "sha256", "text_of"]

FILE_NAME = "large_files.yml"
LIMIT = 1024 * 1024  # bytes: the zoo's pre-commit hook refuses larger files (--maxkb=1024)

_FIELD = re.compile(r"^(?P<start>  - |    )(?P<name>[a-z_]+): (?P<quote>[\"']?)(?P<value>.*?)(?P=quote)$")


@dataclass(frozen=True)
class LargeFile:
    """One entry.

    Attributes:
        path: place in the bundle, with ``/``.
        url: where the zoo downloads it from.
        hash_val: digest of its bytes in hexadecimal.
        hash_type: such as ``"sha256"``.
    """

    path: str
    url: str
    hash_val: str
    hash_type: str = "sha256"


def sha256(file: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def text_of(entries: Iterable[LargeFile]) -> str:
    """Content of ``large_files.yml``."""
    lines = ["large_files:"]
    for entry in entries:
        fields = [f'{name}: "{value}"' for name, value in asdict(entry).items()]
        lines += [f"  - {fields[0]}", *(f"    {field}" for field in fields[1:])]
    return "\n".join(lines) + "\n"


def read_large_files(file: Path) -> list[LargeFile]:
    """Entries of ``large_files.yml``.

    Raises:
        ValueError: naming the line, when the file is not in the zoo's form.
    """
    first, *lines = file.read_text(encoding="utf-8").splitlines() or [""]
    if first.strip() != "large_files:":
        raise ValueError(f"{file.name} must begin with 'large_files:', got '{first}'.")
    items: list[dict[str, str]] = []
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        field = _FIELD.match(line)
        if not field or (field["start"].strip() != "-" and not items):
            raise ValueError(f"{file.name}, line {number}: expected '  - path: \"...\"' and its fields, got '{line}'.")
        if field["start"].strip() == "-":
            items.append({})
        items[-1][field["name"]] = field["value"]
    for item in items:
        if missing := {"path", "url", "hash_val", "hash_type"} - set(item):
            raise ValueError(f"{file.name}: the entry {item} has no {', '.join(sorted(missing))}.")
    return [LargeFile(item["path"], item["url"], item["hash_val"], item["hash_type"]) for item in items]
