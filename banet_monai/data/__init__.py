"""Data lists, splits, checks of a data set, masks and the synthetic demonstration data."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from banet_monai.data.checks import DatasetReport, check_dataset, require_valid
    from banet_monai.data.datalists import find_cases, split_cases, training_cases, validation_cases
    from banet_monai.data.dataset import CaseDataset
    from banet_monai.data.inputs import InputCase, Inputs, find_inputs
    from banet_monai.data.loading import CaseLoader
    from banet_monai.data.masks import mask_ids, read_mask
    from banet_monai.data.memory import MemoryBudget
    from banet_monai.data.phantom import demonstration_data, make_demonstration_data
    from banet_monai.data.shares import CaseShares

__all__ = [
    "CaseDataset",
    "CaseLoader",
    "CaseShares",
    "DatasetReport",
    "InputCase",
    "Inputs",
    "MemoryBudget",
    "check_dataset",
    "demonstration_data",
    "find_cases",
    "find_inputs",
    "make_demonstration_data",
    "mask_ids",
    "read_mask",
    "require_valid",
    "split_cases",
    "training_cases",
    "validation_cases",
]

# Modules are loaded when a name of theirs is asked for: finding inputs needs no torch.
_MODULES = {
    "checks": ("DatasetReport", "check_dataset", "require_valid"),
    "datalists": ("find_cases", "split_cases", "training_cases", "validation_cases"),
    "dataset": ("CaseDataset",),
    "inputs": ("InputCase", "Inputs", "find_inputs"),
    "loading": ("CaseLoader",),
    "masks": ("mask_ids", "read_mask"),
    "memory": ("MemoryBudget",),
    "phantom": ("demonstration_data", "make_demonstration_data"),
    "shares": ("CaseShares",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
