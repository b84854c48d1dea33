"""What a deployed file is: the task, what made it, and what its input and output mean. It travels inside the file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import banet_monai
from banet_monai.networks.banet import BANet
from banet_monai.report.manifest import file_sha256

__all__ = ["KEY", "Description", "describe"]

KEY = "banet"  # under which the description stands in a file's metadata, as JSON


@dataclass(frozen=True)
class Description:
    """Facts about a deployed file; the file computes logits of normalised images, everything around it is in here.

    Attributes:
        task: such as ``"skin_lesion"``.
        version: of banet_monai, which wrote the file.
        bundle_version: of the bundle that the network is from, "" where unknown.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of the logits.
        activation: what makes probabilities of the logits: ``"sigmoid"`` or ``"softmax"``, "" where unknown.
        labels: label id to name, as the bundle's metadata has them.
        normalisation: how values become the network's input: ``intensity`` (the rule of ``NormalizeImaged``) with
            ``window``, ``percentiles``, and ``mean`` and ``std`` per channel.
        scale: how an image gets to the network's grid: ``scale``, ``image_size``, ``spacing`` (``ToWorkingGridd``).
        axes: order of the axes of image and logits; x are columns, y rows.
        min_size: least pixels along each spatial axis.
        size_divisible_by: every size above ``min_size`` that this divides is allowed.
        weights_sha256: of the file of weights, "" where there was none.
        precision: ``"float32"``, or ``"int8"`` for a file in 8-bit integers.
    """

    task: str
    version: str
    bundle_version: str
    spatial_dims: int
    in_channels: int
    out_channels: int
    activation: str
    labels: dict[str, str]
    normalisation: dict[str, Any]
    scale: dict[str, Any]
    axes: tuple[str, ...]
    min_size: tuple[int, ...]
    size_divisible_by: int = 1
    weights_sha256: str = ""
    precision: str = "float32"

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, origin: str) -> Description:
        """Read :meth:`to_json`.

        Args:
            text: the JSON, or "" where a file had none.
            origin: the file, for the message.

        Raises:
            ValueError: when it is no description, or one of another version's.
        """
        try:
            facts = json.loads(text)
            known = {field.name for field in dataclasses.fields(cls)}
            if set(facts) != known and facts.get("version") != banet_monai.__version__:
                raise ValueError(_other_version(origin, str(facts.get("version"))))
            return cls(**{**facts, "axes": tuple(facts["axes"]), "min_size": tuple(facts["min_size"])})
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"'{origin}' was not written by 'banet export' (it has no description of itself); export it again."
            ) from error

    def require(self, origin: str, *, task: str | None = None, weights: str | Path | None = None) -> None:
        """Refuse a file of another task, version or training.

        Args:
            origin: the file, for the message.
            task: the task that is wanted; None for any.
            weights: file of weights that it must be made from; not asked where None or not there.

        Raises:
            ValueError: naming what differs.
        """
        if task is not None and self.task != task:
            raise ValueError(
                f"'{origin}' is for the task '{self.task}', not '{task}'; export that one: banet export --task {task}."
            )
        if self.version != banet_monai.__version__:
            raise ValueError(_other_version(origin, self.version))
        known = weights is not None and bool(self.weights_sha256) and Path(weights).is_file()
        if weights is not None and known and file_sha256(weights) != self.weights_sha256:
            raise ValueError(
                f"'{origin}' was made from other weights than '{weights}'; run 'banet export' again, or name the "
                "weights that belong to it."
            )


def describe(
    network: BANet,
    *,
    task: str,
    bundle_version: str = "",
    activation: str = "",
    labels: dict[str, str] | None = None,
    normalisation: dict[str, Any] | None = None,
    scale: dict[str, Any] | None = None,
    weights: str | Path | None = None,
) -> Description:
    """The description of a network, with what is known of its surroundings; arguments as the attributes.

    Args:
        network: gives dimensions, channels and the least size.
        task: name of the task.
        bundle_version: of the bundle.
        activation: see :class:`Description`.
        labels: see :class:`Description`.
        normalisation: see :class:`Description`.
        scale: see :class:`Description`.
        weights: file whose digest is kept.
    """
    return Description(
        task=task,
        version=banet_monai.__version__,
        bundle_version=bundle_version,
        spatial_dims=network.spatial_dims,
        in_channels=network.in_channels,
        out_channels=network.out_channels,
        activation=activation,
        labels=labels or {},
        normalisation=normalisation or {},
        scale=scale or {},
        axes=("batch", "channel", "x", "y", "z")[: network.spatial_dims + 2],
        min_size=network.min_size,
        weights_sha256=file_sha256(weights) if weights is not None else "",
    )


def _other_version(origin: str, version: str) -> str:
    return (
        f"'{origin}' was written by banet_monai {version}, this is {banet_monai.__version__}; run 'banet export' again."
    )
