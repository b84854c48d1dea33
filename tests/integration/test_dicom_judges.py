"""Our DICOM SEG objects before judges that we did not write: dciodvfy for the standard, dcmqi for voxels and place."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from banet_monai.dicom import SeriesReader
from banet_monai.dicom.seg import write_seg
from banet_monai.dicom.seg_reading import read_seg
from banet_monai.dicom.segments import SEGMENTS
from tests import dicom_samples as samples
from tests.dicom_objects import decimal
from tests.judges import RAS_LPS, Grid, dciodvfy, pulled_onto, read_nifti, seg_by_dcmqi, segments_by_dcmqi

SHUFFLED = (3, 0, 4, 1, 2)
SOURCES = {
    "ct": samples.ct_series,
    "mr": samples.mr_series,
    "capture with geometry": samples.capture_series,
    "enhanced ct": samples.enhanced_ct,
    "enhanced mr, frames shuffled": functools.partial(samples.enhanced_mr, order=SHUFFLED),
    "x-ray, monochrome 1": samples.xray,
    "x-ray, monochrome 2": functools.partial(samples.xray, photometric="MONOCHROME2"),
    "dermoscopy": samples.dermoscopy,
    "dermoscopy, jpeg": functools.partial(samples.dermoscopy, jpeg=True),
    "endoscopy": samples.endoscopy,
    "endoscopy video": functools.partial(samples.endoscopy, size=(3, 30, 40)),
    "ultrasound, palette": samples.ultrasound,
    "ultrasound, jpeg": functools.partial(samples.ultrasound, photometric="RGB", jpeg=True),
}
KINDS = ("binary", "fractional", "labelmap")
IN_SPACE = [name for name in SOURCES if name.startswith(("ct", "mr", "capture", "enhanced"))]

# No warning is left. The only complaints are about label maps: dciodvfy is of 2022, label map segmentations of 2023. It
# does not know their class, and takes segment 0, their background (PS3.3 C.8.20.2), for a slip in the numbering.
LABELMAP_ERRORS = [
    "Error - SegmentNumber not monotonically increasing from one by one - have SegmentSequence item number 1 "
    "(from one) with SegmentNumber of 0",
    "Error - Information Object Not found",
]
# Of a study whose time and number the source does not state: we cannot know them, and both may be empty (type 2).
UNKNOWN_STUDY_WARNINGS = [
    "Warning - Missing attribute or value that would be needed to build DICOMDIR - Study Time",
    "Warning - Missing attribute or value that would be needed to build DICOMDIR - Study ID",
]


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Name of a source -> its files, written once."""

    @functools.cache
    def written(name):
        return tuple(samples.write_samples(SOURCES[name](), tmp_path_factory.mktemp("source") / "series"))

    return written


def matrix_of(name):
    """Indices (column, row, slice) -> LPS mm of a source in space, written out from PS3.3 C.7.6.2.1-1."""
    made = SOURCES[name]
    keywords = getattr(made, "func", made).__kwdefaults__
    along_row, along_column = np.array(keywords["orientation"]).reshape(2, 3)
    lps = np.eye(4)
    lps[:3, 0] = along_row * keywords["spacing"][1]
    lps[:3, 1] = along_column * keywords["spacing"][0]
    lps[:3, 2] = np.cross(along_row, along_column) * keywords["step"]
    lps[:3, 3] = keywords["origin"]
    return lps


def shape_of(name):
    """(column, row) of a picture, (column, row, slice or frame) of the rest."""
    made = SOURCES[name]()
    first = made[0] if isinstance(made, list) else made
    count = len(made) if isinstance(made, list) else int(first.get("NumberOfFrames", 1))
    return (first.Columns, first.Rows, count) if count > 1 else (first.Columns, first.Rows)


def ids_for(shape, *, labels=2, empty=(), seed=5):
    """Random label ids, 0 for about half of the voxels, so that no other order or place of voxels is equal to them."""
    rng = np.random.default_rng(seed)
    ids = (rng.integers(1, labels + 1, shape) * (rng.random(shape) < 0.5)).astype(np.uint8)
    for k in empty:
        ids[..., k] = 0
    return ids


# ---- dciodvfy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOURCES)
def test_the_sources_themselves_are_without_error(files, name):
    assert dciodvfy(files(name)[0]).errors == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SOURCES)
def test_dciodvfy_finds_no_error_and_gives_no_warning(files, tmp_path, name, kind):
    ids = ids_for(shape_of(name), empty=(1,) if name in IN_SPACE else ())
    mask = np.stack([(ids == 1) * 0.75, (ids == 2) * 0.5]) if kind == "fractional" else ids
    seg = write_seg(mask, files(name), tmp_path / "seg.dcm", task="hippocampus", kind=kind)

    found = dciodvfy(seg)
    assert found.errors == (LABELMAP_ERRORS if kind == "labelmap" else [])
    assert found.warnings == []


@pytest.mark.parametrize("task", SEGMENTS)
def test_dciodvfy_finds_nothing_wrong_with_the_codes_of_a_task(files, tmp_path, task):
    ids = ids_for(shape_of("ct"), labels=len(SEGMENTS[task]))
    found = dciodvfy(write_seg(ids, files("ct"), tmp_path / "seg.dcm", task=task, all_frames=True, tracking=True))
    assert (found.errors, found.warnings) == ([], [])


def tilted(objects):
    for k, ds in enumerate(objects):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = decimal([x, y + 0.7 * k, z])
    return objects


def in_two_orientations(objects):
    more = samples.ct_series(orientation=samples.SAGITTAL_TILTED)
    for k, ds in enumerate(more):
        ds.InstanceNumber, ds.SOPInstanceUID = str(len(objects) + k + 1), samples.uid("second stack", k)
    return objects + more


def without_optional_values(objects):
    """As an archive keeps them that drops every value that may be empty, and the frame of reference with it."""
    for ds in objects:
        ds.SpecificCharacterSet = ""
        for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator", "SliceThickness", "Manufacturer"):
            ds.pop(keyword)
        for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"):
            ds.pop(keyword)
        for keyword in ("StudyTime", "StudyID"):
            ds.pop(keyword)
    return objects


@pytest.mark.parametrize("kind", ["binary", "fractional"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda objects: objects[:2] + objects[3:], id="a slice is missing"),
        pytest.param(lambda objects: objects[:1], id="one slice"),
        tilted,
        in_two_orientations,
        without_optional_values,
    ],
)
def test_a_series_that_is_no_clean_volume_gives_a_seg_without_error_too(tmp_path, change, kind):
    objects = change(samples.ct_series())
    paths = samples.write_samples(objects, tmp_path / "series")
    mask = ids_for((objects[0].Columns, objects[0].Rows, len(objects)), labels=1)
    mask = mask * 0.5 if kind == "fractional" else mask
    said = []
    seg = write_seg(mask, paths, tmp_path / "seg.dcm", task="lung", kind=kind, warn=said.append)
    assert bool(said) == (change is without_optional_values)
    found = dciodvfy(seg)
    assert found.errors == []
    assert found.warnings == (UNKNOWN_STUDY_WARNINGS if change is without_optional_values else [])
    assert np.count_nonzero(read_seg(seg).array) == np.count_nonzero(mask)


# ---- dcmqi -----------------------------------------------------------------------------------------------------------


def as_dcmqi_stores(ids, kind):
    """The mask we write for ``ids``, and what dcmqi must read for each of its segments 1 and 2."""
    if kind == "binary":
        return ids, {1: (ids == 1) * 1, 2: (ids == 2) * 2}
    if kind == "labelmap":  # one file for all segments
        return ids, {1: ids}
    chances = np.stack([(ids == 1) * (51 / 255), (ids == 2) * (204 / 255)])
    return chances, {1: (ids == 1) * 51, 2: (ids == 2) * 204}


@pytest.mark.parametrize("all_frames", [False, True])
@pytest.mark.parametrize(
    ("kind", "file_type"), [("binary", "nrrd"), ("binary", "nii"), ("fractional", "nrrd"), ("labelmap", "nrrd")]
)
@pytest.mark.parametrize("name", IN_SPACE)
def test_dcmqi_reads_our_voxels_in_their_place(files, tmp_path, name, kind, file_type, all_frames):
    ids, lps = ids_for(shape_of(name), empty=(2,)), matrix_of(name)
    mask, expected = as_dcmqi_stores(ids, kind)
    written = {"task": "hippocampus", "kind": kind, "all_frames": all_frames}
    seg = write_seg(mask, files(name), tmp_path / "seg.dcm", **written)

    read = segments_by_dcmqi(seg, tmp_path / "dcmqi", file_type)
    assert sorted(read) == sorted(expected)
    for number, grid in read.items():
        np.testing.assert_array_equal(pulled_onto(grid, ids.shape, lps), expected[number])
        apart = np.linalg.norm(grid.corners()[:, None] - Grid(ids, lps).corners(), axis=2)
        assert apart.min(axis=1).max() < 0.01
        assert sorted(grid.values.shape) == sorted(ids.shape)


def test_dcmqi_reads_segments_that_overlap(files, tmp_path):
    first, second = (ids_for(shape_of("mr"), labels=1, seed=seed) for seed in (1, 2))
    assert (first & second).any()
    seg = write_seg(np.stack([first, second]), files("mr"), tmp_path / "seg.dcm", task="hippocampus")
    read = segments_by_dcmqi(seg, tmp_path / "dcmqi")
    np.testing.assert_array_equal(pulled_onto(read[1], first.shape, matrix_of("mr")), first)
    np.testing.assert_array_equal(pulled_onto(read[2], first.shape, matrix_of("mr")), second * 2)


# itkimage2segimage takes objects of one frame each as sources.
@pytest.mark.parametrize("name", ["ct", "mr", "capture with geometry"])
def test_we_read_what_dcmqi_wrote(files, tmp_path, name):
    ids, lps = ids_for(shape_of(name), empty=(0, 2)), matrix_of(name)
    segments = {1: ("10200004", "Liver"), 2: ("78961009", "Spleen")}
    seg = seg_by_dcmqi(Grid(ids, lps), files(name), tmp_path, segments=segments)

    read = read_seg(seg)
    ours = Grid(np.asarray(read.array), RAS_LPS @ read.affine)
    np.testing.assert_array_equal(pulled_onto(ours, ids.shape, lps), ids)
    assert [(part.type.value, part.type.meaning) for part in read.segments] == list(segments.values())

    reader = SeriesReader()
    _, meta = reader.get_data(reader.read(files(name)))
    np.testing.assert_array_equal(read_seg(seg, like=meta).array, ids)


@pytest.mark.real_data
@pytest.mark.skipif("BANET_DATA" not in os.environ, reason="BANET_DATA does not name a folder with real data")
def test_a_liver_that_dcmqi_wrote_reads_to_the_voxels_that_dcmqi_reads(tmp_path):
    seg = Path(os.environ["BANET_DATA"]) / "dicom" / "liver_seg.dcm"
    theirs = segments_by_dcmqi(seg, tmp_path)
    read = read_seg(seg)
    for number, grid in theirs.items():
        ours = Grid(np.asarray(read.array) == number, RAS_LPS @ read.affine)
        assert np.count_nonzero(grid.values) > 0
        np.testing.assert_array_equal(pulled_onto(ours, grid.values.shape, grid.lps), grid.values != 0)


# ---- highdicom, for what dcmqi does not read -------------------------------------------------------------------------


@pytest.mark.parametrize("all_frames", [False, True])
@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("name", [name for name in SOURCES if name not in IN_SPACE])
def test_highdicom_finds_each_mask_at_its_source_frame(files, tmp_path, name, kind, all_frames):
    shape = shape_of(name)
    ids = ids_for(shape, empty=(1,) if len(shape) == 3 else ())
    seg = hd.seg.segread(
        write_seg(ids, files(name), tmp_path / "seg.dcm", task="hippocampus", kind=kind, all_frames=all_frames)
    )
    (source,) = (pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in files(name))
    wanted = {"combine_segments": True, "assert_missing_frames_are_empty": True}
    if len(shape) == 3:
        numbers = range(1, shape[2] + 1)
        frames = seg.get_pixels_by_source_frame(source, numbers, ignore_spatial_locations=True, **wanted)
    else:
        frames = seg.get_pixels_by_source_instance([source], ignore_spatial_locations=True, **wanted)
    np.testing.assert_array_equal(frames.transpose(2, 1, 0).reshape(shape), ids)


# ---- the command -----------------------------------------------------------------------------------------------------


def segmented(folder, out, *options):
    """Run ``banet segment`` on a folder as a user does; returns the folder of results."""
    program = Path(sys.executable).with_name("banet")
    arguments = [program, "segment", folder, "-o", out, "--device", "cpu", "--quiet", *options]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_what_the_command_writes_passes_both_judges_and_equals_its_nifti(tmp_path):
    """Series, a multi-frame object and pictures in one call; the NIfTI masks lie where DICOM puts the voxels."""
    for name in ("ct", "enhanced ct", "x-ray, monochrome 1", "dermoscopy, jpeg", "ultrasound, palette"):
        samples.write_samples(SOURCES[name](), tmp_path / "in" / name.split(",")[0].replace(" ", "-"))
    out = segmented(tmp_path / "in", tmp_path / "out", "--format", "nifti,dicom-seg")

    written = sorted(path.relative_to(out) for path in out.rglob("*_mask.dcm"))
    assert len(written) == 5
    for path in written:
        found = dciodvfy(out / path)
        assert (found.errors, found.warnings) == ([], []), path
    content = 0
    for name in ("ct", "enhanced ct"):
        (seg,) = (path for path in written if name.replace(" ", "-") in str(path).split("_mask")[0].split("/"))
        nifti = read_nifti(out / seg.with_name(seg.name.replace(".dcm", ".nii.gz")))
        (theirs,) = segments_by_dcmqi(out / seg, tmp_path / "dcmqi" / name).values()
        np.testing.assert_allclose(nifti.lps, matrix_of(name), atol=0.01)
        np.testing.assert_array_equal(pulled_onto(theirs, nifti.values.shape, nifti.lps) != 0, nifti.values != 0)
        content += np.count_nonzero(nifti.values)
    assert content > 0


@pytest.mark.real_data
@pytest.mark.skipif("BANET_DATA" not in os.environ, reason="BANET_DATA does not name a folder with real data")
def test_a_real_ct_goes_through_the_command_and_both_judges(tmp_path):
    series = Path(os.environ["BANET_DATA"]) / "dicom" / "ct_liver_3slice"
    out = segmented(series, tmp_path / "out", "--format", "nifti,dicom-seg")
    (seg,), (nifti,) = out.glob("*_mask.dcm"), out.glob("*_mask.nii.gz")
    inherited = {line for path in series.iterdir() for line in dciodvfy(path).warnings}
    found = dciodvfy(seg)
    assert found.errors == []
    assert set(found.warnings) <= inherited
    ours = read_nifti(nifti)
    (theirs,) = segments_by_dcmqi(seg, tmp_path / "dcmqi").values()
    np.testing.assert_array_equal(pulled_onto(theirs, ours.values.shape, ours.lps) != 0, ours.values != 0)
