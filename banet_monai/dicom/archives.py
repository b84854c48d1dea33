"""Images that come in a zip file, unpacked where they can do no harm."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import weakref
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

__all__ = ["ArchiveError", "UnpackedFiles", "is_zip", "safe_parts", "unpack_zip"]

GIGABYTE = 10**9
MAX_BYTES = 20 * GIGABYTE  # unpacked, of all zip files of one input together: some thirty CT studies
MAX_FILES = 100_000  # entries of one zip file
MAX_RATIO = 100  # unpacked to packed; DICOM reaches 2 to 10, a bomb 1000
HARMLESS_BYTES = GIGABYTE  # below this a high ratio is no bomb: empty masks and drawn pictures pack well
BLOCK = 1 << 20  # bytes in memory at a time
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack in blocks of any size, into memory
ENCRYPTED = 0x1 | 0x40 | 0x2000  # flag bits: a password, strong encryption, hidden directory (APPNOTE section 4.4.4)


class ArchiveError(ValueError):
    """A zip file that cannot, or for safety will not, be unpacked.

    Args:
        path: the zip file.
        reason: why, without its name and with nothing of what it holds.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"'{path.name}' {reason}")
        self.reason = reason


def is_zip(path: Path) -> bool:
    """Whether a file is to be opened as a zip file, by its suffix."""
    return path.suffix.lower() == ".zip"


_held: set[UnpackedFiles] = set()


class UnpackedFiles:
    """A temporary folder for the contents of zip files.

    It goes away at :meth:`close`, with the last object that refers to this one (unless :meth:`hold` was called), or
    when the process ends, and only in the process that made it. No other user of the machine can look into it.

    Args:
        max_bytes: unpacked bytes of all zip files together.
        max_files: entries of one zip file.
        max_ratio: unpacked to packed bytes of one zip file.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES, max_ratio: float = MAX_RATIO) -> None:
        self.bytes_left = max_bytes
        self.max_files = max_files
        self.max_ratio = max_ratio
        self.folder: Path | None = None
        self._zips = 0
        self._remove: weakref.finalize[[Path, int], UnpackedFiles] | None = None

    def add(self, path: Path) -> Path:
        """Unpack a zip file and return the folder that holds its contents, under the names they have in it.

        Raises:
            ArchiveError: as :func:`unpack_zip`; nothing of it is left then.
        """
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="banet-"))
            self._remove = weakref.finalize(self, _remove_folder, self.folder, os.getpid())
        target = self.folder / str(self._zips)
        self._zips += 1
        try:
            self.bytes_left -= unpack_zip(
                path, target, max_bytes=self.bytes_left, max_files=self.max_files, max_ratio=self.max_ratio
            )
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        return target

    def hold(self) -> None:
        """Keep the folder until :meth:`close` or the end of the process, for paths that were handed out as text."""
        _held.add(self)

    def close(self) -> None:
        """Remove the folder and all that is in it; may be called again."""
        _held.discard(self)
        if self._remove is not None:
            self._remove()


def _remove_folder(folder: Path, process: int) -> None:
    if os.getpid() == process:  # a forked worker of a data loader must not remove what its parent reads
        shutil.rmtree(folder, ignore_errors=True)


def unpack_zip(
    path: Path,
    folder: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
    max_ratio: float = MAX_RATIO,
) -> int:
    """Unpack a zip file into a folder, all of it or none.

    What the zip file says of itself can only get it refused earlier: bytes are counted while they are written.

    Args:
        path: the zip file.
        folder: where its contents go; made if needed, and the only place that is written to. After an error it may
            hold some of them.
        max_bytes: unpacked bytes at most.
        max_files: entries at most, folders included.
        max_ratio: unpacked bytes at most, in multiples of the zip file's own; from 1 GB on.

    Returns:
        Bytes written.

    Raises:
        ArchiveError: no zip file, cut short, damaged, without a file, encrypted, compressed in an unusual way, larger
            than the limits, or with entries that leave the folder, are links, or stand there twice.
    """
    try:
        packed = path.stat().st_size
        limit = min(max_bytes, max(HARMLESS_BYTES, int(max_ratio * packed)))
        with zipfile.ZipFile(path) as archive:
            members = _checked_members(path, archive.infolist(), max_files)
            declared = sum(member.file_size for member, _ in members)
            _check_size(path, declared, limit, max_bytes)
            folder.mkdir(parents=True, exist_ok=True)
            _check_disk(path, declared, folder)
            return _write_members(path, archive, members, folder, limit=limit, max_bytes=max_bytes)
    except ArchiveError:
        raise
    except OSError as error:
        raise ArchiveError(path, f"cannot be unpacked ({error.strerror or type(error).__name__}).") from None
    except Exception as error:  # zipfile raises whatever a damaged file provokes; its message may quote names
        raise ArchiveError(
            path,
            f"cannot be unpacked ({type(error).__name__}): it is no zip file, cut short or damaged; copy it again from "
            "its source.",
        ) from None


_Member = tuple[zipfile.ZipInfo, tuple[str, ...]]


def _checked_members(path: Path, entries: Sequence[zipfile.ZipInfo], max_files: int) -> list[_Member]:
    """The files of a zip with the parts of their paths, once every entry has been found harmless."""
    if len(entries) > max_files:
        raise ArchiveError(
            path, f"holds {len(entries)} entries, more than {max_files}; unpack it yourself and give the folder."
        )
    members: list[_Member] = []
    for number, entry in enumerate(entries, start=1):
        if problem := _problem(entry):
            raise ArchiveError(path, f"is not unpacked: entry {number} {problem}.")
        if not entry.is_dir():
            members.append((entry, safe_parts(entry.orig_filename) or ()))
    _check_distinct(path, [parts for _, parts in members])
    if not members:
        raise ArchiveError(path, "is an empty zip file; zip the images again.")
    return members


def _problem(entry: zipfile.ZipInfo) -> str:
    """Why an entry is not unpacked, "" where it is harmless; its name is not repeated."""
    mode = entry.external_attr >> 16
    if safe_parts(entry.orig_filename) is None:
        return (
            "has an unsafe name (it is absolute, has a drive letter, leaves the folder by '..', or holds a backslash "
            "or a control character); unpack it with a tool you trust and give the folder"
        )
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, no file; zip the files themselves"
    if entry.flag_bits & ENCRYPTED:
        return "is encrypted; unpack it with its password and give the folder"
    if entry.compress_type not in METHODS:
        return f"is compressed by method {entry.compress_type}; zip the files again with the usual method (deflate)"
    return ""


def safe_parts(name: str) -> tuple[str, ...] | None:
    """The parts of a relative path that stays where it is unpacked on any system, None for any other."""
    parts = PurePosixPath(name).parts
    has_drive = any(part[1:2] == ":" for part in parts)
    has_control = any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
    if not name or has_drive or has_control or "\\" in name or name.startswith("/") or ".." in parts:
        return None
    return parts


def _check_distinct(path: Path, names: Iterable[tuple[str, ...]]) -> None:
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    repeated = False
    for parts in names:
        repeated = repeated or parts in files
        files.add(parts)
        folders.update(parts[:depth] for depth in range(1, len(parts)))
    if repeated or files & folders:
        raise ArchiveError(
            path, "is not unpacked: two of its entries have the same name; unpack it yourself and give the folder."
        )


def _check_size(path: Path, size: int, limit: int, max_bytes: int) -> None:
    if size <= limit:
        return
    why = (
        f"it unpacks to more than the {max_bytes / GIGABYTE:.4g} GB that are left"
        if limit == max_bytes
        else f"it unpacks to more than {limit / GIGABYTE:.4g} GB, far more than images pack, as zip bombs do"
    )
    raise ArchiveError(path, f"is not unpacked: {why}; if you trust it, unpack it yourself and give the folder.")


def _check_disk(path: Path, size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ArchiveError(
            path,
            f"unpacks to {size / GIGABYTE:.4g} GB, and {free / GIGABYTE:.4g} GB are free for temporary files; let the "
            "environment variable TMPDIR name a folder with more.",
        )


def _write_members(
    path: Path, archive: zipfile.ZipFile, members: Sequence[_Member], folder: Path, *, limit: int, max_bytes: int
) -> int:
    written = 0
    for member, parts in members:
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("xb") as file:
            while block := source.read(BLOCK):
                written += len(block)
                _check_size(path, written, limit, max_bytes)
                file.write(block)
    return written
