"""What highdicom is shown of a source, and what the finished segmentation says of sources and places instead.

highdicom sees one multi-frame image whose frame ``k`` is slice ``k`` of the mask. Where the slices are one stack, that
is the truth; elsewhere they are shown one millimetre apart and get their own places here.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from banet_monai.dicom.seg_sources import SegSource, SourceFrame, height_of

__all__ = ["restore", "shown_image"]

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"  # a class of multi-frame images
NEUTRAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # orientation where there is none
SHOWN_STEP = (0.0, 0.0, -1.0)  # towards the feet: the direction in which highdicom numbers frames
# Taken over as they stand: highdicom refuses odd values of them and quotes them in warnings.
PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
IMAGE_POSITION = 0x00200032
FRAME_CONTENT, FRAME_LABEL, STACK_ID, IN_STACK_POSITION = 0x00209111, 0x00209453, 0x00209056, 0x00209057
SPATIAL_GROUPS = ("PlaneOrientationSequence", "PixelMeasuresSequence")


def shown_image(source: SegSource, frames: Sequence[SourceFrame], *, is_stack: bool) -> Dataset:
    """A multi-frame image with the source's patient and study and without pixels.

    Args:
        source: where patient, study and equipment come from.
        frames: the slices of the mask that are to be written.
        is_stack: whether they form one stack in the patient, so that their own places can be shown.
    """
    image = copy.deepcopy(source.header)
    image.pop("SpecificCharacterSet", None)
    for keyword in PATIENT_AND_STUDY:
        setattr(image, keyword, "")
    image.SOPClassUID, image.SOPInstanceUID = ENHANCED_CT, generate_uid()
    image.Rows, image.Columns = frames[0].plane.shape
    image.NumberOfFrames = len(frames)
    if not is_stack:
        image.FrameOfReferenceUID = generate_uid()

    first = frames[0].plane
    measures, orientation = _measures(first.spacing if is_stack else (1.0, 1.0), source.thickness), Dataset()
    if is_stack and source.step:
        measures.SpacingBetweenSlices = format_number_as_ds(source.step)
    orientation.ImageOrientationPatient = _decimals(first.orientation if is_stack else NEUTRAL)
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    image.SharedFunctionalGroupsSequence = Items([shared])
    image.PerFrameFunctionalGroupsSequence = Items(
        [
            _position_group(frame.plane.position if is_stack else tuple(k * part for part in SHOWN_STEP))
            for k, frame in enumerate(frames)
        ]
    )
    return image


def restore(seg: Dataset, source: SegSource, frames: Sequence[SourceFrame], stacks: Sequence[int] | None) -> list[int]:
    """Let a segmentation of :func:`shown_image` speak of the real patient, sources and places.

    Args:
        seg: changed in place.
        source: the real one.
        frames: as shown.
        stacks: stack of each frame, counted from 1; None where frames have no place in the patient.

    Returns:
        Which of ``frames`` each frame of the segmentation shows.
    """
    for keyword in PATIENT_AND_STUDY:
        if keyword in source.header:
            seg[keyword] = copy.deepcopy(source.header[keyword])
    if "SpecificCharacterSet" in source.header:
        seg.SpecificCharacterSet = source.header.SpecificCharacterSet
    _refer_to_instances(seg, source)
    shown = _refer_to_frames(seg, frames)
    if source.affine is None:  # what is left of irregular slices can look regular
        seg.pop("DimensionOrganizationType", None)
        seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].pop("SpacingBetweenSlices", None)
    if stacks is None:
        _drop_places(seg, source)
        _index_by(seg, [(FRAME_LABEL, "Frame Label")])
        _label_frames(seg, [frames[k] for k in shown], source)
    elif max(stacks) > 1:
        _place_frames(seg, shown, frames, source)
        _index_by(seg, [(STACK_ID, "Stack ID"), (IN_STACK_POSITION, "In-Stack Position Number")])
        _number_stacks(seg, shown, frames, stacks)
    return shown


def _refer_to_instances(seg: Dataset, source: SegSource) -> None:
    """All source instances, those without content in the mask too (Common Instance Reference, PS3.3 C.12.2)."""
    instances = dict.fromkeys((frame.sop_class, frame.sop_instance) for frame in source.frames)
    references = []
    for sop_class, sop_instance in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class, sop_instance
        references.append(reference)
    series = Dataset()
    series.SeriesInstanceUID = source.header.SeriesInstanceUID
    series.ReferencedInstanceSequence = Items(references)
    seg.ReferencedSeriesSequence = Items([series])
    seg.SourceImageSequence = Items(references)


def _refer_to_frames(seg: Dataset, frames: Sequence[SourceFrame]) -> list[int]:
    """Turn references to shown frames into those to their sources; returns which frame each group shows."""
    references = [group.DerivationImageSequence[0].SourceImageSequence[0] for group in _groups(seg)]
    shown = [int(reference.ReferencedFrameNumber) - 1 for reference in references]
    # Segments share their references in highdicom, so each is changed once.
    for k, reference in {k: reference for k, reference in zip(shown, references, strict=True)}.items():
        frame = frames[k]
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = frame.sop_class, frame.sop_instance
        if frame.number is None:
            del reference.ReferencedFrameNumber
        else:
            reference.ReferencedFrameNumber = frame.number
    return shown


def _drop_places(seg: Dataset, source: SegSource) -> None:
    """Without a frame of reference, frames correspond pixel to pixel to their sources (PS3.3 A.51.3)."""
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator", "DimensionOrganizationType"):
        seg.pop(keyword, None)
    for keyword in SPATIAL_GROUPS:
        seg.SharedFunctionalGroupsSequence[0].pop(keyword, None)
    for group in _groups(seg):
        group.pop("PlanePositionSequence", None)
    seg.PatientOrientation = source.header.get("PatientOrientation") or ""  # needed where no position is stated


def _place_frames(seg: Dataset, shown: Sequence[int], frames: Sequence[SourceFrame], source: SegSource) -> None:
    """Position, orientation and spacing frame by frame."""
    seg.FrameOfReferenceUID = source.header.FrameOfReferenceUID
    seg.pop("DimensionOrganizationType", None)
    for keyword in SPATIAL_GROUPS:
        seg.SharedFunctionalGroupsSequence[0].pop(keyword, None)
    for group, k in zip(_groups(seg), shown, strict=True):
        plane = frames[k].plane
        orientation = Dataset()
        orientation.ImageOrientationPatient = _decimals(plane.orientation)
        group.PlanePositionSequence = _position_group(plane.position).PlanePositionSequence
        group.PixelMeasuresSequence = Items([_measures(plane.spacing, source.thickness)])
        group.PlaneOrientationSequence = Items([orientation])


def _index_by(seg: Dataset, dimensions: Sequence[tuple[int, str]]) -> None:
    """Put attributes of Frame Content in the place of the position among the dimensions (PS3.3 C.7.6.17)."""
    indices = [index for index in seg.DimensionIndexSequence if index.DimensionIndexPointer != IMAGE_POSITION]
    for tag, label in dimensions:
        index = Dataset()
        index.DimensionIndexPointer, index.FunctionalGroupPointer = tag, FRAME_CONTENT
        index.DimensionOrganizationUID = seg.DimensionOrganizationSequence[0].DimensionOrganizationUID
        index.DimensionDescriptionLabel = label
        indices.append(index)
    seg.DimensionIndexSequence = Items(indices)


def _label_frames(seg: Dataset, shown: Sequence[SourceFrame], source: SegSource) -> None:
    """The number of each source frame, or its place in the series where it has none."""
    places = {frame: str(frame.number or k) for k, frame in enumerate(source.frames, start=1)}
    for group, frame in zip(_groups(seg), shown, strict=True):
        group.FrameContentSequence[0].FrameLabel = places[frame]


def _number_stacks(seg: Dataset, shown: Sequence[int], frames: Sequence[SourceFrame], stacks: Sequence[int]) -> None:
    """Stack, and position in it from its lowest frame on, both counted from 1 over the frames that are there."""

    def height(k: int) -> float:
        return height_of(frames[k].plane, frames[stacks.index(stacks[k])].plane)

    places: dict[int, int] = {}
    for stack in set(stacks):
        members = sorted((k for k in range(len(frames)) if stacks[k] == stack), key=height)
        places.update({k: place for place, k in enumerate(members, start=1)})
    for group, k in zip(_groups(seg), shown, strict=True):
        content = group.FrameContentSequence[0]
        content.StackID, content.InStackPositionNumber = str(stacks[k]), places[k]
        indices = content.DimensionIndexValues  # a single number without a dimension of segments
        segment = [] if isinstance(indices, int) else list(indices)[:-1]
        content.DimensionIndexValues = [*segment, stacks[k], places[k]]


def _groups(seg: Dataset) -> Items:
    """Functional groups of each written frame."""
    return seg.PerFrameFunctionalGroupsSequence


def _measures(spacing: Sequence[float], thickness: float) -> Dataset:
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = _decimals(spacing), format_number_as_ds(thickness)
    return measures


def _position_group(position: Sequence[float]) -> Dataset:
    place, group = Dataset(), Dataset()
    place.ImagePositionPatient = _decimals(position)
    group.PlanePositionSequence = Items([place])
    return group


def _decimals(values: Sequence[float]) -> list[str]:
    """Numbers as decimal strings of at most 16 characters."""
    return [format_number_as_ds(float(value)) for value in values]
