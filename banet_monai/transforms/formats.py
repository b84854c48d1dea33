"""The forms in which a result is written: PNG, NIfTI, DICOM SEG, contours; and which of them a case can take."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray
from PIL import Image

from banet_monai.choices import FORMATS
from banet_monai.dicom.seg import write_seg
from banet_monai.dicom.segments import Segment
from banet_monai.files import write_beside
from banet_monai.report.contours import write_contours
from banet_monai.report.overlays import PALETTE

__all__ = [
    "ResultWriter",
    "case_warnings",
    "fitting_format",
    "output_formats",
    "probability_key",
    "write_label_nifti",
    "write_label_png",
]

COMPRESSION = 1  # of a PNG: masks are flat, so that higher levels cost time and save little
NIFTI_UNITS = ("mm", "micron", "meter")


def output_formats(wish: str | Sequence[str]) -> tuple[str, ...]:
    """The formats of a configuration: one name, names with commas between them, or a list; each once.

    Raises:
        ValueError: for a name that is none of ``FORMATS``, with the nearest one.
    """
    parts = wish.split(",") if isinstance(wish, str) else wish
    names = tuple(dict.fromkeys(str(part).strip() for part in parts))
    for name in names:
        if name not in FORMATS:
            near = difflib.get_close_matches(name, FORMATS, n=1)
            meant = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"there is no format '{name}'; there are {', '.join(FORMATS)}.{meant}")
    if not names:
        raise ValueError(f"no format is given; there are {', '.join(FORMATS)}.")
    return names


def probability_key(output_format: str | Sequence[str], seg_kind: str, key: str = "probability") -> str:
    """``key`` where results are made of probabilities (contours, FRACTIONAL segmentations), "" where nobody wants them.

    It is the ``probability_key`` of :class:`banet_monai.transforms.DiscretizeLabelsd`: keeping and tempering
    probabilities of the file's size takes longer than thresholding them.
    """
    return key if "contours" in output_formats(output_format) or seg_kind == "fractional" else ""


def fitting_format(wish: str, meta: Mapping[str, Any], shape: Sequence[int]) -> tuple[str, str]:
    """The format that a case can take, and a warning where that is not the one wished for.

    ``"auto"`` is PNG for pictures, DICOM SEG for slices that form no volume, NIfTI for everything else.

    Args:
        wish: one of ``FORMATS``.
        meta: of the image, as :class:`LoadCased` gives it.
        shape: ``(1, *spatial)`` of the label ids.
    """
    is_dicom, is_irregular = meta.get("kind") == "dicom", meta.get("layout") == "slices"
    natural = "png" if meta.get("kind") == "picture" else "dicom-seg" if is_irregular else "nifti"
    if wish == "dicom-seg" and not is_dicom:
        return natural, f"a DICOM SEG refers to DICOM images and this is none: written as {natural}"
    if wish == "png" and len(shape) == 4 and shape[-1] > 1:
        return natural, f"a volume cannot be a PNG: written as {natural}"
    if wish == "nifti" and is_irregular:
        return natural, "slices that form no regular volume have no place in a NIfTI: written as dicom-seg"
    return (natural if wish == "auto" else wish), ""


def case_warnings(meta: Mapping[str, Any], modalities: Sequence[str]) -> list[str]:
    """What people should know about a case that was segmented: repairs while reading, an unexpected modality.

    Args:
        meta: of the image.
        modalities: DICOM modalities that the task is made for; none: any.
    """
    warnings = [repair for repair in str(meta.get("repairs", "")).split("\n") if repair]
    if reason := str(meta.get("irregular", "")):
        warnings.append(f"segmented slice by slice, without the geometry of a volume: {reason}")
    modality = str(meta.get("modality", ""))
    if modality and modalities and modality not in modalities:
        warnings.append(
            f"the modality is {modality}, but this task is made for {', '.join(modalities)}: do not rely on the result"
        )
    return warnings


@dataclasses.dataclass(frozen=True)
class ResultWriter:
    """Writes label ids in one format after the other.

    Args:
        segments: what the label ids 1, 2, ... stand for; () where nobody said so.
        seg_kind: one of ``SEG_KINDS``.
        num_classes: foreground classes; one makes PNG values 0 and 255, several an indexed-colour PNG of ids.
    """

    segments: tuple[Segment, ...]
    seg_kind: str = "binary"
    num_classes: int = 1

    def write(
        self,
        form: str,
        stem: Path,
        labels: MetaTensor,
        probability: MetaTensor | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> list[Path]:
        """Write one case.

        Args:
            form: what :func:`fitting_format` returned.
            stem: path of the result without ``_mask`` and suffix.
            labels: ids ``(1, *spatial)`` with the meta of the image.
            probability: ``(C, *spatial)``, one channel per foreground class, or one more for the background in front of
                them, with the threshold as ``"level"`` in the meta; for sub-pixel contours and FRACTIONAL
                segmentations.
            warn: told what had to be repaired for a SEG; by default it is logged.

        Returns:
            The files, the most important one first.

        Raises:
            ValueError: when the case does not fit the format, or the probability is missing.
            OSError: when a file cannot be written.
        """
        ids = labels.as_tensor().cpu().numpy()[0].astype(np.uint8)
        if form == "png":
            return [write_label_png(_mask_path(stem, ".png"), ids, num_classes=self.num_classes)]
        if form == "dicom-seg":
            return [self._write_seg(stem, ids, labels, probability, warn)]
        if form == "contours":
            return self._write_contours(stem, labels, probability)
        code = int(labels.meta.get("sform_code", 0)) or int(labels.meta.get("qform_code", 0)) or 1
        unit = nifti_unit(labels.meta)
        affine = labels.affine.cpu().numpy()
        return [write_label_nifti(_mask_path(stem, ".nii.gz"), ids, affine=affine, code=code, unit=unit)]

    def _write_seg(
        self,
        stem: Path,
        ids: NDArray[np.uint8],
        labels: MetaTensor,
        probability: MetaTensor | None,
        warn: Callable[[str], None] | None,
    ) -> Path:
        if not self.segments:
            raise ValueError("a DICOM SEG needs the segments described: set 'segments' to a task or to descriptions.")
        mask: NDArray[Any] = ids
        if self.seg_kind == "fractional":
            if probability is None:
                raise ValueError("a FRACTIONAL segmentation needs probabilities, and only label ids were kept.")
            channels = probability.as_tensor().cpu().numpy()
            mask = channels[len(channels) - self.num_classes :]  # without the background of a softmax
        path = _mask_path(stem, ".dcm")
        return write_seg(mask, labels.meta, path, task=self.segments, kind=self.seg_kind, warn=warn)

    def _write_contours(self, stem: Path, labels: MetaTensor, probability: MetaTensor | None) -> list[Path]:
        values, level = labels.as_tensor().cpu().numpy()[0].astype(np.uint8), 0.5
        if probability is not None:
            values, level = probability.as_tensor().float().cpu().numpy(), float(probability.meta["level"])
        names = [segment.label for segment in self.segments] or [str(k + 1) for k in range(self.num_classes)]
        unit = str(labels.meta.get("spacing_unit", "px"))
        geojson, *pictures = write_contours(
            stem,
            values,
            labels=names,
            affine=labels.affine.cpu().numpy(),
            spacing_unit=unit,
            has_place=unit != "px" and bool(labels.meta.get("has_place", False)),
            level=level,
        )
        if pictures and pictures[0].parent != stem.parent:  # one SVG per slice: their folder says enough
            pictures = [pictures[0].parent]
        return [geojson, *pictures]


def _mask_path(stem: Path, suffix: str) -> Path:
    return stem.with_name(f"{stem.name}_mask{suffix}")


def write_label_png(path: Path, ids: NDArray[np.uint8], *, num_classes: int = 1) -> Path:
    """Write label ids ``(W, H)`` or ``(W, H, 1)`` as PNG: 0/255 for one class, else indexed colour.

    Raises:
        ValueError: for a volume.
        OSError: when the file cannot be written.
    """
    if ids.ndim == 3 and ids.shape[-1] == 1:
        ids = ids[..., 0]
    if ids.ndim != 2:
        raise ValueError(f"a mask of shape {ids.shape} is no picture and cannot be a PNG; use 'nifti' or 'auto'.")
    rows = np.ascontiguousarray(ids.T)  # (x, y) -> (row, column)
    if num_classes == 1:
        picture = Image.fromarray((rows > 0).astype(np.uint8) * np.uint8(255))
    else:
        picture = Image.fromarray(rows)
        colors = [PALETTE[index % len(PALETTE)] for index in range(num_classes)]
        picture.putpalette([0, 0, 0, *(value for color in colors for value in color)])
    # runs of equal bytes say all of a flat picture, in half the bytes that zlib's search for repetitions makes of it
    return write_beside(path, functools.partial(picture.save, compress_level=COMPRESSION, compress_type=zlib.Z_RLE))


def nifti_unit(meta: Mapping[str, Any]) -> str:
    """NIfTI's word for the unit of a grid: unknown for pixels and for frames, whose last axis has no length."""
    unit = str(meta.get("spacing_unit", "mm"))
    return unit if unit in NIFTI_UNITS and meta.get("layout") not in ("frames", "slices") else "unknown"


def write_label_nifti(
    path: Path, ids: NDArray[np.uint8], *, affine: NDArray[np.float64], code: int = 1, unit: str = "mm"
) -> Path:
    """Write label ids ``(X, Y[, Z])`` as uint8 NIfTI.

    Args:
        path: ends in ``.nii.gz``.
        ids: label ids.
        affine: voxel to RAS, 4x4, in ``unit``.
        unit: ``"mm"``, ``"micron"``, ``"meter"`` or ``"unknown"``, see :func:`nifti_unit`.
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
    image.header.set_xyzt_units(unit)
    return write_beside(path, image.to_filename)
