"""From probabilities to label ids, and from label ids to files in the geometry of their image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
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

from banet_monai.files import write_beside
from banet_monai.flags import as_flag
from banet_monai.report.overlays import PALETTE, overlay_picture, overlay_volume
from banet_monai.transforms.grid import RestoreGridd
from banet_monai.transforms.pictures import PictureReader

__all__ = [
    "CaseReport",
    "DiscretizeLabelsd",
    "DropChannel2Dd",
    "SaveResultd",
    "result_overlay",
    "write_label_nifti",
    "write_label_png",
]

MODES = ("binary", "multiclass", "multilabel")
EXTENSIONS = ("auto", ".png", ".nii.gz")


class CaseReport(Protocol):
    """What the saver tells about each case; :class:`banet_monai.report.RunReport` is one."""

    def done(self, name: str, result: str | Path) -> None:
        """A result was written."""

    def failed(self, name: str, reason: str) -> None:
        """There is no result, and why."""


class DiscretizeLabelsd(MapTransform):
    """Probabilities ``(C, *spatial)`` to label ids ``(1, *spatial)`` as uint8; meta stays.

    Args:
        keys: keys of probabilities, already on the grid that the labels are wanted on.
        threshold: for ``"binary"`` and ``"multilabel"``; at or above it is foreground.
        mode: ``"binary"``: one channel, ids 0 and 1. ``"multiclass"``: softmax with background as channel 0, the
            largest wins. ``"multilabel"``: a sigmoid per class, channel ``c`` is id ``c + 1``; where classes overlap
            the largest wins.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: when the number of channels does not fit the mode.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        *,
        threshold: float = 0.5,
        mode: str = "binary",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got '{mode}'.")
        self.threshold = threshold
        self.mode = mode

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            pred = d[key]
            ids = self.label_ids(pred.as_tensor() if isinstance(pred, MetaTensor) else pred)
            if isinstance(pred, MetaTensor):
                d[key] = MetaTensor(ids, meta=pred.meta, applied_operations=pred.applied_operations)
            else:
                d[key] = ids
        return d

    def label_ids(self, probabilities: torch.Tensor) -> torch.Tensor:
        """``(C, *spatial)`` floats to ``(1, *spatial)`` uint8."""
        channels = probabilities.shape[0]
        if (channels == 1) != (self.mode == "binary") and self.mode != "multilabel":
            raise ValueError(
                f"mode '{self.mode}' does not fit {channels} channels; 'binary' takes one, others several."
            )
        if self.mode == "multiclass":
            return probabilities.argmax(dim=0, keepdim=True).to(torch.uint8)
        best, channel = probabilities.max(dim=0, keepdim=True)
        return torch.where(best >= self.threshold, channel + 1, 0).to(torch.uint8)


class DropChannel2Dd(MapTransform):
    """``(1, W, H)`` to ``(W, H)``: MONAI Label writes 2D results without a channel. Volumes stay.

    Args:
        keys: keys of label ids.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            if d[key].ndim == 3 and d[key].shape[0] == 1:
                d[key] = d[key][0]
        return d


class SaveResultd(SaveImaged):
    """Write label ids as ``OUTPUT_DIR/<name>_mask.png`` or ``.nii.gz``, with the size and affine of the input.

    ``name`` is the record's entry ``"name"`` (a relative path without suffix), else the stem of the image's file. Files
    are written beside and then renamed, so that no half file carries a result's name. A record with a non-empty entry
    ``"failure"`` writes nothing and is reported as failed; so is one that cannot be written (disk full, folder without
    permission), and the batch goes on. It is a ``SaveImaged``, because MONAI Label takes that type out of the chain.

    Args:
        keys: key of label ids ``(1, *spatial)`` on the image's own grid.
        output_dir: folder of the results.
        output_ext: ``"auto"`` (PNG for pictures, NIfTI for NIfTI and DICOM), ``".png"`` or ``".nii.gz"``.
        overlay: also write ``<name>_overlay.png``, the outline on the image; "true" and "false" work too.
        report: told about every case. None: errors are raised.
        num_classes: foreground classes. One: PNG values 0 and 255; several: an indexed-colour PNG of ids.
        image_key: key of the image, for overlays.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        output_dir: str | Path = "./",
        *,
        output_ext: str = "auto",
        overlay: bool | str = False,
        report: CaseReport | None = None,
        num_classes: int = 1,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)  # SaveImaged's own would set up MONAI's writers
        if output_ext not in EXTENSIONS:
            raise ValueError(f"output_ext must be one of {EXTENSIONS}, got '{output_ext}'.")
        self.output_dir = Path(output_dir)
        self.output_ext = output_ext
        self.overlay = as_flag(overlay, "overlay")
        self.report = report
        self.num_classes = num_classes
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            name = self._name(d, key)
            if failure := str(d.get("failure") or ""):
                self._failed(name, failure, None)
                continue
            try:
                path = self._write(d, key, name)
            except (OSError, ValueError) as error:
                self._failed(name, _reason(error), error)
                continue
            if self.report is not None:
                self.report.done(name, path)
        return d

    def _failed(self, name: str, reason: str, error: Exception | None) -> None:
        if self.report is None:
            raise RuntimeError(f"'{name}' has no result: {reason}") from error
        self.report.failed(name, reason)

    def _name(self, data: Mapping[Hashable, Any], key: Hashable) -> str:
        if data.get("name"):
            return str(data["name"])
        meta = data[key].meta if isinstance(data[key], MetaTensor) else {}
        file = Path(str(meta.get("filename_or_obj", "result"))).name
        return file[: -len(".nii.gz")] if file.lower().endswith(".nii.gz") else Path(file).stem

    def _write(self, data: Mapping[Hashable, Any], key: Hashable, name: str) -> Path:
        pred = data[key] if isinstance(data[key], MetaTensor) else MetaTensor(data[key])
        extension = (
            (".png" if pred.meta.get("kind") == "picture" else ".nii.gz")
            if self.output_ext == "auto"
            else self.output_ext
        )
        ids = pred.as_tensor().cpu().numpy()[0].astype(np.uint8)
        path = self.output_dir / f"{name}_mask{extension}"
        if extension == ".png":
            write_label_png(path, ids, num_classes=self.num_classes)
        else:
            meta = pred.meta
            code = int(meta.get("sform_code", 0)) or int(meta.get("qform_code", 0)) or 1
            write_label_nifti(path, ids, affine=pred.affine.cpu().numpy(), code=code)
        if self.overlay:
            shown = result_overlay(data[self.image_key], pred)
            write_beside(self.output_dir / f"{name}_overlay.png", Image.fromarray(shown).save)
        return path


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
        reader = PictureReader()
        array, meta = reader.get_data(reader.read(str(labels.meta["filename_or_obj"])))
        channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        low, high = meta["value_range"]
        return overlay_picture(channels, ids.reshape(1, *array.shape[:2]), bounds=(low, high) if high > low else None)
    shown = RestoreGridd(keys="shown", reference="image")({"shown": image, "image": image})["shown"].as_tensor().cpu()
    if ids.ndim == 3 or ids.shape[-1] == 1:
        return overlay_picture(shown.reshape(shown.shape[:3]), ids.reshape(ids.shape[:3]))
    return overlay_volume(shown, ids, affine=labels.affine.cpu().numpy())


def write_label_png(path: Path, ids: NDArray[np.uint8], *, num_classes: int = 1) -> None:
    """Write label ids ``(W, H)`` or ``(W, H, 1)`` as PNG: 0/255 for one class, else indexed colour.

    Raises:
        ValueError: for a volume.
        OSError: when the file cannot be written.
    """
    if ids.ndim == 3 and ids.shape[-1] == 1:
        ids = ids[..., 0]
    if ids.ndim != 2:
        raise ValueError(f"a mask of shape {ids.shape} is no picture and cannot be a PNG; use '.nii.gz' or 'auto'.")
    rows = np.ascontiguousarray(ids.T)  # (x, y) -> (row, column)
    if num_classes == 1:
        picture = Image.fromarray((rows > 0).astype(np.uint8) * np.uint8(255))
    else:
        picture = Image.fromarray(rows)
        colors = [PALETTE[index % len(PALETTE)] for index in range(num_classes)]
        picture.putpalette([0, 0, 0, *(value for color in colors for value in color)])
    write_beside(path, picture.save)


def write_label_nifti(path: Path, ids: NDArray[np.uint8], *, affine: NDArray[np.float64], code: int = 1) -> None:
    """Write label ids ``(X, Y[, Z])`` as uint8 NIfTI in mm.

    Args:
        path: ends in ``.nii.gz``.
        ids: label ids.
        affine: voxel to RAS millimetres, 4x4.
        code: NIfTI's meaning of these coordinates (1 scanner, 2 aligned, …).

    Raises:
        OSError: when the file cannot be written.
    """
    affine = np.asarray(affine, dtype=np.float64)
    image: Any = nibabel.Nifti1Image(ids.astype(np.uint8), affine)  # type: ignore[no-untyped-call]
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    if not np.allclose(image.get_qform(), affine, atol=1e-3):  # a sheared grid fits the sform alone
        image.set_qform(None, 0)
    image.header.set_xyzt_units("mm")
    write_beside(path, image.to_filename)


def _reason(error: Exception) -> str:
    """The error in words, without the folders of this machine."""
    if isinstance(error, OSError) and error.strerror:
        file = Path(str(error.filename)).name if error.filename else "the result"
        return f"'{file}' cannot be written: {error.strerror}; free some space or choose another output folder"
    return str(error)
