"""Pictures too large for memory: tiled TIFF in, mask as tiled TIFF out, a few rows of windows at a time."""

from __future__ import annotations

from banet_monai.tiles.pictures import TiledPictures, ordinary_records
from banet_monai.tiles.reading import TiledTiff, is_tiled_tiff
from banet_monai.tiles.strips import probability_strips
from banet_monai.tiles.writing import write_mask_tiff

__all__ = ["TiledPictures", "TiledTiff", "is_tiled_tiff", "ordinary_records", "probability_strips", "write_mask_tiff"]
