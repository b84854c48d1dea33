"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["MANIFEST", "NOTICE", "is_result_folder", "write_beside", "write_text_beside"]

MANIFEST = "manifest.json"  # what a run of inference leaves beside its results
NOTICE = "For research use, not a medical device."  # its first words

DOUBLE_SUFFIXES = (".nii.gz",)
LONGEST_STEM = 50  # characters of the hidden name: with what is added it fits where the file's own name does


def write_beside(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let ``write`` make a file under a hidden name in the same folder, then give it its own name.

    A reader never sees half a file, and a run that dies leaves an older file as it was. The hidden name is new for each
    call: threads and processes on several machines may write into one folder at a time.

    Args:
        path: where the file is wanted; its folder is made.
        write: gets the hidden path, which ends in the same suffix, and writes the file there.

    Returns:
        ``path``.

    Raises:
        OSError: when the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = next((double for double in DOUBLE_SUFFIXES if path.name.endswith(double)), path.suffix)
    stem = path.name[: -len(suffix)] if suffix else path.name
    partial = path.with_name(f".{stem[:LONGEST_STEM]}.{uuid.uuid4().hex[:16]}.part{suffix}")
    try:
        write(partial)
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def write_text_beside(path: Path, text: str) -> Path:
    r"""The same for text, in UTF-8.

    What is no text in it, the bytes of a file name that is no UTF-8, becomes an escape such as ``\udcff``, which JSON
    reads back.

    Args:
        path: where the file is wanted; its folder is made.
        text: its content.

    Returns:
        ``path``.

    Raises:
        OSError: when the file cannot be written.
    """
    content = text.encode("utf-8", "backslashreplace")
    return write_beside(path, lambda partial: partial.write_bytes(content))


def is_result_folder(folder: Path) -> bool:
    """Whether a folder holds the results of a run, by the beginning of its manifest; False where it cannot be read."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            return NOTICE.encode() in file.read(200)
    except OSError:
        return False
