"""Checks of a data set before the first training step: everything that is wrong, by file name, in one report."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from banet_monai.data.cases import Case, named
from banet_monai.data.datalists import find_cases, split_cases
from banet_monai.data.masks import mask_ids, read_mask
from banet_monai.data.probe import UnreadableFileError, probe
from banet_monai.dicom.parsing import looks_like_dicom

__all__ = ["DatasetReport", "check_dataset", "require_valid"]

Items = Sequence[Mapping[str, str]]

logger = logging.getLogger(__name__)

FOR_PICTURES = (
    "and the network of this task is trained on pictures: save its slices as pictures, or choose a task with a 3D "
    "network"
)
SMALLEST_SIDE = 2  # a picture of one pixel, row or column has no outline


@dataclasses.dataclass(frozen=True)
class DatasetReport:
    """What :func:`check_dataset` found, by file name; only ``empty_masks`` and ``repeated`` are no errors.

    Args:
        training: number of training cases.
        validation: number of validation cases.
        unpaired: files without a partner or with a name that stands twice.
        unreadable: files that are missing, empty, truncated or no image.
        too_small: pictures of a single pixel, row or column.
        unfit: volumes for a network that is trained on pictures, and the other way round.
        mismatched: masks whose size is not their image's.
        unexpected: masks with values that are no label ids.
        leaked: pictures that stand in training and in validation, byte for byte.
        no_foreground: one entry when no training mask has a foreground pixel.
        empty_masks: names of the cases without foreground, which are allowed.
        repeated: pictures that stand twice on one side, byte for byte.
    """

    training: int
    validation: int
    unpaired: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    too_small: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    leaked: tuple[str, ...] = ()
    no_foreground: tuple[str, ...] = ()
    empty_masks: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    @property
    def errors(self) -> list[str]:
        """Everything that must be put right before training, in words."""
        files = (self.unpaired, self.unreadable, self.too_small, self.unfit, self.mismatched, self.unexpected)
        return [entry for field in (*files, self.leaked, self.no_foreground) for entry in field]

    @property
    def ok(self) -> bool:
        """Whether the data can be trained on."""
        return not self.errors

    def summary(self) -> str:
        """The report in a few lines: numbers, errors (ten at most are named), remarks."""
        lines = [
            f"{_count(range(self.training), 'training case')} and {_count(range(self.validation), 'validation case')}"
        ]
        if self.errors:
            lines.append(f"{_count(self.errors, 'error')}: {named(self.errors)}")
        if self.empty_masks:
            lines.append(f"{_count(self.empty_masks, 'mask')} without foreground: {named(self.empty_masks)}")
        if self.repeated:
            lines.append(f"{_count(self.repeated, 'repeated picture')}: {named(self.repeated)}")
        return "\n".join(lines)


def check_dataset(
    dataset: str | Path | Items,
    *,
    validation: Items = (),
    num_classes: int = 1,
    spatial_dims: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    val_ids: str | None = None,
    fold: int = 0,
    num_workers: int = 4,
) -> DatasetReport:
    """Check all cases of a data set and its split into training and validation.

    Headers of the images are read, not their pixels; masks are decoded once. About 2000 pictures take seconds.

    Args:
        dataset: folder or data list, as for :func:`banet_monai.data.training_cases`, or the training cases as data
            dictionaries ``{"image": path, "label": path, "name": name}``.
        validation: the validation cases, where ``dataset`` gives the training cases.
        num_classes: number of foreground classes that the masks may hold.
        spatial_dims: 2 where the network is trained on pictures, 3 on volumes; None takes both.
        val_fraction: share of the cases split off for validation; this and the next three are for folders and lists.
        seed: seed of the split.
        val_ids: file that names the validation cases.
        fold: validation fold.
        num_workers: threads that read.

    Raises:
        FileNotFoundError: when there is no data set; the message says which layouts work.
        ValueError: when the layout or the split cannot be understood.
    """
    problems: list[str] = []
    if isinstance(dataset, str | Path):
        if validation:
            raise ValueError("validation cases belong to training cases; a folder or data list brings its own.")
        cases, problems = find_cases(dataset)
        parts: tuple[list[Case], list[Case]] = ([], [])
        if cases:
            parts = split_cases(cases, val_fraction=val_fraction, seed=seed, val_ids=val_ids, fold=fold)
        dataset, validation = ([case.as_item() for case in part] for part in parts)
    report = _check_cases(dataset, validation, num_classes, spatial_dims, num_workers)
    return dataclasses.replace(report, unpaired=(*problems, *report.unpaired))


def require_valid(
    dataset: str | Path | Items,
    *,
    validation: Items = (),
    num_classes: int = 1,
    spatial_dims: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    val_ids: str | None = None,
    fold: int = 0,
    num_workers: int = 4,
) -> DatasetReport:
    """Run :func:`check_dataset` with these arguments; log its summary, or refuse data that cannot be trained on.

    Raises:
        FileNotFoundError: when there is no data set.
        ValueError: when there is nothing to train on, or the report holds errors; ten at most are named, with the
            number of the others.
    """
    report = check_dataset(
        dataset,
        validation=validation,
        num_classes=num_classes,
        spatial_dims=spatial_dims,
        val_fraction=val_fraction,
        seed=seed,
        val_ids=val_ids,
        fold=fold,
        num_workers=num_workers,
    )
    if not report.training:
        raise ValueError("there is no training case: no image has a mask. (To an annotation server, submit labels.)")
    if not report.ok:
        raise ValueError(f"the data set has {_count(report.errors, 'error')}: {named(report.errors)}.")
    logger.info("data set: %s", report.summary().replace("\n", "; "))
    return report


def _check_cases(
    training: Items, validation: Items, num_classes: int, spatial_dims: int | None, num_workers: int
) -> DatasetReport:
    cases = [_as_case(item) for item in (*training, *validation)]
    with ThreadPoolExecutor(max_workers=max(1, num_workers)) as pool:
        findings = list(pool.map(lambda case: _examine(case, num_classes, spatial_dims), cases))

    def collected(kind: str) -> tuple[str, ...]:
        return tuple(finding.text for finding in findings if finding.kind == kind)

    first = findings[: len(training)]
    nothing: tuple[str, ...] = ()
    if any(not finding.kind for finding in first) and not any(finding.foreground for finding in first):
        nothing = (f"none of the {_count(first, 'training mask')} has a foreground pixel: check masks and num_classes",)
    leaked, repeated = _copies(findings, cases, len(training))
    return DatasetReport(
        training=len(training),
        validation=len(validation),
        unpaired=collected("unpaired"),
        unreadable=collected("unreadable"),
        too_small=collected("too_small"),
        unfit=_shortened(collected("unfit"), ": "),
        mismatched=collected("mismatched"),
        unexpected=_shortened(collected("unexpected"), " cannot be read: "),
        leaked=leaked,
        no_foreground=nothing,
        empty_masks=tuple(cases[i].name for i, f in enumerate(findings) if not f.kind and not f.foreground),
        repeated=repeated,
    )


def _shortened(entries: tuple[str, ...], remedy: str) -> tuple[str, ...]:
    """Leave what would work, after the words ``remedy``, to the first entry: it is the same for all."""
    return (*entries[:1], *(entry.split(remedy)[0] for entry in entries[1:]))


def _as_case(item: Mapping[str, str]) -> Case:
    return Case(item["image"], item.get("label", ""), item.get("name") or Path(item["image"]).name)


@dataclasses.dataclass(frozen=True)
class _Finding:
    """One case: what is wrong with it (``kind`` is a field of the report, "" when nothing is), and its facts."""

    kind: str = ""
    text: str = ""
    digest: str = ""
    foreground: bool = False


def _examine(case: Case, num_classes: int, spatial_dims: int | None) -> _Finding:
    image, label = Path(case.image), Path(case.label)
    if not case.label:
        return _Finding("unpaired", f"{image.name} has no mask")
    current = _shown(image)
    try:
        facts = probe(image)
        misfit = _series_misfit(image, spatial_dims) if image.is_dir() else _misfit(facts.size, spatial_dims)
        current = _shown(label)
        size = probe(label).size
    except UnreadableFileError as error:
        return _Finding("unreadable", f"{current} {error}")

    wanted, given = _without_single_axes(facts.size), _without_single_axes(size)
    if facts.size and sum(length >= SMALLEST_SIDE for length in facts.size[:3]) < 2:
        return _Finding("too_small", f"{_shown(image)} has {_times(facts.size)} pixels, nothing can be outlined in it")
    if misfit:
        return _Finding("unfit", f"{_shown(image)} {misfit}", facts.digest)
    # the axes of a volume's mask may come in another order, and are turned when it is loaded
    is_turned = len(wanted) == len(given) == 3 and sorted(wanted) == sorted(given)
    if wanted and wanted[: len(given)] != given and not is_turned:
        text = f"{_shown(label)} has {_times(size)} pixels and its image {_times(facts.size)}: they must be equal"
        return _Finding("mismatched", text, facts.digest)
    try:
        ids = mask_ids(read_mask(label), num_classes=num_classes)
    except ValueError as error:
        return _Finding("unexpected", f"{_shown(label)}: {str(error).rstrip('.')}", facts.digest)
    except Exception:  # decoders raise what they like; the file is named and the others are still checked
        return _Finding("unreadable", f"{_shown(label)} is truncated or corrupt", facts.digest)
    return _Finding(digest=facts.digest, foreground=bool(np.any(ids)))


def _misfit(size: tuple[int, ...], spatial_dims: int | None) -> str:
    """What is wrong with an image of this size for a network, "" where nothing is."""
    axes = [length for length in size[:3] if length > 1]  # a fourth are channels
    if spatial_dims is None or not size or (len(axes) > 2) == (spatial_dims > 2):
        return ""
    if spatial_dims > 2:
        return f"is a picture of {_times(axes)}, and the network of this task is trained on volumes"
    return f"is a volume of {_times(axes)}, {FOR_PICTURES}"


def _series_misfit(folder: Path, spatial_dims: int | None) -> str:
    """The same for a folder: with several DICOM files it is a series of slices, one file alone says what it is."""
    files = [file for file in folder.iterdir() if file.is_file() and looks_like_dicom(file)]
    if len(files) == 1:
        return _misfit(probe(files[0]).size, spatial_dims)
    return f"is a series of {len(files)} DICOM files, {FOR_PICTURES}" if files and spatial_dims == 2 else ""


def _copies(
    findings: Sequence[_Finding], cases: Sequence[Case], num_training: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Identical pictures: those on both sides of the split, and those on one side."""
    first_seen: dict[str, int] = {}
    leaked, repeated = [], []
    for index, finding in enumerate(findings):
        if not finding.digest:
            continue
        other = first_seen.setdefault(finding.digest, index)
        if other == index:
            continue
        text = f"{_shown(Path(cases[index].image))} is the same picture as {_shown(Path(cases[other].image))}"
        if other < num_training <= index:
            leaked.append(f"{text}, one to validate and one to train on")
        else:
            repeated.append(text)
    return tuple(leaked), tuple(repeated)


def _shown(path: Path) -> str:
    """File name with its two folders above, enough to find it: ``train/masks/a.png``."""
    return "/".join(path.parts[-3:]) if len(path.parts) > 3 else path.as_posix()


def _without_single_axes(size: tuple[int, ...]) -> tuple[int, ...]:
    while len(size) > 2 and size[-1] == 1:
        size = size[:-1]
    return size


def _times(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
