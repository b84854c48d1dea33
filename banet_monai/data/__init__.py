"""Data lists, splits, checks of a data set, masks and the synthetic demonstration data."""

from __future__ import annotations

from banet_monai.data.checks import DatasetReport, check_dataset, require_valid
from banet_monai.data.datalists import find_cases, split_cases, training_cases, validation_cases
from banet_monai.data.dataset import CaseDataset
from banet_monai.data.inputs import InputCase, Inputs, find_inputs
from banet_monai.data.masks import mask_ids, read_mask
from banet_monai.data.phantom import demonstration_data, make_demonstration_data

__all__ = [
    "CaseDataset",
    "DatasetReport",
    "InputCase",
    "Inputs",
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
