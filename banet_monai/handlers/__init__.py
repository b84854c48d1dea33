"""Ignite handlers and schedules that training needs and MONAI lacks."""

from __future__ import annotations

from banet_monai.handlers.averaging import WeightAveraging, WeightAveragingHandler
from banet_monai.handlers.overlays import OverlayWriter
from banet_monai.handlers.processes import join_processes, process_rank
from banet_monai.handlers.run import (
    EarlyStop,
    EpochValidation,
    FirstValidation,
    Progress,
    RunSummary,
    begin_run,
    output_loss,
)
from banet_monai.handlers.schedule import warmup_poly
from banet_monai.handlers.state import BestCheckpoint, EpochSeeder, TrainingState, ValidatorState
from banet_monai.handlers.tensorboard import EventWriter

__all__ = [
    "BestCheckpoint",
    "EarlyStop",
    "EpochSeeder",
    "EpochValidation",
    "EventWriter",
    "FirstValidation",
    "OverlayWriter",
    "Progress",
    "RunSummary",
    "TrainingState",
    "ValidatorState",
    "WeightAveraging",
    "WeightAveragingHandler",
    "begin_run",
    "join_processes",
    "output_loss",
    "process_rank",
    "warmup_poly",
]
