"""Our Structured Reports before a judge that we did not write: dciodvfy, of Debian's dicom3tools."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from banet_monai.dicom import SeriesReader, write_seg
from banet_monai.dicom.segments import SEGMENTS
from banet_monai.dicom.sr import write_measurement_report
from banet_monai.measurements import measure
from tests import dicom_samples as samples
from tests.judges import dciodvfy

SOURCES = {
    "ct": samples.ct_series,
    "mr": samples.mr_series,
    "capture with geometry": samples.capture_series,
    "enhanced ct": samples.enhanced_ct,
    "enhanced mr, frames shuffled": functools.partial(samples.enhanced_mr, order=(3, 0, 4, 1, 2)),
    "x-ray": samples.xray,
    "dermoscopy": samples.dermoscopy,
    "dermoscopy, jpeg": functools.partial(samples.dermoscopy, jpeg=True),
    "endoscopy": samples.endoscopy,
    "endoscopy video": functools.partial(samples.endoscopy, size=(3, 30, 40)),
    "ultrasound": samples.ultrasound,
}
# It knows no private coding schemes, which the standard allows (PS3.16 section 8.2); ours is explained in the object.
OWN_SCHEME = "Warning - Unrecognized defined term <99BANET> for value 1 of attribute <Coding Scheme Designator>"
# It is of 2022, label map segmentations of 2023: it takes their class for a picture without frames and segments.
LABELMAP_ERRORS = {
    "Error - Shall not be present for Referenced SOP Class that is not segmentation - attribute "
    "<ReferencedSegmentNumber>",
    "Error - Shall not be present for Referenced SOP Class that is not multi-frame - attribute <ReferencedFrameNumber>",
}


def report_of(objects, folder, *, task="lung", kind="binary", empty=False, labels=1):
    """Read, outline, measure and report, as inference does."""
    files = samples.write_samples(objects, folder / "series")
    reader = SeriesReader(irregular="slices")
    image, meta = reader.get_data(reader.read(files))
    shape = tuple(int(n) for n in meta["spatial_shape"])
    ids = np.zeros(shape, dtype=np.uint8)
    if not empty:
        for label in range(1, labels + 1):
            ids[2 : 5 + label, 4 * label - 1 : 4 * label + 2] = label
        if len(shape) == 3:
            ids[..., 0] = 0
    mask = np.stack([(ids == k + 1) * 0.8 for k in range(labels)]) if kind == "fractional" else ids
    seg = write_seg(mask, files, folder / "seg.dcm", task=task, kind=kind)
    placed = MetaTensor(torch.from_numpy(ids)[None], meta=meta, affine=torch.from_numpy(meta["affine"]))
    found = measure(
        placed,
        labels=[segment.label for segment in SEGMENTS[task]],
        image=np.moveaxis(image, -1, 0) if image.ndim > len(shape) else image,
        by_slice=meta["layout"] in ("frames", "slices"),
    )
    return write_measurement_report(found, seg, files, folder / "sr.dcm")


@pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
@pytest.mark.parametrize("name", SOURCES)
def test_dciodvfy_finds_no_error(tmp_path, name, kind):
    found = dciodvfy(report_of(SOURCES[name](), tmp_path, kind=kind))
    assert set(found.errors) <= (LABELMAP_ERRORS if kind == "labelmap" else set())
    assert found.warnings == [OWN_SCHEME]


@pytest.mark.parametrize("task", SEGMENTS)
def test_dciodvfy_finds_no_error_in_the_codes_of_a_task(tmp_path, task):
    found = dciodvfy(report_of(samples.ct_series(), tmp_path, task=task, labels=len(SEGMENTS[task])))
    assert (found.errors, found.warnings) == ([], [OWN_SCHEME])


@pytest.mark.parametrize("name", ["ct", "dermoscopy"])
def test_a_report_of_nothing_is_without_error_too(tmp_path, name):
    found = dciodvfy(report_of(SOURCES[name](), tmp_path, empty=True))
    assert (found.errors, found.warnings) == ([], [OWN_SCHEME])


def test_slices_that_form_no_volume_are_reported_one_by_one_without_error(tmp_path):
    objects = samples.ct_series()
    found = dciodvfy(report_of(objects[:2] + objects[3:], tmp_path))
    assert (found.errors, found.warnings) == ([], [OWN_SCHEME])
