"""What a run leaves for people: outlines on pictures, and the manifest of a batch."""

from __future__ import annotations

from banet_monai.report.manifest import CasesFailedError, RunReport
from banet_monai.report.overlays import contact_sheet, draw_outline, overlay_picture, overlay_volume

__all__ = ["CasesFailedError", "RunReport", "contact_sheet", "draw_outline", "overlay_picture", "overlay_volume"]
