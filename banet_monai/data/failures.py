"""One line that says why a case could not be done: names files, shows no path and nothing that a file holds.

Messages of other libraries may quote paths or values of a file, a patient's name among them; they are replaced by the
kind of the error and the place it was raised at. Messages of this package are passed on, paths cut to file names.
"""

from __future__ import annotations

import dis
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from banet_monai.data.probe import TooManyPixelsError, UnreadableFileError, probe

__all__ = ["explanation", "failure_reason", "writing_problem"]

LONGEST = 400  # characters
PACKAGE = "banet_monai"
FOLDERS = re.compile(r"(?:[A-Za-z]:)?(?<![\w.])[\\/](?:[^\\/\s'\":;,]+[\\/])+")


def failure_reason(error: BaseException, item: Mapping[str, object]) -> str:
    """Why the transforms of ``item`` failed with ``error``, in one line.

    Args:
        error: what was raised; its causes are followed to the first.
        item: data dictionary of the case before any transform, with paths under "image" and "label" (where it has one).

    Returns:
        ``"<file name> <reason>"``, at most 400 characters.
    """
    if _root(error, TooManyPixelsError):  # and not decoded here either
        return _one_line(explanation(error, item))
    for path in _paths(item):
        try:
            probe(path, decode=True)
        except UnreadableFileError as unreadable:
            return _one_line(f"{path.name} {unreadable}")
        except Exception:  # of a library that looked for the reason: what failed first says more
            continue
    missing = [key for key in ("image", "label") if not item.get(key)]
    name = next((path.name for path in _paths(item)), "the case")
    if missing and _root(error, KeyError):
        return _one_line(f"{name}: the case has no {' and no '.join(missing)}")
    return _one_line(f"{name}: {explanation(error, item)}")


def explanation(error: BaseException, item: Mapping[str, object]) -> str:
    """An error in words: a message of this package without folders, else the kind of the error and its place.

    Args:
        error: what was raised; its causes are followed to the first.
        item: data dictionary of the case, whose paths are cut to file names.
    """
    for cause in _chain(error):
        if isinstance(cause, MemoryError):
            return "does not fit into memory"
        if str(cause) and _raised_here(cause):
            text = str(cause)
            for path in _paths(item):
                text = text.replace(str(path), path.name).replace(f"{path.parent}{os.sep}", "")
            return FOLDERS.sub("", text)
    root = list(_chain(error))[-1]
    frames = traceback.extract_tb(root.__traceback__)
    place = f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"could not be processed ({type(root).__name__}{place})"


def writing_problem(error: BaseException, item: Mapping[str, object]) -> str:
    """The same for an error that came while a result was made and written: a full disk, a folder without permission.

    Args:
        error: what was raised.
        item: data dictionary of the case.
    """
    if isinstance(error, OSError) and error.strerror:
        file = Path(str(error.filename)).name if error.filename else "the result"
        return f"'{file}' cannot be written: {error.strerror}; free some space or choose another output folder"
    return explanation(error, item)


def _raised_here(error: BaseException) -> bool:
    """Whether a ``raise`` statement of this package raised ``error``, so that its words are ours.

    ``int("DOE^JANE")`` in this package raises here too, but its message quotes what was read.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[0] != PACKAGE:
        return False
    return dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _root(error: BaseException, kind: type[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in _chain(error))


def _paths(item: Mapping[str, object]) -> list[Path]:
    paths: list[Path] = []
    for key in ("image", "label"):
        value = item.get(key)
        values = value if isinstance(value, list | tuple) else [value]
        paths += [Path(entry) for entry in values if isinstance(entry, str | Path) and str(entry)]
    return paths


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
