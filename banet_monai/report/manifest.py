"""What became of every file of a batch: ``manifest.json`` beside the results."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monai
import torch

import banet_monai

if TYPE_CHECKING:
    from banet_monai.data.inputs import Inputs

__all__ = ["RunReport", "file_sha256"]

logger = logging.getLogger(__name__)

NOTICE = "For research use, not a medical device."


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
    attribute of a DICOM file.

    Args:
        output_dir: folder of the results; ``manifest.json`` goes there.
        inputs: what :func:`banet_monai.data.find_inputs` found: cases with their files, and what was skipped.
        input_root: folder that ``records`` are named by. Empty: by their file names.
        records: cases in place of ``inputs``: mappings with ``"name"`` (relative path without suffix, unique) and
            ``"image"`` (a path, or the paths of a series).
        skipped: files that are no case, as ``(relative path, reason)``.
        weights: file of the network's weights, recorded by name and SHA-256. Empty: not recorded.
        device: device that the network runs on, in words.

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
    ) -> None:
        self.output_dir = Path(output_dir)
        self.input_root = str(input_root)
        self.weights = str(weights)
        self.device = str(device)
        self.skipped = [(str(path), self._without_paths(reason)) for path, reason in skipped]
        self.started = _now()
        self.files: dict[str, list[str]] = {}
        self.results: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        if inputs is not None:
            self.skipped += [(path, self._without_paths(reason)) for path, reason in inputs.skipped]
            for case in inputs.cases:
                self._expect(case.name, list(case.paths))
        for record in records:
            self.expect(record)

    def expect(self, record: Mapping[str, Any]) -> None:
        """Announce a case; one that is never reported as done or failed counts as failed."""
        image = record["image"]
        paths = [image] if isinstance(image, (str, Path)) else list(image)
        self._expect(str(record["name"]), [self._relative(path) for path in paths])

    def _expect(self, name: str, paths: list[str]) -> None:
        if name in self.files:
            raise ValueError(f"two inputs have the name '{name}'; names must differ, keep the suffix in one of them.")
        self.files[name] = paths

    def done(self, name: str, result: str | Path) -> None:
        """Record a case whose result was written; ``result`` lies in the output folder."""
        self.files.setdefault(name, [name])
        self.results[name] = Path(os.path.relpath(result, self.output_dir)).as_posix()

    def failed(self, name: str, reason: str) -> None:
        """Record a case without a result, and why."""
        self.files.setdefault(name, [name])
        self.failures[name] = self._without_paths(reason)
        logger.error("'%s' failed: %s", name, self.failures[name])

    def finish(self) -> None:
        """Write the manifest, log the counts, and raise if any case failed.

        Raises:
            RuntimeError: naming the failed cases, so that the process ends with an exit code that is not 0.
        """
        for name in self.files:
            if name not in self.results and name not in self.failures:
                self.failures[name] = "it was not processed: the run ended before its turn"
        self._write(self._manifest())
        total = len(self.files)
        logger.info("%d done, %d skipped, %d failed.", len(self.results), len(self.skipped), len(self.failures))
        if self.failures:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(self.failures.items()))
            raise RuntimeError(f"{len(self.failures)} of {total} cases failed: {reasons}")

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
            "weights": self._weights(),
            "counts": {"done": len(self.results), "skipped": len(self.skipped), "failed": len(self.failures)},
            "files": sorted(self._entries(), key=lambda entry: entry["path"]),
        }

    def _weights(self) -> dict[str, str]:
        path = Path(self.weights)
        return {"file": path.name, "sha256": file_sha256(path)} if self.weights and path.is_file() else {}

    def _entries(self) -> list[dict[str, str]]:
        """One entry per file that was found, a file of a series pointing to its case."""
        entries = [{"path": path, "fate": "skipped", "reason": reason} for path, reason in self.skipped]
        for name, files in self.files.items():
            fate = (
                {"fate": "failed", "reason": self.failures[name]}
                if name in self.failures
                else {"fate": "result", "result": self.results[name]}
            )
            if len(files) == 1:
                entries.append({"path": files[0], **fate})
                continue
            entries.append({"path": name, **fate})
            entries.extend({"path": path, "fate": "part of case", "case": name} for path in files)
        return entries

    def _relative(self, path: str | Path) -> str:
        if self.input_root:
            relative = Path(os.path.relpath(path, self.input_root))
            if ".." not in relative.parts:
                return relative.as_posix() if relative.parts else Path(path).name
        return Path(path).name

    def _without_paths(self, reason: str) -> str:
        """The folders of the input and the output, taken out of a message."""
        for folder in (self.input_root, str(self.output_dir)):
            for spelling in (folder, str(Path(folder).resolve())) if folder not in ("", ".") else ():
                reason = reason.replace(spelling + os.sep, "").replace(spelling, ".")
        return reason

    def _write(self, manifest: Mapping[str, Any]) -> None:
        """Beside, then renamed: a reader never sees half a manifest."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        partial = self.output_dir / ".manifest.json.part"
        partial.write_text(json.dumps(manifest, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(self.output_dir / "manifest.json")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
