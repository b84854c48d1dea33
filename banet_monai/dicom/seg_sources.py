"""The images a segmentation speaks of: their frames in slice order, their places, and what must be repaired first."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, generate_uid

from banet_monai.dicom.finding import files_below, find_dicom_cases
from banet_monai.dicom.geometry import ROUNDING, Plane, has_usable_place
from banet_monai.dicom.parsing import (
    DicomReadError,
    ParsedFile,
    PixelPlace,
    in_threads,
    looks_like_dicom,
    macro_items,
    numbers,
    quiet_pydicom,
    states,
    text,
    uid,
)
from banet_monai.dicom.reading import meta_list
from banet_monai.dicom.series import SeriesObject, arrange, check_one_series, object_of, open_object, repeated_uids

__all__ = ["SegSource", "Source", "SourceFrame", "height_of", "open_source", "stacks_of"]

Source = str | Path | Dataset | Mapping[str, Any] | MetaTensor | Sequence[str | Path] | Sequence[Dataset]

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # stands in where the class of a source is empty
SAME_PLACE_MM = 1e-3  # slices of one stack that are closer than this lie at the same place
HEADER_GROUPS = (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040)  # patient, study, equipment
LOSSY = (0x00282110, 0x00282112, 0x00282114)  # a result of lossy pictures says so
NUMBERS = ("DS", "IS")  # value representations that highdicom reads as numbers
NOT_TAKEN_OVER = (0x0040071A,)  # places on a slide
NO_MATCH = "another one is stated, and no PACS can match the result"


@dataclasses.dataclass(frozen=True)
class SourceFrame:
    """One source picture: slice ``k`` of a mask lies on frame ``k`` of its source.

    Args:
        sop_class: UID of its object's class.
        sop_instance: UID of its object.
        number: frame number from 1 in a multi-frame object, None in a single-frame one.
        plane: its place in the patient; without position where there is none.
    """

    sop_class: str
    sop_instance: str
    number: int | None
    plane: Plane


@dataclasses.dataclass(frozen=True)
class SegSource:
    """What a segmentation takes over from its source.

    Args:
        header: copy of the first object's patient, study, series and equipment attributes, repaired.
        frames: in the order of the mask's slices.
        layout: as :class:`SeriesReader` has it: ``"picture"``, ``"volume"``, ``"frames"`` or ``"slices"``.
        affine: (4, 4) from (column, row, slice) to RAS mm, where frames form a regular volume in the patient.
        thickness: SliceThickness in mm as stated, else the distance between slices, else 1.
        repairs: what was wrong and what was done about it, in words without values.
        is_hounsfield: whether the values are Hounsfield units: of CT, and the object states no other unit.
    """

    header: Dataset
    frames: list[SourceFrame]
    layout: str
    affine: NDArray[np.float64] | None
    thickness: float
    repairs: list[str]
    is_hounsfield: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of a mask: (column, row), and slices or frames where there are several."""
        rows, columns = self.frames[0].plane.shape
        return (columns, rows) if len(self.frames) == 1 else (columns, rows, len(self.frames))

    @property
    def step(self) -> float | None:
        """Distance between slices of a regular volume, or thickness of a single one, mm."""
        return None if self.affine is None else float(np.linalg.norm(self.affine[:3, 2]))


def open_source(source: Source) -> SegSource:
    """Find the frames of a source in the order in which :class:`SeriesReader` gives its slices.

    Args:
        source: a DICOM file, a folder with one series, the files of a series, the metadata of :class:`SeriesReader`
            or the :class:`MetaTensor` that holds them, or parsed datasets. Nothing given is changed.

    Raises:
        DicomReadError: no image, damaged, several series, or images of several sizes.
        DicomGeometryError: images that no segmentation can refer to as one.
        FileNotFoundError: no such file, or a folder without an image.
        ValueError: metadata that do not come from :class:`SeriesReader`.
        TypeError: anything else.
    """
    given: Any = source.meta if isinstance(source, MetaTensor) else source
    with quiet_pydicom():
        if isinstance(given, Dataset):
            return _in_order(_parsed_objects([given]))
        if isinstance(given, Mapping):
            return _from_meta(given)
        if isinstance(given, (str, Path)):
            return _in_order(_open(_files_of(Path(given))))
        if isinstance(given, Sequence) and all(isinstance(item, (str, Path)) for item in given):
            return _in_order(_open([Path(item) for item in given]))
        if isinstance(given, Sequence) and all(isinstance(item, Dataset) for item in given):
            return _in_order(_parsed_objects(given))
    raise TypeError(
        "the source of a segmentation must be a DICOM file, a folder, files, SeriesReader's metadata or datasets, got "
        f"{type(source).__name__}."
    )


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [file for file in files_below(path) if looks_like_dicom(file)]
    cases = find_dicom_cases(found).cases
    if not cases:
        raise FileNotFoundError(f"there is no DICOM image in '{path}'; give the folder of one series.")
    if len(cases) > 1:
        raise DicomReadError(
            f"'{path.name}' holds {len(cases)} series or single images; give the files or the folder of the one that "
            "was segmented."
        )
    return list(cases[0].paths)


def _open(paths: Sequence[Path]) -> list[SeriesObject]:
    return [_image(item) for item in in_threads(open_object, paths)]


def _parsed_objects(datasets: Sequence[Dataset]) -> list[SeriesObject]:
    """Datasets in memory, pixel data or not, as if they had been read."""
    objects = []
    for number, dataset in enumerate(datasets, start=1):
        shown = copy.copy(dataset)
        meta = getattr(dataset, "file_meta", None)
        shown.file_meta = copy.deepcopy(meta) if meta is not None else FileMetaDataset()
        if not getattr(shown.file_meta, "TransferSyntaxUID", None):
            shown.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        path = Path(f"dataset {number}")
        parsed = ParsedFile(path, shown, (), PixelPlace("PixelData", "", -1, None), 0, 0)
        objects.append(_image(object_of(parsed, path)))
    return objects


def _image(item: Any) -> SeriesObject:
    if not isinstance(item, SeriesObject):
        raise DicomReadError(f"'{item.path.name}' is no image that can be segmented: {item.not_an_image}.")
    return item


def _in_order(objects: list[SeriesObject]) -> SegSource:
    check_one_series(objects)
    arrangement = arrange(objects, irregular="slices")
    places = [(item, k) for item in objects for k in range(len(item.planes))]
    return _source([places[k] for k in arrangement.stack.order], arrangement.layout, arrangement.stack.affine)


def _from_meta(meta: Mapping[str, Any]) -> SegSource:
    files = [Path(name) for name in meta_list(str(meta.get("series_files", "")))]
    frames = [int(number) for number in meta_list(str(meta.get("frame_numbers", "")))]
    if not files or len(files) not in (1, len(frames)) or "layout" not in meta or "original_affine" not in meta:
        raise ValueError(
            "these metadata do not say which DICOM files they come from (series_files, frame_numbers, layout and "
            "original_affine); what works: those of banet_monai.dicom.SeriesReader, or the DICOM files themselves."
        )
    opened = {item.path: item for item in _open(list(dict.fromkeys(files)))}
    check_one_series(list(opened.values()))
    in_order = [opened[file] for file in (files if len(files) > 1 else files * len(frames))]
    places = [(item, number - 1) for item, number in zip(in_order, frames, strict=True)]
    if any(not 0 <= k < len(item.planes) for item, k in places):
        raise ValueError("the metadata name frames that their DICOM files do not have: were the files exchanged?")
    return _source(places, str(meta["layout"]), np.asarray(meta["original_affine"], dtype=np.float64))


def _source(places: Sequence[tuple[SeriesObject, int]], layout: str, affine: NDArray[np.float64]) -> SegSource:
    """Frames with the UIDs they are referred to by, and one header for all."""
    first = places[0][0]
    repairs = repeated_uids(list({item.path: item for item, _ in places}.values()))
    names: dict[Path, tuple[str, str, bool]] = {}
    for item, _ in places:
        if item.path not in names:
            names[item.path] = (
                _stated_uid(uid(item.dataset, "SOPClassUID"), "SOPClassUID", SECONDARY_CAPTURE, repairs),
                _stated_uid(uid(item.dataset, "SOPInstanceUID"), "SOPInstanceUID", generate_uid(), repairs),
                states(item.dataset, "NumberOfFrames"),
            )
    frames = []
    for item, k in places:
        sop_class, sop_instance, has_numbers = names[item.path]
        frames.append(SourceFrame(sop_class, sop_instance, k + 1 if has_numbers else None, item.planes[k]))
    if len({frame.plane.shape for frame in frames}) > 1:
        raise DicomReadError("the images have several sizes, the frames of a segmentation have one.")

    header = _header(first.dataset, repairs)
    has_place = layout == "volume" or (layout == "picture" and not frames[0].plane.missing)
    thickness = _thickness(first.dataset)
    if stacks_of([frame.plane for frame in frames]):
        stated = [frame.plane.frame_of_reference for frame in frames if frame.plane.frame_of_reference]
        if not stated:
            repairs.append("FrameOfReferenceUID of the source is empty: a new one is stated")
        elif len(stated) < len(frames):
            repairs.append("FrameOfReferenceUID of some images is empty: that of the others is stated")
        header.FrameOfReferenceUID = stated[0] if stated else generate_uid()
        if not thickness:
            repairs.append("SliceThickness of the source is empty: the distance between slices is stated, or 1 mm")
    step = float(np.linalg.norm(affine[:3, 2])) if has_place else 1.0
    return SegSource(
        header,
        frames,
        layout,
        affine if has_place else None,
        thickness or step,
        list(dict.fromkeys(repairs)),
        _is_hounsfield(first.dataset),
    )


def _is_hounsfield(dataset: Dataset) -> bool:
    """Values of a CT image are Hounsfield units after rescaling, unless RescaleType says otherwise (PS3.3 C.8.2.1)."""
    places = [*macro_items(dataset, 0, "PixelValueTransformationSequence"), dataset]
    rescaled = [place for place in places if states(place, "RescaleSlope")]
    stated = next((kind for place in places if (kind := text(place, "RescaleType"))), "HU")
    return text(dataset, "Modality") == "CT" and bool(rescaled) and stated == "HU"


def _stated_uid(found: str, keyword: str, stand_in: str, repairs: list[str]) -> str:
    if not found:
        repairs.append(f"{keyword} of the source is empty: {NO_MATCH}")
    return found or stand_in


def _thickness(dataset: Dataset) -> float | None:
    for place in [*macro_items(dataset, 0, "PixelMeasuresSequence"), dataset]:
        try:
            stated = numbers(place, "SliceThickness", "the source")
        except DicomReadError:  # no numbers: as if it were empty
            continue
        if stated and np.isfinite(stated[0]) and stated[0] > 0:
            return stated[0]
    return None


def _header(dataset: Dataset, repairs: list[str]) -> Dataset:
    """Patient, study, series and equipment attributes, copied and repaired; no pixels, no functional groups."""
    header = Dataset()
    for tag in list(dataset.keys()):
        if (tag.group not in HEADER_GROUPS and tag not in LOSSY) or tag in NOT_TAKEN_OVER:
            continue
        try:
            element = copy.deepcopy(dataset[tag])
            if element.VR in NUMBERS:
                numbers(dataset, element.keyword, "the source")
            header[tag] = element
        except Exception:  # pydicom raises whatever a malformed value provokes; its message may quote it
            repairs.append("malformed attributes of the source are left out")
    if not text(header, "SpecificCharacterSet"):
        header.pop("SpecificCharacterSet", None)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        setattr(header, keyword, _stated_uid(text(header, keyword), keyword, generate_uid(), repairs))
    return header


def stacks_of(planes: Sequence[Plane]) -> list[int] | None:
    """Which stack each plane belongs to, counted from 1: planes of one orientation and spacing at different heights.

    A stack may have gaps and may be tilted. None where planes have no places in one patient space.
    """
    references = {plane.frame_of_reference for plane in planes if plane.frame_of_reference}
    if not all(map(has_usable_place, planes)) or len(references) > 1:
        return None
    stacks: list[tuple[Plane, set[int]]] = []
    members = []
    for plane in planes:
        for k, (first, heights) in enumerate(stacks):
            height = round(height_of(plane, first) / SAME_PLACE_MM)
            if _are_parallel(plane, first) and not heights & {height - 1, height, height + 1}:
                heights.add(height)
                members.append(k + 1)
                break
        else:
            stacks.append((plane, {round(height_of(plane, plane) / SAME_PLACE_MM)}))
            members.append(len(stacks))
    return members


def height_of(plane: Plane, first: Plane) -> float:
    """Where a plane lies along the normal of another one, mm."""
    across = np.cross(first.orientation[:3], first.orientation[3:])
    return float(np.dot(plane.position, across) / np.linalg.norm(across))


def _are_parallel(plane: Plane, other: Plane) -> bool:
    turned = np.abs(np.subtract(plane.orientation, other.orientation)).max()
    return bool(turned <= ROUNDING and np.allclose(plane.spacing, other.spacing, rtol=ROUNDING, atol=0))
