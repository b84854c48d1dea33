"""What became of every file of a batch: ``manifest.json`` beside the results."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monai
import torch

import banet_monai
from banet_monai.files import MANIFEST, NOTICE, write_text_beside
from banet_monai.flags import as_flag
from banet_monai.processes import gather, process_count, process_rank

if TYPE_CHECKING:
    from banet_monai.data.inputs import Inputs

__all__ = ["CasesFailedError", "RunReport", "file_sha256"]

logger = logging.getLogger(__name__)

RESULT_ENDS = ("_mask.png", "_mask.nii.gz", "_mask.dcm", "_mask.tif", "_contours.geojson")
OLDER_RESULT = "results of this name in the output folder are of an earlier run or incomplete: do not rely on them"
PLAIN_NUMBER = re.compile(r"\d{1,4}")  # a file name that is one; longer ones may be of a patient
BEGINNING = re.compile(r"\d{1,4}(?=[ :])")
NAMED_AT_MOST = 10  # failed cases in the closing error; all of them stand in the manifest


class CasesFailedError(RuntimeError):
    """Some cases of a batch have no result; all others are done and the manifest is written."""


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class RunReport:
    """Collects the fate of every case and file, and writes ``manifest.json`` at the end of the run.

    Every path in the manifest is relative to the input root or to the output folder; it holds no absolute path and no
    attribute of a DICOM file but the modality, in warnings. Seconds of a case count from the end of the one before.

    Args:
        output_dir: folder of the results; ``manifest.json`` goes there.
        inputs: what :func:`banet_monai.data.find_inputs` found: cases with their files, and what was skipped; or give
            it to :meth:`begin`.
        input_root: folder that ``records`` are named by. Empty: by their file names.
        records: cases in place of ``inputs``: mappings with ``"name"`` (relative path without suffix, unique) and
            ``"image"`` (a path, or the paths of a series).
        skipped: files that are no case, as ``(relative path, reason)``.
        weights: file of the network's weights, recorded by name and SHA-256. Empty: not recorded.
        device: device that the network runs on, in words.
        no_paths: ``inputs`` or ``records`` are named by case numbers (:func:`banet_monai.data.find_inputs`,
            :func:`banet_monai.data.validation_cases`): file names are taken out of the manifest and of every message.
            "true" and "false" work as well.
        page: write the page of the results too, ``report.html`` (:func:`banet_monai.report.page.write_report`). "true"
            and "false" work as well.

    Raises:
        ValueError: when two records have the same name, so that one result would overwrite the other.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        inputs: Inputs | None = None,
        input_root: str | Path = "",
        records: Sequence[Mapping[str, Any]] = (),
        skipped: Sequence[tuple[str, str]] = (),
        weights: str | Path = "",
        device: str = "",
        no_paths: bool | str = False,
        page: bool | str = False,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.input_root = str(input_root)
        self.given = self.input_root  # what the run was given, for who comes back to its results
        self.weights = str(weights)
        self.device = str(device)
        self.no_paths = as_flag(no_paths, "no_paths")
        self.page = as_flag(page, "page")
        self.secret_names: dict[str, str] = {}
        self.skipped = [(str(path), self._without_paths(reason)) for path, reason in skipped]
        self.started = _now()
        self.lock = threading.RLock()  # cases may be reported by several threads
        self.endings: list[Callable[[], None]] = []
        self.beginnings: list[Callable[[], None]] = []
        self.begun = False
        self.last_end = time.perf_counter()
        self.records: list[Mapping[str, Any]] = []  # where the page finds images and truths
        self.files: dict[str, list[str]] = {}
        self.results: dict[str, list[str]] = {}
        self.failures: dict[str, str] = {}
        self.warnings: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        if inputs is not None:
            self.begin(inputs)
        for record in records:
            self.expect(record)

    def begin(self, inputs: Inputs) -> None:
        """Announce what was found. A configuration does so when it runs: MONAI Label builds its report without running.

        Args:
            inputs: cases with their files, and what was skipped.
        """
        if self.no_paths:
            for case in inputs.cases:
                self._hide(case.name, case.files, case.paths)
        self.given = inputs.root
        self.skipped += [(path, self._without_paths(reason)) for path, reason in inputs.skipped]
        for case in inputs.cases:
            self._expect(case.name, list(case.paths))
            self.records.append(case.record())
        self.begun = True
        for action in self.beginnings:
            action()

    def expect(self, record: Mapping[str, Any]) -> None:
        """Announce a case; one that is never reported as done or failed counts as failed."""
        name, image = str(record["name"]), record["image"]
        paths = [image] if isinstance(image, (str, Path)) else list(image)
        shown = [self._relative(path) for path in paths]
        if self.no_paths:
            shown = [name] if len(paths) == 1 else [f"{name}/{number:04d}" for number in range(1, len(paths) + 1)]
            masks = [record["label"]] if record.get("label") else []
            self._hide(name, [Path(path) for path in [*paths, *masks]], [*shown, *[name] * len(masks)])
        self._expect(name, shown)
        self.records.append(record)

    def _hide(self, name: str, files: Sequence[Path], numbers: Sequence[str]) -> None:
        """From now on each number stands for its file in every message, and the case's name for their folder."""
        for file, number in zip(files, numbers, strict=True):
            self.secret_names[str(file)] = number
            if PLAIN_NUMBER.fullmatch(file.name):  # which elsewhere counts slices or millimetres
                self.secret_names[f"'{file.name}'"] = f"'{number}'"
            else:
                self.secret_names[file.name] = number
        self.secret_names[f"'{files[0].parent.name}'"] = f"'{name}'"  # a plain word elsewhere may be no folder

    def _expect(self, name: str, paths: list[str]) -> None:
        if name in self.files:
            raise ValueError(f"two inputs have the name '{name}'; names must differ, keep the suffix in one of them.")
        self.files[name] = paths

    @property
    def counts(self) -> dict[str, int]:
        """How many cases are done and failed, and how many files were skipped."""
        return {"done": len(self.results), "skipped": len(self.skipped), "failed": len(self.failures)}

    def done(self, name: str, *results: str | Path) -> None:
        """Record a case whose results were written in the output folder, the most important one first."""
        with self.lock:
            self.files.setdefault(name, [name])
            self.results[name] = [Path(os.path.relpath(result, self.output_dir)).as_posix() for result in results]
            self._clock(name)

    def also(self, name: str, *results: str | Path) -> None:
        """Record more files of a case that is done; of others nothing."""
        if name in self.results:
            self.results[name] += [Path(os.path.relpath(result, self.output_dir)).as_posix() for result in results]

    def noted(self, name: str, facts: Mapping[str, Any]) -> None:
        """Record numbers about a case, JSON values by name, which stand in its entry if it has a result."""
        with self.lock:
            self.facts.setdefault(name, {}).update(facts)

    def failed(self, name: str, reason: str) -> None:
        """Record a case without a result, and why."""
        with self.lock:
            self.files.setdefault(name, [name])
            self.failures[name] = self._without_paths(reason)
            self._clock(name)
        logger.error("'%s' failed: %s", name, self.failures[name])

    def warned(self, name: str, text: str) -> None:
        """Record what people should know about a case that has a result."""
        warning = self._without_paths(text)
        with self.lock:
            if warning in self.warnings.setdefault(name, []):
                return
            self.warnings[name].append(warning)
        logger.warning("'%s': %s", name, warning)

    def at_begin(self, action: Callable[[], None]) -> None:
        """Have :meth:`begin` call ``action``; at once, where the run has begun already.

        Args:
            action: takes nothing.
        """
        if self.begun:
            action()
        else:
            self.beginnings.append(action)

    def before_end(self, action: Callable[[], None]) -> None:
        """Have :meth:`finish` call ``action`` first, so that whoever reports from a thread can come to an end.

        Args:
            action: takes nothing; what it raises is raised.
        """
        self.endings.append(action)

    def _clock(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self.last_end, 3)
        self.last_end = now

    def finish(self) -> None:
        """Write the manifest and, where it was asked for, the page; log the counts, and raise if any case failed.

        Under several processes all of them call it: each tells the others its cases; rank 0 alone writes and raises.

        Raises:
            RuntimeError: when the manifest or the page cannot be written.
            CasesFailedError: naming failed cases, so that the process ends with an exit code that is not 0.
        """
        for action in self.endings:
            action()
        self._gather()
        if process_rank() > 0:
            return
        # in the order in which cases were announced, whichever was done first
        self.results = {name: self.results[name] for name in self.files if name in self.results}
        self.failures = {name: self.failures[name] for name in self.files if name in self.failures}
        for name in self.files:
            if name not in self.results and name not in self.failures:
                self.failures[name] = "it was not processed: the run ended before its turn"
        for name in self.failures:
            if self._has_older_result(name):
                self.warned(name, OLDER_RESULT)
        self._write(self._manifest())
        total = len(self.files)
        logger.info("%d done, %d skipped, %d failed.", len(self.results), len(self.skipped), len(self.failures))
        page_problem = self._write_page() if self.page and self.results else ""
        if self.failures:
            named = [f"{name}: {reason}" for name, reason in sorted(self.failures.items())]
            rest = len(named) - NAMED_AT_MOST
            more = f"; and {rest} more, all in manifest.json" if rest > 0 else ""
            raise CasesFailedError(
                f"{len(self.failures)} of {total} cases failed: {'; '.join(named[:NAMED_AT_MOST])}{more}"
            )
        if page_problem:
            raise RuntimeError(page_problem)

    def _write_page(self) -> str:
        """Write ``report.html``; what went wrong in words, "" where nothing did."""
        from banet_monai.report.page import write_report  # it draws, which most runs do without
        from banet_monai.report.page.sources import sources_of

        try:
            page = write_report(self.output_dir, sources=sources_of(self.records))
        except (OSError, ValueError) as error:
            problem = self._without_paths(f"the results are written, but not their page: {error}")
            logger.error("%s", problem)
            return problem
        logger.info("The page of the results: %s", page)
        return ""

    def _gather(self) -> None:
        """Take over what the other processes know of their cases."""
        own = [self.results, self.failures, self.warnings, self.seconds, self.facts]
        for results, failures, warnings, seconds, facts in gather(own):
            self.results |= results
            self.facts |= facts
            self.failures |= failures
            self.warnings |= warnings
            self.seconds |= seconds
        for name in (*self.results, *self.failures):
            self.files.setdefault(name, [name])

    def _has_older_result(self, name: str) -> bool:
        return any(os.path.lexists(f"{self.output_dir / name}{end}") for end in RESULT_ENDS)

    def _manifest(self) -> dict[str, Any]:
        return {
            "notice": NOTICE,
            "started": self.started,
            "ended": _now(),
            "versions": {
                "banet_monai": banet_monai.__version__,
                "monai": monai.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "device": self.device,
            **self._input(),
            **({"processes": process_count()} if process_count() > 1 else {}),
            "weights": self._weights(),
            "counts": self.counts,
            "files": sorted(self._entries(), key=lambda entry: entry["path"]),
        }

    def _input(self) -> dict[str, str]:
        """What the run was given, relative to the results."""
        if not self.given or self.no_paths:
            return {}
        try:
            return {"input": Path(os.path.relpath(self.given, self.output_dir)).as_posix()}
        except ValueError:  # on another drive, where no relative path leads
            return {}

    def _weights(self) -> dict[str, str]:
        path = Path(self.weights)
        return {"file": path.name, "sha256": file_sha256(path)} if self.weights and path.is_file() else {}

    def _entries(self) -> list[dict[str, Any]]:
        """One entry per file that was found, a file of a series pointing to its case."""
        entries: list[dict[str, Any]] = [
            {"path": path, "fate": "skipped", "reason": reason} for path, reason in self.skipped
        ]
        for name, files in self.files.items():
            fate = self._fate(name)
            if len(files) == 1:
                entries.append({"path": files[0], **fate})
                continue
            entries.append({"path": name, **fate})
            entries.extend({"path": path, "fate": "part of case", "case": name} for path in files)
        return entries

    def _fate(self, name: str) -> dict[str, Any]:
        fate: dict[str, Any]
        if name in self.failures:
            fate = {"fate": "failed", "reason": self.failures[name]}
        else:
            first, *more = self.results[name]
            fate = {"fate": "result", "result": first, **({"also": more} if more else {}), **self.facts.get(name, {})}
        if name in self.warnings:
            fate["warnings"] = self.warnings[name]
        if name in self.seconds:
            fate["seconds"] = self.seconds[name]
        return fate

    def _relative(self, path: str | Path) -> str:
        if self.input_root:
            relative = Path(os.path.relpath(path, self.input_root))
            if ".." not in relative.parts:
                return relative.as_posix() if relative.parts else Path(path).name
        return Path(path).name

    def _without_paths(self, reason: str) -> str:
        """The folders of the input and the output, taken out of a message."""
        for folder in (self.input_root, str(self.output_dir)):
            if folder in ("", "."):
                continue
            for spelling in {folder, str(Path(folder).resolve())}:
                if Path(spelling).is_absolute():
                    reason = reason.replace(spelling + os.sep, "").replace(spelling, ".")
                else:  # it may be a plain word, which is a path only in quotes or where something follows in it
                    inner = re.escape(spelling.rstrip(os.sep) + os.sep)
                    reason = re.sub(rf"(?<![\w./-]){inner}", "", reason.replace(f"'{spelling}'", "'.'"))
        found = [name for name in self.secret_names if name in reason]  # few; to search for each would take long
        for name in sorted(found, key=len, reverse=True):
            number = self.secret_names[name].replace("\\", r"\\")
            reason = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", number, reason)
        # a message about a file begins with its name, which may be a plain number
        if (first := BEGINNING.match(reason)) and (stands := self.secret_names.get(f"'{first[0]}'")):
            reason = stands.strip("'") + reason[first.end() :]
        return reason

    def _write(self, manifest: Mapping[str, Any]) -> None:
        text = json.dumps(manifest, indent=4, ensure_ascii=False) + "\n"
        try:
            write_text_beside(self.output_dir / MANIFEST, text)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise RuntimeError(
                f"manifest.json cannot be written: {why}; free some space or choose another folder"
            ) from error


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
