"""Look at an image file without decoding it: is it there, is it whole, how large is the picture, what is its hash."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pydicom
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from PIL import Image, UnidentifiedImageError
from pydicom.errors import InvalidDicomError

from banet_monai.data.stored import stored_size
from banet_monai.dicom.attributes import DicomReadError
from banet_monai.dicom.deflated import refuse_bomb
from banet_monai.dicom.parsing import quiet_pydicom

__all__ = ["FileFacts", "TooManyPixelsError", "UnreadableFileError", "probe"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
TAIL = 64  # bytes at the end of a PNG or JPEG in which its end marker is looked for
BLOCK = 1 << 20  # bytes of a volume in memory at a time
NIFTI_HEADERS: dict[int, Any] = {348: nib.Nifti1Header, 540: nib.Nifti2Header}  # by their size in bytes


class UnreadableFileError(ValueError):
    """A file that cannot be used; the message says why, without its path and with nothing of what it holds."""


class TooManyPixelsError(ValueError):
    """A picture above the limit of pixels, refused before it was decoded; the message says what would work."""


class FileFacts(NamedTuple):
    """What :func:`probe` found.

    Args:
        size: extent along each spatial axis, in the order of MONAI's readers: columns first. Empty for a folder and for
            files of a kind that is not known here.
        digest: SHA-256 of the file, "" for a folder.
    """

    size: tuple[int, ...]
    digest: str


def probe(path: str | Path, *, decode: bool = False) -> FileFacts:
    """Read an image's header, check that the file is whole, and hash it.

    A PNG or JPEG without its end marker and a NIfTI file shorter than its header says are decoded to be certain;
    other pictures are decoded only if asked. A folder (DICOM series) is only seen to hold something.

    Args:
        path: file or folder.
        decode: decode every PNG, JPEG, TIFF or BMP, to find damage in its middle too.

    Raises:
        UnreadableFileError: when the file is missing, empty, no image, truncated or corrupt.
    """
    path = Path(path)
    if path.is_dir():
        if not any(path.iterdir()):
            raise UnreadableFileError("is an empty folder")
        return FileFacts((), "")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UnreadableFileError("does not exist") from None
    except OSError as error:
        raise UnreadableFileError(f"cannot be opened ({error.strerror})") from None
    if not content:
        raise UnreadableFileError("is empty (0 bytes)")
    return FileFacts(_size(path.name.lower(), content, decode), hashlib.sha256(content).hexdigest())


def _size(name: str, content: bytes, decode: bool) -> tuple[int, ...]:
    if name.endswith((".nii", ".nii.gz")):
        return _nifti_size(name, content)
    if name.endswith(".dcm") or content[128:132] == b"DICM":
        return _dicom_size(content)
    if not name.endswith(PICTURE_SUFFIXES):
        return ()
    return _picture_size(content, decode)


def _picture_size(content: bytes, decode: bool) -> tuple[int, ...]:
    try:
        with Image.open(io.BytesIO(content)) as picture:
            size = stored_size(picture)
            ends = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
            if decode or picture.format not in ends or ends[picture.format] not in content[-TAIL:]:
                picture.load()
            return size
    except UnidentifiedImageError:
        raise UnreadableFileError("is no picture, or its beginning is damaged") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableFileError("has more pixels than Pillow opens; save it as several files") from None
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error):
        raise UnreadableFileError("is truncated or corrupt") from None


def _nifti_size(name: str, content: bytes) -> tuple[int, ...]:
    stream = io.BytesIO(content)
    try:
        with gzip.open(stream) if name.endswith(".gz") else stream as raw:
            header = _nifti_header(raw)
            shape = tuple(int(extent) for extent in header.get_data_shape())
            needed = int(header.get_data_offset()) + int(np.prod(shape)) * header.get_data_dtype().itemsize
            raw.seek(0)
            length = sum(len(block) for block in iter(lambda: raw.read(BLOCK), b""))
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise UnreadableFileError("is truncated or corrupt (gzip)") from None
    except (ImageFileError, HeaderDataError, OSError, ValueError, struct.error):
        raise UnreadableFileError("is no NIfTI file, or its header is damaged") from None
    if length < needed:
        raise UnreadableFileError(f"is truncated: {length} of {needed} bytes")
    return shape


def _nifti_header(raw: gzip.GzipFile | io.BytesIO) -> Any:
    """NIfTI-1 or NIfTI-2 header; which of them, and its byte order, shows in its first field, its own size."""
    start = raw.read(4)
    raw.seek(0)
    sizes = {int.from_bytes(start, "little"), int.from_bytes(start, "big")}
    kind = next((kind for size, kind in NIFTI_HEADERS.items() if size in sizes), None)
    if kind is None:
        raise ImageFileError("neither NIfTI-1 nor NIfTI-2")
    return kind.from_fileobj(raw)


def _dicom_size(content: bytes) -> tuple[int, ...]:
    try:
        with quiet_pydicom():
            refuse_bomb(io.BytesIO(content), "the file")
            dataset = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
            frames = int(dataset.get("NumberOfFrames") or 1)
            size = (int(dataset.Columns), int(dataset.Rows))
    except InvalidDicomError:
        raise UnreadableFileError("is no DICOM file") from None
    except DicomReadError:
        raise UnreadableFileError("is deflated and grows larger than an image would when it is inflated") from None
    except Exception:  # pydicom raises whatever a damaged file provokes
        raise UnreadableFileError("is truncated, corrupt or no image") from None
    return size if frames == 1 else (*size, frames)
