"""From the pixel data of one DICOM file to the stored values of its frames, each decoded alone.

Uncompressed frames are read from the file straight by their offset; for all others pydicom's decoders get one frame
at a time. So the memory held is that of a frame, not of an object, and several threads can share an object's frames.
"""

from __future__ import annotations

import copy
import importlib
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import encaps
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from banet_monai.dicom.attributes import is_big_endian, little_endian_words
from banet_monai.dicom.jpeg import check_jpeg_header
from banet_monai.dicom.parsing import DicomReadError, ParsedFile, PixelPlace, integer, states, text
from banet_monai.dicom.windows import palette_table

__all__ = ["COLOUR", "GREY", "PALETTE", "FrameDecoder", "can_decode", "frame_decoder", "processing"]

PYDICOM_3 = int(pydicom.__version__.split(".")[0]) >= 3
processing: Any = importlib.import_module("pydicom.pixels" if PYDICOM_3 else "pydicom.pixel_data_handlers.util")
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
PALETTE = "PALETTE COLOR"
LITTLE_ENDIAN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
NATIVE = (*LITTLE_ENDIAN, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
VIDEO = ("1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.7")  # MPEG-2/4 and HEVC as 4.100-4.108; SMPTE ST 2110 as 7.x
PIXEL_GROUP = 0x0028  # all that a decoder asks for
USUAL = {"SamplesPerPixel": 1, "PixelRepresentation": 0, "PlanarConfiguration": 0}  # where a file leaves them out
SEQUENCE_DELIMITER = (0xFFFE, 0xE0DD)

# What reads a compressed syntax, by the package that a user installs.
PLUGINS = {
    "1.2.840.10008.1.2.4.50": "pillow, or python-gdcm",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "python-gdcm",  # JPEG extended
    "1.2.840.10008.1.2.4.57": "python-gdcm",  # JPEG lossless, any predictor
    "1.2.840.10008.1.2.4.70": "python-gdcm",  # JPEG lossless, first predictor
    "1.2.840.10008.1.2.4.80": "pyjpegls, or python-gdcm",
    "1.2.840.10008.1.2.4.81": "pyjpegls, or python-gdcm",
    "1.2.840.10008.1.2.4.90": "pylibjpeg and pylibjpeg-openjpeg, or pillow",
    "1.2.840.10008.1.2.4.91": "pylibjpeg and pylibjpeg-openjpeg, or pillow",
    "1.2.840.10008.1.2.4.201": "pylibjpeg and pylibjpeg-openjpeg, with pydicom 3",  # HTJ2K
    "1.2.840.10008.1.2.4.202": "pylibjpeg and pylibjpeg-openjpeg, with pydicom 3",
    "1.2.840.10008.1.2.4.203": "pylibjpeg and pylibjpeg-openjpeg, with pydicom 3",
}
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG = (JPEG_EXTENDED, *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 57, 70)))
# pydicom's plug-ins for one syntax, best first. It would ask GDCM first, which ends the process on damaged streams.
PLUGIN_ORDER = ("pylibjpeg", "pyjpegls", "pillow", "pydicom", "gdcm")
JPEG_BITS = 8  # that free decoders of lossy JPEG read

Frame = NDArray[Any]
FrameDecoder = Callable[[int], Frame]


def frame_decoder(parsed: ParsedFile) -> FrameDecoder:
    """A function from the index of a frame, counted from 0, to its values; several threads may call it.

    Returns:
        The function. Frames are ``(rows, columns)`` with the stored values of grey pictures, ``(rows, columns, 3)``
        with RGB of all others.

    Raises:
        DicomReadError: here or later, when cut short, damaged, or compressed so that no decoder is installed.
    """
    name, dataset = parsed.path.name, parsed.dataset
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if parsed.pixels is None:
        raise DicomReadError(f"'{name}' has no pixel data.")
    if syntax not in NATIVE and not can_decode(syntax):
        raise DicomReadError(f"'{name}' {_no_decoder(syntax)}")
    if syntax == JPEG_EXTENDED and integer(dataset, "BitsStored", name, 8) > JPEG_BITS:
        raise DicomReadError(
            f"'{name}' is compressed as {syntax.name} with more than {JPEG_BITS} bits, which no decoder here reads; "
            "convert the file to Explicit VR Little Endian first, for example with dcmdjpeg of DCMTK."
        )
    if syntax in NATIVE and parsed.pixels.length is None:
        raise DicomReadError(
            f"'{name}' holds compressed pixel data, but its transfer syntax is stated or taken as {syntax.name}; "
            "export it again, or correct its TransferSyntaxUID."
        )
    choose = _native_frames
    if syntax not in NATIVE:
        choose = _compressed_frames
    elif syntax in LITTLE_ENDIAN and _is_plain(dataset, name):
        choose = _plain_frames
    with _errors_named(name, syntax):
        decode = choose(parsed, parsed.pixels)
    shape = _shape(dataset, name)
    photometric = text(dataset, "PhotometricInterpretation")
    wanted = shape if photometric in GREY else (*shape, 3)

    def decode_checked(k: int) -> Frame:
        with _errors_named(name, syntax):
            frame = decode(k)
            if photometric == PALETTE:
                frame = _palette_colours(frame, dataset, name)
        if frame.shape != wanted:
            raise DicomReadError(
                f"'{name}' holds {frame.shape} values where {wanted} are announced; copy it again from its source."
            )
        return frame

    return decode_checked


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
    plugin = f" It needs {PLUGINS[syntax]}." if syntax in PLUGINS else ""
    return (
        f"is compressed as {syntax.name}, and no decoder for it is installed.{plugin} Install the plug-ins: "
        'pip install "banet-monai[dicom]"; or convert the file to Explicit VR Little Endian first.'
    )


@contextmanager
def _errors_named(name: str, syntax: UID) -> Iterator[None]:
    """Turn a decoder's own exceptions into one that names the file and the syntax."""
    try:
        yield
    except (DicomReadError, FileNotFoundError):
        raise
    except Exception as error:  # each decoder has exceptions of its own
        plugin = f" (needed: {PLUGINS[syntax]})" if syntax in PLUGINS else ""
        raise DicomReadError(
            f"'{name}': the pixel data ({syntax.name}) cannot be decoded ({type(error).__name__}): the file is cut "
            f"short or damaged, or the installed decoders do not know its variant{plugin}; "
            'pip install "banet-monai[dicom]" brings more.'
        ) from error


def _frame_count(dataset: Dataset, name: str) -> int:
    return max(1, integer(dataset, "NumberOfFrames", name, 1))


def _shape(dataset: Dataset, name: str) -> tuple[int, int]:
    return integer(dataset, "Rows", name, 0), integer(dataset, "Columns", name, 0)


def _is_plain(dataset: Dataset, name: str) -> bool:
    """Whether values lie in the file as numpy has them, each sample in whole bytes."""
    in_bytes = integer(dataset, "BitsAllocated", name, 0) in (8, 16, 32, 64)
    return in_bytes and text(dataset, "PhotometricInterpretation") != "YBR_FULL_422"


def _plain_frames(parsed: ParsedFile, place: PixelPlace) -> FrameDecoder:
    dataset, name = parsed.dataset, parsed.path.name
    (rows, columns), samples = _shape(dataset, name), integer(dataset, "SamplesPerPixel", name, 1)
    allocated = integer(dataset, "BitsAllocated", name, 0)
    if place.keyword == "PixelData":
        kind = "i" if integer(dataset, "PixelRepresentation", name, 0) == 1 else "u"
    else:
        kind = "f"
    dtype = np.dtype(f"<{kind}{allocated // 8}")
    unused = 0 if kind == "f" else allocated - integer(dataset, "BitsStored", name, allocated)
    planar = samples > 1 and integer(dataset, "PlanarConfiguration", name, 0) == 1
    count = rows * columns * samples
    in_file = parsed.file_size - place.offset
    held = in_file if place.length is None else min(place.length, in_file)
    _check_length(name, held, count * allocated * _frame_count(dataset, name))
    photometric = text(dataset, "PhotometricInterpretation")

    def decode(k: int) -> Frame:
        offset = place.offset + k * count * dtype.itemsize
        values = np.fromfile(parsed.path, dtype=dtype, count=count, offset=offset)
        if unused > 0:  # they hold overlays or a missing sign (PS3.5 section 8.1.1)
            np.right_shift(np.left_shift(values, unused, out=values), unused, out=values)
        if samples == 1:
            return _in_rgb(values.reshape(rows, columns), dataset, photometric)
        frame = values.reshape(rows, columns, samples)
        if planar:
            frame = values.reshape(samples, rows, columns).transpose(1, 2, 0)
        return _in_rgb(frame, dataset, photometric)

    return decode


def _native_frames(parsed: ParsedFile, place: PixelPlace) -> FrameDecoder:
    """Uncompressed but not as numpy has it: big endian, subsampled colour, single bits, or deflated as a whole."""
    dataset, name = parsed.dataset, parsed.path.name
    if place.keyword != "PixelData":
        raise DicomReadError(f"'{name}' holds {place.keyword} in an unusual encoding; convert it to little endian.")
    if place.offset < 0:
        data = bytes(pydicom.dcmread(str(parsed.path), force=True).PixelData)
    else:
        with parsed.path.open("rb") as file:
            file.seek(place.offset)
            data = file.read(place.length if place.length is not None else -1)
    if is_big_endian(dataset) and place.vr == "OW" and int(dataset.BitsAllocated) <= 8:
        data = little_endian_words(data)
    frames, shape = _frame_count(dataset, name), _shape(dataset, name)
    is_subsampled = text(dataset, "PhotometricInterpretation") == "YBR_FULL_422"
    samples = 2 if is_subsampled else integer(dataset, "SamplesPerPixel", name, 1)
    if is_subsampled and 8 * len(data) >= math.prod(shape) * 3 * frames * int(dataset.BitsAllocated):
        raise DicomReadError(
            f"'{name}' is stated to be YBR_FULL_422, with two samples per pixel, but holds three, be they YBR_FULL or "
            "RGB; correct PhotometricInterpretation."
        )
    _check_length(name, len(data), math.prod(shape) * samples * frames * int(dataset.BitsAllocated))
    decoded = _pydicom_decoded(dataset, data, frames)
    channels = decoded.size // (frames * math.prod(shape))
    decoded = decoded.reshape(frames, *shape, *([channels] if channels > 1 else []))
    return lambda k: decoded[k]


def _compressed_frames(parsed: ParsedFile, place: PixelPlace) -> FrameDecoder:
    dataset, name = parsed.dataset, parsed.path.name
    frames = _frame_count(dataset, name)
    with parsed.path.open("rb") as file:
        file.seek(place.offset)
        data = file.read(place.length if place.length is not None else -1)  # else to the delimiter, near the end
    _check_fragments(data, name)
    if PYDICOM_3:
        tables = [dataset.get(keyword) for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
        extended = (tables[0], tables[1]) if all(tables) else None
        parts = list(encaps.generate_frames(data, number_of_frames=frames, extended_offsets=extended))
    else:
        parts = list(encaps.generate_pixel_data_frame(data, frames))
    if len(parts) < frames or not all(parts):
        raise DicomReadError(
            f"'{name}' is cut short: {len([p for p in parts if p])} of {frames} compressed frames are there; copy it "
            "again from its source."
        )
    syntax = UID(dataset.file_meta.TransferSyntaxUID)

    def decode(k: int) -> Frame:
        if syntax in JPEG and _by_gdcm(syntax):
            shape = (*_shape(dataset, name), integer(dataset, "SamplesPerPixel", name, 1))
            check_jpeg_header(parts[k], shape, integer(dataset, "BitsAllocated", name, 8))
        return _pydicom_decoded(dataset, encaps.encapsulate([parts[k]]), frames=1)

    return decode


def _check_length(name: str, held: int, wanted_bits: int) -> None:
    wanted = math.ceil(wanted_bits / 8)
    if held < wanted:
        raise DicomReadError(
            f"'{name}' is cut short: {held} of {wanted} bytes of pixel data are there; copy it again from its source."
        )


def _check_fragments(data: bytes, name: str) -> None:
    """Walk through the items of compressed pixel data (PS3.5 section A.4): decoders may not mind a missing part."""
    place = 0
    while place + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHL", data, place)
        if (group, element) == SEQUENCE_DELIMITER:
            return
        place += 8 + length
    if place != len(data):  # some writers leave out the delimiter alone
        raise DicomReadError(
            f"'{name}' is cut short: its compressed pixel data have no end; copy it again from its source."
        )


def _plugin(syntax: UID) -> str:
    """The plug-in of pydicom 3 that is to decode a compressed syntax."""
    available: tuple[str, ...] = processing.get_decoder(syntax).available_plugins
    return min(available, key=lambda name: PLUGIN_ORDER.index(name) if name in PLUGIN_ORDER else 0)


def _by_gdcm(syntax: UID) -> bool:
    """Whether GDCM may be asked: by pydicom 3 as the last choice, by pydicom 2 wherever it is installed."""
    if PYDICOM_3:
        return _plugin(syntax) == "gdcm"
    return any("gdcm" in handler.__name__ and handler.is_available() for handler in pydicom.config.pixel_data_handlers)


def _pydicom_decoded(dataset: Dataset, data: bytes, frames: int) -> Frame:
    """Decode through a new dataset that holds what a decoder asks for, so that nothing stays in the shared one."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    own = Dataset()
    for tag in list(dataset.keys()):
        if tag.group == PIXEL_GROUP:
            own.add(copy.copy(dataset[tag]))
    for keyword, value in USUAL.items():
        if not states(own, keyword):
            setattr(own, keyword, value)
    own.file_meta = dataset.file_meta
    if PYDICOM_3:
        own.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    else:
        own.is_implicit_VR, own.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    own.NumberOfFrames = frames
    own.PixelData = data
    own["PixelData"].VR = "OB" if syntax.is_compressed or int(dataset.BitsAllocated) <= 8 else "OW"
    own["PixelData"].is_undefined_length = syntax.is_encapsulated
    if PYDICOM_3 and syntax.is_compressed:
        own.pixel_array_options(decoding_plugin=_plugin(syntax))
    frame = own.pixel_array
    photometric = str(own.PhotometricInterpretation)  # a decoder of pydicom 2 that gives RGB says so here
    if PYDICOM_3 and photometric.startswith("YBR"):
        photometric = "RGB"  # pydicom 3 gives RGB from every YBR
    return _in_rgb(_unused_bits_cleared(frame, own), own, photometric)


def _unused_bits_cleared(frame: Frame, dataset: Dataset) -> Frame:
    """Bits above BitsStored hold overlays or a missing sign (PS3.5 section 8.1.1); pydicom 3 clears them itself."""
    unused = int(dataset.BitsAllocated) - int(dataset.get("BitsStored", dataset.BitsAllocated))
    if PYDICOM_3 or unused <= 0 or frame.dtype.itemsize * 8 != int(dataset.BitsAllocated):
        return frame
    return (frame << unused) >> unused


def _palette_colours(frame: Frame, dataset: Dataset, name: str) -> Frame:
    table = palette_table(dataset, name)
    if table is not None:
        return table.look_up(frame)
    return processing.apply_color_lut(frame, dataset)[..., :3]  # segmented; without opacity


def _in_rgb(frame: Frame, dataset: Dataset, photometric: str) -> Frame:
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        return processing.convert_color_space(frame, photometric, "RGB")
    return frame
