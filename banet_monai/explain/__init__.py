"""Why a result looks as it does: boundary map, what each module adds, Grad-CAM, and pages of them."""

from __future__ import annotations

from banet_monai.explain.features import Explanation, explain
from banet_monai.explain.gradcam import RegionScore, grad_cam
from banet_monai.explain.inferer import BoundaryInferer

__all__ = ["BoundaryInferer", "Explanation", "RegionScore", "explain", "grad_cam"]
