"""All cases under all conditions; what is done is kept, so that an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import banet_monai
from banet_monai.data.failures import failure_reason
from banet_monai.files import write_beside
from banet_monai.robustness.catalogue import Condition
from banet_monai.robustness.measuring import BINS, CaseMeasurer, CaseRow, rows_as_json

__all__ = ["PARTIAL", "Progress", "robustness"]

logger = logging.getLogger(__name__)

PARTIAL = "partial"  # folder of the cases that are done, until all of them are
FORMAT = 1  # of these files
PACKAGE = Path(banet_monai.__file__).parent

Progress = Callable[[int], None]


def robustness(
    measurer: CaseMeasurer,
    cases: Sequence[Mapping[str, Any]],
    conditions: Sequence[Condition],
    *,
    folder: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[list[CaseRow], dict[str, str]]:
    """Measure the same cases under every condition.

    Args:
        measurer: holds the network.
        cases: data dictionaries with ``name``, ``image`` and ``label``.
        conditions: the clean one among them.
        folder: keeps each finished case in ``folder/partial``; what lies there from a run of the same code with the
            same facts and files is taken over. None: nothing is kept.
        facts: what the figures depend on besides cases and conditions: weights, settings. JSON values.
        progress: told how many evaluations (a case under a condition) are done with each case.

    Returns:
        Rows, case by case, and the reasons of the cases that failed, by name. A case that fails under one condition has
        no rows at all, so that all conditions are of the same cases.

    Raises:
        OSError: when a finished case cannot be kept.
    """
    rows: list[CaseRow] = []
    failures: dict[str, str] = {}
    for case in cases:
        key = _fingerprint(case, conditions, {**(facts or {}), "seed": measurer.seed})
        file = None if folder is None else folder / PARTIAL / f"{key}.json"
        of_case = None if file is None else _kept(file)
        if of_case is None:
            try:
                loaded = measurer.load(case)
                of_case = [measurer(loaded, condition) for condition in conditions]
            except Exception as error:  # readers and transforms raise what they like
                failures[str(case["name"])] = failure_reason(error, case)
                logger.error("'%s' failed: %s", case["name"], failures[str(case["name"])])
                of_case = []
            else:
                if file is not None:
                    _keep(file, of_case)
        rows += of_case
        if progress is not None:
            progress(len(conditions))
    return rows, failures


def forget_partial(folder: Path) -> None:
    """Remove what an interrupted run would need, when the results are written."""
    for file in (folder / PARTIAL).glob("*.json"):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        (folder / PARTIAL).rmdir()


def _fingerprint(case: Mapping[str, Any], conditions: Sequence[Condition], facts: Mapping[str, Any]) -> str:
    """Of all that the rows of a case depend on; the content of files by their size and time."""
    files = [file for key in ("image", "label") for file in _files(case[key])]
    content = {
        "format": FORMAT,
        "code": _code_digest(PACKAGE),
        "bins": BINS,
        "case": str(case["name"]),
        "files": [[str(file), *_stamp(file)] for file in files],
        "conditions": [[condition.corruption, condition.strength, condition.amount] for condition in conditions],
        "facts": dict(facts),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


@cache
def _code_digest(folder: Path) -> str:
    """Digest of the Python files below ``folder``: the version of the package stays while its code changes."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:32]


def _files(value: Any) -> list[Path]:
    return [Path(str(file)) for file in (value if isinstance(value, list | tuple) else [value])]


def _stamp(file: Path) -> list[int]:
    try:
        facts = file.stat()
    except OSError:
        return []
    return [facts.st_size, facts.st_mtime_ns]


def _kept(file: Path) -> list[CaseRow] | None:
    try:
        return [CaseRow(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):  # not there, or not of ours: measured anew
        return None


def _keep(file: Path, rows: Sequence[CaseRow]) -> None:
    text = json.dumps(rows_as_json(rows))
    write_beside(file, lambda path: path.write_text(text, encoding="utf-8"))
