"""BA-Net for MONAI: boundary-aware segmentation of pictures and volumes, from DICOM, NIfTI or PNG to a mask."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
