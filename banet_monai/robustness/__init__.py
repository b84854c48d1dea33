"""What becomes of outlines when images get worse: corruptions of known strength, and what a network makes of them."""

from __future__ import annotations

from banet_monai.robustness.catalogue import CLEAN, CORRUPTIONS, Condition, Corruption, conditions
from banet_monai.robustness.corruptions import (
    AddNoised,
    Blurd,
    Brightnessd,
    Contrastd,
    Corruptiond,
    Jpegd,
    Resolutiond,
)
from banet_monai.robustness.geometry import SliceThicknessd, Turnd
from banet_monai.robustness.measuring import CaseMeasurer
from banet_monai.robustness.painted import Haird, Inkd, Rulerd
from banet_monai.robustness.running import Progress, robustness
from banet_monai.robustness.summary import summarise
from banet_monai.robustness.writing import write_results

__all__ = [
    "CLEAN",
    "CORRUPTIONS",
    "AddNoised",
    "Blurd",
    "Brightnessd",
    "CaseMeasurer",
    "Condition",
    "Contrastd",
    "Corruption",
    "Corruptiond",
    "Haird",
    "Inkd",
    "Jpegd",
    "Progress",
    "Resolutiond",
    "Rulerd",
    "SliceThicknessd",
    "Turnd",
    "conditions",
    "robustness",
    "summarise",
    "write_results",
]
