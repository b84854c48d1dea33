"""Reading DICOM SEG with highdicom: label ids or probabilities on the axes of SeriesReader, with their meaning."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import ArrayLike, NDArray

from banet_monai.dicom.geometry import DRIFT_PIXELS, LPS_TO_RAS
from banet_monai.dicom.parsing import DicomReadError, has_dicom_magic, quiet_pydicom
from banet_monai.dicom.seg_sources import open_source
from banet_monai.dicom.segments import Segment, load_highdicom, stated

__all__ = ["SegmentationObject", "read_seg"]

OFF_GRID = 0.15  # how far, in voxels, voxels of two grids may lie apart to be the same ones
PARALLEL = 1e-3  # how far the cosine of an angle may be from 1
WITHOUT_PLACE = ("frames", "slices")  # layouts of SeriesReader whose affine says nothing

Place = tuple[str, int | None]  # SOP instance UID and frame number of a source picture


@dataclasses.dataclass(frozen=True)
class SegmentationObject:
    """What a DICOM SEG holds.

    Args:
        array: label ids (column, row[, slice]), unsigned; where segments overlap, 0 and 1 with one channel per segment
            in front; of a fractional object, float32 from 0 to 1 with one channel per segment in front.
        affine: (4, 4) from (column, row, slice) to RAS mm, that of ``like`` where it was given; None where frames have
            no place in the patient, or form no regular volume.
        segments: their meaning, in the order of ``numbers``.
        numbers: label id of each segment.
        kind: ``"binary"``, ``"fractional"`` or ``"labelmap"``.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64] | None
    segments: tuple[Segment, ...]
    numbers: tuple[int, ...]
    kind: str


def read_seg(
    path: str | Path,
    *,
    like: Mapping[str, Any] | MetaTensor | ArrayLike | None = None,
    shape: Sequence[int] | None = None,
) -> SegmentationObject:
    """Read a DICOM SEG; frames that were left out as empty are there again.

    Without ``like``, slices run from the first to the last one with a frame: what lies beyond is not known.

    Args:
        path: the file.
        like: what to put it on: the metadata or :class:`MetaTensor` of :class:`SeriesReader` for the source, or an
            affine (4, 4) to RAS mm together with ``shape``. The array then compares voxel by voxel with the source's.
        shape: (column, row[, slice]) of an affine given as ``like``.

    Raises:
        FileNotFoundError: no such file.
        DicomReadError: no SEG, damaged, or frames whose sources are not stated.
        ValueError: a ``like`` on whose grid the frames do not lie.
        ImportError: without highdicom, with what to install.
    """
    hd = load_highdicom()
    file = Path(path)
    with quiet_pydicom():
        seg = _opened(hd, file)
        kind = str(seg.SegmentationType).lower()
        numbers = tuple(int(number) for number in seg.segment_numbers)
        segments = tuple(stated(seg.get_segment_description(number)) for number in numbers)
        meta = like.meta if isinstance(like, MetaTensor) else like
        target = _target(meta, shape)
        is_placed = not (isinstance(meta, Mapping) and meta.get("layout") in WITHOUT_PLACE)
        volume = _volume(seg, kind, file.name) if is_placed else None
        if volume is None:
            array = _by_source(seg, kind, _places(seg, meta, file.name), file.name)
            affine = target[0] if target is not None else None
        elif target is not None:
            array, affine = _onto(*volume, *target, name=file.name), target[0]
        else:
            array, affine = volume
            array = array[..., 0] if array.shape[-1] == 1 and _is_one_picture(seg, file.name) else array
    return SegmentationObject(array, affine, segments, numbers, kind)


def _opened(hd: Any, path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no DICOM SEG '{path}'.")
    if not has_dicom_magic(path):
        raise DicomReadError(f"'{path.name}' is no DICOM file; give a DICOM SEG.")
    try:
        return hd.seg.segread(str(path))
    except Exception as error:  # highdicom and pydicom raise whatever a file provokes; a message may quote it
        raise DicomReadError(
            f"'{path.name}' cannot be read as DICOM SEG ({type(error).__name__}): another kind of object, or damaged."
        ) from None


def _target(
    like: Mapping[str, Any] | ArrayLike | None, shape: Sequence[int] | None
) -> tuple[NDArray[np.float64], tuple[int, ...]] | None:
    if like is None:
        return None
    if isinstance(like, Mapping):
        if "original_affine" not in like or "spatial_shape" not in like:
            raise ValueError("like must hold original_affine and spatial_shape, as the metadata of SeriesReader do.")
        return np.asarray(like["original_affine"], dtype=np.float64), tuple(int(n) for n in like["spatial_shape"])
    affine = np.asarray(like, dtype=np.float64)
    if affine.shape != (4, 4) or shape is None or len(shape) not in (2, 3):
        raise ValueError(
            "like must be metadata of SeriesReader, or an affine (4, 4) together with shape=(columns, rows[, slices]), "
            f"got an affine {affine.shape} and shape={shape}."
        )
    return affine, tuple(int(n) for n in shape)


def _pixels(kind: str, read: Callable[[bool], NDArray[Any]], name: str) -> NDArray[Any]:
    """Label ids where segments allow to combine them, else with a last axis of segments.

    Raises:
        RuntimeError: highdicom's, when frames cannot be put in order that way.
    """
    try:
        if kind != "fractional":
            with suppress(RuntimeError):  # segments overlap
                return read(True)
        return read(False)
    except RuntimeError:
        raise
    except Exception as error:  # each decoder has exceptions of its own
        raise DicomReadError(
            f"the pixel data of '{name}' cannot be decoded ({type(error).__name__}): cut short or damaged; copy it "
            "again from its source."
        ) from error


def _volume(seg: Any, kind: str, name: str) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
    """Array (..., column, row, slice) and affine of frames that form one regular volume, else None."""
    positions = _positions(seg)
    if "FrameOfReferenceUID" not in seg or not positions or any(position is None for position in positions):
        return None
    try:
        geometry = seg.get_volume_geometry()
    except RuntimeError:
        geometry = None
    if geometry is None or not _holds_for(geometry.affine, positions):
        return None
    try:
        values = _pixels(kind, lambda combined: seg.get_volume(combine_segments=combined).array, name)
    except RuntimeError:  # several frames of a segment at one place
        return None
    array = _monai_axes(values)
    lps = np.asarray(geometry.affine)[:, [2, 1, 0, 3]]  # (slice, row, column) -> (column, row, slice)
    if np.linalg.det(lps[:3, :3]) < 0:
        array = array[..., ::-1]
        lps[:3, 3] += lps[:3, 2] * (array.shape[-1] - 1)
        lps[:3, 2] *= -1
    return array, LPS_TO_RAS @ lps + 0.0


def _monai_axes(values: NDArray[Any]) -> NDArray[Any]:
    """(slice, row, column[, segment]) to ([segment,] column, row, slice)."""
    return values.transpose((3, 2, 1, 0) if values.ndim == 4 else (2, 1, 0))


def _positions(seg: Any) -> list[Any]:
    """ImagePositionPatient of each frame, None where there is none."""
    shared = seg.SharedFunctionalGroupsSequence[0].get("PlanePositionSequence")
    groups = seg.get("PerFrameFunctionalGroupsSequence") or []
    found = [group.get("PlanePositionSequence") or shared for group in groups]
    return [items[0].get("ImagePositionPatient") if items else None for items in found]


def _holds_for(affine: Any, positions: Sequence[Any]) -> bool:
    """Whether each frame lies where the volume has it: highdicom takes tilts of up to 2.5 degrees for upright."""
    points = np.array([[*map(float, position), 1.0] for position in positions]).T
    slices, rows, columns = (np.linalg.inv(affine) @ points)[:3]
    off = np.abs([slices - np.round(slices), rows, columns])
    return bool(off.max() <= DRIFT_PIXELS + 1e-3)


def _is_one_picture(seg: Any, name: str) -> bool:
    """Whether the only source is a single-frame object, which SeriesReader reads without a slice axis."""
    try:
        places = _stated_places(seg, name)
    except DicomReadError:
        return False
    return len(places) == 1 and places[0][1] is None


def _onto(
    array: NDArray[Any],
    affine: NDArray[np.float64],
    target: NDArray[np.float64],
    shape: tuple[int, ...],
    *,
    name: str,
) -> NDArray[Any]:
    """The voxels of ``array`` (..., column, row, slice) on another grid that shares them; 0 where there are none."""
    spatial, lead = (*shape, 1)[:3], array.ndim - 3
    affine, target = _same_thickness(affine, array.shape[-1], target, spatial)
    turn = np.linalg.inv(affine) @ target  # indices of the target -> indices of the array
    matrix, offset = np.round(turn[:3, :3]).astype(int), np.round(turn[:3, 3]).astype(int)
    corners = np.array(list(itertools.product(*((0, n - 1) for n in spatial)))).T
    apart = (turn[:3, :3] - matrix) @ corners + (turn[:3, 3] - offset)[:, None]
    turned = np.abs(matrix)
    if (turned.sum(axis=0) == 1).all() and (turned.sum(axis=1) == 1).all() and np.abs(apart).max() <= OFF_GRID:
        order = [int(axis) for axis in np.argmax(turned, axis=0)]  # axis of the array along each axis of the target
        moved = array.transpose([*range(lead), *(lead + axis for axis in order)])
        picked = np.zeros((*array.shape[:lead], *spatial), dtype=array.dtype, order="F")  # slices follow each other
        into, out_of = [slice(None)] * lead, [slice(None)] * lead
        for k, axis in enumerate(order):
            here, there = _overlap(int(offset[axis]), int(matrix[axis, k]), spatial[k], moved.shape[lead + k])
            into.append(here)
            out_of.append(there)
        picked[tuple(into)] = moved[tuple(out_of)]
        if np.count_nonzero(picked) == np.count_nonzero(array):
            return picked[..., 0] if len(shape) == 2 else picked
    raise ValueError(
        f"the frames of '{name}' do not all lie on the grid of like; give the series it was made from, or read it "
        "without like and resample it."
    )


def _same_thickness(
    affine: NDArray[np.float64], slices: int, target: NDArray[np.float64], spatial: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both affines; where one grid has a single slice, its thickness is that of the other one's."""
    affine, target = affine.copy(), target.copy()
    length = float(np.linalg.norm(affine[:3, 2]))
    for k in range(3):
        other = float(np.linalg.norm(target[:3, k]))
        if abs(affine[:3, 2] @ target[:3, k]) >= (1 - PARALLEL) * length * other:
            if slices == 1:
                affine[:3, 2] *= other / length
            elif spatial[k] == 1:
                target[:3, k] *= length / other
            break
    return affine, target


def _overlap(start: int, step: int, count: int, size: int) -> tuple[slice, slice]:
    """Where indices 0 to ``count`` of one axis, at ``start + step * index`` of another one, meet its 0 to ``size``."""
    low, high = (-start, size - start) if step > 0 else (start - size + 1, start + 1)
    low, high = max(0, low), min(count, high)
    if high <= low:
        return slice(0, 0), slice(0, 0)
    stop = start + step * high
    return slice(low, high), slice(start + step * low, stop if stop >= 0 else None, step)


def _places(seg: Any, meta: Any, name: str) -> list[Place]:
    """The source pictures in the order wanted: that of the metadata, else as the object states them."""
    if meta is None:
        return _stated_places(seg, name)
    if not isinstance(meta, Mapping):
        raise ValueError(f"the frames of '{name}' form no regular volume; like must be the metadata of SeriesReader.")
    places = [(frame.sop_instance, frame.number) for frame in open_source(meta).frames]
    if not {sop_instance for sop_instance, _ in _stated_places(seg, name)} <= {uid for uid, _ in places}:
        raise ValueError(
            f"'{name}' refers to other images than like; give the metadata of the series it was made from."
        )
    return places


def _stated_places(seg: Any, name: str) -> list[Place]:
    """The source pictures in the order in which the object lists them; of clips, up to the last frame referred to."""
    highest: dict[str, int | None] = {}
    for group in seg.get("PerFrameFunctionalGroupsSequence") or []:
        for derivation in group.get("DerivationImageSequence") or []:
            for reference in derivation.get("SourceImageSequence") or []:
                sop_instance, number = str(reference.ReferencedSOPInstanceUID), reference.get("ReferencedFrameNumber")
                known = highest.get(sop_instance)
                highest[sop_instance] = known if number is None else max(int(number), known or 1)
    if not highest:
        raise DicomReadError(
            f"the frames of '{name}' form no regular volume and do not say which images they were made from, so they "
            "cannot be put in order."
        )
    listed = [
        str(reference.ReferencedSOPInstanceUID)
        for series in seg.get("ReferencedSeriesSequence") or []
        for reference in series.get("ReferencedInstanceSequence") or []
    ]
    places: list[Place] = []
    for sop_instance in dict.fromkeys([*listed, *highest]):
        last = highest.get(sop_instance)
        places += [(sop_instance, None)] if last is None else [(sop_instance, k) for k in range(1, last + 1)]
    return places


def _by_source(seg: Any, kind: str, places: list[Place], name: str) -> NDArray[Any]:
    """([segment,] column, row[, slice]) in the order of the source pictures; what no frame refers to is empty."""
    frames: dict[str, list[int]] = {}
    for sop_instance, number in places:
        frames.setdefault(sop_instance, []).append(number or 0)

    def read(combined: bool) -> NDArray[Any]:
        options = {"combine_segments": combined, "assert_missing_frames_are_empty": True}
        if all(number is None for _, number in places):
            return seg.get_pixels_by_source_instance(list(frames), **options)
        found = {
            (sop_instance, number): picture
            for sop_instance, numbers in frames.items()
            for number, picture in zip(
                numbers, seg.get_pixels_by_source_frame(sop_instance, numbers, **options), strict=True
            )
        }
        return np.stack([found[sop_instance, number or 0] for sop_instance, number in places])

    try:
        array = _monai_axes(_pixels(kind, read, name))
    except RuntimeError as error:
        raise DicomReadError(
            f"the frames of '{name}' cannot be matched with source pictures ({type(error).__name__}): they form no "
            "regular volume, and it is not stated that they correspond pixel to pixel."
        ) from error
    return array[..., 0] if len(places) == 1 else array
