"""Opening DICOM files with pydicom 2.4 to 3, each once: tolerant of old archives, silent about what stands in them.

The functions of :mod:`banet_monai.dicom.attributes` can be imported from here as well.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import stat
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from banet_monai.dicom.attributes import (
    DicomReadError,
    attribute,
    integer,
    macro_items,
    numbers,
    states,
    text,
    uid,
)
from banet_monai.dicom.deflated import deflated_from, refuse_bomb

__all__ = [
    "DICOM_SUFFIXES",
    "DicomReadError",
    "ParsedFile",
    "ParsedFiles",
    "PixelPlace",
    "attribute",
    "forget",
    "has_dicom_magic",
    "in_threads",
    "integer",
    "looks_like_dicom",
    "macro_items",
    "numbers",
    "open_dataset",
    "parse_file",
    "quiet_pydicom",
    "states",
    "text",
    "uid",
    "worker_count",
]

DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
HEAD_SIZE = 1 << 16  # bytes that are read at once; most headers end before
DEFER_SIZE = 4096  # bytes: longer values, such as private blobs, stay in the file until they are asked for
MAX_FILES = 8192  # kept parsed ...
MAX_HEADER_BYTES = 64 * 2**20  # ... and their headers, as they stand in the files; parsed they take about tenfold
PIXEL_TAGS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
LONG_VR = ("OB", "OW", "OF", "OD", "OL", "OV", "UN")  # pixel data of these have a length of four bytes
UNDEFINED_LENGTH = 0xFFFFFFFF
MAX_WORKERS = 8  # more threads than this only wait for the disk

T = TypeVar("T")
R = TypeVar("R")


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


@dataclasses.dataclass(frozen=True)
class PixelPlace:
    """Where the pixel data lie in their file.

    Args:
        keyword: ``PixelData``, ``FloatPixelData`` or ``DoubleFloatPixelData``.
        vr: as stated, "" in a file with implicit VR.
        offset: of the first byte of the value; -1 in a deflated file, which has to be inflated first.
        length: in bytes as stated; None where undefined, as for compressed frames.
    """

    keyword: str
    vr: str
    offset: int
    length: int | None


@dataclasses.dataclass(frozen=True)
class ParsedFile:
    """A parsed file without its pixel data.

    Args:
        path: as it was asked for.
        dataset: all attributes before the pixel data, with a transfer syntax in ``file_meta``. Shared: not to be
            changed. Long values are read from the file when they are asked for.
        repairs: what was wrong with the file and how it was read, in words.
        pixels: None where the file has none.
        file_size: bytes.
        header_size: bytes of what is kept, as they stand in the file.
    """

    path: Path
    dataset: Dataset
    repairs: tuple[str, ...]
    pixels: PixelPlace | None
    file_size: int
    header_size: int


def open_dataset(path: Path) -> tuple[Dataset, list[str]]:
    """The attributes of a DICOM file and what had to be repaired, in words; see :func:`parse_file`."""
    parsed = parse_file(path)
    return parsed.dataset, list(parsed.repairs)


def parse_file(path: Path) -> ParsedFile:
    """Parse a file, or hand out what an earlier call found, as long as the file's size and time are the same.

    Finding, reading and writing a result thus share one parse. The last :data:`MAX_FILES` files are kept; pixel data
    never are, and no file stays open.

    Args:
        path: DICOM file, with or without the preamble of PS3.10.

    Raises:
        FileNotFoundError: when there is no such file.
        DicomReadError: when it is empty or not DICOM.
    """
    return _store.parse(path)


def forget(paths: Iterable[Path]) -> None:
    """Drop what is kept of these files; of files that are not kept, nothing happens."""
    _store.forget(paths)


class _Slot:
    """One file of the store; its lock makes a second thread wait for the first one's parse."""

    def __init__(self, stamp: tuple[int, int]) -> None:
        self.stamp = stamp
        self.lock = threading.Lock()
        self.parsed: ParsedFile | None = None


class ParsedFiles:
    """The files parsed last, by resolved path, size and time of change; safe to use from several threads."""

    def __init__(self, max_files: int, max_bytes: int) -> None:
        self.max_files = max_files
        self.max_bytes = max_bytes  # of headers as they stand in the files
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def parse(self, path: Path) -> ParsedFile:
        try:
            found = path.stat()
        except OSError:
            found = None
        if found is None or not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(f"there is no DICOM file '{path}'.")
        key, stamp = os.path.realpath(path), (found.st_size, found.st_mtime_ns)
        slot = self._slot(key, stamp)
        with slot.lock:
            if slot.parsed is None:
                try:
                    slot.parsed = _parse(path, found.st_size)
                finally:
                    self._keep_or_drop(key, slot)
            parsed = slot.parsed
        return parsed if parsed.path == path else dataclasses.replace(parsed, path=path)

    def forget(self, paths: Iterable[Path]) -> None:
        keys = [os.path.realpath(path) for path in paths]
        with self._lock:
            for key in keys:
                self._drop(key)

    def __len__(self) -> int:
        return len(self._slots)

    def renew_locks(self) -> None:
        """In a forked process: no other thread is left there to release a lock that it held."""
        self._lock = threading.Lock()
        for slot in self._slots.values():
            slot.lock = threading.Lock()

    def _slot(self, key: str, stamp: tuple[int, int]) -> _Slot:
        with self._lock:
            slot = self._slots.get(key)
            if slot is None or slot.stamp != stamp:
                self._drop(key)
                slot = self._slots[key] = _Slot(stamp)
            self._slots.move_to_end(key)
            return slot

    def _keep_or_drop(self, key: str, slot: _Slot) -> None:
        with self._lock:
            if self._slots.get(key) is not slot:  # forgotten or changed meanwhile
                return
            if slot.parsed is None:  # what failed is tried again next time
                del self._slots[key]
                return
            self._bytes += slot.parsed.header_size
            while len(self._slots) > 1 and (len(self._slots) > self.max_files or self._bytes > self.max_bytes):
                self._drop(next(iter(self._slots)))

    def _drop(self, key: str) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None and slot.parsed is not None:
            self._bytes -= slot.parsed.header_size


_store = ParsedFiles(MAX_FILES, MAX_HEADER_BYTES)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_store.renew_locks)


def _parse(path: Path, file_size: int) -> ParsedFile:
    if file_size == 0:
        raise DicomReadError(f"'{path.name}' is empty (0 bytes); copy the file again from its source.")
    try:
        with quiet_pydicom():
            dataset, pixels, header_size = _read_header(path)
            repairs = _repair_transfer_syntax(dataset)
    except DicomReadError:
        raise
    except Exception as error:  # pydicom raises whatever a damaged file provokes; its message may quote the file
        raise DicomReadError(
            f"'{path.name}' cannot be parsed as DICOM ({type(error).__name__}): the file is damaged, cut short or of "
            "another format; copy it again from its source."
        ) from None
    return ParsedFile(path, dataset, tuple(repairs), pixels, file_size, header_size)


def _read_header(path: Path) -> tuple[Dataset, PixelPlace | None, int]:
    """Everything before the pixel data, where these begin, and the size of what was read."""
    found: list[tuple[str, str, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag in PIXEL_TAGS:
            found[:] = [(PIXEL_TAGS[tag], vr or "", length)]
        return tag in PIXEL_TAGS

    with path.open("rb", buffering=0) as file:
        head = file.read(HEAD_SIZE)
    is_cut = len(head) == HEAD_SIZE
    if _may_be_deflated(head):
        with path.open("rb") as whole:
            refuse_bomb(whole, path.name)
    # In memory, because pydicom asks a file for its position all the time, each time a call of the system.
    try:
        dataset, end, force, is_deflated = _read_until(_Head(path, head), at_pixels)
        is_whole = not is_cut or (bool(found) and not is_deflated)
    except Exception:  # pydicom raises whatever the cut provokes where it falls within an element
        if not is_cut:
            raise
        is_whole = False
    if not is_whole:
        with path.open("rb") as whole:
            dataset, end, force, is_deflated = _read_until(whole, at_pixels)
    if force and not ("SOPClassUID" in dataset or "Rows" in dataset):
        raise ValueError("no attribute of an image")
    if not found:
        return dataset, None, end
    keyword, vr, length = found[0]
    offset = -1 if is_deflated else end + (12 if vr in LONG_VR else 8)  # after tag, VR, length: PS3.5 section 7.1
    return dataset, PixelPlace(keyword, vr, offset, None if length == UNDEFINED_LENGTH else length), end


def _may_be_deflated(head: bytes) -> bool:
    try:
        return deflated_from(io.BytesIO(head)) is not None
    except EOFError:  # what says so may come later
        return True


class _Head(io.BytesIO):
    """The beginning of a file; pydicom notes its ``name`` to read long values from there later."""

    def __init__(self, path: Path, head: bytes) -> None:
        super().__init__(head)
        self.name = str(path)


def _read_until(file: BinaryIO, at_pixels: Callable[[int, str | None, int], bool]) -> tuple[Dataset, int, bool, bool]:
    """The dataset, where reading ended, whether the file does not call itself DICOM, and whether it is deflated."""
    force = file.read(132)[128:] != b"DICM"
    file.seek(0)
    dataset = read_partial(file, at_pixels, defer_size=DEFER_SIZE, force=force)
    end = file.tell()
    is_deflated = getattr(dataset.file_meta, "TransferSyntaxUID", "") == DeflatedExplicitVRLittleEndian
    if is_deflated:  # places of deferred values would count inflated bytes
        file.seek(0)
        dataset = read_partial(file, at_pixels, force=force)
    return dataset, end, force, is_deflated


def _repair_transfer_syntax(dataset: Dataset) -> list[str]:
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    stated = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    if stated:
        if not isinstance(stated, str):
            raise ValueError("no transfer syntax, or several")
        return []
    if hasattr(dataset, "original_encoding"):  # pydicom 3
        implicit, little = dataset.original_encoding
    else:
        implicit, little = dataset.read_implicit_vr, dataset.read_little_endian
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return [f"the transfer syntax is not stated: read as {dataset.file_meta.TransferSyntaxUID.name}"]


def worker_count(workers: int | None) -> int:
    """The number of threads wanted, by default one per core that this process may use, :data:`MAX_WORKERS` at most."""
    if workers:
        return max(1, workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, cores)


def in_threads(function: Callable[[T], R], items: Iterable[T], workers: int | None = None) -> list[R]:
    """``[function(item) for item in items]`` on several threads, in the order of ``items``; one item needs none.

    The error of the first item that fails is raised, and no further item is begun.
    """
    items = list(items)
    workers = min(worker_count(workers), len(items))
    if workers <= 1:
        return [function(item) for item in items]
    results: dict[int, R] = {}
    errors: dict[int, BaseException] = {}
    turns = iter(range(len(items)))  # shared: each thread takes the next item; one task per item costs far more

    def work(_: int) -> None:
        for k in turns:
            if errors:
                return
            try:
                results[k] = function(items[k])
            except BaseException as error:  # raised below, in the thread that asked
                errors[k] = error

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    if errors:
        raise errors[min(errors)]
    return [results[k] for k in range(len(items))]


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
