"""Pictures: PNG, JPEG, TIFF and BMP, 8 and 16 bit, as they are stored.

The pixel grid is the one that is stored: an orientation tag, of EXIF or TIFF, is not applied, so that a mask lies on
its picture in every program that ignores the tag as well, and so that what is written has the size of what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple
from numpy.typing import NDArray
from PIL import ImageFile, UnidentifiedImageError

from banet_monai.data.probe import TooManyPixelsError
from banet_monai.data.stored import is_black_and_white, open_picture, undo_turn
from banet_monai.flags import as_number

__all__ = ["MAX_PIXELS", "PICTURE_SUFFIXES", "UNKNOWN_RANGE", "PictureReader", "require_content"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MAX_PIXELS = 178_956_970  # where Pillow too takes a file for a decompression bomb; as float32 RGB 2 GiB
UNKNOWN_RANGE = (float("nan"), float("nan"))  # numbers instead of None, so that batches collate

# PIL keeps only the upper byte of 16-bit colour. Asked for the other byte order it returns the lower one.
_LOWER_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if np.little_endian else "RGB;16L",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBA;16N": "RGBA;16B" if np.little_endian else "RGBA;16L",
}
_QUICK_MODES = ("L", "RGB", "RGBA")
_TIFF_BITS, _TIFF_SUBFILE, _TIFF_TILE_WIDTH = 258, 254, 322  # BitsPerSample, NewSubfileType, TileWidth of TIFF 6.0


@dataclass(frozen=True)
class _Picture:
    """A decoded picture: ``array`` is ``(H, W)`` or ``(H, W, C)`` as stored."""

    array: NDArray[Any]
    bits: int
    value_range: tuple[float, float]
    file_format: str
    mode: str


class _RefusedError(ValueError):
    """A message that names the file already."""


class PictureReader(ImageReader):
    """PNG, JPEG, TIFF and BMP through PIL, 8 and 16 bit exactly.

    Grey stays one channel; RGB, CMYK and YCbCr become RGB; the alpha channel is dropped, not blended; 16-bit colour
    keeps its 16 bits (PIL alone would cut it to 8).

    Args:
        keep_palette: for masks. ``True`` returns the indices of a palette picture (0/255 where the palette holds black
            and white alone, in whichever order) and 0/1 for a 1-bit one; ``False`` returns their colours and 0/255.
        max_pixels: a picture with more is refused before it is decoded. None: no limit, for a picture that was accepted
            once.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: naming the file, when it is empty, truncated, no picture, narrower than two pixels or has several
            pages; :class:`banet_monai.data.probe.TooManyPixelsError` when it is above ``max_pixels``.

    Meta:
        ``bits`` (8, 12, 16 or 32; fewer than 8 become 8), ``value_range`` (``(0, 255)``, ``(0, 4095)``,
        ``(0, 65535)``, or two nan for signed, 32-bit and float pictures), ``spacing_unit`` ``"px"``, ``affine`` the
        identity, ``spatial_shape`` ``(W, H)``.
    """

    def __init__(self, *, keep_palette: bool = False, max_pixels: float | str | None = MAX_PIXELS) -> None:
        super().__init__()
        self.keep_palette = keep_palette
        self.max_pixels = None if max_pixels is None else as_number(max_pixels, "max_pixels")
        if self.max_pixels is not None and not self.max_pixels >= 1:
            raise ValueError(f"max_pixels must be a positive number, got {max_pixels}.")

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return all(str(name).lower().endswith(PICTURE_SUFFIXES) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> _Picture:
        names = ensure_tuple(data)
        if len(names) != 1:
            raise ValueError(f"pictures are read one at a time, got {len(names)} files; give one record per picture.")
        path = Path(str(names[0]))
        require_content(path)
        try:
            with open_picture(path) as opened:
                self._require_size(opened, path)
                return self._decode(opened, path)
        except (_RefusedError, TooManyPixelsError):
            raise
        except UnidentifiedImageError as error:
            raise ValueError(f"'{path.name}' is no picture that PIL knows; PNG, JPEG, TIFF and BMP work.") from error
        except (
            Exception
        ) as error:  # PIL raises many kinds: OSError, SyntaxError, EOFError, struct.error, ValueError, ...
            raise ValueError(
                f"'{path.name}' is truncated or corrupt ({type(error).__name__}: {error}); open and save it again, or "
                "copy it anew."
            ) from error

    def get_data(self, img: _Picture) -> tuple[NDArray[Any], dict[str, Any]]:
        array = np.moveaxis(img.array, 0, 1)  # (H, W, ...) -> (W, H, ...)
        meta = {
            "format": img.file_format,
            "mode": img.mode,
            "bits": img.bits,
            "value_range": img.value_range,
            "spacing_unit": "px",
            "spatial_shape": np.asarray(array.shape[:2]),
            "original_channel_dim": float("nan") if array.ndim == 2 else -1,
            "affine": np.eye(4),
            "original_affine": np.eye(4),
        }
        return array, meta

    def _require_size(self, image: ImageFile.ImageFile, path: Path) -> None:
        pixels = image.width * image.height
        if self.max_pixels is not None and pixels > self.max_pixels:
            raise TooManyPixelsError(
                f"'{path.name}' is {image.width}x{image.height}, {pixels / 1e6:.4g} million pixels, and the limit is "
                f"{self.max_pixels / 1e6:.4g} million. {_how_in_tiles(image)}; "
                f"scale it down; or, with enough memory, raise the limit: --max-pixels {pixels} (max_pixels in a "
                "configuration)."
            )

    def _decode(self, image: ImageFile.ImageFile, path: Path) -> _Picture:
        if min(image.size) < 2:
            raise _RefusedError(f"'{path.name}' is {image.width}x{image.height} pixels; at least 2x2 are needed.")
        _require_one_page(image, path)
        file_format, mode = str(image.format), image.mode
        bits, undo = _bits_per_sample(image), undo_turn(image)
        if mode in ("RGB", "RGBA") and bits == 16:
            array: NDArray[Any] = _decode_16_bit_colour(image, path)
        else:
            quick = _decoded_quickly(image, path)
            array = self._decode_as_stored(image) if quick is None else quick
        array = undo(array)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise _RefusedError(f"'{path.name}' holds NaN or infinite values; replace them before use.")
        if mode == "F" or (mode.startswith("I") and bits not in (12, 16)):
            return _Picture(array, 32, UNKNOWN_RANGE, file_format, mode)
        return _Picture(array, bits, (0.0, 2.0**bits - 1), file_format, mode)

    def _decode_as_stored(self, image: ImageFile.ImageFile) -> NDArray[Any]:
        if image.mode == "1":
            return np.asarray(image, dtype=np.uint8) * np.uint8(1 if self.keep_palette else 255)
        if image.mode in ("P", "PA"):
            if self.keep_palette and is_black_and_white(image):
                return np.asarray(image.convert("L"))
            if self.keep_palette:
                return np.asarray(image.getchannel(0) if image.mode == "PA" else image)
            return np.asarray(image.convert("RGBA").convert("RGB"))
        if image.mode == "L" or image.mode.startswith("I") or image.mode == "F":
            return np.asarray(image)
        if image.mode in ("LA", "La"):
            return np.asarray(image.getchannel(0))
        if image.mode in ("RGBA", "RGBX", "RGB"):
            return np.asarray(image)[..., :3]
        return np.asarray(image.convert("RGB"))  # CMYK, YCbCr, HSV


def require_content(path: Path) -> None:
    """Refuse a missing or empty file, by its name without folders.

    Raises:
        FileNotFoundError: when it is missing.
        ValueError: when it has 0 bytes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path.name}'; check the path and the data list.")
    if path.stat().st_size == 0:
        raise ValueError(f"'{path.name}' is empty (0 bytes); copy it anew.")


def _decoded_quickly(image: ImageFile.ImageFile, path: Path) -> NDArray[np.uint8] | None:
    """An 8-bit PNG of grey or RGB, with alpha or without, in four fifths of Pillow's time; alpha is dropped.

    None for other pictures, where imagecodecs is not installed, and where libspng refuses: Pillow then has its say.
    """
    plain = image.format == "PNG" and image.mode in _QUICK_MODES and not getattr(image, "is_animated", False)
    decode = _png_decoder() if plain and all(tile[3] == image.mode for tile in image.tile) else None
    if decode is None:
        return None
    try:
        array: NDArray[np.uint8] = decode(path.read_bytes())
    except Exception:  # imagecodecs raises kinds of its own
        return None
    return array[..., :3] if array.ndim == 3 else array


@lru_cache(maxsize=1)
def _png_decoder() -> Callable[[bytes], NDArray[np.uint8]] | None:
    """``spng_decode`` of imagecodecs (extra ``[tiles]``), which leaves Python's lock to others as it works."""
    try:
        from imagecodecs import SPNG, spng_decode
    except ImportError:
        return None
    return spng_decode if SPNG.available else None


def _how_in_tiles(image: ImageFile.ImageFile) -> str:
    if image.format == "TIFF" and _TIFF_TILE_WIDTH in image.tag_v2:  # type: ignore[attr-defined]
        return "banet segment does tiled TIFFs like it in tiles, nothing else does"
    return "Save it as a tiled TIFF, which banet segment does in tiles"


def _require_one_page(image: ImageFile.ImageFile, path: Path) -> None:
    """Several full-size pages of a TIFF are no picture; thumbnails and pyramid levels (reduced resolution) are."""
    pages = getattr(image, "n_frames", 1)
    if pages == 1 or image.format != "TIFF":
        return
    for page in range(1, pages):
        image.seek(page)
        if not int(image.tag_v2.get(_TIFF_SUBFILE, 0)) & 1:  # type: ignore[attr-defined]
            raise _RefusedError(
                f"'{path.name}' has {pages} pages; save every page as a picture of its own, or the stack as NIfTI."
            )
    image.seek(0)


def _bits_per_sample(image: ImageFile.ImageFile) -> int:
    if image.format == "TIFF":
        bits = image.tag_v2.get(_TIFF_BITS, (8,))  # type: ignore[attr-defined]
        signed_or_float = image.mode in ("I", "F")
        return 32 if signed_or_float else max(8, *ensure_tuple(bits))
    if image.mode.startswith("I"):  # a 16-bit grey PNG, "I;16" or, in older PIL, "I"
        return 16
    return 16 if any("16" in str(tile[3]) for tile in image.tile) else 8


def _decode_16_bit_colour(image: ImageFile.ImageFile, path: Path) -> NDArray[np.uint16]:
    """All 16 bits of RGB or RGBA, by decoding the file once per byte. Returns ``(H, W, 3)``."""
    swapped = []
    for tile in image.tile:
        arguments = (tile[3],) if isinstance(tile[3], str) else tuple(tile[3] or ())
        if not arguments or arguments[0] not in _LOWER_BYTE:
            raise _RefusedError(
                f"'{path.name}' stores 16-bit colour as '{arguments}', of which only 8 bits can be read; save it as "
                "interleaved RGB, or as 16-bit grey without alpha."
            )
        lower = (_LOWER_BYTE[arguments[0]], *arguments[1:])
        swapped.append(_with_arguments(tile, lower[0] if isinstance(tile[3], str) else lower))
    upper = np.asarray(image)[..., :3].astype(np.uint16)
    with open_picture(path) as again:
        again.tile = swapped
        return (upper << 8) | np.asarray(again)[..., :3]


def _with_arguments(tile: Any, arguments: Any) -> Any:
    """PIL's description of a part of the file with other decoder arguments; a plain tuple before Pillow 11."""
    return tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)
