"""The tiled pictures of a run: those above the limit of pixels, done in tiles beside the ordinary cases."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from numpy.typing import NDArray
from tqdm import tqdm

from banet_monai.data.failures import writing_problem
from banet_monai.flags import as_number
from banet_monai.handlers import Progress
from banet_monai.processes import process_count, process_rank
from banet_monai.tiles.reading import TiledTiff, is_tiled_tiff
from banet_monai.tiles.strips import probability_strips
from banet_monai.tiles.writing import write_mask_tiff
from banet_monai.transforms.intensity import NormalizeImaged
from banet_monai.transforms.pictures import MAX_PIXELS
from banet_monai.transforms.saving import CaseReport
from banet_monai.uncertainty.maps import NOT_FINITE

__all__ = ["TiledPictures", "ordinary_records"]

logger = logging.getLogger(__name__)

FORMATS = ("auto",)  # that a mask in tiles has
ROWS_AT_ONCE = 256  # of the file, that are scaled down in one operation


class TiledPictures:
    """Segments the tiled TIFFs above ``max_pixels`` among the cases of a run, tile by tile.

    The network sees windows of the picture at full resolution, or of one that is ``downscale`` times smaller along each
    side; it does not see the whole, as it does of an ordinary picture, whose short side is scaled to a window. Nothing
    larger than a few rows of windows is in memory. The result is ``OUTPUT_DIR/<name>_mask.tif``, 0 and 255, tiled and
    compressed. Overlays, measurements, maps and other formats are not made; the report says so for each case.

    Args:
        records: data dictionaries with ``"image"`` and ``"name"``.
        network: gives logits.
        inferer: gives logits of ``(1, C, *spatial)``; channels behind the first are of uncertainty and edges.
        output_dir: folder of the results.
        report: told about every case.
        window: side of a window, the network's.
        overlap: share of a window that the next covers.
        downscale: pixels of the file that make one pixel of the network, along each side: their mean is taken.
        threshold: probability from which a pixel is inside.
        intensity: of :class:`NormalizeImaged`, ``"rgb"`` or ``"grey"``: the others look at a whole picture.
        in_channels: of the network.
        out_channels: of the network; a case of more than one fails, since tiles are for a single structure.
        max_pixels: others go the ordinary way (:func:`ordinary_records`).
        device: where the network runs.
        output_format: what was asked for, to say what is not made.
        extras: further results that were asked for, by name and whether they are wanted, to say the same.
        handlers: those of the evaluator: with a ``Progress`` among them a bar is shown.

    Raises:
        ValueError: for a ``downscale`` that is no whole number from 1 on.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        *,
        network: torch.nn.Module,
        inferer: Callable[[torch.Tensor, torch.nn.Module], torch.Tensor],
        output_dir: str | Path,
        report: CaseReport,
        window: int,
        overlap: float | str = 0.5,
        downscale: int | str = 1,
        threshold: float | str = 0.5,
        intensity: str = "rgb",
        in_channels: int = 3,
        out_channels: int = 1,
        max_pixels: float | str = MAX_PIXELS,
        device: str | torch.device = "cpu",
        output_format: str = "auto",
        extras: Mapping[str, Any] | None = None,
        handlers: Sequence[object] = (),
    ) -> None:
        factor = as_number(downscale, "tile_downscale")
        if factor < 1 or factor != int(factor):
            raise ValueError(f"tile_downscale must be a whole number from 1 on, got {downscale}.")
        limit = as_number(max_pixels, "max_pixels")
        tiled = [record for record in records if _is_for_tiles(record, limit)]
        self.tiled = tiled[process_rank() :: process_count()]  # this process's share
        self.network, self.inferer, self.report = network, inferer, report
        self.output_dir, self.device = Path(output_dir), torch.device(device)
        self.window, self.overlap, self.downscale = int(window), as_number(overlap, "overlap"), int(factor)
        self.threshold = as_number(threshold, "threshold")
        self.intensity, self.in_channels, self.out_channels = intensity, in_channels, out_channels
        lacking = [word for word in map(str.strip, output_format.split(",")) if word not in FORMATS]
        self.lacking = [f"{','.join(lacking)} file"] if lacking else []
        self.lacking += [name for name, wish in (extras or {}).items() if _is_wanted(wish)]
        self.shows_progress = any(isinstance(handler, Progress) for handler in handlers)

    def run(self) -> None:
        """Segment the tiled pictures one after the other; a case that fails is reported, and the others are done."""
        for record in self.tiled:
            name = str(record["name"])
            try:
                with eval_mode(self.network), torch.inference_mode():
                    path = self._segment(record, self.output_dir / f"{name}_mask.tif")
            except Exception as error:  # codecs and libraries raise what they like, and the batch goes on
                self.report.failed(name, writing_problem(error, record))
                continue
            if self.lacking:
                self.report.warned(name, f"done in tiles, so that there is no {', no '.join(self.lacking)}")
            self.report.done(name, path)

    def _segment(self, record: Mapping[str, Any], path: Path) -> Path:
        if self.out_channels != 1:
            raise ValueError(
                f"the network tells {self.out_channels} classes apart, and tiles are for one structure alone; scale "
                "the picture down."
            )
        if self.intensity not in ("rgb", "grey"):
            raise ValueError(
                f"intensity '{self.intensity}' looks at a whole picture and cannot be done in tiles; scale it down."
            )
        with TiledTiff(Path(str(record["image"]))) as tiff:
            picture = _Normalized(tiff, self.intensity, self.in_channels, self.downscale)
            masks = self._masks(tiff, picture, str(record["name"]))
            return write_mask_tiff(path, masks, width=tiff.width, height=tiff.height)

    def _masks(self, tiff: TiledTiff, picture: _Normalized, name: str) -> Iterator[NDArray[np.uint8]]:
        """Strips of the mask, ``(rows, width)``, 0 and 255."""

        def predict(strip: torch.Tensor) -> torch.Tensor:
            logits = self.inferer(strip.to(self.device), self.network)[:, :1]
            if not bool(torch.isfinite(logits).all()):
                raise ValueError(NOT_FINITE)
            return logits

        strips = probability_strips(
            picture.rows,
            predict,
            height=picture.height,
            window=self.window,
            overlap=self.overlap,
            downscale=self.downscale,
        )
        left = tiff.height
        with tqdm(total=left, unit="row", desc=name, disable=None if self.shows_progress else True) as bar:
            for strip in strips:  # (x, y), as the network has it; what was filled up at the far sides goes
                part = strip[: tiff.width, :left]
                left -= part.shape[1]
                bar.update(part.shape[1])
                yield (part >= self.threshold).numpy().T.astype(np.uint8) * np.uint8(255)


class _Normalized:
    """Rows of a tiled picture as the network wants them: scaled down, normalised, ``(C, width, rows)``."""

    def __init__(self, tiff: TiledTiff, intensity: str, in_channels: int, downscale: int) -> None:
        self.tiff, self.downscale = tiff, downscale
        self.height = -(-tiff.height // downscale)
        self.normalize = NormalizeImaged("image", intensity=intensity, in_channels=in_channels).normalize

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows of the smaller picture; of the file only a part is in memory at a time."""
        step = max(1, ROWS_AT_ONCE // self.downscale)
        parts = [self._part(first, min(first + step, stop)) for first in range(start, stop, step)]
        meta = {"value_range": (0.0, self.tiff.largest), "filename_or_obj": self.tiff.name}
        normal = self.normalize(MetaTensor(torch.cat(parts, dim=2), meta=meta))
        return normal.as_tensor() if isinstance(normal, MetaTensor) else normal

    def _part(self, start: int, stop: int) -> torch.Tensor:
        factor = self.downscale
        stored = self.tiff.rows(start * factor, min(stop * factor, self.tiff.height))
        values = torch.from_numpy(stored.transpose(2, 1, 0).astype(np.float32, order="C"))
        if factor == 1:
            return values
        # a block that the picture does not fill is averaged over what there is of it
        return torch.nn.functional.avg_pool2d(values[None], factor, ceil_mode=True, count_include_pad=False)[0]


def ordinary_records(
    records: Sequence[dict[str, Any]], *, max_pixels: float | str = MAX_PIXELS
) -> list[dict[str, Any]]:
    """The records that :class:`TiledPictures` leaves to others: all but tiled TIFFs above ``max_pixels``."""
    limit = as_number(max_pixels, "max_pixels")
    return [record for record in records if not _is_for_tiles(record, limit)]


def _is_for_tiles(record: Mapping[str, Any], max_pixels: float) -> bool:
    image = record.get("image")
    size = is_tiled_tiff(Path(image)) if isinstance(image, str) else None
    return size is not None and size[0] * size[1] > max_pixels


def _is_wanted(wish: Any) -> bool:
    return str(wish).lower() not in ("none", "false")
