"""Metrics per image with an explicit rule for misses, as functions, as MONAI metrics and as a table of cases."""

from __future__ import annotations

from banet_monai.metrics.boundary import boundary_iou
from banet_monai.metrics.distances import assd, hd95, nsd
from banet_monai.metrics.handlers import CaseTableHandler
from banet_monai.metrics.iteration import BoundaryIoUMetric, JaccardMetric, OverlapMetric, SurfaceMetric
from banet_monai.metrics.masks import Spacing, grid_spacing
from banet_monai.metrics.overlap import accuracy, dice, jaccard, sensitivity, specificity
from banet_monai.metrics.table import CaseRow, CaseTable, bootstrap_interval, format_summary

__all__ = [
    "BoundaryIoUMetric",
    "CaseRow",
    "CaseTable",
    "CaseTableHandler",
    "JaccardMetric",
    "OverlapMetric",
    "Spacing",
    "SurfaceMetric",
    "accuracy",
    "assd",
    "bootstrap_interval",
    "boundary_iou",
    "dice",
    "format_summary",
    "grid_spacing",
    "hd95",
    "jaccard",
    "nsd",
    "sensitivity",
    "specificity",
]
