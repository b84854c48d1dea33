"""Writing measurements as DICOM Structured Report (TID 1500, Measurement Report) with highdicom.

Each label is a measurement group that refers to its segment in a DICOM SEG and to the source images: a volume as
TID 1411, a picture or a single frame as TID 1410 with the frame of the SEG; a label without pixels, which has no frame,
as TID 1501. Diameters follow in a group of their own (TID 1501, the same tracking identifier), because only there they
can have their end points: points of the patient (SCOORD3D) for volumes, of the source image (SCOORD) for pictures.
Measurements of single components are left out: a segment is what a report can refer to.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import generate_uid

from banet_monai import __version__
from banet_monai.dicom.parsing import quiet_pydicom, text
from banet_monai.dicom.seg import MANUFACTURER, MODEL, research_description
from banet_monai.dicom.seg_places import PATIENT_AND_STUDY
from banet_monai.dicom.seg_sources import SegSource, Source, open_source
from banet_monai.dicom.segments import ALGORITHM_FAMILY, ALGORITHM_NAME, load_highdicom, stated
from banet_monai.dicom.sr_codes import (
    CUT_OFF,
    DEVICE,
    DIAMETERS,
    INTENSITIES,
    NO,
    OWN_SCHEME,
    QUANTITIES,
    UNITS,
    YES,
    intensity_concept,
    procedure_of,
)
from banet_monai.dicom.sr_segments import ReferencedFrame, ReferencedSeg, open_seg
from banet_monai.files import write_beside

if TYPE_CHECKING:
    from banet_monai.measurements.records import Line, Measurement

__all__ = ["write_measurement_report"]

logger = logging.getLogger(__name__)

SERIES_NUMBER_OFFSET = 2000  # behind the images of a study and their segmentations
LONGEST_TEXT = 64  # characters of a tracking identifier, as of a segment's label
HALF = 0.5  # image coordinates count from the corner of the first pixel, indices from its centre (PS3.3 C.10.5)


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What a measurement group is made of."""

    hd: Any
    source: SegSource
    seg: ReferencedSeg
    version: str

    @property
    def modality(self) -> str:
        return text(self.source.header, "Modality")

    def is_in_a_plane(self, item: Measurement) -> bool:
        """Whether what has two dimensions lies in one image; a volume of one column or row lies across many."""
        return item.slice is not None or len(self.source.frames) == 1


def write_measurement_report(
    measurements: Sequence[Measurement],
    seg: str | Path | Dataset,
    source: Source,
    path: str | Path,
    *,
    series_description: str | None = None,
    series_number: int | None = None,
    algorithm_version: str = __version__,
    warn: Callable[[str], None] | None = None,
) -> Path:
    """Write measurements as a DICOM Structured Report that refers to their segmentation and its source images.

    Patient and study are those of the segmentation; series and instance get new UIDs; the observer is the program.

    Args:
        measurements: of one case, as :func:`banet_monai.measurements.measure` gives them: label id ``k`` is segment
            ``k``. Those of single components are left out.
        seg: the DICOM SEG of the mask that was measured, file or parsed. Not changed.
        source: the images, as :func:`banet_monai.dicom.write_seg` takes them.
        path: where to write; a file that is there is replaced in one go.
        series_description: for people; cut to 64 characters, and ``(research)`` is put at its end.
        series_number: by default 2000 more than the source's.
        algorithm_version: version of the bundle that made the mask.
        warn: told, in words without values, what was repaired in the source; by default it is logged.

    Returns:
        ``path``.

    Raises:
        ValueError: no measurement, a label without a segment, a slice that the source does not have, or a SEG of other
            images.
        DicomReadError: a source or SEG that is none, or damaged.
        FileNotFoundError: a source or SEG that is not there.
        ImportError: without highdicom, with what to install.
        OSError: when the file cannot be written.
    """
    hd = load_highdicom()
    opened = open_source(source)
    with quiet_pydicom():
        parts = _Parts(hd, opened, open_seg(seg, opened), algorithm_version)
        wanted = [item for item in measurements if item.component is None]
        _check(wanted, parts)
        found = text(opened.header, "SeriesNumber")
        number = SERIES_NUMBER_OFFSET + (int(found) if re.fullmatch(r"\d{1,8}", found) else 0)
        description = research_description(series_description or "Measurements by BA-Net")
        report = _document(
            [group for item in wanted for group in _groups(item, parts)], parts, series_number or number, description
        )
        written = write_beside(Path(path), lambda partial: report.save_as(partial, enforce_file_format=True))
    for repair in opened.repairs:
        (warn or logger.warning)(repair)
    return written


def _check(measurements: Sequence[Measurement], parts: _Parts) -> None:
    if not measurements:
        raise ValueError("there is no measurement of a whole label to report; measure with labels= names every label.")
    numbers = sorted(parts.seg.segments)
    for item in measurements:
        if item.label not in parts.seg.segments:
            raise ValueError(f"label {item.label} is no segment of the DICOM SEG, which has the segments {numbers}.")
        if item.slice is not None and item.slice >= len(parts.source.frames):
            count = len(parts.source.frames)
            raise ValueError(f"a measurement is of slice {item.slice}, but the source has {count}, counted from 0.")


def _document(groups: list[Any], parts: _Parts, series_number: int, description: str) -> Dataset:
    """The whole object around its measurement groups."""
    hd, seg = parts.hd, parts.seg.dataset
    device = hd.sr.ObserverContext(
        observer_type=DEVICE.for_pydicom(),
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(entropy_srcs=[MODEL, __version__]),
            name=ALGORITHM_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL,
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=procedure_of(parts.modality).for_pydicom(),
        imaging_measurements=groups,
    )
    has_points = bool(_items(content, "SCOORD3D"))
    kind = hd.sr.Comprehensive3DSR if has_points else hd.sr.ComprehensiveSR
    report: Dataset = kind(
        evidence=_evidence(parts),
        content=content,
        series_instance_uid=generate_uid(),
        series_number=series_number,
        series_description=description,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number=__version__,
        is_complete=True,
    )
    report.SeriesDate, report.SeriesTime = report.ContentDate, report.ContentTime
    _name_own_scheme(report)
    for keyword in (*PATIENT_AND_STUDY, "SpecificCharacterSet"):
        if keyword in seg:
            report[keyword] = copy.deepcopy(seg[keyword])
    if not f"{content}{description}".isascii():
        report.decode()
        report.SpecificCharacterSet = "ISO_IR 192"
    return report


def _evidence(parts: _Parts) -> list[Dataset]:
    """The SEG with its patient and study but for names, which highdicom may refuse and quote, and all source images."""
    seg = Dataset()
    for element in parts.seg.dataset:
        if element.VR != "SQ" and element.keyword not in ("SpecificCharacterSet", "PixelData"):
            seg[element.tag] = copy.deepcopy(element)
    for keyword in PATIENT_AND_STUDY:
        setattr(seg, keyword, "")
    evidence = [seg]
    series = (parts.seg.dataset.get("ReferencedSeriesSequence") or [Dataset()])[0]
    for sop_class, sop_instance in dict.fromkeys((f.sop_class, f.sop_instance) for f in parts.source.frames):
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = sop_class, sop_instance
        image.StudyInstanceUID = parts.seg.dataset.StudyInstanceUID
        image.SeriesInstanceUID = series.get("SeriesInstanceUID") or parts.source.header.SeriesInstanceUID
        evidence.append(image)
    return evidence


def _name_own_scheme(report: Dataset) -> None:
    """Say what the scheme of our own concepts is (PS3.3 C.12.1.1.8)."""
    item = Dataset()
    item.CodingSchemeDesignator, item.CodingSchemeName = OWN_SCHEME, f"{MODEL} measurements"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    report.CodingSchemeIdentificationSequence = Items([item])


def _groups(item: Measurement, parts: _Parts) -> list[Any]:
    """One label: a group of its region, with the template that fits what it can refer to, and one of its diameters."""
    hd, segment = parts.hd, parts.seg.segments[item.label]
    meaning = stated(segment)
    frames = _frames_of(item, parts)
    diameters = _diameters(item, parts)
    shared: dict[str, Any] = {
        "tracking_identifier": _tracking(item, segment, hd),
        "algorithm_id": hd.sr.AlgorithmIdentification(
            name=ALGORITHM_NAME, version=parts.version, family=ALGORITHM_FAMILY.for_pydicom()
        ),
        "finding_category": meaning.category.for_pydicom(),
        "finding_type": meaning.type.for_pydicom(),
        "finding_sites": [hd.sr.FindingSite(meaning.region.for_pydicom())] if meaning.region else None,
    }
    cut_off = hd.sr.QualitativeEvaluation(CUT_OFF.for_pydicom(), (YES if item.cut_off else NO).for_pydicom())
    region = {**shared, "measurements": _values(item, parts), "qualitative_evaluations": [cut_off]}
    if not frames:
        group = hd.sr.MeasurementsAndQualitativeEvaluations(**region)
    elif item.dimensions == 2:
        reference = _frame_reference(frames[0], item.label, parts)
        group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(**region, referenced_segment=reference)
    else:
        reference = _segment_reference(frames, item.label, parts)
        group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**region, referenced_segment=reference)
    if not diameters:
        return [group]
    return [group, hd.sr.MeasurementsAndQualitativeEvaluations(**shared, measurements=diameters)]


def _frames_of(item: Measurement, parts: _Parts) -> list[ReferencedFrame]:
    """Frames of the SEG that show what was measured."""
    if item.dimensions == 3:
        return parts.seg.frames_of(item.label) if item.pixels else []
    if not parts.is_in_a_plane(item):
        return []
    frame = parts.source.frames[item.slice or 0]
    return parts.seg.frames_of(item.label, (frame.sop_instance, frame.number))


def _tracking(item: Measurement, segment: Dataset, hd: Any) -> Any:
    """That of the segment where it states one; slices are tracked one by one."""
    name = f"{item.name} {item.label}"
    if item.slice is None and segment.get("TrackingUID"):
        return hd.sr.TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.get("TrackingID") or name)
    place = "" if item.slice is None else f", frame {item.slice + 1}"
    return hd.sr.TrackingIdentifier(uid=generate_uid(), identifier=f"{name[: LONGEST_TEXT - len(place)]}{place}")


def _frame_reference(frame: ReferencedFrame, label: int, parts: _Parts) -> Any:
    """A frame of the SEG by its number; of a label map, whose only frame shows all segments, by the segment's.

    Both together are not allowed (PS3.3 table 10-3), and highdicom writes both.
    """
    dataset, hd = parts.seg.dataset, parts.hd
    reference = hd.sr.ReferencedSegmentationFrame(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        frame_number=frame.number,
        segment_number=label,
        source_image=hd.sr.SourceImageForSegmentation(frame.sop_class, frame.sop_instance, _numbers([frame])),
    )
    by_segment = frame.segment is None and len(parts.seg.frames) == 1
    del reference[0].ReferencedSOPSequence[0]["ReferencedFrameNumber" if by_segment else "ReferencedSegmentNumber"]
    return reference


def _segment_reference(frames: list[ReferencedFrame], label: int, parts: _Parts) -> Any:
    by_image: dict[tuple[str, str], list[ReferencedFrame]] = {}
    for frame in frames:
        by_image.setdefault((frame.sop_class, frame.sop_instance), []).append(frame)
    images = [parts.hd.sr.SourceImageForSegmentation(*image, _numbers(shown)) for image, shown in by_image.items()]
    dataset = parts.seg.dataset
    return parts.hd.sr.ReferencedSegment(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        segment_number=label,
        source_images=images,
    )


def _numbers(frames: list[ReferencedFrame]) -> list[int] | None:
    """Frame numbers within one source image; None for a single-frame one."""
    found = sorted({frame.source_frame for frame in frames if frame.source_frame is not None})
    return found or None


def _values(item: Measurement, parts: _Parts) -> list[Any]:
    """All numbers of a region; diameters have a group of their own, because those of regions hold no points."""
    hd, found = parts.hd, []
    for name, (in_2d, in_3d, unit) in QUANTITIES.items():
        concept, value = (in_2d if item.dimensions == 2 else in_3d), getattr(item, name)
        if concept is not None and value is not None and np.isfinite(value):
            words = UNITS[getattr(item, unit) if unit else ""].for_pydicom()
            found.append(hd.sr.Measurement(concept.for_pydicom(), float(value), words))
    if len(item.intensity) == 1:  # channels of colour have no concepts
        meaning, words = (code.for_pydicom() for code in intensity_concept(is_hounsfield=parts.source.is_hounsfield))
        for statistic, derivation in INTENSITIES.items():
            value = getattr(item.intensity[0], statistic)
            if value is not None:
                found.append(hd.sr.Measurement(meaning, float(value), words, derivation=derivation.for_pydicom()))
    return found


def _diameters(item: Measurement, parts: _Parts) -> list[Any]:
    """Both diameters with their end points, where these can be told."""
    found = []
    for name, (in_2d, in_3d) in DIAMETERS.items():
        line: Line | None = getattr(item, name)
        if line is not None and np.isfinite(line.length):
            concept, words = (in_2d if item.dimensions == 2 else in_3d).for_pydicom(), UNITS[item.unit].for_pydicom()
            points = _points(line, item, parts)
            found.append(parts.hd.sr.Measurement(concept, float(line.length), words, referenced_coordinates=points))
    return found


def _points(line: Line, item: Measurement, parts: _Parts) -> list[Any] | None:
    """End points of a diameter: in the patient for a volume, in the source image for a picture."""
    hd = parts.hd
    reference = parts.seg.dataset.get("FrameOfReferenceUID")
    if item.dimensions == 3:
        if line.start_lps is None or line.end_lps is None or not reference:
            return None
        ends = np.array([line.start_lps, line.end_lps])
        return [hd.sr.CoordinatesForMeasurement3D("POLYLINE", ends, frame_of_reference_uid=reference)]
    if not parts.is_in_a_plane(item):
        return None
    frame = parts.source.frames[item.slice or 0]
    image = hd.sr.SourceImageForRegion(frame.sop_class, frame.sop_instance, [frame.number] if frame.number else None)
    ends = np.array([line.start[:2], line.end[:2]]) + HALF
    return [hd.sr.CoordinatesForMeasurement("POLYLINE", ends, source_image=image)]


def _items(dataset: Any, value_type: str) -> list[Dataset]:
    """All content items of a type, at any depth."""
    found = []
    for item in dataset if isinstance(dataset, (list, Items)) else dataset.get("ContentSequence") or []:
        if item.get("ValueType") == value_type:
            found.append(item)
        found += _items(item, value_type)
    return found
