"""What the numbers of a DICOM object mean, and how they become values (PS3.3 sections C.7.6.3 and C.11)."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from banet_monai.dicom.decoding import COLOUR, GREY, NATIVE, PALETTE
from banet_monai.dicom.parsing import DicomReadError, ParsedFile, PixelPlace, integer, macro_items, numbers, text
from banet_monai.dicom.windows import LookupTable, Window, modality_table, palette_table, voi_transform

__all__ = ["PixelFormat", "pixel_format", "write_frame"]

ALLOCATED = {"PixelData": (1, 8, 16, 32), "FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}  # bits per sample
ITEM_HEADER = 8  # bytes before each compressed frame (PS3.5 section A.4)
BITS_OF_A_BYTE = 8
UNKNOWN = (math.nan, math.nan)
CODE = re.compile(r"[A-Z0-9_ ]{1,16}")  # a photometric interpretation; what looks otherwise is not repeated


@dataclasses.dataclass(frozen=True)
class PixelFormat:
    """What the numbers of one object mean, known before they are decoded.

    Args:
        photometric: PhotometricInterpretation as stored.
        frames: number of frames.
        shape: rows and columns.
        channels: 1 for grey, 3 for colour (palettes included).
        bits: BitsStored, or the bits of a palette's entries.
        low: smallest value that can be stored, after rescale; nan for floating-point pixels.
        high: largest such value.
        rescale: (slope, intercept) of each frame.
        table: the modality LUT that takes the place of the rescale.
        voi: window or VOI LUT of each frame, () where none is to be applied.
        inverted: whether small values are bright (MONOCHROME1, or the presentation LUT shape INVERSE).
        repairs: what was wrong and how it was read, in words.
    """

    photometric: str
    frames: int
    shape: tuple[int, int]
    channels: int
    bits: int
    low: float
    high: float
    rescale: tuple[tuple[float, float], ...]
    table: LookupTable | None
    voi: tuple[Window | LookupTable, ...]
    inverted: bool
    repairs: tuple[str, ...]

    @property
    def is_byte(self) -> bool:
        """Whether the values fit ``uint8`` as they are."""
        is_plain = all(pair == (1.0, 0.0) for pair in self.rescale) and not self.voi
        return is_plain and self.low >= 0 and self.high <= 255


def pixel_format(parsed: ParsedFile, window: str | Window | None = None) -> PixelFormat:
    """Read how the pixels of an object are to be understood.

    Args:
        parsed: the object.
        window: ``"voi"`` for the VOI LUT or window that the file states, a window, or None. Colour has none.

    Raises:
        DicomReadError: without pixel data, or with pixels of a kind that is not supported.
    """
    dataset, name = parsed.dataset, parsed.path.name
    rows, columns = integer(dataset, "Rows", name, 0), integer(dataset, "Columns", name, 0)
    if parsed.pixels is None or parsed.pixels.length == 0 or rows < 1 or columns < 1:
        raise DicomReadError(
            f"'{name}' has no pixel data (the file may be cut short, or an export may have left them out); copy it "
            "again from its source."
        )
    photometric = _check_kind(dataset, parsed.pixels.keyword, name)
    is_grey = photometric in GREY
    frames = max(1, integer(dataset, "NumberOfFrames", name, 1))
    _check_frames(parsed, parsed.pixels, frames, rows * columns)
    table = modality_table(dataset, name) if is_grey else None
    rescale = ((1.0, 0.0),) * frames
    if is_grey and table is None:
        rescale = tuple(_rescale(dataset, k, name) for k in range(frames))

    bits, low, high = _value_range(dataset, rescale, table, name)
    if parsed.pixels.keyword != "PixelData":
        low, high = UNKNOWN
    inverted, repairs = _polarity(dataset, photometric)
    if inverted and math.isnan(low):
        raise DicomReadError(f"'{name}' has inverted floating-point pixels, which have no range to invert in.")
    bits_stored = integer(dataset, "BitsStored", name, 0)
    if bits_stored and integer(dataset, "HighBit", name, bits_stored - 1) != bits_stored - 1:
        repairs.append("HighBit does not fit BitsStored: ignored")
    voi: tuple[Window | LookupTable, ...] = ()
    if is_grey and isinstance(window, Window):
        voi = (window,) * frames
    elif is_grey and window == "voi":
        voi = tuple(voi_transform(dataset, k, name, is_signed=not low >= 0) for k in range(frames))
    channels = 1 if is_grey else 3
    shape = (rows, columns)
    return PixelFormat(
        photometric, frames, shape, channels, bits, low, high, rescale, table, voi, inverted, tuple(repairs)
    )


def _check_frames(parsed: ParsedFile, place: PixelPlace, frames: int, pixels: int) -> None:
    """Refuse more frames than there can be, before anything is computed for each."""
    held = place.length
    if held is None:
        if place.offset < 0:  # a dataset in memory, whose pixels are not read
            return
        held = parsed.file_size - place.offset
    is_native = text(parsed.dataset.file_meta, "TransferSyntaxUID") in NATIVE
    least = pixels / BITS_OF_A_BYTE if is_native else ITEM_HEADER
    if frames > 1 and frames * least > held:
        raise DicomReadError(
            f"'{parsed.path.name}' states {frames} frames, which its {held} bytes of pixel data cannot hold; copy it "
            "again from its source."
        )


def _check_kind(dataset: Dataset, keyword: str, name: str) -> str:
    """The photometric interpretation, when it and the sizes of samples are of a kind that can be read."""
    photometric = text(dataset, "PhotometricInterpretation")
    samples = integer(dataset, "SamplesPerPixel", name, 1)
    if (photometric, samples) not in [(kind, 1) for kind in (*GREY, PALETTE)] + [(kind, 3) for kind in COLOUR]:
        kind = f"of the kind '{photometric}'" if CODE.fullmatch(photometric) else "of an unknown kind"
        raise DicomReadError(
            f"'{name}' has {samples} samples per pixel {kind}; what works: "
            f"{', '.join((*GREY, PALETTE))} with 1 sample, {', '.join(COLOUR)} with 3."
        )
    allocated = integer(dataset, "BitsAllocated", name, 0)
    stored = integer(dataset, "BitsStored", name, allocated)
    if allocated not in ALLOCATED[keyword] or not 0 < stored <= allocated:
        raise DicomReadError(
            f"'{name}' has samples of {stored} in {allocated} bits in {keyword}; what works: 1, 8, 16 or 32 bits, 32 "
            "in FloatPixelData, 64 in DoubleFloatPixelData, and from 1 to as many bits stored as allocated."
        )
    return photometric


def _polarity(dataset: Dataset, photometric: str) -> tuple[bool, list[str]]:
    """Whether small values are bright, and what is contradictory."""
    if photometric not in GREY:
        return False, []
    shape = text(dataset, "PresentationLUTShape").upper()
    is_first = photometric == "MONOCHROME1"
    if (is_first and shape == "IDENTITY") or (not is_first and shape == "INVERSE"):
        return True, [f"PresentationLUTShape {shape} does not fit {photometric}: small values are read as bright"]
    return is_first, []


def _rescale(dataset: Dataset, frame: int, name: str) -> tuple[float, float]:
    """Slope and intercept from the frame's functional groups, else from the object."""
    place = next(iter(macro_items(dataset, frame, "PixelValueTransformationSequence")), dataset)
    slope = (numbers(place, "RescaleSlope", name) or (1.0,))[0]
    intercept = (numbers(place, "RescaleIntercept", name) or (0.0,))[0]
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        raise DicomReadError(
            f"'{name}': RescaleSlope must be a finite number other than 0 and RescaleIntercept a finite number."
        )
    return slope, intercept


def _value_range(
    dataset: Dataset, rescale: tuple[tuple[float, float], ...], table: LookupTable | None, name: str
) -> tuple[int, float, float]:
    """Bits, lowest and highest value that the object can state."""
    if text(dataset, "PhotometricInterpretation") == PALETTE:
        descriptor = numbers(dataset, "RedPaletteColorLookupTableDescriptor", name, 3)
        if not descriptor:
            raise DicomReadError(f"'{name}' is a palette image without a palette; export it again as RGB.")
        bits, palette = int(descriptor[2]), palette_table(dataset, name)
        if palette is not None and (palette.entries.itemsize == 1 or palette.entries.max() >= 2**bits):
            bits = BITS_OF_A_BYTE * palette.entries.itemsize  # the data count where the descriptor contradicts them
        return bits, 0.0, 2.0**bits - 1
    bits = integer(dataset, "BitsStored", name, 0) or integer(dataset, "BitsAllocated", name, 8)
    if table is not None:
        return bits, float(table.entries.min()), float(table.entries.max())
    is_signed = integer(dataset, "PixelRepresentation", name, 0) == 1
    stored = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if is_signed else (0.0, 2.0**bits - 1)
    ends = [slope * value + intercept for slope, intercept in set(rescale) for value in stored]
    return bits, min(ends), max(ends)


def write_frame(
    frame: NDArray[Any], form: PixelFormat, k: int, *, out: NDArray[Any], ends: tuple[float, float]
) -> None:
    """Write the values of a decoded frame: modality LUT or rescale, then VOI, then the inversion of MONOCHROME1.

    Args:
        frame: stored values or RGB.
        form: the format of its object.
        k: index of the frame in its object.
        out: where to write, of the same shape, ``float32`` or ``uint8``.
        ends: lowest and highest value of the whole volume; inversion exchanges them.
    """
    slope, intercept = form.rescale[k]
    out[...] = frame if form.table is None else form.table.look_up(frame)
    if slope != 1:
        out *= slope
    if intercept != 0:
        out += intercept
    if form.voi:
        form.voi[k].apply(out)
    if form.inverted:
        np.subtract(ends[0] + ends[1], out, out=out, casting="unsafe")
