"""Pixel data of one DICOM object: decoding, rescale, inversion and colour (PS3.3 sections C.7.6.3 and C.11.1)."""

from __future__ import annotations

import dataclasses
import importlib
import math
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from banet_monai.dicom.parsing import DicomReadError, integer, numbers, text

__all__ = ["PixelFormat", "can_decode", "decode_frames", "pixel_format", "write_values"]

PYDICOM_3 = int(pydicom.__version__.split(".")[0]) >= 3
processing: Any = importlib.import_module("pydicom.pixels" if PYDICOM_3 else "pydicom.pixel_data_handlers.util")
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
PALETTE = "PALETTE COLOR"
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
VIDEO = ("1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.7")  # MPEG-2/4 and HEVC as 4.100-4.108; SMPTE ST 2110 as 7.x

Frames = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class PixelFormat:
    """What the numbers of one object mean, known before they are decoded.

    Args:
        photometric: PhotometricInterpretation as stored.
        frames: number of frames.
        shape: rows and columns.
        channels: 1 for grey, 3 for colour (palettes included).
        bits: BitsStored, or the bits of a palette's entries.
        low: smallest value that can be stored, after rescale.
        high: largest such value.
        rescale: (slope, intercept) of each frame.
    """

    photometric: str
    frames: int
    shape: tuple[int, int]
    channels: int
    bits: int
    low: float
    high: float
    rescale: tuple[tuple[float, float], ...]

    @property
    def inverted(self) -> bool:
        """Whether small values are bright (MONOCHROME1)."""
        return self.photometric == "MONOCHROME1"

    @property
    def is_byte(self) -> bool:
        """Whether the values fit ``uint8`` as they are."""
        return self.low >= 0 and self.high <= 255 and all(pair == (1.0, 0.0) for pair in self.rescale)


def pixel_format(dataset: Dataset, name: str) -> PixelFormat:
    """Read how the pixels of an object are to be understood.

    Args:
        dataset: a whole object.
        name: base name of its file, for messages.

    Raises:
        DicomReadError: without pixel data, or with pixels of a kind that is not supported.
    """
    rows, columns = integer(dataset, "Rows", name, 0), integer(dataset, "Columns", name, 0)
    if "PixelData" not in dataset or rows < 1 or columns < 1:
        raise DicomReadError(
            f"'{name}' has no pixel data (the file may be cut short, or an export may have left them out); copy it "
            "again from its source."
        )
    photometric = text(dataset, "PhotometricInterpretation")
    samples = integer(dataset, "SamplesPerPixel", name, 1)
    if (photometric, samples) not in [(kind, 1) for kind in (*GREY, PALETTE)] + [(kind, 3) for kind in COLOUR]:
        raise DicomReadError(
            f"'{name}' has {samples} samples per pixel of the kind '{photometric}'; what works: "
            f"{', '.join((*GREY, PALETTE))} with 1 sample, {', '.join(COLOUR)} with 3."
        )

    frames = max(1, integer(dataset, "NumberOfFrames", name, 1))
    rescale = tuple(_rescale(group, dataset, name) for group in _value_groups(dataset, frames))
    bits, low, high = _value_range(dataset, rescale, photometric, name)
    channels = 1 if photometric in GREY else 3
    return PixelFormat(photometric, frames, (rows, columns), channels, bits, low, high, rescale)


def _value_groups(dataset: Dataset, frames: int) -> list[Dataset]:
    """For each frame, the dataset that states its rescale: its own functional group, the shared one, or the object."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = []
    for k in range(frames):
        places = [own[k]] if k < len(own) else []
        found = [place.get("PixelValueTransformationSequence") for place in [*places, shared[0]]]
        groups.append(next((sequence[0] for sequence in found if sequence), dataset))
    return groups


def _rescale(group: Dataset, dataset: Dataset, name: str) -> tuple[float, float]:
    if text(dataset, "PhotometricInterpretation") not in GREY:
        return 1.0, 0.0
    slope = (numbers(group, "RescaleSlope", name) or (1.0,))[0]
    intercept = (numbers(group, "RescaleIntercept", name) or (0.0,))[0]
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        raise DicomReadError(
            f"'{name}': RescaleSlope must be a finite number other than 0 and RescaleIntercept a finite number."
        )
    return slope, intercept


def _value_range(
    dataset: Dataset, rescale: tuple[tuple[float, float], ...], photometric: str, name: str
) -> tuple[int, float, float]:
    """Bits, lowest and highest value that the object can state."""
    if photometric == PALETTE:
        descriptor = numbers(dataset, "RedPaletteColorLookupTableDescriptor", name, 3)
        if not descriptor:
            raise DicomReadError(f"'{name}' is a palette image without a palette; export it again as RGB.")
        bits = int(descriptor[2])
        return bits, 0.0, 2.0**bits - 1
    bits = integer(dataset, "BitsStored", name, integer(dataset, "BitsAllocated", name, 8))
    if _modality_lut(dataset) is not None:
        table = numbers(_modality_lut(dataset), "LUTData", name)
        return bits, min(table, default=0.0), max(table, default=0.0)
    signed = integer(dataset, "PixelRepresentation", name, 0) == 1
    stored = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    ends = [slope * value + intercept for slope, intercept in rescale for value in stored]
    return bits, min(ends), max(ends)


def _modality_lut(dataset: Dataset) -> Any:
    """The item of the Modality LUT Sequence, which takes the place of the rescale; None where there is none."""
    sequence = dataset.get("ModalityLUTSequence")
    return sequence[0] if sequence and text(dataset, "PhotometricInterpretation") in GREY else None


def decode_frames(dataset: Dataset, name: str) -> Frames:
    """Decode all frames of an object: stored values of grey pictures, RGB of all others.

    Returns:
        ``(frames, rows, columns)`` for grey, ``(frames, rows, columns, 3)`` for colour.

    Raises:
        DicomReadError: cut short, damaged, or compressed in a way for which no decoder is installed.
    """
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if not can_decode(syntax):
        raise DicomReadError(f"'{name}' {_no_decoder(syntax)}")
    try:
        _check_length(dataset, syntax, name)
        decoded = _to_rgb(dataset, _unused_bits_cleared(dataset, dataset.pixel_array))
    except DicomReadError:
        raise
    except Exception as error:  # each decoder has exceptions of its own
        hint = "; 12-bit JPEG Extended needs to be converted to another syntax first" if syntax == JPEG_EXTENDED else ""
        raise DicomReadError(
            f"'{name}': the pixel data ({syntax.name}) cannot be decoded ({type(error).__name__}): the file is cut "
            "short or damaged, or the installed decoders do not know its variant; "
            f'pip install "banet-monai[dicom]" brings more{hint}.'
        ) from error
    frames = max(1, integer(dataset, "NumberOfFrames", name, 1))
    channels = () if text(dataset, "PhotometricInterpretation") in GREY else (3,)
    wanted = (frames, int(dataset.Rows), int(dataset.Columns), *channels)
    if decoded.size != math.prod(wanted):
        raise DicomReadError(
            f"'{name}' holds {decoded.shape} values where {wanted} are announced; copy it again from its source."
        )
    return decoded.reshape(wanted)


def can_decode(syntax: UID) -> bool:
    """Whether pydicom has a decoder for a transfer syntax whose libraries are installed."""
    if PYDICOM_3:
        try:
            return bool(processing.get_decoder(syntax).is_available)
        except NotImplementedError:
            return False
    handlers: list[Any] = list(pydicom.config.pixel_data_handlers)
    return any(handler.supports_transfer_syntax(syntax) and handler.is_available() for handler in handlers)


def _no_decoder(syntax: UID) -> str:
    if syntax.startswith(VIDEO):
        return f"is a video ({syntax.name}), which is not supported; extract its frames as pictures first."
    if syntax.name == syntax:  # pydicom's dictionary does not know it
        return f"has the unknown transfer syntax {syntax}; convert it to Explicit VR Little Endian first."
    return (
        f"is compressed as {syntax.name}, and no decoder for it is installed. Install the plug-ins: "
        'pip install "banet-monai[dicom]"; or convert the file to Explicit VR Little Endian first.'
    )


def _check_length(dataset: Dataset, syntax: UID, name: str) -> None:
    if syntax not in NATIVE:
        return
    samples = (
        2 if text(dataset, "PhotometricInterpretation") == "YBR_FULL_422" else int(dataset.get("SamplesPerPixel", 1))
    )
    frames = max(1, integer(dataset, "NumberOfFrames", name, 1))
    bits = int(dataset.Rows) * int(dataset.Columns) * samples * frames * int(dataset.BitsAllocated)
    held, wanted = len(dataset.PixelData or b""), math.ceil(bits / 8)
    if held < wanted:
        raise DicomReadError(
            f"'{name}' is cut short: {held} of {wanted} bytes of pixel data are there; copy it again from its source."
        )


def _unused_bits_cleared(dataset: Dataset, decoded: Frames) -> Frames:
    """Bits above BitsStored hold overlays or a missing sign (PS3.5 section 8.1.1); pydicom 3 clears them itself."""
    unused = int(dataset.BitsAllocated) - int(dataset.get("BitsStored", dataset.BitsAllocated))
    if PYDICOM_3 or unused <= 0 or decoded.dtype.itemsize * 8 != int(dataset.BitsAllocated):
        return decoded
    return (decoded << unused) >> unused


def _to_rgb(dataset: Dataset, decoded: Frames) -> Frames:
    # A decoder of pydicom 2 that gives RGB says so in the dataset; pydicom 3 gives RGB from every YBR.
    photometric = str(dataset.PhotometricInterpretation)
    if photometric == PALETTE:
        return processing.apply_color_lut(decoded, dataset)
    if not PYDICOM_3 and photometric in ("YBR_FULL", "YBR_FULL_422"):
        return processing.convert_color_space(decoded, photometric, "RGB")
    return decoded


def write_values(
    frames: Frames, dataset: Dataset, form: PixelFormat, *, out: Frames, slices: list[int], ends: tuple[float, float]
) -> None:
    """Write the values of decoded frames into a volume: modality LUT or rescale, then the inversion of MONOCHROME1.

    Args:
        frames: from :func:`decode_frames`.
        dataset: the object they come from.
        form: its format.
        out: ``(slices, rows, columns[, 3])``, ``float32`` or ``uint8``, filled at ``slices``.
        slices: place of each frame in ``out``.
        ends: lowest and highest value of the whole volume; inversion exchanges them.
    """
    has_table = _modality_lut(dataset) is not None
    if has_table:
        frames = processing.apply_modality_lut(frames, dataset)
    for frame, (slope, intercept), k in zip(frames, form.rescale, slices, strict=True):
        out[k] = frame
        if not has_table and slope != 1:
            out[k] *= slope
        if not has_table and intercept != 0:
            out[k] += intercept
        if form.inverted:
            np.subtract(ends[0] + ends[1], out[k], out=out[k], casting="unsafe")
