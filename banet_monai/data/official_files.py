"""Files of a data set as it is distributed, in folders, zip and tar archives alike; nothing is unpacked.

A name inside an archive only serves to recognise a file and never becomes a path, so that no archive can write
anywhere. Archives with entries that an honest one does not have (links, absolute names, ``..``) are refused all the
same.
"""

from __future__ import annotations

import dataclasses
import io
import re
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from banet_monai.dicom.archives import (
    ENCRYPTED,
    HARMLESS_BYTES,
    MAX_RATIO,
    METHODS,
    ArchiveError,
    is_zip,
    safe_parts,
)

__all__ = ["DamagedFileError", "SourceFile", "is_archive", "open_sources"]

TAR = ".tar"  # uncompressed, as the Decathlon is distributed: its files can be read in any order
MAX_FILES = 1_000_000  # entries of one archive
LARGEST_PICTURE = 512 << 20  # bytes read into memory; the largest ISIC 2017 picture has some 20 MB
LARGEST_FILE = 8 << 30  # bytes of a volume
BLOCK = 1 << 20  # bytes read at a time


class DamagedFileError(ValueError):
    """A file whose bytes cannot be read; the message goes after its name."""


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file that lies in a folder or in an archive.

    Args:
        name: path with forward slashes, beginning with the name of the folder or archive (without suffix) it is in.
        source: folder or archive that was asked for.
        opener: opens it for reading.
        lock: held while it is read; the files of one archive share theirs.
    """

    name: str
    source: Path
    opener: Callable[[], IO[bytes]]
    lock: threading.Lock

    @property
    def file_name(self) -> str:
        """The last part of ``name``."""
        return self.name.rpartition("/")[2]

    @property
    def is_hidden(self) -> bool:
        """Whether it is one of those that file systems add: ``._*``, ``.DS_Store``, ``__MACOSX``."""
        return any(part.startswith(".") or part == "__MACOSX" for part in self.name.split("/")[1:])

    def copy(self, target: IO[bytes], *, at_most: int = LARGEST_FILE) -> None:
        """Write its bytes to an open file.

        Raises:
            DamagedFileError: when they cannot be read, or are more than ``at_most``.
            OSError: when they cannot be written.
        """
        written = 0
        with self.lock:
            for block in self._blocks():
                written += len(block)
                if written > at_most:
                    raise DamagedFileError(f"is larger than {at_most >> 20} MB")
                target.write(block)

    def read(self) -> bytes:
        """Its bytes, 512 MB at most; errors as :meth:`copy`."""
        content = io.BytesIO()
        self.copy(content, at_most=LARGEST_PICTURE)
        return content.getvalue()

    def _blocks(self) -> Iterator[bytes]:
        try:
            with self.opener() as stream:
                while block := stream.read(BLOCK):
                    yield block
        except Exception as error:  # zipfile, zlib, tarfile and the disk raise many kinds
            raise DamagedFileError(f"cannot be read ({type(error).__name__})") from None


def is_archive(path: Path) -> bool:
    """Whether a file is to be opened as a zip or tar archive, by its suffix."""
    return is_zip(path) or path.suffix.lower() == TAR


@contextmanager
def open_sources(sources: Sequence[Path], *, archives: re.Pattern[str]) -> Iterator[list[SourceFile]]:
    """All files of some folders and archives, sorted by folder, in archives by their order there.

    Args:
        sources: folders, zip and tar archives.
        archives: matches the names of those archives in a folder that are opened too.

    Raises:
        FileNotFoundError: when a source does not exist.
        ValueError: when a source is neither a folder nor an archive.
        ArchiveError: when an archive is damaged, encrypted, or has entries that could do harm elsewhere.
    """
    with ExitStack() as stack:
        files: list[SourceFile] = []
        for source in sources:
            if source.is_dir():
                files += _in_folder(source, archives, stack)
            elif not source.exists():
                raise FileNotFoundError(f"'{source.name}' does not exist.")
            elif is_archive(source):
                files += _in_archive(source, source, stack)
            else:
                raise ValueError(f"'{source.name}' is neither a folder nor an archive (.zip, .tar).")
        yield files


def _in_folder(folder: Path, archives: re.Pattern[str], stack: ExitStack) -> Iterator[SourceFile]:
    root = folder.resolve().name or "folder"
    lock = threading.Lock()
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        if is_archive(path) and archives.match(path.name):
            yield from _in_archive(path, folder, stack)
        else:
            yield SourceFile(f"{root}/{path.relative_to(folder).as_posix()}", folder, _opener(path), lock)


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _in_archive(path: Path, source: Path, stack: ExitStack) -> list[SourceFile]:
    try:
        return list((_in_zip if is_zip(path) else _in_tar)(path, source, stack))
    except ArchiveError:
        raise
    except OSError as error:
        raise ArchiveError(path, f"cannot be opened ({error.strerror or type(error).__name__}).") from None
    except Exception as error:  # zipfile and tarfile raise whatever a damaged file provokes
        raise ArchiveError(
            path,
            f"cannot be opened ({type(error).__name__}): it is no {'zip' if is_zip(path) else 'tar'} file, cut short "
            "or damaged; copy it again from its source.",
        ) from None


def _in_zip(path: Path, source: Path, stack: ExitStack) -> Iterator[SourceFile]:
    archive = stack.enter_context(zipfile.ZipFile(path))
    lock = threading.Lock()
    entries = archive.infolist()
    _check_number(path, len(entries))
    if sum(entry.file_size for entry in entries) > max(HARMLESS_BYTES, MAX_RATIO * path.stat().st_size):
        raise ArchiveError(path, "is not read: it holds far more than images pack, as zip bombs do.")
    for entry in entries:
        if entry.is_dir():
            continue
        kind = stat.S_IFMT(entry.external_attr >> 16)
        name = _checked_name(path, entry.orig_filename, is_file=kind in (0, stat.S_IFREG))
        if entry.flag_bits & ENCRYPTED or entry.compress_type not in METHODS:
            raise ArchiveError(path, "is encrypted or compressed in an unusual way; unpack it and give the folder.")

        def opener(entry: zipfile.ZipInfo = entry) -> IO[bytes]:
            return archive.open(entry)

        yield SourceFile(f"{path.stem}/{name}", source, opener, lock)


def _in_tar(path: Path, source: Path, stack: ExitStack) -> Iterator[SourceFile]:
    archive = stack.enter_context(tarfile.open(path, "r:"))  # noqa: SIM115  # the stack closes it
    lock = threading.Lock()
    for number, member in enumerate(archive, start=1):
        _check_number(path, number)
        if member.isdir():
            continue
        name = _checked_name(path, member.name, is_file=member.isreg() and not member.issparse())

        def opener(member: tarfile.TarInfo = member) -> IO[bytes]:
            stream = archive.extractfile(member)
            if stream is None:
                raise tarfile.ReadError("no regular file")
            return stream

        yield SourceFile(f"{path.stem}/{name}", source, opener, lock)


def _check_number(path: Path, entries: int) -> None:
    if entries > MAX_FILES:
        raise ArchiveError(path, f"holds more than {MAX_FILES} entries; unpack it yourself and give the folder.")


def _checked_name(path: Path, name: str, *, is_file: bool) -> str:
    if not is_file:
        raise ArchiveError(path, "is not read: one of its entries is a link or a device; official archives have none.")
    parts = safe_parts(name)
    if not parts:
        raise ArchiveError(
            path,
            "is not read: one of its entries has an unsafe name (absolute, with '..', a drive letter, a backslash or a "
            "control character); official archives have none.",
        )
    return "/".join(parts)
