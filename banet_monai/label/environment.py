"""The environment of MONAI Label: where it is, and whether its packages work together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ANEW", "DEFAULT_FOLDER", "Environment", "find_environment"]

DEFAULT_FOLDER = ".venv-label"
MAKE_IT = f"python tools/label_environment.py {DEFAULT_FOLDER}"
ANEW = f"Make it anew: {MAKE_IT}."
PROBE_WITHIN = 300.0  # seconds; the first import after an installation compiles everything
PROBE = """
import importlib.metadata, json
facts = {"problem": ""}
for name in ("monailabel", "torch", "torchvision", "numpy", "pydicom"):
    try:
        facts[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        facts[name] = ""
if facts["torchvision"]:
    try:
        import torchvision
        facts["torchvision"] = torchvision.__version__
    except Exception as error:
        facts["problem"] = f"{type(error).__name__}: {error}".splitlines()[0]
    import torch
    facts["torch"] = torch.__version__
print(json.dumps(facts))
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that holds MONAI Label.

    Attributes:
        folder: of the environment, absolute.
        versions: of its packages, ``"monailabel"``, ``"torch"``, ``"torchvision"``, ``"numpy"``, ``"pydicom"``.
    """

    folder: Path
    versions: Mapping[str, str]

    @property
    def bin(self) -> Path:
        """Folder of its programs, among them those of dcmqi that write DICOM SEG."""
        return _bin(self.folder)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return _python(self.folder)


def find_environment(folder: Path | None = None) -> Environment:
    """The environment of MONAI Label, checked.

    Args:
        folder: where it should be. None: the environment that this process runs in, where MONAI Label is installed
            there, else ``.venv-label`` in the working directory or beside the package.

    Raises:
        FileNotFoundError: when there is none, with the command that makes it.
        RuntimeError: when it lacks MONAI Label, or its torchvision does not import beside its torch.
    """
    tried = [folder.absolute()] if folder is not None else _usual_places()  # resolved it would lead out of itself
    found = next((place for place in tried if _python(place).is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"there is no environment of MONAI Label at {' or '.join(repr(str(place)) for place in tried)}. "
            f"Make it: {MAKE_IT} (or 'make label'), or name it: --environment DIR."
        )
    facts = _probe(found)
    if not facts["monailabel"]:
        raise RuntimeError(f"MONAI Label is not installed in '{found}'. Make an environment that has it: {MAKE_IT}.")
    if problem := facts.pop("problem"):
        raise RuntimeError(_broken_pair(found, facts, problem))
    return Environment(found, facts)


def _usual_places() -> list[Path]:
    places = [Path(DEFAULT_FOLDER), Path(__file__).resolve().parents[2] / DEFAULT_FOLDER]
    here = Path(sys.prefix)
    if any((_bin(here) / name).is_file() for name in ("monailabel", "monailabel.bat")):
        places.insert(0, here)
    return list(dict.fromkeys(place.absolute() for place in places))


def _probe(folder: Path) -> dict[str, str]:
    command = [str(_python(folder)), "-c", PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_WITHIN, check=True)
        facts: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise RuntimeError(
            f"the Python of '{folder}' does not work ({type(error).__name__}). Make it anew: {MAKE_IT}."
        ) from error
    return facts


def _broken_pair(folder: Path, facts: Mapping[str, str], problem: str) -> str:
    return (
        f"torchvision {facts['torchvision']} does not import beside torch {facts['torch']} in '{folder}' ({problem}); "
        "they were not compiled for each other. Install the build of torchvision that belongs to this torch, as "
        "pytorch.org/get-started says; where that cannot be had, MONAI Label does without the missing part: "
        f"python tools/label_environment.py {folder} --patch-torchvision"
    )


def _bin(folder: Path) -> Path:
    return folder / ("Scripts" if os.name == "nt" else "bin")


def _python(folder: Path) -> Path:
    return _bin(folder) / ("python.exe" if os.name == "nt" else "python")
