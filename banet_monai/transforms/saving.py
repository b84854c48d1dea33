"""From probabilities to label ids, and from label ids to files in the geometry of their image."""

from __future__ import annotations

import functools
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged
from numpy.typing import NDArray
from PIL import Image

from banet_monai.choices import SEG_KINDS
from banet_monai.data.failures import writing_problem
from banet_monai.dicom.segments import segments_of
from banet_monai.files import write_beside
from banet_monai.flags import as_flag, as_number
from banet_monai.report.overlays import overlay_picture, overlay_volume
from banet_monai.transforms.formats import ResultWriter, case_warnings, fitting_format, output_formats
from banet_monai.transforms.grid import RestoreGridd
from banet_monai.transforms.parts import small_parts
from banet_monai.transforms.pictures import PictureReader

__all__ = [
    "CaseReport",
    "DiscretizeLabelsd",
    "DropChannel2Dd",
    "SaveResultd",
    "result_overlay",
]

logger = logging.getLogger(__name__)

MODES = ("binary", "multiclass", "multilabel")
BELOW = 1e-3  # by how much a probability that is put under the threshold stays under it
# what MONAI Label's writer can write without loss, by the kind of the image; the first where it has another suffix
LABEL_SUFFIXES = {"picture": (".png", ".tif", ".tiff", ".bmp"), "nifti": (".nii.gz", ".nii")}


class CaseReport(Protocol):
    """What the saver tells about each case; :class:`banet_monai.report.RunReport` is one."""

    def done(self, name: str, *results: str | Path) -> None:
        """Results were written, the most important one first."""

    def failed(self, name: str, reason: str) -> None:
        """There is no result, and why."""

    def warned(self, name: str, text: str) -> None:
        """There is a result, and something that people should know about it."""


class DiscretizeLabelsd(MapTransform):
    """Probabilities ``(C, *spatial)`` to label ids ``(1, *spatial)`` as uint8; meta stays.

    Args:
        keys: keys of probabilities, already on the grid that the labels are wanted on.
        threshold: for ``"binary"`` and ``"multilabel"``; at or above it is foreground.
        probability_key: key under which the probabilities are kept, with the threshold as ``"level"`` in their meta,
            for contours and FRACTIONAL segmentations; "": they are let go.
        mode: ``"binary"``: one channel, ids 0 and 1. ``"multiclass"``: softmax with background as channel 0, the
            largest wins. ``"multilabel"``: a sigmoid per class, channel ``c`` is id ``c + 1``; where classes overlap
            the largest wins.
        smallest_part: in pictures, parts of an id that are smaller than this share of its largest part become
            background (:func:`banet_monai.transforms.parts.small_parts`); 0 keeps all, and volumes keep all of theirs.
            Probabilities that are kept go along: there they end just below the threshold, or are exchanged with the
            background's where the largest wins.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: when the number of channels does not fit the mode, or ``smallest_part`` is not between 0 and 1.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        *,
        threshold: float = 0.5,
        mode: str = "binary",
        probability_key: str = "",
        smallest_part: float | str = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got '{mode}'.")
        self.threshold = as_number(threshold, "threshold")
        self.smallest_part = as_number(smallest_part, "smallest_part")
        if not 0 <= self.smallest_part <= 1:
            raise ValueError(f"smallest_part is a share of the largest part, from 0 to 1, got {smallest_part}.")
        self.mode = mode
        self.probability_key = probability_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            pred = d[key]
            values = pred.as_tensor() if isinstance(pred, MetaTensor) else pred
            ids = self.label_ids(values)
            if self.smallest_part and sum(size > 1 for size in ids.shape[1:]) <= 2:
                ids, values = self._without_small_parts(ids, values)
            if isinstance(pred, MetaTensor):
                d[key] = MetaTensor(ids, meta=pred.meta, applied_operations=pred.applied_operations)
            else:
                d[key] = ids
            if self.probability_key:
                meta = dict(pred.meta) if isinstance(pred, MetaTensor) else {}
                d[self.probability_key] = MetaTensor(values, meta={**meta, "level": self.threshold})
        return d

    def _without_small_parts(self, ids: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both without the small parts; the probabilities as they are where nobody keeps them."""
        found = small_parts(ids[0].cpu().numpy(), self.smallest_part)
        if not found.any():
            return ids, values
        small = torch.from_numpy(found).to(ids.device)
        if self.probability_key and self.mode == "multiclass":
            exchanged = torch.where(small, ids.long(), 0)  # elsewhere the background with itself
            background = values.gather(0, exchanged)
            values = values.scatter(0, exchanged, values[:1])
            values[:1] = background
        elif self.probability_key:
            values = torch.where(small, values.clamp(max=max(0.0, self.threshold - BELOW)), values)
        return ids.masked_fill(small, 0), values

    def label_ids(self, probabilities: torch.Tensor) -> torch.Tensor:
        """``(C, *spatial)`` floats to ``(1, *spatial)`` uint8."""
        channels = probabilities.shape[0]
        if (channels == 1) != (self.mode == "binary") and self.mode != "multilabel":
            raise ValueError(
                f"mode '{self.mode}' does not fit {channels} channels; 'binary' takes one, others several."
            )
        if self.mode == "multiclass":
            return probabilities.argmax(dim=0, keepdim=True).to(torch.uint8)
        if channels == 1:
            return (probabilities >= self.threshold).to(torch.uint8)
        best, channel = probabilities.max(dim=0, keepdim=True)
        return torch.where(best >= self.threshold, channel + 1, 0).to(torch.uint8)


class DropChannel2Dd(MapTransform):
    """Shape results for MONAI Label's writer, which takes pictures without a channel and keeps the place of volumes.

    ================================  ===============================================
    ``(1, W, H)`` of a picture        ``(W, H)``
    ``(1, W, H)`` of NIfTI, DICOM     ``(1, W, H, 1)``: a plane has its place in space
    ``(1, X, Y, Z)``                  stays
    ================================  ===============================================

    It also names the kind of file where a request of MONAI Label leaves it open and that of the image cannot hold label
    ids: PNG for a JPEG (which loses them), NIfTI for DICOM.

    Args:
        keys: keys of label ids.
        image_key: key of the image.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __init__(
        self, keys: KeysCollection = "pred", *, image_key: str = "image", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            result = d[key]
            kind = result.meta.get("kind", "picture") if isinstance(result, MetaTensor) else "picture"
            if result.ndim == 3 and result.shape[0] == 1:
                d[key] = result[0] if kind == "picture" else result[..., None]
                image = d.get(self.image_key)
                if kind != "picture" and isinstance(image, MetaTensor):  # where the writer looks for the size
                    image.meta["spatial_shape"] = np.asarray(d[key].shape[1:])
            if "image_path" in d and not d.get("result_extension"):  # a request of MONAI Label
                d["result_extension"] = _label_suffix(str(d["image_path"]), kind)
        return d


def _label_suffix(path: str, kind: str) -> str:
    """The suffix of the image where files of its kind hold label ids, else that of one which does."""
    suffixes = LABEL_SUFFIXES.get(kind, LABEL_SUFFIXES["nifti"])
    return next((suffix for suffix in suffixes if path.lower().endswith(suffix)), suffixes[0])


class SaveResultd(SaveImaged):
    """Write results as ``OUTPUT_DIR/<name>_mask.png``, ``.nii.gz`` or ``.dcm``, with the size and place of the input.

    ``name`` is the record's entry ``"name"`` (a relative path without suffix), else the stem of the image's file. Files
    are written beside and then renamed, so that no half file carries a result's name. A record with a non-empty entry
    ``"failure"`` writes nothing and is reported as failed; so is one that cannot be written (disk full, folder without
    permission), and the batch goes on. It is a ``SaveImaged``, because MONAI Label takes that type out of the chain.
    The result of an image that came in memory and has no ``name`` is left to whoever handed it over (MONAI Deploy).

    Args:
        keys: key of label ids ``(1, *spatial)`` on the image's own grid.
        output_dir: folder of the results.
        output_format: one of ``"auto"`` (PNG for pictures, NIfTI for NIfTI and DICOM), ``"png"``, ``"nifti"``,
            ``"dicom-seg"``, ``"contours"``, or several, in a list or with commas between them. A case that cannot take
            a format (a PNG file has no DICOM SEG) is written as ``"auto"`` has it, with a warning.
        segments: what the label ids stand for, for DICOM SEG and contours: a task that the package knows, or a list of
            descriptions (:func:`banet_monai.dicom.segments.segments_of`). None: contours are named by the ids, and
            there can be no DICOM SEG.
        seg_kind: kind of DICOM SEG: ``"binary"``, ``"fractional"`` (probabilities) or ``"labelmap"``.
        probability_key: key of the probabilities that :class:`DiscretizeLabelsd` kept, for sub-pixel contours and
            FRACTIONAL segmentations; where there is none, contours are those of the label ids.
        modalities: DICOM modalities that the task is made for; another one is written all the same, with a warning.
        overlay: also write ``<name>_overlay.png``, the outline on the image; "true" and "false" work too.
        report: told about every case. None: errors are raised.
        num_classes: foreground classes. One: PNG values 0 and 255; several: an indexed-colour PNG of ids.
        image_key: key of the image, for overlays.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: for an unknown format or kind, or segments that do not fit ``num_classes``.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        output_dir: str | Path = "./",
        *,
        output_format: str | Sequence[str] = "auto",
        segments: str | Sequence[Mapping[str, Any]] | None = None,
        seg_kind: str = "binary",
        probability_key: str = "probability",
        modalities: Sequence[str] = (),
        overlay: bool | str = False,
        report: CaseReport | None = None,
        num_classes: int = 1,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)  # SaveImaged's own would set up MONAI's writers
        described = segments_of(segments) if segments is not None else ()
        if described and len(described) != num_classes:
            raise ValueError(
                f"{len(described)} segments are described ({', '.join(s.label for s in described)}), but the network "
                f"has {num_classes} foreground classes; describe each of them once."
            )
        if seg_kind not in SEG_KINDS:
            raise ValueError(f"seg_kind must be one of {SEG_KINDS}, got '{seg_kind}'.")
        self.output_dir = Path(output_dir)
        self.formats = output_formats(output_format)
        self.writer = ResultWriter(described, seg_kind=seg_kind, num_classes=num_classes)
        self.probability_key = probability_key
        self.modalities = tuple(modalities)
        self.overlay = as_flag(overlay, "overlay")
        self.report = report
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            if _is_without_file(d, key):
                continue
            name = self._name(d, key)
            if failure := str(d.get("failure") or ""):
                self._failed(name, failure, None)
                continue
            try:
                paths = self._write(d, key, name)
            except Exception as error:  # other libraries raise what they like, and the batch goes on
                d["failure"] = writing_problem(error, {})
                self._failed(name, d["failure"], error)
                continue
            if self.report is not None:
                self.report.done(name, *paths)
        return d

    def _failed(self, name: str, reason: str, error: Exception | None) -> None:
        if self.report is None:
            raise RuntimeError(f"'{name}' has no result: {reason}") from error
        self.report.failed(name, reason)

    def _warned(self, name: str, warning: str) -> None:
        if self.report is not None:
            self.report.warned(name, warning)
        else:
            logger.warning("'%s': %s", name, warning)

    def _name(self, data: Mapping[Hashable, Any], key: Hashable) -> str:
        if data.get("name"):
            return str(data["name"])
        meta = data[key].meta if isinstance(data[key], MetaTensor) else {}
        file = Path(str(meta.get("filename_or_obj", "result"))).name
        return file[: -len(".nii.gz")] if file.lower().endswith(".nii.gz") else Path(file).stem

    def _write(self, data: Mapping[Hashable, Any], key: Hashable, name: str) -> list[Path]:
        pred = data[key] if isinstance(data[key], MetaTensor) else MetaTensor(data[key])
        probability = data.get(self.probability_key)
        for warning in case_warnings(pred.meta, self.modalities):
            self._warned(name, warning)
        forms = []
        for wish in self.formats:
            form, warning = fitting_format(wish, pred.meta, pred.shape)
            if warning:
                self._warned(name, warning)
            forms.append(form)
        paths: list[Path] = []
        for form in dict.fromkeys(forms):
            warn = functools.partial(self._warned, name)
            paths += self.writer.write(form, self.output_dir / name, pred, probability, warn)
        if self.overlay:
            shown = result_overlay(data[self.image_key], pred)
            paths.append(write_beside(self.output_dir / f"{name}_overlay.png", Image.fromarray(shown).save))
        return paths


def _is_without_file(data: Mapping[Hashable, Any], key: Hashable) -> bool:
    meta = data[key].meta if isinstance(data[key], MetaTensor) else {}
    return meta.get("kind") == "memory" and not data.get("name")


def result_overlay(image: MetaTensor, labels: MetaTensor) -> NDArray[np.uint8]:
    """The outline of a result on its image, as it is looked at.

    Args:
        image: the image on the network's grid, with the record of :class:`ToWorkingGridd`.
        labels: label ids ``(1, *spatial)`` in the geometry of the file. A picture is read again from its file, because
            its outline is judged on the original pixels.

    Returns:
        ``(rows, columns, 3)`` uint8; of a volume a row of slices.
    """
    ids = labels.as_tensor().cpu()
    if labels.meta.get("kind") == "picture":
        reader = PictureReader(max_pixels=None)
        array, meta = reader.get_data(reader.read(str(labels.meta["filename_or_obj"])))
        channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        low, high = meta["value_range"]
        return overlay_picture(channels, ids.reshape(1, *array.shape[:2]), bounds=(low, high) if high > low else None)
    shown = RestoreGridd(keys="shown", reference="image")({"shown": image, "image": image})["shown"].as_tensor().cpu()
    if ids.ndim == 3 or ids.shape[-1] == 1:
        return overlay_picture(shown.reshape(shown.shape[:3]), ids.reshape(ids.shape[:3]))
    affine = labels.affine.cpu().numpy()
    if labels.meta.get("layout") in ("frames", "slices"):  # one after the other along the last axis, as they are stored
        steps = np.linalg.norm(affine[:3, :2], axis=0)
        affine = np.diag([-steps[0], -steps[1], -max(steps), 1.0])
    return overlay_volume(shown, ids, affine=affine)
