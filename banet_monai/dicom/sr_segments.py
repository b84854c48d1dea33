"""What a report may refer to in a DICOM SEG: its segments, and the frames of each with their source images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from banet_monai.dicom.deflated import refuse_bomb
from banet_monai.dicom.parsing import DicomReadError
from banet_monai.dicom.seg_sources import SegSource

__all__ = ["ReferencedFrame", "ReferencedSeg", "open_seg"]

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # segmentation, label map


@dataclasses.dataclass(frozen=True)
class ReferencedFrame:
    """One frame of a SEG.

    Args:
        number: from 1.
        segment: number of the segment it shows; None where it shows all of them (label map).
        sop_class: of the source image.
        sop_instance: of the source image.
        source_frame: number of the source's frame, None for a single-frame source.
    """

    number: int
    segment: int | None
    sop_class: str
    sop_instance: str
    source_frame: int | None


@dataclasses.dataclass(frozen=True)
class ReferencedSeg:
    """A SEG without its pixels.

    Args:
        dataset: all attributes but the pixel data.
        segments: segment number -> item of the Segment Sequence.
        frames: those with a stated source image.
    """

    dataset: Dataset
    segments: dict[int, Dataset]
    frames: list[ReferencedFrame]

    def frames_of(self, segment: int, source: tuple[str, int | None] | None = None) -> list[ReferencedFrame]:
        """Frames that show a segment, of one source (instance UID, frame number) only where that is given."""
        return [
            frame
            for frame in self.frames
            if frame.segment in (segment, None) and source in (None, (frame.sop_instance, frame.source_frame))
        ]


def open_seg(seg: str | Path | Dataset, source: SegSource) -> ReferencedSeg:
    """Read what a SEG says of its segments and sources.

    Args:
        seg: file, or parsed; it is not changed.
        source: the images it must refer to.

    Raises:
        FileNotFoundError: no such file.
        DicomReadError: no SEG.
        ValueError: a SEG of other images.
    """
    dataset = _read(Path(seg)) if isinstance(seg, (str, Path)) else seg
    if dataset.get("SOPClassUID") not in SEG_CLASSES:
        raise DicomReadError("a report of measurements refers to a DICOM SEG, and this object is of another kind.")
    segments = {int(item.SegmentNumber): item for item in dataset.get("SegmentSequence") or []}
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = [frame for k, group in enumerate(groups) if (frame := _frame(k + 1, group, shared)) is not None]
    instances = {frame.sop_instance for frame in source.frames}
    if not frames or any(frame.sop_instance not in instances for frame in frames):
        raise ValueError(
            "the DICOM SEG does not refer to these source images; give the images that it was made from, or write the "
            "SEG of these images with write_seg."
        )
    return ReferencedSeg(dataset, segments, frames)


def _read(path: Path) -> Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"there is no DICOM SEG '{path}'.")
    try:
        with path.open("rb") as file:
            refuse_bomb(file, path.name)
            file.seek(0)
            return pydicom.dcmread(file, stop_before_pixels=True)
    except DicomReadError:
        raise
    except Exception as error:  # pydicom raises whatever a file provokes; a message may quote it
        raise DicomReadError(f"'{path.name}' cannot be read as DICOM ({type(error).__name__}).") from None


def _frame(number: int, group: Dataset, shared: Dataset) -> ReferencedFrame | None:
    derivation = _first(group, "DerivationImageSequence") or _first(shared, "DerivationImageSequence")
    image = _first(derivation, "SourceImageSequence")
    if image is None:
        return None
    shown = _first(group, "SegmentIdentificationSequence") or _first(shared, "SegmentIdentificationSequence")
    stated: Any = image.get("ReferencedFrameNumber")
    first = stated[0] if isinstance(stated, Sequence) and not isinstance(stated, str) else stated
    return ReferencedFrame(
        number=number,
        segment=None if shown is None else int(shown.ReferencedSegmentNumber),
        sop_class=str(image.ReferencedSOPClassUID),
        sop_instance=str(image.ReferencedSOPInstanceUID),
        source_frame=None if first is None else int(first),
    )


def _first(dataset: Dataset | None, keyword: str) -> Dataset | None:
    items = None if dataset is None else dataset.get(keyword)
    return items[0] if items else None
