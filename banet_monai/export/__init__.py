"""Trained networks for use elsewhere and at speed; only the names listed in ``__all__`` are public."""

from __future__ import annotations

from banet_monai.export.description import Description, describe
from banet_monai.export.formats import export
from banet_monai.export.optimizing import OptimizedBANet, fused_copy, optimize, optimized_form
from banet_monai.export.quantizing import quantize

__all__ = [
    "Description",
    "OptimizedBANet",
    "describe",
    "export",
    "fused_copy",
    "optimize",
    "optimized_form",
    "quantize",
]
