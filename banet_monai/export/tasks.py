"""What a task's configuration says about the input and output of its network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Activationsd, ResizeWithPadOrCrop
from monai.utils import convert_to_tensor

from banet_monai.bundles import Task
from banet_monai.data import find_inputs
from banet_monai.export.description import Description, describe
from banet_monai.networks.banet import BANet
from banet_monai.transforms import NormalizeImaged, ToWorkingGridd

__all__ = ["calibration_images", "describe_task"]


def describe_task(parser: ConfigParser, network: BANet, *, task: Task, weights: str | Path) -> Description:
    """The description of a task's network, out of the configuration that inference runs.

    Args:
        parser: the configuration of inference.
        network: its network.
        task: the task.
        weights: file of the weights that the network holds.
    """
    steps = parser.get_parsed_content("preprocessing").transforms
    normalise = next((step for step in steps if isinstance(step, NormalizeImaged)), None)
    grid = next((step for step in steps if isinstance(step, ToWorkingGridd)), None)
    metadata = _metadata(task)
    return describe(
        network,
        task=str(parser.get_parsed_content("task")),
        bundle_version=str(metadata.get("version", "")),
        activation=_activation(parser["postprocessing"]["transforms"]),
        labels=_labels(metadata),
        normalisation={} if normalise is None else _attributes(normalise, "intensity window percentiles mean std"),
        scale={} if grid is None else _attributes(grid, "scale image_size spacing orientation"),
        weights=weights,
    )


def calibration_images(
    preprocessing: Callable[[dict[str, Any]], Any], folder: str | Path, *, roi_size: Sequence[int], count: int
) -> list[torch.Tensor]:
    """Images of a folder as the network gets them: one window from the middle of each, evenly spread over the folder.

    Args:
        preprocessing: of the configuration of inference.
        folder: images of any kind that the task reads; a folder of training pictures, without their masks.
        roi_size: window of the network.
        count: at most so many images.

    Returns:
        float32 ``(1, in_channels, *roi_size)`` each.

    Raises:
        NoImageError: when there is no image.
    """
    middle = ResizeWithPadOrCrop(roi_size)
    with find_inputs(folder) as inputs:
        records = inputs.records()
        chosen = np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).astype(int))
        images = (preprocessing(records[index])["image"].as_tensor() for index in chosen)
        windows = (middle(_plane(image, len(roi_size))) for image in images)
        return [convert_to_tensor(window, dtype=torch.float32, track_meta=False)[None] for window in windows]


def _plane(image: torch.Tensor, spatial_dims: int) -> torch.Tensor:
    """The image, or the middle slice of a volume for a 2D network."""
    return image[..., image.shape[-1] // 2] if image.ndim - 1 > spatial_dims else image


def _attributes(transform: Any, names: str) -> dict[str, Any]:
    return {name: _plain(getattr(transform, name)) for name in names.split()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _metadata(task: Task) -> dict[str, Any]:
    """The bundle's metadata with what the task's own change; empty for a task that has none."""
    files = [task.bundle / "configs" / "metadata.json"]
    if not task.is_main:
        files.append(task.folder / "metadata.json")
    if not all(file.is_file() for file in files):
        return {}
    return dict(ConfigParser.load_config_files([str(file) for file in files]))


def _labels(metadata: dict[str, Any]) -> dict[str, str]:
    outputs = metadata.get("network_data_format", {}).get("outputs", {})
    return {str(key): str(name) for key, name in outputs.get("pred", {}).get("channel_def", {}).items()}


def _activation(steps: list[dict[str, Any]]) -> str:
    """``"sigmoid"`` or ``"softmax"``, by the step that makes probabilities."""
    step = next((step for step in steps if str(step.get("_target_", "")).endswith(Activationsd.__name__)), {})
    return next((name for name in ("sigmoid", "softmax") if step.get(name)), "")
