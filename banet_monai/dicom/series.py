"""The opened objects of one series: where their frames lie, in which order they come, what was repaired."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from banet_monai.dicom.finding import VOLUME_MODALITIES, DicomHeader, header_of
from banet_monai.dicom.geometry import (
    DicomGeometryError,
    Plane,
    Stack,
    picture_affine,
    plane_affine,
    slice_order,
    stack_planes,
)
from banet_monai.dicom.parsing import (
    DicomReadError,
    ParsedFile,
    integer,
    macro_items,
    numbers,
    parse_file,
    states,
    text,
    uid,
)
from banet_monai.dicom.pixels import PixelFormat, pixel_format
from banet_monai.dicom.windows import Window

__all__ = [
    "Arrangement",
    "SeriesObject",
    "arrange",
    "check_one_series",
    "object_of",
    "open_object",
    "pixel_size",
    "repeated_uids",
]

MATCHING_UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# Type 2 attributes of patient and study that old archives leave out although they may only be empty (PS3.5 7.4.3).
TYPE_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID")


@dataclasses.dataclass(frozen=True)
class SeriesObject:
    """One file of a series: parsed, not decoded."""

    path: Path
    header: DicomHeader
    parsed: ParsedFile
    form: PixelFormat
    planes: list[Plane]
    repairs: list[str]

    @property
    def dataset(self) -> Dataset:
        """The attributes, without pixel data."""
        return self.parsed.dataset


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """Order, affine and repairs of all frames.

    Args:
        stack: order and affine.
        layout: ``"picture"``, ``"volume"``, ``"frames"`` or ``"slices"``.
        irregular: why the slices form no volume, "" unless the layout is ``"slices"``.
    """

    stack: Stack
    layout: str
    irregular: str = ""


def open_object(path: Path, window: str | Window | None = None) -> SeriesObject | DicomHeader:
    """Open one file; a header alone is returned for what is no image.

    Args:
        path: DICOM file.
        window: as :func:`pixel_format` takes it.

    Raises:
        FileNotFoundError: when there is no such file.
        DicomReadError: when it cannot be read.
    """
    return object_of(parse_file(path), path, window)


def object_of(parsed: ParsedFile, path: Path, window: str | Window | None = None) -> SeriesObject | DicomHeader:
    """As :func:`open_object`, for what is parsed already; ``path`` names it in messages."""
    try:
        header = header_of(parsed.dataset, path)
        if header.not_an_image:
            return header
        form = pixel_format(parsed, window)
        planes = [_plane(parsed.dataset, k, path.name, form.shape) for k in range(form.frames)]
        return SeriesObject(path, header, parsed, form, planes, [*_repairs(parsed), *form.repairs])
    except (DicomReadError, OSError):
        raise
    except Exception as error:  # pydicom raises whatever a damaged value provokes; its message may quote it
        raise DicomReadError(
            f"'{path.name}' holds attributes that cannot be read ({type(error).__name__}): the file is damaged; copy "
            "it again from its source."
        ) from None


def _repairs(parsed: ParsedFile) -> list[str]:
    """What was wrong in the attributes that name patient, study and object."""
    dataset, repairs = parsed.dataset, list(parsed.repairs)
    if states(dataset, "SpecificCharacterSet") and not text(dataset, "SpecificCharacterSet"):
        repairs.append("SpecificCharacterSet is empty: ignored")
    repairs += [
        f"{keyword} is empty: no PACS can match the result" for keyword in MATCHING_UIDS if not uid(dataset, keyword)
    ]
    absent = [keyword for keyword in TYPE_2 if not states(dataset, keyword)]
    if absent:
        repairs.append(f"{', '.join(absent)} absent: taken as empty")
    return repairs


def _plane(dataset: Dataset, frame: int, name: str, shape: tuple[int, int]) -> Plane:
    """Place of a frame: from its functional groups (enhanced objects), else from the object if it has one frame."""
    is_single = integer(dataset, "NumberOfFrames", name, 1) <= 1

    def stated(keyword: str, sequence: str, count: int) -> tuple[float, ...]:
        for item in macro_items(dataset, frame, sequence):
            return numbers(item, keyword, name, count)
        return numbers(dataset, keyword, name, count) if is_single or keyword == "PixelSpacing" else ()

    return Plane(
        name=name if is_single else f"{name}, frame {frame + 1}",
        shape=shape,
        position=stated("ImagePositionPatient", "PlanePositionSequence", 3),
        orientation=stated("ImageOrientationPatient", "PlaneOrientationSequence", 6),
        spacing=stated("PixelSpacing", "PixelMeasuresSequence", 2),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
    )


def check_one_series(objects: Sequence[SeriesObject]) -> None:
    """Refuse files of several series, and series that mix grey and colour.

    Raises:
        FileNotFoundError: without any object.
        DicomReadError: with objects of several series.
        DicomGeometryError: with grey and colour objects.
    """
    if not objects:
        raise FileNotFoundError("no DICOM file was given; give a file, the files of one series, or a folder.")
    series: dict[tuple[str, str], list[SeriesObject]] = {}
    for item in objects:
        series.setdefault((item.header.study, item.header.series), []).append(item)
    if len(series) > 1:
        kinds = [f"{members[0].header.modality or 'unknown modality'} ({len(members)})" for members in series.values()]
        raise DicomReadError(
            f"the {len(objects)} files, first '{objects[0].path.name}', belong to {len(series)} series: "
            f"{', '.join(kinds[:6])}; give the files of one series."
        )
    if len({item.form.channels for item in objects}) > 1:
        raise DicomGeometryError(
            "the series mixes grey and colour images; give the files of one kind only.",
            kind="grey and colour",
            slices_work=False,
        )


def repeated_uids(objects: Sequence[SeriesObject]) -> list[str]:
    """What is to be said of files that state the same SOPInstanceUID, which must be unique; [] where none do."""
    found = [name for name in (uid(item.dataset, "SOPInstanceUID") for item in objects) if name]
    same = len(found) - len(set(found))
    return [f"{same} files repeat the SOPInstanceUID of another one: references cannot tell them apart"] if same else []


def arrange(objects: Sequence[SeriesObject], *, irregular: str = "refuse") -> Arrangement:
    """Put all frames in order.

    Args:
        objects: of one series; frames are counted over all of them.
        irregular: ``"refuse"``, or ``"slices"`` for slices without a volume where they form none.

    Raises:
        DicomGeometryError: when they form no regular volume and ``irregular`` is ``"refuse"``.
    """
    planes = [plane for item in objects for plane in item.planes]
    dataset, name = objects[0].dataset, objects[0].path.name
    if len(planes) == 1:
        if planes[0].missing:
            affine = picture_affine(pixel_size(dataset, planes[0]))
            return Arrangement(Stack([0], affine, _place_expected(objects[0])), "picture")
        return Arrangement(Stack([0], plane_affine(planes[0], _thickness(dataset, name)), []), "picture")

    if len(objects) == 1 and not any(plane.position for plane in planes):
        affine = picture_affine(pixel_size(dataset, planes[0]))
        return Arrangement(Stack(list(range(len(planes))), affine, _place_expected(objects[0])), "frames")
    instances = _instance_numbers(objects)
    try:
        stack = stack_planes(planes)
    except DicomGeometryError as error:
        if irregular == "slices" and error.slices_work:
            return Arrangement(_loose_stack(planes, instances, dataset), "slices", error.kind)
        what = f"'{name}'" if len(objects) == 1 else f"series of {len(objects)} files, first '{name}'"
        way_out = ' With irregular="slices" they are read slice by slice, without a volume.'
        message = f"{what}: {error}{way_out if error.slices_work else ''}"
        raise DicomGeometryError(message, kind=error.kind, slices_work=error.slices_work) from None
    if len(objects) == len(planes):
        steps = np.diff([instances[k] for k in stack.order])
        if any(instances) and not ((steps > 0).all() or (steps < 0).all()):
            stack.repairs.append("InstanceNumber does not follow the positions: sorted by position")
    return Arrangement(stack, "volume")


def _place_expected(item: SeriesObject) -> list[str]:
    """What is to be said of a CT, MR or PET image that does not state where it lies; [] for all others."""
    if item.header.modality not in VOLUME_MODALITIES or item.header.is_capture:
        return []
    return [f"{', '.join(item.planes[0].missing)} absent: read without a place in the patient"]


def _instance_numbers(objects: Sequence[SeriesObject]) -> list[int]:
    """Of each frame, 0 where it is no number; within an object the frames keep their order."""
    found: list[int] = []
    for item in objects:
        try:
            number = integer(item.dataset, "InstanceNumber", item.path.name, 0)
        except DicomReadError:
            number = 0
        found += [number] * item.form.frames
    return found


def _loose_stack(planes: Sequence[Plane], instances: Sequence[int], dataset: Dataset) -> Stack:
    spacings = {plane.spacing for plane in planes}
    size = pixel_size(dataset, planes[0]) if len(spacings) == 1 else ()
    return Stack(slice_order(planes, instances), picture_affine(size), [])


def pixel_size(dataset: Dataset, plane: Plane) -> tuple[float, ...]:
    """Distance between rows and columns in mm of a picture without a place: in the patient, else at the detector."""
    keywords = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")
    sizes = [plane.spacing, *(numbers(dataset, keyword, plane.name, 2) for keyword in keywords)]
    return next((size for size in sizes if size and np.isfinite(size).all() and min(size) > 0), ())


def _thickness(dataset: Dataset, name: str) -> float:
    """Length of the normal of a single slice, mm; 1 where no thickness is stated."""
    stated = [
        numbers(place, keyword, name)
        for place in [*macro_items(dataset, 0, "PixelMeasuresSequence"), dataset]
        for keyword in ("SliceThickness", "SpacingBetweenSlices")
    ]
    return next((value[0] for value in stated if value and np.isfinite(value[0]) and value[0] > 0), 1.0)
