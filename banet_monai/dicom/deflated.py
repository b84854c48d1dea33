"""DICOM files that are deflated as a whole (PS3.5 annex A.5), measured before anything inflates them."""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian

from banet_monai.dicom.archives import BLOCK, HARMLESS_BYTES, MAX_RATIO
from banet_monai.dicom.attributes import DicomReadError

__all__ = ["deflated_from", "refuse_bomb"]

PREAMBLE = 128
META_GROUP = b"\x02\x00"
LONG_VR = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")  # PS3.5, 7.1.2
UNDEFINED_LENGTH = 0xFFFFFFFF
UID_SIZE = 64  # bytes, the longest UID; what follows in a longer element is passed over


def deflated_from(file: BinaryIO) -> int | None:
    """Where the deflated part of a file begins.

    The elements of the file meta information are walked one by one, as pydicom does it, because the group length
    that should say the same need not be true.

    Args:
        file: a DICOM file or the beginning of one.

    Returns:
        Position after the file meta information; None when that does not name the deflated transfer syntax, or is
        not there.

    Raises:
        EOFError: when the file ends within its file meta information.
        ValueError: for an element of undefined length.
    """
    has_preamble = file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"
    begin = place = file.seek(PREAMBLE + 4 if has_preamble else 0)
    is_deflated, has_types = False, True
    while (start := file.read(8))[:2] == META_GROUP:
        vr = start[4:6]
        has_type = b"AA" <= vr <= b"ZZ" and vr.isupper()
        if place == begin:
            has_types = has_type  # old files leave the types out here too: then all of them
        size = int.from_bytes(start[6:8] if has_types and has_type else start[4:8], "little")
        is_long = has_types and vr in LONG_VR
        if is_long:
            size = int.from_bytes(file.read(4), "little")
        if size == UNDEFINED_LENGTH:
            raise ValueError("file meta information of undefined length")
        is_deflated |= DeflatedExplicitVRLittleEndian.encode() in file.read(min(size, UID_SIZE))
        place = file.seek(place + (12 if is_long else 8) + size)
    if file.seek(0, os.SEEK_END) < place:
        raise EOFError("the file ends within its file meta information")
    return place if is_deflated else None


def refuse_bomb(file: BinaryIO, name: str, *, harmless: int = HARMLESS_BYTES, max_ratio: float = MAX_RATIO) -> None:
    """Inflate a deflated DICOM file piece by piece, keeping nothing, until it is done or too large.

    Args:
        file: a whole DICOM file; one that is not deflated is left alone.
        name: what errors call it.
        harmless: bytes that any file may have when inflated.
        max_ratio: inflated to deflated bytes of larger ones.

    Raises:
        DicomReadError: when it is larger than both allow.
        EOFError, ValueError: as :func:`deflated_from`.
        zlib.error: when it is damaged.
    """
    file.seek(0)
    if (start := deflated_from(file)) is None:
        return
    limit = max(harmless, int(max_ratio * file.seek(0, os.SEEK_END)))
    inflated, inflater = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    file.seek(start)
    while not inflater.eof and (block := inflater.unconsumed_tail or file.read(BLOCK)):
        inflated += len(inflater.decompress(block, BLOCK))
        if inflated > limit:
            raise DicomReadError(
                f"'{name}' is deflated and grows beyond {limit:,} bytes when it is inflated, more than an image would; "
                "if it is one, save it uncompressed (dcmconv +te)."
            )
