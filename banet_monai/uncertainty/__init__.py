"""How sure a result is: several predictions, what they disagree about, a number per case, and how far to trust it."""

from __future__ import annotations

from banet_monai.uncertainty.calibration import CalibrationBins, brier_score, calibration_error
from banet_monai.uncertainty.inferer import UncertaintyInferer
from banet_monai.uncertainty.maps import SaveUncertaintyd, SplitUncertaintyd
from banet_monai.uncertainty.referral import Referral, correlation, refer
from banet_monai.uncertainty.scores import case_scores, disagreement, expected_error, near_entropy
from banet_monai.uncertainty.statistics import Moments, RunningMoments
from banet_monai.uncertainty.temperature import (
    TemperProbabilityd,
    find_temperature,
    fit_temperature,
    read_temperature,
    temper,
    write_temperatures,
)

__all__ = [
    "CalibrationBins",
    "Moments",
    "Referral",
    "RunningMoments",
    "SaveUncertaintyd",
    "SplitUncertaintyd",
    "TemperProbabilityd",
    "UncertaintyInferer",
    "brier_score",
    "calibration_error",
    "case_scores",
    "correlation",
    "disagreement",
    "expected_error",
    "find_temperature",
    "fit_temperature",
    "near_entropy",
    "read_temperature",
    "refer",
    "temper",
    "write_temperatures",
]
