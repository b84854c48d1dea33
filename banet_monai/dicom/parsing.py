"""Opening DICOM files with pydicom 2.4 to 3: tolerant of old archives, silent about what stands in them."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

__all__ = [
    "DICOM_SUFFIXES",
    "DicomReadError",
    "has_dicom_magic",
    "in_threads",
    "integer",
    "looks_like_dicom",
    "numbers",
    "open_dataset",
    "quiet_pydicom",
    "text",
    "uid",
]

DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
DEFER_SIZE = 4096  # bytes: longer values, such as pixel data, stay in the file until they are asked for
MAX_WORKERS = 8  # more threads than this only wait for the disk

T = TypeVar("T")
R = TypeVar("R")


class DicomReadError(ValueError):
    """A DICOM file cannot be read as an image; the message names the file and what would work, never its contents."""


def has_dicom_magic(path: Path) -> bool:
    """Whether ``DICM`` stands at byte 128 (PS3.10 section 7.1); False for what cannot be opened."""
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is to be opened as DICOM: by its suffix, else by the four letters at byte 128."""
    return path.suffix.lower() in DICOM_SUFFIXES or has_dicom_magic(path)


def open_dataset(path: Path, tags: Sequence[str] | None = None) -> tuple[Dataset, list[str]]:
    """Parse a file once; pixel data are left in the file until someone asks for them.

    Args:
        path: DICOM file, with or without the preamble of PS3.10.
        tags: keywords of the only attributes wanted, for a quick look; all attributes by default.

    Returns:
        The dataset, with a transfer syntax in its ``file_meta``, and what had to be repaired, in words.

    Raises:
        FileNotFoundError: when there is no such file.
        DicomReadError: when it is empty or not DICOM.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no DICOM file '{path}'.")
    if path.stat().st_size == 0:
        raise DicomReadError(f"'{path.name}' is empty (0 bytes); copy the file again from its source.")

    try:
        dataset = _parse(path, tags)
    except Exception as error:  # pydicom raises whatever a damaged file provokes; its message may quote the file
        raise DicomReadError(
            f"'{path.name}' cannot be parsed as DICOM ({type(error).__name__}): the file is damaged, cut short or of "
            "another format; copy it again from its source."
        ) from None
    return dataset, _repair_transfer_syntax(dataset)


def _parse(path: Path, tags: Sequence[str] | None) -> Dataset:
    force = not has_dicom_magic(path)
    if tags is not None:
        dataset = pydicom.dcmread(str(path), stop_before_pixels=True, specific_tags=list(tags), force=force)
    else:
        dataset = pydicom.dcmread(str(path), defer_size=DEFER_SIZE, force=force)
        syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
        if syntax == DeflatedExplicitVRLittleEndian:  # offsets of deferred values count inflated bytes
            dataset = pydicom.dcmread(str(path), force=force)
    if force and not ("SOPClassUID" in dataset or "Rows" in dataset):
        raise ValueError("no attribute of an image")
    return dataset


def _repair_transfer_syntax(dataset: Dataset) -> list[str]:
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if getattr(dataset.file_meta, "TransferSyntaxUID", None):
        return []
    if hasattr(dataset, "original_encoding"):  # pydicom 3
        implicit, little = dataset.original_encoding
    else:
        implicit, little = dataset.read_implicit_vr, dataset.read_little_endian
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return [f"the transfer syntax is not stated: read as {dataset.file_meta.TransferSyntaxUID.name}"]


def text(dataset: Dataset, keyword: str) -> str:
    """An attribute as a string, "" where it is absent, empty or malformed."""
    try:
        value = dataset.get(keyword)
    except Exception:  # malformed values raise many things, and none of these attributes is essential
        return ""
    return "" if value is None else str(value).strip()


def uid(dataset: Dataset, keyword: str) -> str:
    """A UID, from the file's own meta group where the dataset leaves it empty."""
    in_file_meta = {"SOPClassUID": "MediaStorageSOPClassUID", "SOPInstanceUID": "MediaStorageSOPInstanceUID"}
    return text(dataset, keyword) or text(dataset.file_meta, in_file_meta.get(keyword, keyword))


def numbers(dataset: Dataset, keyword: str, name: str, count: int | None = None) -> tuple[float, ...]:
    """The numbers of an attribute, ``()`` where it is absent or empty.

    Raises:
        DicomReadError: when they are no numbers, or not ``count`` of them.
    """
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return ()
        values = (value,) if isinstance(value, (int, float)) else tuple(value)
        found = tuple(float(item) for item in values)
    except Exception:  # pydicom's message would quote the value
        raise DicomReadError(f"'{name}': {keyword} does not hold numbers; correct or remove the attribute.") from None
    if found and count is not None and len(found) != count:
        raise DicomReadError(f"'{name}': {keyword} must hold {count} numbers, it holds {len(found)}.")
    return found


def integer(dataset: Dataset, keyword: str, name: str, default: int) -> int:
    """The first number of an attribute as an integer, ``default`` where it is absent or empty."""
    found = numbers(dataset, keyword, name)
    return int(found[0]) if found else default


def in_threads(function: Callable[[T], R], items: Iterable[T], workers: int | None = None) -> list[R]:
    """``[function(item) for item in items]`` on several threads, in the order of ``items``; one item needs none."""
    items = list(items)
    workers = min(workers or min(MAX_WORKERS, os.cpu_count() or 1), len(items))
    if workers <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


class _Silence:
    """How many readers want pydicom quiet, and what to restore when the last one leaves."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.catcher = warnings.catch_warnings()


_silence = _Silence()


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's warnings and log lines back: they quote the values that stand in a file, names included.

    May be entered from several threads at once; the last one to leave restores the former state.
    """
    logger = logging.getLogger("pydicom")
    with _silence.lock:
        if _silence.depth == 0:
            _silence.catcher = warnings.catch_warnings()
            _silence.catcher.__enter__()
            warnings.simplefilter("ignore")
            logger.disabled = True
        _silence.depth += 1
    try:
        yield
    finally:
        with _silence.lock:
            _silence.depth -= 1
            if _silence.depth == 0:
                _silence.catcher.__exit__(None, None, None)
                logger.disabled = False
