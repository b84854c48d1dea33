"""From the channels of :class:`UncertaintyInferer` to maps, a number per case, and their files.

============================  =========================  =====================================================
map                           file                       PNG (16 bits, pictures) and NIfTI (float32, else)
============================  =========================  =====================================================
predictive entropy            ``<name>_uncertainty.*``   0 to 1; 65535 in a PNG is 1, where nothing is known
variance of the probability   ``<name>_variance.*``      0 to 0.25; 65535 in a PNG is 0.25
mutual information            ``<name>_information.*``   0 to 1; 65535 in a PNG is 1
probability of an edge        ``<name>_boundary.*``      0 to 1; 65535 in a PNG is 1
============================  =========================  =====================================================
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged
from numpy.typing import NDArray
from PIL import Image

from banet_monai.choices import UNCERTAINTY
from banet_monai.files import write_beside
from banet_monai.flags import as_number
from banet_monai.transforms.formats import nifti_unit
from banet_monai.uncertainty.inferer import SAMPLE_CHANNELS
from banet_monai.uncertainty.scores import SCORES, case_scores
from banet_monai.uncertainty.statistics import check_activation, entropy, probabilities
from banet_monai.uncertainty.temperature import read_temperature

__all__ = ["BOUNDARY", "MAPS", "NOT_FINITE", "NoteTaker", "SaveUncertaintyd", "SplitUncertaintyd", "write_map"]

logger = logging.getLogger(__name__)

MAPS = ("entropy", "variance", "mutual_information")
BOUNDARY = "boundary"
FILE_ENDS = {
    "entropy": "uncertainty",
    "variance": "variance",
    "mutual_information": "information",
    BOUNDARY: "boundary",
}
LARGEST = {"entropy": 1.0, "variance": 0.25, "mutual_information": 1.0, BOUNDARY: 1.0}
WHITE = 65535  # of a 16-bit PNG
NOT_FINITE = "the network gave values that are no numbers (NaN or infinite): its weights or the image are damaged"
# further channels by their number, as UncertaintyInferer and BoundaryInferer append them
LAYOUTS = {0: (), 1: (BOUNDARY,), 3: SAMPLE_CHANNELS, 4: (*SAMPLE_CHANNELS, BOUNDARY)}


class NoteTaker(Protocol):
    """What the saver tells about each case; :class:`banet_monai.report.RunReport` is one."""

    def also(self, name: str, *results: str | Path) -> None:
        """More files of a case that is done."""

    def noted(self, name: str, facts: Mapping[str, Any]) -> None:
        """Numbers about a case."""

    def warned(self, name: str, text: str) -> None:
        """There is a result, and something that people should know about it."""


class SplitUncertaintyd(MapTransform):
    """Takes the further channels off the logits, before anything else is done with them.

    The logits stay under their key. Where there are further channels, the record gets maps on the same grid under
    ``map_key`` (entropy, variance, mutual information) and ``boundary_key``, and the case's numbers
    (:mod:`banet_monai.uncertainty.scores`) under ``score_key``. A record whose logits are not finite gets a
    ``"failure"``, so that whoever writes results reports it instead of writing an empty mask.

    Args:
        keys: key of what the inferer returned, ``(C [+ 1, 3 or 4], *spatial)``.
        out_channels: the network's C.
        activation: ``"sigmoid"`` or ``"softmax"``.
        threshold: probability from which a sigmoid channel is foreground.
        temperature: that maps and numbers are made at (:mod:`banet_monai.uncertainty.temperature`); the logits, and so
            the mask, stay as they are. Where it is not 1 it stands among the numbers.
        map_key: for ``(3, *spatial)``, in the order of :data:`MAPS`.
        boundary_key: for ``(1, *spatial)``.
        score_key: for a dictionary of floats.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: when the number of channels does not fit, or the temperature is not positive and finite.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        *,
        out_channels: int = 1,
        activation: str = "sigmoid",
        threshold: float | str = 0.5,
        temperature: float = 1.0,
        map_key: str = "uncertainty",
        boundary_key: str = BOUNDARY,
        score_key: str = "scores",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        check_activation(activation)
        self.out_channels = out_channels
        self.activation = activation
        self.threshold = as_number(threshold, "threshold")
        self.temperature = read_temperature(temperature, "none")
        self.map_key = map_key
        self.boundary_key = boundary_key
        self.score_key = score_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            channels = d[key]
            further = LAYOUTS.get(channels.shape[0] - self.out_channels)
            if further is None:
                raise ValueError(
                    f"'{key}' has {channels.shape[0]} channels; {self.out_channels} logits and 0, 1, 3 or 4 further "
                    "channels were expected. out_channels must be the network's."
                )
            d[key] = channels[: self.out_channels] if further else channels
            values = channels.as_tensor() if isinstance(channels, MetaTensor) else channels
            if not d.get("failure") and not bool(torch.isfinite(values).all()):
                d["failure"] = NOT_FINITE
            if not d.get("failure"):
                self._add_maps(d, values, further)
        return d

    def _add_maps(self, d: dict[Hashable, Any], values: torch.Tensor, further: Sequence[str]) -> None:
        extra = dict(zip(further, values[self.out_channels :].float(), strict=True))
        if BOUNDARY in extra:
            d[self.boundary_key] = extra[BOUNDARY][None]
        if not set(SAMPLE_CHANNELS) <= set(extra):
            return
        logits = values[None, : self.out_channels]
        probability = probabilities(logits / self.temperature, self.activation)
        uncertain = entropy(probability, self.activation).amax(dim=1)[0]
        if self.activation == "softmax":
            foreground, inside = 1 - probability[0, 0], logits[0].argmax(dim=0) > 0
        else:
            foreground = probability[0].amax(dim=0)
            inside = probabilities(logits, self.activation)[0].amax(dim=0) >= self.threshold
        d[self.map_key] = torch.stack([uncertain, extra["variance"], extra["mutual_information"]])
        scores = case_scores(foreground, inside, entropy=uncertain, agreement=extra["agreement"])
        d[self.score_key] = scores if self.temperature == 1 else {**scores, "temperature": self.temperature}


class SaveUncertaintyd(SaveImaged):
    """Writes the maps beside the masks, and notes the case's number in the report.

    It comes after the step that writes the mask, and does nothing for a record without maps, so that it can stand in a
    configuration whose ``uncertainty`` is ``"none"``. Maps lie on the grid of the file. DICOM images get NIfTI; slices
    that form no volume have no place in one, so that only their number is noted, with a warning. It is a
    ``SaveImaged``, because MONAI Label takes that type out of the chain.

    Args:
        keys: key of the maps ``(3, *spatial)`` on the image's own grid.
        output_dir: folder of the results.
        method: noted beside the number; with ``"none"`` or ``"entropy"`` there is no variance to write.
        samples: of ``"mc_dropout"``, noted beside the number; the other methods have as many as there are.
        maps: out of :data:`MAPS`, those to write.
        score: out of :data:`banet_monai.uncertainty.scores.SCORES`, the number that counts.
        report: told about every case. None: warnings are logged, and errors raised.
        boundary_key: key of the boundary map.
        score_key: key of the numbers.
        reference: key whose meta tells the kind of the file.
        allow_missing_keys: records without maps are passed over in any case.

    Raises:
        ValueError: for an unknown method, map or score.
    """

    def __init__(
        self,
        keys: KeysCollection = "uncertainty",
        output_dir: str | Path = "./",
        *,
        method: str = "none",
        samples: int | None = None,
        maps: Sequence[str] = ("entropy", "variance"),
        score: str = SCORES[0],
        report: NoteTaker | None = None,
        boundary_key: str = BOUNDARY,
        score_key: str = "scores",
        reference: str = "pred",
        allow_missing_keys: bool = True,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys=True)  # SaveImaged's own would set up MONAI's writers
        for word, known in ((method, UNCERTAINTY), (score, SCORES), *((name, MAPS) for name in maps)):
            if word not in known:
                raise ValueError(f"'{word}' is none of {', '.join(known)}.")
        self.output_dir = Path(output_dir)
        self.method = method
        self.samples = samples if method == "mc_dropout" else None
        self.maps = tuple(name for name in maps if name == "entropy" or method not in ("none", "entropy"))
        self.score = score
        self.report = report
        self.boundary_key = boundary_key
        self.score_key = score_key
        self.reference = reference

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        if d.get("failure"):
            return d
        meta = d[self.reference].meta if isinstance(d.get(self.reference), MetaTensor) else {}
        name = str(d.get("name") or Path(str(meta.get("filename_or_obj", "result"))).stem)
        wanted: dict[str, torch.Tensor] = {}
        for key in self.key_iterator(d):
            wanted |= {map_name: d[key][MAPS.index(map_name)] for map_name in self.maps}
        if self.boundary_key in d:
            wanted[BOUNDARY] = d[self.boundary_key][0]
        self._write(name, wanted, meta)
        if self.score_key in d and self.report is not None:
            facts = {"method": self.method, **({"samples": self.samples} if self.samples else {})}
            scores = {word: round(float(number), 4) for word, number in d[self.score_key].items()}
            self.report.noted(name, {"uncertainty": {"score": scores[self.score], **facts, **scores}})
        return d

    def _write(self, name: str, wanted: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
        if wanted and meta.get("layout") == "slices":
            self._warned(name, "slices that form no regular volume have no place in a NIfTI: no map was written")
            return
        paths = []
        for map_name, values in wanted.items():
            stem = self.output_dir / name
            stem = stem.with_name(f"{stem.name}_{FILE_ENDS[map_name]}")
            try:
                paths.append(write_map(stem, values, meta=meta, largest=LARGEST[map_name]))
            except OSError as error:
                if self.report is None:
                    raise
                self._warned(name, f"'{stem.name}' cannot be written: {error.strerror}; the mask is there")
        if paths and self.report is not None:
            self.report.also(name, *paths)

    def _warned(self, name: str, text: str) -> None:
        if self.report is not None:
            self.report.warned(name, text)
        else:
            logger.warning("'%s': %s", name, text)


def write_map(stem: Path, values: torch.Tensor | NDArray[Any], *, meta: Mapping[str, Any], largest: float) -> Path:
    """Write a map of numbers 0 to ``largest``: a 16-bit grey PNG for a picture, a float32 NIfTI for anything else.

    Args:
        stem: path without suffix.
        values: ``(*spatial)`` on the grid of the file, MONAI's axis order (x first).
        meta: of the image: ``kind``, ``affine``, ``spacing_unit`` and the codes of NIfTI.
        largest: shown as white in a PNG. Values beyond are cut.

    Returns:
        The file.

    Raises:
        OSError: when it cannot be written.
    """
    tensor = values.as_tensor() if isinstance(values, MetaTensor) else torch.as_tensor(values)
    array = tensor.detach().cpu().float().numpy().clip(0, largest)
    flat = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if flat.ndim == 2 and meta.get("kind", "picture") == "picture":
        grey = np.rint(flat.T / largest * WHITE).astype(np.uint16)  # (x, y) -> (row, column)
        return write_beside(stem.with_name(f"{stem.name}.png"), Image.fromarray(np.ascontiguousarray(grey)).save)
    affine = np.asarray(meta.get("affine", np.eye(4)), dtype=np.float64)
    code = int(meta.get("sform_code", 0)) or int(meta.get("qform_code", 0)) or 1
    image: Any = nibabel.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    if not np.allclose(image.get_qform(), affine, atol=1e-3):  # a sheared grid fits the sform alone
        image.set_qform(None, 0)
    image.header.set_xyzt_units(nifti_unit(meta))
    return write_beside(stem.with_name(f"{stem.name}.nii.gz"), image.to_filename)
