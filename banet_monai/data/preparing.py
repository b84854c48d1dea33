"""Official data sets, from archives or folders as they are distributed to the layout that training reads.

Pictures go to ``train/images`` and ``train/masks``, those of an official validation part to ``val/``; a task of the
Medical Segmentation Decathlon keeps ``imagesTr``, ``labelsTr`` and ``dataset.json``. ``prepared.json`` beside them
tells what was done and names what was left out.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from banet_monai import __version__
from banet_monai.data.cases import named
from banet_monai.data.official_files import SourceFile, open_sources
from banet_monai.data.official_pictures import Scaling, decode_mask, decode_picture
from banet_monai.data.official_sets import OfficialCases, OfficialSet, find_pairs, keep
from banet_monai.data.official_volumes import ARCHIVE_NAMES, find_task, volume_size

__all__ = ["RECORD", "DamagedFilesError", "Preparation", "prepare_decathlon", "prepare_pictures"]

Progress = Callable[[int, int], None]
Place = tuple[str, str]  # part and case
Pair = tuple[SourceFile, SourceFile]  # image and mask

RECORD = "prepared.json"
WORKERS = 4  # threads that decode and scale; the largest pictures need some 200 MB each
OTHER_SIZE = "cases whose mask has another size than the image"


class DamagedFilesError(ValueError):
    """Files of the data set that cannot be read; nothing is left of the preparation."""


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What was prepared.

    Args:
        folder: where it lies.
        title: name of the data set.
        cases: part to its number of cases.
        official: part to the number that the official set has; empty where that is not known.
        left_out: reason to the names of what was left out, of cases or of files.
        rule: what was done to the images, in words.
    """

    folder: Path
    title: str
    cases: Mapping[str, int]
    official: Mapping[str, int]
    left_out: Mapping[str, Sequence[str]]
    rule: str


def prepare_pictures(
    official: OfficialSet,
    sources: Sequence[Path],
    out: Path,
    *,
    scaling: Scaling | None = None,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
) -> Preparation:
    """Prepare a data set of pictures.

    Masks become PNG of 0 and 255. Pictures are copied byte for byte, or scaled and written as JPEG.

    Args:
        official: the data set.
        sources: its archives, the folders in them, or folders that hold either.
        out: folder that is made; it may exist if it is empty. It appears when all is done, or not at all.
        scaling: how pictures and masks are scaled; ``None`` leaves them as they are.
        only: names of the cases to keep; ``None`` keeps all.
        progress: called with the cases done and their number.

    Raises:
        FileExistsError: when ``out`` is not empty.
        OSError: when nothing can be written there.
        ValueError: when the sources are not those of the data set, or ``only`` names a case that they do not hold.
        ArchiveError: when an archive is damaged or could do harm.
        DamagedFilesError: when files in it are; at most ten are named.
    """
    _check_free(out)
    rule = "as they are" if scaling is None else f"{scaling.words}, JPEG quality {official.quality}"
    with open_sources(sources, archives=official.archive_names) as files:
        found = keep(find_pairs(official, files, sources), only)
        with _folder_beside(out) as folder:

            def write(place: Place, pair: Pair) -> _Fate:
                return _write_pair(folder / place[0], place[1], pair, official=official, scaling=scaling)

            done = _carry_out(found, write, threads=WORKERS, progress=progress)
            return _finish(folder, out, official.title, found, done, official.counts, rule)


def prepare_decathlon(
    sources: Sequence[Path],
    out: Path,
    *,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
) -> Preparation:
    """Prepare one task of the Medical Segmentation Decathlon: volumes byte for byte, without the test images.

    Arguments and errors as :func:`prepare_pictures`.
    """
    _check_free(out)
    with open_sources(sources, archives=ARCHIVE_NAMES) as files:
        task = find_task(files, sources)
        found = keep(task.cases, only)
        official = {"train": task.official} if task.official else {}
        with _folder_beside(out) as folder:
            done = _carry_out(found, lambda _, pair: _write_volumes(folder, pair), threads=1, progress=progress)
            if task.description:
                _write_json(folder / "dataset.json", task.describing([found.pairs[place] for place in done.kept]))
            return _finish(folder, out, task.title, found, done, official, "as they are")


# ---- all or nothing --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Fate:
    """What became of a case: written, left out for a reason, or not readable."""

    left_out: str = ""
    damaged: str = ""


@dataclasses.dataclass(frozen=True)
class _Done:
    """Places of the cases that were written, and reasons with the names of those that were not."""

    kept: list[tuple[str, str]]
    left_out: dict[str, list[str]]


def _check_free(out: Path) -> None:
    target = out.resolve()
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"'{target.name}' is a file; a new or an empty folder is needed.")
    if target.is_dir() and any(target.iterdir()):
        raise FileExistsError(f"'{target.name}' is not empty; give a new or an empty folder.")
    if target.is_mount():
        raise FileExistsError(f"'{target.name or target}' is the root of a disk; give a folder in it.")


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A folder that takes the name ``out`` when the context ends well, and vanishes when it does not."""
    target = out.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        folder = work / target.name
        folder.mkdir()  # with the usual permissions, which a temporary folder has not
        yield folder
        if target.is_dir():
            target.rmdir()
        folder.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _carry_out(
    found: OfficialCases, write: Callable[[Place, Pair], _Fate], *, threads: int, progress: Progress | None
) -> _Done:
    """Write all cases.

    Raises:
        DamagedFilesError: after the last one, naming all that could not be read.
        ValueError: when none was left.
    """
    done = _Done([], {})
    damaged = []
    places = list(found.pairs)
    fates = _each(lambda place: write(place, found.pairs[place]), places, threads, progress)
    for place, fate in zip(places, fates, strict=True):
        if fate.damaged:
            damaged.append(fate.damaged)
        elif fate.left_out:
            done.left_out.setdefault(fate.left_out, []).append(place[1])
        else:
            done.kept.append(place)
    if damaged:
        raise DamagedFilesError(f"{len(damaged)} of {len(places)} cases cannot be used: {named(damaged)}.")
    if not done.kept:
        reasons = ", ".join(f"{len(names)} {reason}" for reason, names in done.left_out.items())
        raise ValueError(f"no case is left: {reasons}.")
    return done


def _each(
    function: Callable[[Place], _Fate], places: Sequence[Place], threads: int, progress: Progress | None
) -> Iterator[_Fate]:
    """What ``function`` returns for each, in order; what has not begun is dropped when the iteration ends early."""
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        for done, fate in enumerate(pool.map(function, places), start=1):
            if progress is not None:
                progress(done, len(places))
            yield fate
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write_pair(folder: Path, case: str, pair: Pair, *, official: OfficialSet, scaling: Scaling | None) -> _Fate:
    """Write ``images/CASE.jpg`` (or as the file is called) and ``masks/CASE.png``."""
    file = pair[0]
    try:
        content = file.read()
        picture = decode_picture(content)
        file = pair[1]
        mask = decode_mask(file.read())
    except ValueError as error:
        return _Fate(damaged=f"{file.file_name} {error}")
    if picture.size != mask.size:
        return _Fate(left_out=OTHER_SIZE)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    if scaling is None:
        suffix = PurePosixPath(pair[0].file_name).suffix.lower()
        (folder / "images" / f"{case}{suffix}").write_bytes(content)
    else:
        mask = scaling.mask(mask)
        picture = scaling.picture(picture.convert(official.mode))
        picture.save(folder / "images" / f"{case}.jpg", quality=official.quality)
    mask.save(folder / "masks" / f"{case}.png")
    return _Fate()


def _write_volumes(folder: Path, pair: Pair) -> _Fate:
    """Write ``imagesTr/NAME`` and ``labelsTr/NAME``; they must be volumes of one size."""
    written = []
    for file, name in zip(pair, ("imagesTr", "labelsTr"), strict=True):
        path = folder / name / file.file_name
        path.parent.mkdir(exist_ok=True)
        try:
            with path.open("wb") as target:
                file.copy(target)
            written.append((path, volume_size(path)))
        except ValueError as error:
            return _Fate(damaged=f"{name}/{file.file_name} {error}")
    (_, size), (_, label_size) = written
    if size[:3] == label_size[:3]:
        return _Fate()
    for path, _ in written:
        path.unlink()
    return _Fate(left_out=OTHER_SIZE)


def _finish(
    folder: Path, out: Path, title: str, found: OfficialCases, done: _Done, official: Mapping[str, int], rule: str
) -> Preparation:
    """Write the record, without paths and times, so that the same sources give the same bytes."""
    cases = Counter(part for part, _ in done.kept)
    left_out = {reason: sorted(names) for reason, names in {**found.left_out, **done.left_out}.items()}
    record = {
        "data_set": title,
        "prepared_by": f"banet-monai {__version__}",
        "images": rule,
        "cases": dict(sorted(cases.items())),
        "official_cases": dict(official),
        "left_out": left_out,
    }
    _write_json(folder / RECORD, record)
    return Preparation(out, title, dict(sorted(cases.items())), official, left_out, rule)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
