"""Writing DICOM SEG (PS3.3 A.51) with highdicom: a mask on the grid of its source images, said in their terms.

highdicom is shown one multi-frame image whose frame ``k`` is slice ``k`` of the mask, which serves every kind of
source; afterwards each frame gets the reference to its own source, and frames without a regular place get theirs.

- A stack of one orientation (CT, MR, enhanced multi-frame; gaps and tilt included) keeps its patient geometry.
- Several orientations, or several slices at one place: each frame states orientation and spacing, indexed by stack.
- No place in the patient (X-ray, visible light, ultrasound clips): no frame of reference, and frames correspond pixel
  to pixel to the source frames that Derivation Image names (PS3.3 A.51.3), labelled and indexed by these.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from banet_monai import __version__
from banet_monai.choices import SEG_KINDS
from banet_monai.dicom.parsing import quiet_pydicom, text
from banet_monai.dicom.seg_masks import checked_mask
from banet_monai.dicom.seg_places import restore, shown_image
from banet_monai.dicom.seg_sources import SegSource, Source, open_source, stacks_of
from banet_monai.dicom.segments import Segment, described, load_highdicom, segments_of
from banet_monai.files import write_beside

__all__ = ["research_description", "write_seg"]

logger = logging.getLogger(__name__)

RESEARCH = "(research)"
CONTENT_DESCRIPTION = "Automatic segmentation for research, not a medical device"
FEWEST_PIXELS = 8  # highdicom garbles 1-bit frames below one byte
LONGEST_DESCRIPTION = 64  # characters of the VR LO
CONTENT_LABEL = re.compile(r"[A-Z]([A-Z0-9_ ]{0,14}[A-Z0-9])?")
MANUFACTURER, MODEL = "BA-Net for MONAI", "banet-monai"
SERIES_NUMBER_OFFSET = 1000  # results are listed after the images of a study


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What the object is to be and to say of itself."""

    kind: str
    segments: tuple[Segment, ...]
    series_description: str
    series_number: int
    content_label: str
    algorithm_version: str
    tracking: bool

    @property
    def is_ascii(self) -> bool:
        """Whether every character set can hold its words."""
        return repr((self.segments, self.series_description)).isascii() and self.algorithm_version.isascii()


def write_seg(
    mask: Any,
    source: Source,
    path: str | Path,
    *,
    task: str | Segment | Sequence[Segment | Mapping[str, Any]],
    kind: str = "binary",
    all_frames: bool = False,
    series_description: str | None = None,
    series_number: int | None = None,
    content_label: str | None = None,
    algorithm_version: str = __version__,
    tracking: bool = False,
    warn: Callable[[str], None] | None = None,
) -> Path:
    """Write a mask as DICOM SEG on the grid of its source images.

    The same mask and source give the same object except for UIDs and times. Frames without content are left out; a mask
    that is empty throughout is written as one empty frame of the first slice, since an object needs one.

    Args:
        mask: array or tensor in the axis order of :class:`SeriesReader`: (column, row) for a picture,
            (column, row, slice) for volumes and frames, also with one channel in front. ``"binary"`` and ``"labelmap"``
            take label ids, 0 for background and ``k`` for segment ``k``; ``"binary"`` also takes one channel of 0 and 1
            per segment, which may overlap. ``"fractional"`` takes probabilities 0 to 1, one channel per segment.
        source: the images the mask belongs to: a DICOM file, a folder with one series, files, the metadata (or
            MetaTensor) of :class:`SeriesReader`, or parsed datasets. Not changed.
        path: where to write; a file that is there is replaced in one go.
        task: what the segments are; see :func:`segments_of`.
        kind: ``"binary"``, ``"fractional"`` (probabilities, in steps of 1/255) or ``"labelmap"`` (few viewers know it).
        all_frames: write frames without content too.
        series_description: for people; cut to 64 characters, and ``(research)`` is put at its end.
        series_number: by default 1000 more than the source's.
        content_label: 16 characters at most of A-Z, 0-9, space and underscore; by default from the task.
        algorithm_version: version of the bundle that made the mask.
        tracking: give each segment a tracking identifier, for follow-up across studies.
        warn: told, in words without values, what was repaired in the source; by default it is logged.

    Returns:
        ``path``.

    Raises:
        ValueError: a mask of another size, place or kind, ids without a segment, unknown task, kind or label, BINARY
            frames of less than eight pixels.
        DicomReadError: a source that is no image, damaged, or not one series.
        FileNotFoundError: a source that is not there.
        ImportError: without highdicom, with what to install.
        OSError: when the file cannot be written.
    """
    if kind not in SEG_KINDS:
        raise ValueError(f"kind must be one of {', '.join(SEG_KINDS)}, got '{kind}'.")
    hd = load_highdicom()
    segments = segments_of(task)
    opened = open_source(source)
    if kind == "binary" and math.prod(opened.shape[:2]) < FEWEST_PIXELS:
        raise ValueError(
            f"a BINARY segmentation of {opened.shape[0]} x {opened.shape[1]} pixels cannot be packed without loss; "
            "write kind 'labelmap' or 'fractional'."
        )
    content = checked_mask(mask, opened, segments, kind)
    name = task.upper()[:16] if isinstance(task, str) else "SEGMENTATION"
    plan = _Plan(
        kind=kind,
        segments=segments,
        series_description=research_description(
            series_description or f"{', '.join(s.label for s in segments)} by BA-Net"
        ),
        series_number=series_number or _series_number(opened.header),
        content_label=_content_label(content_label or name),
        algorithm_version=algorithm_version,
        tracking=tracking,
    )
    kept = list(range(len(opened.frames))) if all_frames else content.slices_with_content()
    with quiet_pydicom():
        seg = _segmentation(hd, content.planes(kept or [0]), plan, opened, kept or [0], all_frames or not kept)
        written = write_beside(Path(path), lambda partial: seg.save_as(partial, enforce_file_format=True))
    for repair in opened.repairs:
        (warn or logger.warning)(repair)
    return written


def _segmentation(
    hd: Any, planes: NDArray[Any], plan: _Plan, source: SegSource, kept: list[int], with_empty: bool
) -> Dataset:
    """The whole object: the planes of the kept slices, per segment those with content only, unless ``with_empty``."""
    frames = [source.frames[k] for k in kept]
    stacks = stacks_of([frame.plane for frame in frames])
    seg = hd.seg.Segmentation(
        source_images=[shown_image(source, frames, is_stack=stacks is not None and max(stacks) == 1)],
        pixel_array=planes > 0 if plan.kind == "fractional" else planes,
        segmentation_type=plan.kind.upper(),
        segment_descriptions=described(plan.segments, version=plan.algorithm_version, tracking=plan.tracking),
        series_instance_uid=generate_uid(),
        series_number=plan.series_number,
        series_description=plan.series_description,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number=__version__,
        content_label=plan.content_label,
        content_description=CONTENT_DESCRIPTION,
        content_creator_name="",
        omit_empty_frames=not with_empty,
    )
    shown = restore(seg, source, frames, stacks)
    if plan.kind == "fractional":
        _store_levels(seg, planes, shown)
    seg.SeriesDate, seg.SeriesTime = seg.ContentDate, seg.ContentTime
    if not plan.is_ascii:
        seg.decode()
        seg.SpecificCharacterSet = "ISO_IR 192"
    return seg


def _store_levels(seg: Dataset, levels: NDArray[Any], shown: list[int]) -> None:
    """Put probabilities in the place of the marks that highdicom stored; given floats, it would sort them all.

    Args:
        seg: changed in place.
        levels: (slice, row, column, segment), 0 to 255.
        shown: slice of each frame.
    """
    shared = seg.SharedFunctionalGroupsSequence[0]
    pixels = []
    for k, group in zip(shown, seg.PerFrameFunctionalGroupsSequence, strict=True):
        stated = group if "SegmentIdentificationSequence" in group else shared
        number = int(stated.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        pixels.append(levels[k, ..., number - 1].tobytes())
    pixels.append(b"\0" * (sum(map(len, pixels)) % 2))
    seg.PixelData = b"".join(pixels)
    seg.SegmentsOverlap = "NO" if levels.shape[-1] == 1 else "UNDEFINED"


def research_description(description: str) -> str:
    """At most 64 characters without a backslash, ending in ``(research)``."""
    plain = " ".join(description.replace("\\", "/").split()).removesuffix(RESEARCH).rstrip()
    return f"{plain[: LONGEST_DESCRIPTION - len(RESEARCH) - 1].rstrip()} {RESEARCH}"


def _series_number(header: Dataset) -> int:
    found = text(header, "SeriesNumber")
    return SERIES_NUMBER_OFFSET + (int(found) if re.fullmatch(r"\d{1,8}", found) else 0)


def _content_label(label: str) -> str:
    if not CONTENT_LABEL.fullmatch(label):
        raise ValueError(
            f"content_label must be 1 to 16 characters of A-Z, 0-9, space and underscore and begin with a letter, got "
            f"'{label}'."
        )
    return label
