"""What a task's configuration says about the input and output of its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.transforms import Activationsd

from banet_monai.bundles import Task
from banet_monai.export.description import Description, describe
from banet_monai.networks.banet import BANet
from banet_monai.transforms import NormalizeImaged, ToWorkingGridd

__all__ = ["describe_task"]


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
