"""A tiled TIFF read by rows, of which only those asked for are in memory."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

__all__ = ["TiledTiff", "is_tiled_tiff"]

REDUCED = 1  # bit of NewSubfileType: a smaller copy of another page (TIFF 6.0)
RANGES = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
GREY, RGB, YCBCR = 1, 2, 6  # PhotometricInterpretation
JPEG = 7  # Compression; its tiles in YCbCr are decoded to RGB, those of others are not


def is_tiled_tiff(path: Path) -> tuple[int, int] | None:
    """Width and height of a tiled TIFF, by its header alone; None for everything else, broken files too."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            return (page.imagewidth, page.imagelength) if page.is_tiled else None
    except Exception:  # whatever a damaged header provokes; the ordinary reader says what is wrong with the file
        return None


class TiledTiff:
    """The first page of a tiled TIFF: grey or RGB, 8 or 16 bits, with or without alpha, which is dropped.

    Use it in a ``with`` statement. Further pages must be smaller copies of the first.

    Args:
        path: of the file.

    Raises:
        ValueError: naming the file, when it is not such a TIFF.

    Attributes:
        width: pixels of a row.
        height: rows.
        channels: 1 or 3.
        largest: value of white, 255 or 65535.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self._file = tifffile.TiffFile(path)
            page: Any = self._file.pages.first
        except (OSError, tifffile.TiffFileError, IndexError, ValueError) as error:
            raise ValueError(f"'{path.name}' is truncated, corrupt or no TIFF ({type(error).__name__}).") from error
        try:
            self._check(page)
        except ValueError:
            self._file.close()
            raise
        self._page = page
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        self.channels = 1 if page.photometric == GREY else 3
        self.largest = RANGES[np.dtype(page.dtype)]
        self._row: NDArray[Any] | None = None  # the last row of tiles that was decoded ...
        self._row_number = -1  # ... and its number

    def __enter__(self) -> TiledTiff:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop``, ``(stop - start, width, channels)``; cheap where one goes on from the last.

        Raises:
            ValueError: naming the file, when a tile is damaged or compressed in a way that cannot be read here.
        """
        length = int(self._page.tilelength)
        result = np.empty((stop - start, self.width, self.channels), self._page.dtype)
        for number in range(start // length, -(-stop // length)):
            first = number * length
            tiles = self._tiles(number)
            low, high = max(start, first), min(stop, first + length)
            result[low - start : high - start] = tiles[low - first : high - first]
        return result

    def _tiles(self, number: int) -> NDArray[Any]:
        """A whole row of tiles, ``(tilelength, width, channels)``."""
        if self._row is not None and self._row_number == number:
            return self._row
        page = self._page
        across, wide = -(-self.width // page.tilewidth), int(page.tilewidth)
        row = self._row if self._row is not None else np.empty(self._row_shape(), page.dtype)
        for column in range(across):
            index = number * across + column
            try:
                data = self._file.filehandle.read_array("u1", page.databytecounts[index], page.dataoffsets[index])
                # tiles that were left out, because nothing is in them, have no bytes
                tile = page.decode(data.tobytes(), index, jpegtables=page.jpegtables)[0] if data.size else None
            except Exception as error:  # of a codec, or of tifffile without one
                raise ValueError(self._why(error)) from error
            left = column * wide
            width = min(wide, self.width - left)
            if tile is None:
                row[:, left : left + width] = page.nodata
            else:
                height = tile.shape[1]  # the last row of tiles may come cut to the picture
                row[:height, left : left + width] = tile[0, :, :width, : self.channels]
        self._row, self._row_number = row, number
        return row

    def _row_shape(self) -> tuple[int, int, int]:
        return int(self._page.tilelength), self.width, self.channels

    def _why(self, error: Exception) -> str:
        compression = getattr(self._page.compression, "name", self._page.compression)
        if "imagecodecs" in str(error):
            return (
                f"'{self.name}' is compressed by {compression}, which needs the package imagecodecs: "
                'pip install "banet-monai[tiles]"; or save it with DEFLATE.'
            )
        return f"'{self.name}' has a damaged tile ({compression}, {type(error).__name__}); copy or save it anew."

    def _check(self, page: Any) -> None:
        problem = ""
        if not page.is_tiled:
            problem = "is stored in strips; save it as a tiled TIFF"
        elif np.dtype(page.dtype) not in RANGES:
            problem = f"holds values of type {page.dtype}; 8 or 16 bits without sign are needed"
        elif page.bitspersample != 8 * np.dtype(page.dtype).itemsize:
            problem = f"holds values of {page.bitspersample} bits; save it with 8 or 16"
        elif page.photometric not in (GREY, RGB) and (page.photometric, page.compression) != (YCBCR, JPEG):
            problem = f"is stored as {page.photometric.name}; save it as grey or RGB"
        elif page.planarconfig != 1 and page.samplesperpixel > 1:
            problem = "stores each colour in a plane of its own; save it with interleaved colours"
        elif page.imagedepth > 1 or any(not int(other.subfiletype) & REDUCED for other in self._further_pages()):
            problem = f"has {len(self._file.pages)} pages that are not smaller copies; save each as a file of its own"
        if problem:
            raise ValueError(f"'{self.name}' {problem}.")

    def _further_pages(self) -> list[Any]:
        return [self._file.pages[index] for index in range(1, len(self._file.pages))]
