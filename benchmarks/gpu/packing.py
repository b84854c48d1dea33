"""Pictures at training size, encoder weights and wheels, packed for a machine that is reached with little luggage.

Pictures that are only trained on shrink to the training size: they are read and resampled by the bundle's own
transforms, rounded to 8 bits and stored as JPEG. What a run may be judged on (official validation parts, lists of
held-back names) and volumes travel as they are, so that the judgement is on the original grid.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import banet_monai
from banet_monai.data.cases import Case
from banet_monai.data.datalists import find_cases
from banet_monai.data.splits import read_val_ids
from banet_monai.transforms import LoadCased, ToWorkingGridd
from benchmarks.accuracy.definitions import ROOT, Run
from benchmarks.gpu.steps import Step
from benchmarks.machine import describe_machine

__all__ = [
    "LIMIT",
    "PICTURES",
    "Luggage",
    "name_sources",
    "pack_base",
    "pack_dataset",
    "packed_from",
    "share_out",
    "source_digest",
    "travelling_bytes",
]

LIMIT = 64 * 2**20  # bytes of the working tree and what is carried with it, in one call
MOST_PATHS = 8  # carried in one call
PICTURES = "data.tar.gz"
QUALITY = 92  # of JPEG, colours at half the resolution as in the originals
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
SOURCES = ("banet_monai/**/*.py", "benchmarks/accuracy/*.py", "benchmarks/accuracy/*.json", "bundle/**/*.json")


def pack_base(carry: Path, encoder_weights: Iterable[Path], wheels: Iterable[Path]) -> Path:
    """Encoder weights, wheels and a note of the commit: what every step needs.

    Args:
        carry: folder of everything that travels.
        encoder_weights: ``ENCODER_imagenet.pt`` files.
        wheels: packages that the other machine lacks.

    Returns:
        The folder ``base``, made anew.
    """
    base = _empty(carry / "base")
    for kind, files in (("weights", encoder_weights), ("wheels", wheels)):
        (base / kind).mkdir()
        for file in files:
            shutil.copy2(file, base / kind)
    note = {
        "commit": describe_machine()["commit"],
        "version": banet_monai.__version__,
        "sources": source_digest(ROOT),
    }
    (base / "note.json").write_text(json.dumps(note), encoding="utf-8")
    return base


def source_digest(root: Path) -> str:
    """Digest of everything that decides a result: code, configurations, definitions."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in SOURCES for file in root.glob(pattern)}):
        digest.update(f"{file.relative_to(root)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def packed_from(carry: Path) -> dict[str, str | None]:
    """On the machine: commit and version of what was packed, for its results. Without ``base`` both are None.

    The commit gets a plus sign where the sources here are not those that were packed.
    """
    path = carry / "base" / "note.json"
    if not path.is_file():
        return {"commit": None, "version": None}
    note = json.loads(path.read_text(encoding="utf-8"))
    commit = note["commit"]
    if commit is not None and note["sources"] != source_digest(ROOT):
        commit = f"{commit.removesuffix('+')}+"
    return {"commit": commit, "version": note["version"]}


def name_sources(machine: dict[str, Any], packed: Mapping[str, Any]) -> None:
    """Write what :func:`packed_from` knew into the description of a machine that could not know it."""
    if machine.get("commit") is None:
        machine["commit"] = packed.get("commit")
    if machine["packages"].get("banet-monai") is None:
        machine["packages"]["banet-monai"] = packed.get("version")


def pack_dataset(name: str, data: Path, steps: Iterable[Step], carry: Path) -> dict[str, Any]:
    """Pack one data set for some steps as ``carry/name/data.tar.gz`` with a note of what was done to it.

    Args:
        name: first part of the folder in the experiments.
        data: folder that holds it.
        steps: whose runs need it.
        carry: folder of everything that travels.

    Returns:
        The note: ``size`` (short side in pixels), ``quality``, ``shrunk`` and ``as_they_are`` (numbers of cases), and
        ``steps`` (what another step is judged on may have shrunk).

    Raises:
        FileNotFoundError: when the data set is not there.
        ValueError: when a picture has more than 8 bits.
    """
    served = [step for step in steps if name in step.folders()]
    runs = [run for step in served for run in step.runs if _first(run) == name]
    folder = data / name
    if not folder.is_dir():
        raise FileNotFoundError(f"the data set '{name}' is not in '{data}': name its folder by --data.")
    size = max(int(_setting(run, "image_size")) for run in runs)
    kept = {case for run in runs if run.data.get("val_ids") for case in read_val_ids(str(ROOT / run.data["val_ids"]))}
    target = _empty(carry / name)
    shrunk = as_they_are = 0
    with tarfile.open(target / PICTURES, "w:gz", compresslevel=1) as tar:
        for case in find_cases(folder).cases:
            if case.split == "val" or case.name in kept or not _shrinks(case, size):
                for path in (case.image, case.label):
                    tar.add(path, _inside(path, data), filter=_nobody)
                as_they_are += 1
            else:
                parts = ((case.image, ".jpg"), (case.label, ".png"))
                for (path, suffix), content in zip(parts, _shrunken(case, size), strict=True):
                    _add(tar, Path(_inside(path, data)).with_suffix(suffix).as_posix(), content)
                shrunk += 1
    note: dict[str, Any] = {"size": size, "quality": QUALITY, "shrunk": shrunk, "as_they_are": as_they_are}
    note["steps"] = [step.name for step in served]
    (target / "note.json").write_text(json.dumps(note), encoding="utf-8")
    return note


def _first(run: Run) -> str | None:
    return None if run.data["folder"] is None else Path(run.data["folder"]).parts[0]


def _setting(run: Run, key: str) -> Any:
    merged = {k: v for file in run.training_files() for k, v in json.loads(file.read_text(encoding="utf-8")).items()}
    return {**merged, **run.settings}[key]


def _shrinks(case: Case, size: int) -> bool:
    if not str(case.image).lower().endswith(SUFFIXES):
        return False
    with Image.open(case.image) as picture:
        return min(picture.size) > size


def _shrunken(case: Case, size: int) -> tuple[bytes, bytes]:
    """Picture as JPEG and mask as PNG, on the grid that the training configuration would make of them."""
    keys = ["image", "label"]
    record = LoadCased(keys)({"image": str(case.image), "label": str(case.label)})
    bits = int(record["image"].meta["bits"])
    if bits != 8:
        raise ValueError(f"'{Path(case.image).name}' has {bits} bits; packing keeps 8.")
    record = ToWorkingGridd(keys, scale="short_side", image_size=size)(record)
    picture, mask = (np.clip(np.rint(record[key].numpy()), 0, 255).astype(np.uint8).T for key in keys)  # (H, W, C)
    files = io.BytesIO(), io.BytesIO()
    Image.fromarray(picture.squeeze()).save(files[0], "JPEG", quality=QUALITY, optimize=True)
    Image.fromarray(mask.squeeze()).save(files[1], "PNG", optimize=True)
    return files[0].getvalue(), files[1].getvalue()


def _inside(path: str | Path, data: Path) -> str:
    return Path(path).relative_to(data).as_posix()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """No names of people in an archive."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class Luggage(NamedTuple):
    """What one call carries, and its bytes with those of the working tree."""

    paths: list[Path]
    size: int


def share_out(carried: Sequence[Path], limit: int = LIMIT) -> list[Luggage]:
    """Share out files and folders among few calls, each path in the first call that has room for it.

    The machine keeps between two calls what a call carried. A path that is too large on its own gets a call of its own,
    of a size beyond the limit.
    """
    tree, calls = travelling_bytes([]), []
    for path in carried:
        size = sum(file.stat().st_size for file in _files(path))
        fits = (n for n, call in enumerate(calls) if call.size + size <= limit and len(call.paths) < MOST_PATHS)
        if (number := next(fits, None)) is None:
            calls.append(Luggage([path], tree + size))
        else:
            calls[number] = Luggage([*calls[number].paths, path], calls[number].size + size)
    return calls


def travelling_bytes(carried: Iterable[Path], root: Path = ROOT) -> int:
    """Bytes of the working tree (what git tracks and does not ignore) and of what is carried together."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=root, capture_output=True, check=True
    ).stdout
    files = {root / name for name in listed.decode().split("\0") if name}
    files |= {file for path in carried for file in _files(path)}
    return sum(file.stat().st_size for file in files if file.is_file())


def _files(path: Path) -> list[Path]:
    return [file for file in (path, *path.rglob("*")) if file.is_file()]
