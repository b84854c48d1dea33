"""The header of a JPEG stream (ISO/IEC 10918-1 annex B), checked before a decoder that damage would bring down."""

from __future__ import annotations

import struct

__all__ = ["check_jpeg_header"]

START, SCAN, TABLES = 0xD8, 0xDA, 0xC4  # markers SOI, SOS and DHT
FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))  # SOF0 to SOF15
LENGTHS = 16  # of Huffman codes, in bits


def check_jpeg_header(stream: bytes, shape: tuple[int, int, int], bits: int) -> None:
    """Walk through the segments before the first scan.

    Args:
        stream: from SOI on.
        shape: rows, columns and samples per pixel that the stream must state.
        bits: what a sample may have at most.

    Raises:
        ValueError: no JPEG, another shape, or tables and segments that contradict their own lengths.
    """
    if stream[:2] != bytes((0xFF, START)):
        raise ValueError("no JPEG stream")
    place, found, tables = 2, False, False
    while place + 4 <= len(stream):
        if stream[place] != 0xFF:
            break
        marker = stream[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        (length,) = struct.unpack_from(">H", stream, place + 2)
        body = stream[place + 4 : place + 2 + length]
        if len(body) != length - 2:
            break
        if marker == SCAN:
            if not (found and tables):
                break
            return
        found = found or (marker in FRAMES and _is_frame(body, shape, bits))
        tables = tables or (marker == TABLES and _are_tables(body))
        place += 2 + length
    raise ValueError("damaged header of a JPEG stream")


def _is_frame(body: bytes, shape: tuple[int, int, int], bits: int) -> bool:
    """Whether a frame header (section B.2.2) states this shape, and a precision and sampling factors that exist."""
    if len(body) < 6:
        return False
    precision, *stated = struct.unpack_from(">BHHB", body)
    factors = [half for both in body[7::3] for half in divmod(both, 16)]
    fits = tuple(stated) == shape and len(body) == 6 + 3 * shape[2]
    return fits and 2 <= precision <= bits and all(1 <= factor <= 4 for factor in factors)


def _are_tables(body: bytes) -> bool:
    """Whether Huffman tables (section B.2.4.2) fill their segment."""
    place = 0
    while place + 1 + LENGTHS <= len(body):
        place += 1 + LENGTHS + sum(body[place + 1 : place + 1 + LENGTHS])
    return place == len(body)
