"""Three lines of Python from a file to its mask and overlay, by the very chain of ``inference.json``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, SaveImaged
from numpy.typing import NDArray

from banet_monai.backends import ExportedNetwork
from banet_monai.bundles import find_bundle
from banet_monai.networks import load_weights
from banet_monai.transforms import DiscretizeLabelsd, DropChannel2Dd, InBackground
from banet_monai.transforms.saving import result_overlay

__all__ = ["Segmentation", "Segmenter"]


@dataclass(frozen=True)
class Segmentation:
    """One segmented image, in the geometry of its file.

    Attributes:
        mask: label ids, uint8, ``(W, H)`` of a picture or ``(X, Y, Z)`` of a volume (MONAI's axis order: x first).
        probability: float32 ``(C, *mask.shape)``, channel as the network's (one for a single structure), at the
            temperature of the configuration; the mask is decided without it.
        affine: voxel indices to patient coordinates (RAS, mm), 4x4; the identity for a picture without geometry.
        image: the image on the network's grid with its record of how it got there.
        labels: ``mask`` with a channel and the meta data of the file, as MONAI's transforms take it.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.float32]
    affine: NDArray[np.float64]
    image: MetaTensor
    labels: MetaTensor

    def overlay(self) -> NDArray[np.uint8]:
        """The outline drawn on the image: RGB ``(rows, columns, 3)``; a row of slices for a volume."""
        return result_overlay(self.image, self.labels)


class Segmenter:
    """The network, preprocessing, inferer and postprocessing of a bundle's inference configuration, loaded once.

    ::

        segmenter = Segmenter()
        result = segmenter("photo.jpg")
        Image.fromarray(result.overlay()).save("overlay.png")

    Args:
        bundle: folder of the bundle; by default the one that lies beside this package (in a clone or an archive).
        configs: configuration files relative to ``bundle``, later ones overriding earlier ones.
        weights: state dictionary of the network; by default the configuration's ``checkpoint``.
        device: such as ``"cpu"`` or ``"cuda:0"``; by default the configuration's choice.
        options: entries of the configuration to replace, such as ``{"threshold": 0.4}``.

    Raises:
        FileNotFoundError: when the bundle or its weights are not there.
        ValueError: for an option that the configuration does not have, or weights of another network.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | None = None,
        *,
        configs: Sequence[str] = ("configs/inference.json",),
        weights: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.bundle = Path(bundle) if bundle is not None else find_bundle().root
        files = [self.bundle / name for name in configs]
        if missing := [str(file) for file in files if not file.is_file()]:
            raise FileNotFoundError(f"no configuration at {missing}; 'bundle' must be the folder of a MONAI bundle.")
        parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
        parser["bundle_root"] = str(self.bundle)
        for name, value in (options or {}).items():
            if name not in parser:
                raise ValueError(f"the configuration has no option '{name}'; it has {sorted(_options(parser))}.")
            parser[name] = value
        if device is not None:
            parser["device"] = f"$torch.device('{device}')"
        if weights is not None:
            parser["checkpoint"] = os.fspath(weights)
        # before anything is built, which fixes what the configuration says
        parser["postprocessing"]["transforms"] = _without_saving(parser["postprocessing"]["transforms"])

        self.device: torch.device = parser.get_parsed_content("device")
        self.network: torch.nn.Module = parser.get_parsed_content("network")
        if not isinstance(self.network, ExportedNetwork):  # which holds its weights
            load_weights(self.network, Path(parser.get_parsed_content("checkpoint")))
        self.network.eval()
        self.preprocessing: Compose = parser.get_parsed_content("preprocessing")
        self.inferer: Any = parser.get_parsed_content("inferer")
        chain = parser.get_parsed_content("postprocessing").transforms
        first_discrete = next(n for n, step in enumerate(chain) if isinstance(step, DiscretizeLabelsd))
        # as a run does it, with its choice of cores: the last digits of an interpolation depend on their number
        self.to_probability = InBackground(chain[:first_discrete])
        self.to_labels = InBackground([step for step in chain[first_discrete:] if not isinstance(step, DropChannel2Dd)])

    def __call__(self, image: str | os.PathLike[str] | Sequence[str]) -> Segmentation:
        """Segment one image.

        Args:
            image: picture, NIfTI file, DICOM file, folder of a DICOM series, or the list of files of one.

        Raises:
            FileNotFoundError: when it does not exist.
            ValueError: naming the file, when it cannot be read or does not fit the network.
        """
        source = [str(file) for file in image] if isinstance(image, (list, tuple)) else os.fspath(image)  # type: ignore[arg-type]
        batch = list_data_collate([self._prepared(source)])
        with torch.inference_mode():
            batch["pred"] = self.inferer(batch["image"].to(self.device), self.network)
        record = decollate_batch(batch)[0]
        record = self.to_probability(record)
        record = {"probability": record["pred"], **record}
        record = self.to_labels(record)
        probability = record["probability"]  # the chain may keep it, at its temperature
        return Segmentation(
            mask=record["pred"].cpu().numpy()[0].astype(np.uint8),
            probability=probability.cpu().numpy().astype(np.float32),
            affine=record["pred"].affine.cpu().numpy().astype(np.float64),
            image=record["image"].cpu(),
            labels=record["pred"].cpu(),
        )

    def _prepared(self, source: str | list[str]) -> dict[str, Any]:
        try:
            prepared: dict[str, Any] = self.preprocessing({"image": source})
        except RuntimeError as error:
            raise _unwrapped(error) from None
        return prepared


def _unwrapped(error: BaseException) -> BaseException:
    """What a transform raised, out of the RuntimeErrors that MONAI wraps around it."""
    while isinstance(error, RuntimeError) and str(error).startswith("applying transform") and error.__cause__:
        error = error.__cause__
    return error


def _options(parser: ConfigParser) -> list[str]:
    config: dict[str, Any] = parser.get()
    return [name for name, value in config.items() if not isinstance(value, (dict, list))]


def _without_saving(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    saving = ("SaveResultd", "SaveMeasurementsd", "SaveUncertaintyd", SaveImaged.__name__)
    return [step for step in steps if not str(step["_target_"]).endswith(saving)]
