"""Multipart messages of DICOMweb (PS3.18 section 8.6, RFC 2387), streamed: only a block of the file is in memory.

dicomweb-client holds a message several times over in memory, takes one that was cut short for a whole one, and encodes
a stored object anew. Here what stands in the file is what is sent, and what was sent whole is what is written.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from email.message import Message
from pathlib import Path
from typing import BinaryIO

__all__ = ["DICOM_MEDIA_TYPE", "FileMessage", "MultipartError", "write_single_part"]

DICOM_MEDIA_TYPE = "application/dicom"
BLOCK = 256 * 1024  # bytes read from disk at a time
MAX_OVERHEAD = 64 * 1024  # bytes of headers, preamble or epilogue, of which a server needs a few hundred


class MultipartError(ValueError):
    """A message is not what DICOMweb prescribes; the text completes "the server sent ..." and quotes nothing of it."""


class FileMessage:
    """A ``multipart/related`` message of one DICOM file, read from disk while it is sent; iterable more than once.

    Args:
        path: a DICOM file with the preamble of PS3.10.

    Raises:
        OSError: when the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        boundary = uuid.uuid4().hex
        self.path = path
        self.content_type = f'multipart/related; type="{DICOM_MEDIA_TYPE}"; boundary={boundary}'
        self._head = f"--{boundary}\r\nContent-Type: {DICOM_MEDIA_TYPE}\r\n\r\n".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        with path.open("rb") as file:
            self._size = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self.path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
        yield self._tail


def write_single_part(blocks: Iterable[bytes], content_type: str, file: BinaryIO, *, max_bytes: int) -> int:
    """Write the one object that a message holds into ``file``.

    Args:
        blocks: the message's body, in pieces of any size.
        content_type: the message's header: ``multipart/related`` with one part or, as some servers answer,
            ``application/dicom`` without parts.
        file: open for writing.
        max_bytes: a longer object is refused.

    Returns:
        Bytes written.

    Raises:
        MultipartError: another media type, no part or several, a message that is cut short or too long.
    """
    header = Message()
    header["Content-Type"] = content_type
    if header.get_content_type() == DICOM_MEDIA_TYPE:
        return _write_all(blocks, file, max_bytes)
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/related" or not isinstance(boundary, str) or not boundary:
        raise MultipartError("something that is no DICOM message (media type 'multipart/related')")

    stream = _Stream(blocks)
    delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
    stream.take_until(delimiter, _drop, MAX_OVERHEAD)
    if stream.next_two() == b"--":
        raise MultipartError("a message without a part")
    stream.take_until(b"\r\n\r\n", _drop, MAX_OVERHEAD)  # the headers of the part
    size = stream.take_until(delimiter, file.write, max_bytes)
    if stream.next_two() != b"--":
        raise MultipartError("several parts where one object was asked for")
    stream.drain()
    return size


def _write_all(blocks: Iterable[bytes], file: BinaryIO, max_bytes: int) -> int:
    size = 0
    for block in blocks:
        size += len(block)
        _check(size, max_bytes)
        file.write(block)
    return size


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise MultipartError(f"more than the {limit} bytes allowed there")


def _drop(block: bytes) -> None:
    pass


class _Stream:
    """The bytes of a message that have arrived and are not dealt with yet."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._data = bytearray(b"\r\n")  # the first boundary may stand at the very beginning, without its line break

    def take_until(self, marker: bytes, write: Callable[[bytes], object], limit: int) -> int:
        """Hand everything before ``marker`` to ``write``, skip the marker; returns the number of bytes handed over."""
        size = 0
        while True:
            at = self._data.find(marker)
            ready = at if at >= 0 else max(0, len(self._data) - len(marker) + 1)  # a marker may straddle two blocks
            size += ready
            _check(size, limit)
            write(bytes(self._data[:ready]))
            del self._data[: ready + (len(marker) if at >= 0 else 0)]
            if at >= 0:
                return size
            self._more()

    def next_two(self) -> bytes:
        """The two bytes behind a boundary: ``--`` behind the last one."""
        while len(self._data) < 2:
            self._more()
        return bytes(self._data[:2])

    def drain(self) -> None:
        """Read what follows the last boundary, so that the connection can serve the next request."""
        size = 0
        for block in self._blocks:
            size += len(block)
            _check(size, MAX_OVERHEAD)

    def _more(self) -> None:
        block = next(self._blocks, None)
        if block is None:
            raise MultipartError("a message that ends too early")
        self._data += block
