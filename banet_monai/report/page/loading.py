"""The arrays of one case: image, mask, truth and maps on one grid. What cannot be read is said, the rest goes on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banet_monai.report.manifest import PLAIN_NUMBER
from banet_monai.report.page.results import CaseResult
from banet_monai.report.page.sources import Source

__all__ = ["MAPS", "CaseArrays", "load_case"]

BINARY_MASK = (0, 255)
MAPS = ("uncertainty", "boundary")  # results called <name>_<map>.png or .nii.gz
MASK_SUFFIXES = ("_mask.png", "_mask.nii.gz", "_mask.dcm", "_contours.geojson")
MAP_SUFFIXES = (".nii.gz", ".png")


@dataclass(frozen=True)
class CaseArrays:
    """One case; arrays have x (columns) first, then y, and the slices of a volume last.

    Attributes:
        labels: label ids ``(X, Y[, Z])``, None where no mask could be read.
        image: ``(C, X, Y[, Z])``, None where it is gone.
        bounds: values of the image shown as black and white; None: percentiles.
        truth: label ids like ``labels``, None where there is none.
        maps: ``"uncertainty"`` and ``"boundary"`` to ``(X, Y[, Z])``; the boundary map from 0 to 1.
        affine: voxel to RAS, 4x4; None where it says nothing (pictures, frames).
        spacing: along each axis of ``labels``.
        unit: of the spacing, ``"mm"`` or ``"px"``.
        drawn: ``(rows, columns, 3)``, the overlay that the run has written, where the image is gone.
        is_part: the mask is that of a DICOM SEG without its images, which ends where the segments end.
        notes: what is missing or wrong, in words.
    """

    labels: NDArray[np.uint8] | None = None
    image: NDArray[Any] | None = None
    bounds: tuple[float, float] | None = None
    truth: NDArray[np.uint8] | None = None
    maps: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    affine: NDArray[np.float64] | None = None
    spacing: tuple[float, ...] = ()
    unit: str = "px"
    drawn: NDArray[np.uint8] | None = None
    is_part: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_volume(self) -> bool:
        """Whether there are slices."""
        return self.labels is not None and self.labels.ndim == 3


def load_case(folder: Path, case: CaseResult, source: Source) -> CaseArrays:
    """Read everything there is of a case.

    Args:
        folder: of the results.
        case: what the manifest says of it. Notes name files as it does, so that case numbers stay case numbers.
        source: where its image and its truth lie.
    """
    arrays = _load(folder, case, source)
    return replace(arrays, notes=tuple(_as_named(note, case, source) for note in arrays.notes))


def _as_named(note: str, case: CaseResult, source: Source) -> str:
    files = [*((source.image,) if isinstance(source.image, str) else source.image), source.label]
    names = {Path(file).name for file in files if file} - {PurePosixPath(case.path).name}
    words = [word for word in sorted(names, key=len, reverse=True) if word in note]
    if not words:
        return note
    whole = [
        rf"(?:(?<=')|^){re.escape(word)}(?=[' :])"
        if PLAIN_NUMBER.fullmatch(word)
        else rf"(?<![\w.-]){re.escape(word)}(?![\w-])"
        for word in words
    ]
    return re.sub("|".join(whole), lambda _: case.name, note)  # in one go: the name itself may hold such words


def _load(folder: Path, case: CaseResult, source: Source) -> CaseArrays:
    notes: list[str] = []
    arrays, meta = _image(source, notes)
    labels, affine, spacing, unit, file = _labels(folder, case, meta, notes)
    if labels is None:
        return replace(arrays, drawn=_overlay(folder, case), notes=tuple(notes))
    arrays = replace(arrays, labels=labels)
    if arrays.image is not None and _flat_shape(arrays.image.shape[1:]) != labels.shape:
        notes.append(f"The image is {arrays.image.shape[1:]}, but its mask is {labels.shape}: shown without the image.")
        arrays = replace(arrays, image=None, affine=None, spacing=())
    if arrays.image is not None:
        arrays = replace(arrays, image=arrays.image.reshape(arrays.image.shape[0], *labels.shape))
    else:
        is_part = file.endswith(".dcm") and labels.ndim == 3
        arrays = replace(
            arrays, drawn=_overlay(folder, case), affine=affine, spacing=spacing, unit=unit, is_part=is_part
        )
    if len(arrays.spacing) < labels.ndim:
        arrays = replace(arrays, spacing=(1.0,) * labels.ndim, unit="px")
    arrays = replace(arrays, spacing=arrays.spacing[: labels.ndim])
    truth = None
    if source.label:
        place = {name: meta[name] for name in ("has_place", "filename_or_obj") if name in meta}
        truth = _truth(source.label, labels.shape, arrays.affine, {"spacing_unit": "mm", **place}, notes)
    return replace(arrays, truth=truth, maps=_maps(folder, case, labels.shape, notes), notes=tuple(notes))


def _image(source: Source, notes: list[str]) -> tuple[CaseArrays, Mapping[str, Any]]:
    from banet_monai.data.failures import explanation
    from banet_monai.metrics.masks import grid_spacing
    from banet_monai.transforms.reading import LoadCased

    if not source.image:
        notes.append("The image was not found: the outline is shown without it.")
        return CaseArrays(), {}
    record = {"image": list(source.image) if isinstance(source.image, tuple) else source.image}
    try:
        image = LoadCased(keys="image", irregular="slices")(record)["image"]
        steps = grid_spacing(image)
    except Exception as error:  # other libraries raise what they like, and the page goes on
        notes.append(f"The image cannot be read: {explanation(error, record)}")
        return CaseArrays(), {}
    meta = image.meta
    low, high = (float(value) for value in meta.get("value_range", (0.0, 0.0)))
    is_colour = image.shape[0] == 3
    is_picture = meta.get("kind") == "picture"
    bounds = (low, high) if (is_picture or is_colour) and high > low else None
    has_geometry = image.ndim == 4 and meta.get("layout", "volume") == "volume"
    affine = image.affine.numpy().astype(np.float64) if has_geometry else None
    array = image.as_tensor().numpy()
    return CaseArrays(image=array, bounds=bounds, affine=affine, spacing=tuple(steps.values), unit=steps.unit), meta


def _labels(
    folder: Path, case: CaseResult, meta: Mapping[str, Any], notes: list[str]
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float64] | None, tuple[float, ...], str, str]:
    """Label ids of the first result that can be read, with the affine, spacing and unit of its file, and its name."""
    masks = [file for end in MASK_SUFFIXES for file in case.files if file.endswith(end)]
    tiled = next((file for file in case.files if file.endswith("_mask.tif")), "")
    if tiled:  # too large for a page, as its image is
        notes.append(f"The picture was done in tiles and is not drawn here; its mask is '{Path(tiled).name}'.")
    elif not masks:
        notes.append("The run wrote no mask for this case.")
    for file in masks:
        path = folder / file
        if not path.is_file():
            notes.append(f"'{path.name}' is missing.")
            continue
        try:
            values, affine, spacing, unit = _read_labels(path, meta)
            return _ids(values), affine, spacing, unit, file
        except Exception as error:  # a damaged file provokes any of the libraries' exceptions
            notes.append(f"'{path.name}' cannot be read ({type(error).__name__}): damaged, or changed since.")
    return None, None, (), "px", ""


def _read_labels(
    path: Path, meta: Mapping[str, Any]
) -> tuple[NDArray[Any], NDArray[np.float64] | None, tuple[float, ...], str]:
    from banet_monai.data.masks import read_mask
    from banet_monai.metrics.masks import IN_MM
    from banet_monai.report.contours import read_contours

    if path.name.endswith(".geojson"):
        return read_contours(path), None, (), "px"
    if path.name.endswith(".dcm"):
        from banet_monai.dicom.seg_reading import read_seg

        seg = read_seg(path, like=meta if meta.get("kind") == "dicom" else None)
        values = _flat(_single_channel(seg.array, seg.kind))
        return (
            values,
            seg.affine if values.ndim == 3 else None,
            _steps(seg.affine),
            "px" if seg.affine is None else "mm",
        )
    if path.name.endswith(".nii.gz"):
        import nibabel

        image: Any = nibabel.load(path)
        values, unit = _flat(np.asanyarray(image.dataobj)), image.header.get_xyzt_units()[0]
        if unit not in IN_MM:  # as this package writes results whose pixels have no size in the patient
            return values, None, (), "px"
        affine = np.diag([IN_MM[unit]] * 3 + [1.0]) @ image.affine
        return values, affine if values.ndim == 3 else None, _steps(affine), "mm"
    return read_mask(path).T, None, (), "px"


def _steps(affine: NDArray[np.float64] | None) -> tuple[float, ...]:
    return () if affine is None else tuple(float(step) for step in np.linalg.norm(np.asarray(affine)[:3, :3], axis=0))


def _single_channel(array: NDArray[Any], kind: str) -> NDArray[Any]:
    """Label ids of segments that overlap or are probabilities, one channel each: the largest wins."""
    if kind != "fractional" and array.ndim < 4:
        return array
    best = array.max(axis=0)
    inside = best >= 0.5 if kind == "fractional" else best > 0
    ids: NDArray[Any] = np.where(inside, array.argmax(axis=0) + 1, 0)
    return ids


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    """Without a last axis of one slice."""
    return values.reshape(_flat_shape(values.shape))


def _flat_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[:-1]) if len(shape) == 3 and shape[-1] == 1 else tuple(shape)


def _ids(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Label ids; 255 alone stands for one class."""
    if values.ndim not in (2, 3):
        raise ValueError(f"a mask of the shape {values.shape} is neither a picture nor a volume.")
    ids = values.astype(np.uint8)
    if not np.array_equal(ids, values):
        raise ValueError("a mask holds label ids from 0 to 255.")
    return (ids > 0).astype(np.uint8) if set(np.unique(ids).tolist()) <= set(BINARY_MASK) else ids


def _truth(
    path: str,
    shape: tuple[int, ...],
    affine: NDArray[np.float64] | None,
    meta: Mapping[str, Any],
    notes: list[str],
) -> NDArray[np.uint8] | None:
    import torch
    from monai.data import MetaTensor

    from banet_monai.data.failures import explanation
    from banet_monai.data.masks import JPEG_NOISE, mask_ids
    from banet_monai.transforms.alignment import in_order_of
    from banet_monai.transforms.reading import LoadCased

    record = {"label": path}
    try:
        label = LoadCased(keys="label")(record)["label"]
        if affine is not None and len(shape) == 3:
            grid = MetaTensor(torch.zeros(1).expand(1, *shape), affine=torch.from_numpy(affine), meta=dict(meta))
            label = in_order_of(label, grid)
        values = _flat(label.as_tensor().numpy()[0])
        top = 255 - JPEG_NOISE
        ids = mask_ids(values) if values.max(initial=0) >= top else _ids(values)
    except Exception as error:  # as above
        notes.append(f"The true mask cannot be read: {explanation(error, record)}")
        return None
    if ids.shape != shape:
        notes.append(f"The true mask is {ids.shape}, but the prediction is {shape}: not drawn.")
        return None
    return ids


def _maps(folder: Path, case: CaseResult, shape: tuple[int, ...], notes: list[str]) -> dict[str, NDArray[Any]]:
    from banet_monai.data.masks import read_mask

    maps: dict[str, NDArray[Any]] = {}
    for name in MAPS:
        path = next((p for s in MAP_SUFFIXES if (p := folder / f"{case.name}_{name}{s}").is_file()), None)
        if path is None:
            continue
        try:
            values = read_mask(path)
            whole = values.dtype.kind in "iu"
            numbers = _flat(values.T if path.suffix == ".png" else values).astype(np.float32)
            if numbers.shape != shape:
                raise ValueError(f"the map is {numbers.shape}, its mask {shape}.")
            maps[name] = numbers / int(np.iinfo(str(values.dtype)).max) if whole else numbers
        except Exception as error:  # as above
            notes.append(f"'{path.name}' cannot be shown ({type(error).__name__}): damaged, or of another size.")
    return maps


def _overlay(folder: Path, case: CaseResult) -> NDArray[np.uint8] | None:
    """The overlay of the run; None where there is none that can be read."""
    from PIL import Image

    path = folder / f"{case.name}_overlay.png"
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
