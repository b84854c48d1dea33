"""What a task of the Medical Segmentation Decathlon holds: ``imagesTr``, ``labelsTr`` and ``dataset.json``."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel as nib

from banet_monai.data.cases import named
from banet_monai.data.official_files import SourceFile
from banet_monai.data.official_sets import HIDDEN, OTHER, OfficialCases

__all__ = ["ARCHIVE_NAMES", "DecathlonTask", "find_task", "volume_size"]

ARCHIVE_NAMES = re.compile(r"Task\d\d_\w+", re.I)
EXPECTED = "the archive of a task, such as Task04_Hippocampus.tar, or the folder in it with imagesTr/ and labelsTr/"
FOLDERS = {"imagesTr": "images", "labelsTr": "masks"}
VOLUME = re.compile(r"(?P<root>.*/)(?P<folder>imagesTr|labelsTr|imagesTs)/(?P<case>[^/]+?)\.nii(?:\.gz)?")

Files = Mapping[str, SourceFile]


@dataclasses.dataclass(frozen=True)
class DecathlonTask:
    """A task.

    Args:
        title: its name in ``dataset.json``, else that of its folder.
        cases: its training pairs.
        description: ``dataset.json``, empty where there is none.
    """

    title: str
    cases: OfficialCases
    description: Mapping[str, Any]

    @property
    def official(self) -> int:
        """Number of training cases that ``dataset.json`` states, 0 where it does not."""
        stated = self.description.get("numTraining", 0)
        return stated if isinstance(stated, int) else 0

    def describing(self, pairs: Sequence[tuple[SourceFile, SourceFile]]) -> dict[str, Any]:
        """``dataset.json`` of these pairs alone, without test images."""
        rows = [
            {"image": f"./imagesTr/{image.file_name}", "label": f"./labelsTr/{label.file_name}"}
            for image, label in pairs
        ]
        return {**self.description, "numTraining": len(rows), "numTest": 0, "training": rows, "test": []}


def find_task(files: Sequence[SourceFile], sources: Sequence[Path]) -> DecathlonTask:
    """Find the volumes of a task and pair them, as ``dataset.json`` lists them or, without it, by name.

    Args:
        files: all files of the sources.
        sources: folders and archives that were asked for.

    Raises:
        ValueError: when there is no task, more than one, or ``dataset.json`` cannot be understood.
    """
    left_out: dict[str, list[str]] = {}
    volumes: dict[str, dict[str, SourceFile]] = {"images": {}, "masks": {}}
    roots: set[tuple[str, Path]] = set()
    others = []
    for file in files:
        found = VOLUME.fullmatch(file.name)
        if file.is_hidden:
            left_out.setdefault(HIDDEN, []).append(file.name)
        elif found is None:
            others.append(file)
        elif found["folder"] == "imagesTs":
            left_out.setdefault("test images without a mask", []).append(found["case"])
        else:
            roots.add((found["root"], file.source))
            volumes[FOLDERS[found["folder"]]].setdefault(file.file_name, file)
    root = _only_root(roots, sources)
    if lacking := [folder for folder, kind in FOLDERS.items() if not volumes[kind]]:
        raise ValueError(f"'{root.rstrip('/')}' has no volume in {lacking[0]}/. Expected is {EXPECTED}.")
    lists = [file for file in others if file.name == f"{root}dataset.json"]
    if rest := [file.name for file in others if file not in lists]:
        left_out[OTHER] = rest
    description = _read_description(lists[0]) if lists else {}
    cases = _pair(_listed(description), volumes["images"], volumes["masks"], left_out)
    title = str(description.get("name") or PurePosixPath(root).name)
    return DecathlonTask(f"Medical Segmentation Decathlon, {title}", cases, description)


def volume_size(path: Path) -> tuple[int, ...]:
    """Voxels along each axis, from the header.

    Raises:
        ValueError: when it is no NIfTI file.
    """
    try:
        return tuple(int(length) for length in nib.load(path).shape)  # type: ignore[attr-defined]
    except Exception as error:  # nibabel, gzip and zlib raise many kinds
        raise ValueError(f"is no NIfTI file, or damaged ({type(error).__name__})") from None


def _only_root(roots: Collection[tuple[str, Path]], sources: Sequence[Path]) -> str:
    for source in sources:
        if source not in {useful for _, useful in roots}:
            raise ValueError(f"'{source.name or source}' holds no task of the Decathlon. Expected is {EXPECTED}.")
    if len(roots) != 1:
        shown = named(sorted(root.rstrip("/") for root, _ in roots))
        raise ValueError(f"the sources hold {len(roots)} tasks, or one of them twice ({shown}); give one at a time.")
    return next(root for root, _ in roots)


def _read_description(file: SourceFile) -> dict[str, Any]:
    try:
        content = json.loads(file.read())
    except ValueError as error:  # broken JSON or text that is not UTF-8
        raise ValueError(f"'{file.name}' cannot be read ({type(error).__name__}); copy it again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"'{file.name}' must be an object with 'training', got {type(content).__name__}.")
    return content


def _listed(description: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """File names of images and masks, None where nothing is listed."""
    rows = description.get("training")
    if rows is None:
        return None
    try:
        return [(PurePosixPath(row["image"]).name, PurePosixPath(row["label"]).name) for row in rows]
    except (TypeError, KeyError):
        raise ValueError('\'training\' in dataset.json must be a list of {"image": path, "label": path}.') from None


def _pair(
    listed: Sequence[tuple[str, str]] | None, images: Files, masks: Files, left_out: dict[str, list[str]]
) -> OfficialCases:
    pairs = {}
    unlisted = {**images, **masks}
    for image, mask in listed if listed is not None else [(name, name) for name in images]:
        case = image.removesuffix(".gz").removesuffix(".nii")
        if image in images and mask in masks:
            pairs["train", case] = (images[image], masks[mask])
        else:
            left_out.setdefault("volumes without image or mask", []).append(case)
        unlisted.pop(image, None)
        unlisted.pop(mask, None)
    if unlisted:
        left_out["volumes that dataset.json does not list"] = sorted(unlisted)
    if not pairs:
        raise ValueError(f"no volume of the task has its mask. Expected is {EXPECTED}.")
    return OfficialCases(pairs, left_out)
