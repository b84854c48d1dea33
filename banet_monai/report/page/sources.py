"""Where the images and the true masks of a folder of results lie."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banet_monai.report.page.results import Results

__all__ = ["Source", "find_sources", "find_truths", "recorded_input", "sources_of"]

TRUTH_ENDS = ("", "_mask", "_segmentation", "_seg")
TRUTH_SUFFIXES = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

Found = dict[str, "Source"]


@dataclass(frozen=True)
class Source:
    """Files of one case.

    Attributes:
        image: path, or the paths of a DICOM series; "" where it is not known.
        label: path of the true mask, "" where there is none.
    """

    image: str | tuple[str, ...] = ""
    label: str = ""


def sources_of(records: Iterable[Mapping[str, Any]]) -> Found:
    """Sources by the names of data dictionaries with ``name``, ``image`` and, where known, ``label``."""
    return {str(record["name"]): _source(record) for record in records}


def _source(record: Mapping[str, Any]) -> Source:
    image = record["image"]
    is_one = isinstance(image, (str, os.PathLike))
    return Source(str(image) if is_one else tuple(str(path) for path in image), str(record.get("label") or ""))


def recorded_input(results: Results) -> Path | None:
    """The input that the manifest names, relative to the folder, if it is still there."""
    name = results.manifest.get("input")
    if not isinstance(name, str) or not name:
        return None
    path = results.folder / name
    return path if path.exists() else None


@contextmanager
def find_sources(results: Results, root: str | Path | None) -> Iterator[Found]:
    """Images, and masks where ``root`` holds them, of the cases of a run.

    Args:
        results: names of the cases.
        root: what the run was given: whatever ``banet segment`` or ``banet evaluate`` takes. None: what the manifest
            names, or nothing.

    Yields:
        Name to source, for the cases that were found. What was unpacked from a zip file goes at the end.

    Raises:
        FileNotFoundError: when ``root`` does not exist.
        ValueError: when it holds none of the cases.
    """
    from banet_monai.data.inputs import find_inputs

    place = Path(root) if root is not None else recorded_input(results)
    if place is None:
        yield {}
        return
    if not place.exists():
        raise FileNotFoundError(f"the images '{place}' do not exist; give what the run was given as INPUT or DATASET.")
    names = {case.name for case in results.cases}
    ways: list[Callable[[], Found]] = [lambda: _data_set(place)]
    opened: list[Any] = []
    for hidden in (False, True):

        def listed(hidden: bool = hidden) -> Found:
            opened.append(find_inputs(place, exclude=results.folder, no_paths=hidden))
            return sources_of(case.record() for case in opened[-1].cases)

        ways.append(listed)
    try:
        found = _best(ways if results.summary else [*ways[1:], ways[0]], names)
        if root is not None and names and not found:
            raise ValueError(
                f"'{place}' holds none of the {len(names)} cases of '{results.folder}', such as '{min(names)}'; give "
                "what the run was given as INPUT or DATASET."
            )
        yield found
    finally:
        for inputs in opened:
            inputs.close()


def _best(ways: Iterable[Callable[[], Found]], names: Collection[str]) -> Found:
    """What the way finds that knows most of the names; a way that cannot read the input finds nothing."""
    best: Found = {}
    for way in ways:
        with suppress(OSError, ValueError):
            found = {name: source for name, source in way().items() if name in names}
            best = max(best, found, key=len)
        if len(best) == len(names):
            break
    return best


def _data_set(root: Path) -> Found:
    from banet_monai.data.datalists import find_cases

    return sources_of(case.as_item() for case in find_cases(root).cases)


def find_truths(names: Iterable[str], root: str | Path) -> dict[str, str]:
    """True masks of cases in a folder, as ``<root>/<name>.<suffix>`` or with ``_mask`` after the name.

    Returns:
        Name to path, for the cases that have one.

    Raises:
        FileNotFoundError: when the folder does not exist.
        ValueError: when it has a mask for none of the cases.
    """
    root = Path(root)
    names = list(names)
    if not root.is_dir():
        raise FileNotFoundError(f"the folder of true masks '{root}' does not exist.")
    found = {}
    for name in names:
        candidates = (root / f"{name}{end}{suffix}" for end in TRUTH_ENDS for suffix in TRUTH_SUFFIXES)
        path = next((path for path in candidates if path.is_file()), None)
        if path is not None:
            found[name] = str(path)
    if names and not found:
        raise ValueError(
            f"'{root}' has a mask for none of the {len(names)} cases; '{min(names)}.png' or '{min(names)}_mask.nii.gz' "
            "would be one."
        )
    return found
