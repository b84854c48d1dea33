"""Ignite handlers and schedules that training needs and MONAI lacks."""

from __future__ import annotations

from banet_monai.handlers.averaging import WeightAveraging, WeightAveragingHandler
from banet_monai.handlers.overlays import OverlayWriter
from banet_monai.handlers.processes import join_processes, process_device, process_rank
from banet_monai.handlers.run import (
    EarlierRun,
    EarlyStop,
    EpochValidation,
    FirstValidation,
    Progress,
    RunSummary,
    output_loss,
    require_run_folder,
)
from banet_monai.handlers.schedule import warmup_poly
from banet_monai.handlers.state import BestCheckpoint, EpochSeeder, TrainingState, ValidatorState
from banet_monai.handlers.tensorboard import EventWriter

__all__ = [
    "BestCheckpoint",
    "EarlierRun",
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
    "join_processes",
    "output_loss",
    "process_device",
    "process_rank",
    "require_run_folder",
    "warmup_poly",
]
