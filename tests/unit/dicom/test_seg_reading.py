import os
from pathlib import Path

import numpy as np
import pytest
from monai.data import MetaTensor

from banet_monai.dicom import SeriesReader
from banet_monai.dicom.parsing import DicomReadError
from banet_monai.dicom.seg import write_seg
from banet_monai.dicom.seg_reading import read_seg
from banet_monai.dicom.segments import SEGMENTS
from tests import dicom_samples as samples
from tests.dicom_objects import decimal, image, series, turned, write_all


@pytest.fixture(scope="module")
def hd():
    return pytest.importorskip("highdicom", exc_type=ImportError)


@pytest.fixture(autouse=True)
def _needs_highdicom(hd):
    """Everything here reads with it."""


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    """Files of a CT series and what SeriesReader says of them: 18 columns, 23 rows, 5 slices."""
    files = samples.write_samples(samples.ct_series(), tmp_path_factory.mktemp("ct"))
    return files, read(files)[1]


def read(files, **options):
    reader = SeriesReader(**options)
    return reader.get_data(reader.read([str(path) for path in files]))


def ids_like(shape, *, labels=2, empty=(0,)):
    ids = np.random.default_rng(1).integers(0, labels + 1, shape).astype(np.uint8)
    for k in empty:
        ids[..., k] = 0
    return ids


SOURCES = {
    "ct": samples.ct_series,
    "mr": samples.mr_series,
    "enhanced": lambda: samples.enhanced_mr(order=(3, 0, 4, 1, 2)),
    "x-ray": samples.xray,
    "dermoscopy": samples.dermoscopy,
    "ultrasound": samples.ultrasound,
    "endoscopy": lambda: samples.endoscopy(size=(3, 30, 40)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_was_written_comes_back_on_the_grid_of_its_source(tmp_path, name):
    files = samples.write_samples(SOURCES[name](), tmp_path / "source")
    _, meta = read(files)
    shape = tuple(int(n) for n in meta["spatial_shape"])
    ids = ids_like(shape, empty=(0, -1))
    steps = np.stack([ids == 1, ids == 2]) * np.array([51, 204], np.float32).reshape(2, *[1] * len(shape)) / 255
    both = np.random.default_rng(2).integers(0, 2, (2, *shape)).astype(np.uint8)
    for mask, kind in ((ids, "binary"), (ids, "labelmap"), (steps, "fractional"), (both, "binary")):
        found = read_seg(write_seg(mask, meta, tmp_path / "seg.dcm", task="hippocampus", kind=kind), like=meta)
        np.testing.assert_allclose(found.array, mask, atol=1e-6)
        np.testing.assert_array_equal(found.affine, meta["affine"])
        assert found.kind == kind
        assert found.numbers == (1, 2)
        assert [s.type for s in found.segments] == [s.type for s in SEGMENTS["hippocampus"]]


def test_without_a_grid_slices_run_from_the_first_to_the_last_with_content(ct, tmp_path):
    files, meta = ct
    ids = ids_like((18, 23, 5), empty=(0, 2, 4))
    found = read_seg(write_seg(ids, files, tmp_path / "seg.dcm", task="hippocampus"))
    np.testing.assert_array_equal(found.array, ids[..., 1:4])  # the empty slice between is there again
    np.testing.assert_allclose(found.affine[:, :3], meta["affine"][:, :3], atol=1e-6)
    np.testing.assert_allclose(found.affine[:, 3], meta["affine"] @ [0, 0, 1, 1], atol=1e-6)


def test_all_frames_give_the_whole_grid_without_being_told(ct, tmp_path):
    files, meta = ct
    ids = ids_like((18, 23, 5), empty=(0, 4))
    found = read_seg(write_seg(ids, files, tmp_path / "seg.dcm", task="hippocampus", all_frames=True))
    np.testing.assert_array_equal(found.array, ids)
    np.testing.assert_allclose(found.affine, meta["affine"], atol=1e-6)


def test_an_empty_mask_comes_back_empty(ct, tmp_path):
    files, meta = ct
    path = write_seg(np.zeros((18, 23, 5)), files, tmp_path / "seg.dcm", task="lung")
    assert read_seg(path, like=meta).array.shape == (18, 23, 5)
    assert not read_seg(path, like=meta).array.any()


def test_a_grid_may_be_an_affine_with_other_axes(ct, tmp_path):
    files, meta = ct
    ids = ids_like((18, 23, 5))
    path = write_seg(ids, files, tmp_path / "seg.dcm", task="hippocampus")
    found = read_seg(path, like=meta["affine"], shape=(18, 23, 5))
    np.testing.assert_array_equal(found.array, ids)
    # Axes (slice, column, row) with rows from the last to the first.
    turn = np.array([[0, 1, 0, 0], [0, 0, -1, 22], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    found = read_seg(path, like=meta["affine"] @ turn, shape=(5, 18, 23))
    np.testing.assert_array_equal(found.array, ids[:, ::-1].transpose(2, 0, 1))
    tensor = MetaTensor(np.zeros((18, 23, 5)), meta=dict(meta))
    np.testing.assert_array_equal(read_seg(path, like=tensor).array, ids)


def test_a_grid_that_does_not_hold_the_frames_is_refused(ct, tmp_path):
    files, meta = ct
    path = write_seg(ids_like((18, 23, 5)), files, tmp_path / "seg.dcm", task="hippocampus")
    shifted = meta["affine"].copy()
    shifted[0, 3] += 0.5
    for affine, shape in ((shifted, (18, 23, 5)), (meta["affine"], (18, 23, 3)), (np.eye(4), (18, 23, 5))):
        with pytest.raises(ValueError, match=r"the frames of 'seg.dcm' do not all lie on the grid of like"):
            read_seg(path, like=affine, shape=shape)
    with pytest.raises(ValueError, match=r"an affine \(4, 4\) together with shape"):
        read_seg(path, like=meta["affine"])
    with pytest.raises(ValueError, match="original_affine and spatial_shape"):
        read_seg(path, like={})


def test_one_slice_with_a_place_is_a_picture_of_the_sources_thickness(tmp_path):
    files = samples.write_samples(samples.ct_series(size=(1, 9, 7)), tmp_path / "source")
    _, meta = read(files)
    ids = ids_like((7, 9), labels=1)
    path = write_seg(ids, files, tmp_path / "seg.dcm", task="lung")
    for found in (read_seg(path), read_seg(path, like=meta)):
        np.testing.assert_array_equal(found.array, ids)
        np.testing.assert_allclose(found.affine, meta["affine"], atol=1e-6)


# ---- slices that form no volume --------------------------------------------------------------------------------------


def with_a_gap():
    objects = series(np.zeros((6, 6, 5), np.int16), orientation=turned(5, 6, 7))
    return objects[:2] + objects[3:]


def tilted(shear=0.6):
    objects = series(np.zeros((5, 6, 5), np.int16), orientation=turned(5, 6, 7))
    along_columns = np.array(turned(5, 6, 7)[3:])
    for k, ds in enumerate(objects):
        position = np.array(ds.ImagePositionPatient, dtype=float)
        ds.ImagePositionPatient = decimal(position + shear * k * along_columns)
    return objects


def two_orientations():
    one, other = (series(np.zeros((3, 6, 5), np.int16), orientation=turned(a, 0, 9)) for a in (0, 90))
    for k, ds in enumerate(other):
        ds.SOPInstanceUID, ds.InstanceNumber = f"1.2.9.{k}", str(10 + k)
    return one + other


def uneven():
    objects = series(np.zeros((4, 6, 5), np.int16))
    objects[2].ImagePositionPatient = ["0", "0", "4.7"]
    return objects


@pytest.mark.parametrize("make", [with_a_gap, tilted, lambda: tilted(0.06), two_orientations, uneven])
@pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
def test_irregular_slices_come_back_in_the_order_of_their_sources(tmp_path, make, kind):
    objects = make()
    order = np.random.default_rng(4).permutation(len(objects)).tolist()
    files = write_all(objects, tmp_path / "source", order=order)
    array, meta = read(files, irregular="slices")
    assert meta["layout"] == "slices"
    ids = ids_like(array.shape, labels=1, empty=(1,))
    by_meta = write_seg(ids, meta, tmp_path / "meta.dcm", task="lung", kind=kind)
    by_files = write_seg(ids, files, tmp_path / "files.dcm", task="lung", kind=kind)
    for path in (by_meta, by_files):
        found = read_seg(path, like=meta)
        np.testing.assert_array_equal(found.array if kind != "fractional" else found.array[0], ids)


def test_a_mild_tilt_is_not_squashed_into_an_upright_volume(tmp_path):
    # 0.06 mm sideways per slice of 2 mm are 1.7 degrees: highdicom alone would take them for upright.
    objects = tilted(0.06 * 10)
    for k, ds in enumerate(objects):
        ds.SliceThickness = "20"
        position = np.array(ds.ImagePositionPatient, dtype=float)
        normal = np.cross(ds.ImageOrientationPatient[:3], ds.ImageOrientationPatient[3:])
        ds.ImagePositionPatient = decimal(position + 18 * k * normal)
    files = write_all(objects, tmp_path / "source")
    found = read_seg(write_seg(ids_like((5, 6, 5), labels=1), files, tmp_path / "seg.dcm", task="lung"))
    assert found.affine is None
    assert found.array.shape == (5, 6, 5)


def test_the_sources_of_another_object_are_noticed(tmp_path):
    files = write_all(two_orientations(), tmp_path / "source")
    array, _ = read(files, irregular="slices")
    path = write_seg(ids_like(array.shape, labels=1), files, tmp_path / "seg.dcm", task="lung")
    others = two_orientations()
    for k, ds in enumerate(others):
        ds.SOPInstanceUID = f"1.2.77.{k}"
    _, other = read(write_all(others, tmp_path / "other"), irregular="slices")
    with pytest.raises(ValueError, match=r"'seg.dcm' refers to other images than like"):
        read_seg(path, like=other)
    with pytest.raises(ValueError, match="form no regular volume; like must be the metadata of SeriesReader"):
        read_seg(path, like=np.eye(4), shape=array.shape)


# ---- other people's files --------------------------------------------------------------------------------------------


def test_what_is_no_segmentation_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no DICOM SEG"):
        read_seg(tmp_path / "missing.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(DicomReadError, match=r"'text.dcm' is no DICOM file"):
        read_seg(tmp_path / "text.dcm")
    (picture,) = write_all([image(np.zeros((6, 5), np.uint8), modality="DX")], tmp_path)
    with pytest.raises(DicomReadError, match=r"'0000.dcm' cannot be read as DICOM SEG"):
        read_seg(picture)


@pytest.mark.parametrize("kept", [0.3, 0.999])
def test_a_file_that_is_cut_short_is_named(ct, tmp_path, kept):
    files, _ = ct
    path = write_seg(ids_like((18, 23, 5)), files, tmp_path / "seg.dcm", task="hippocampus")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(DicomReadError, match=r"'seg.dcm' cannot be (read|decoded)"):
        read_seg(path)


@pytest.mark.real_data
@pytest.mark.skipif("BANET_DATA" not in os.environ, reason="BANET_DATA does not name a folder with real data")
def test_a_liver_that_dcmqi_wrote_is_what_highdicom_reads(hd):
    folder = Path(os.environ["BANET_DATA"]) / "dicom"
    theirs = hd.seg.segread(folder / "liver_seg.dcm").get_volume(combine_segments=True)
    found = read_seg(folder / "liver_seg.dcm")
    assert [segment.label for segment in found.segments] == ["Liver"]
    assert np.count_nonzero(found.array) == np.count_nonzero(theirs.array) > 0
    ras_to_lps = np.diag([-1, -1, 1, 1])
    inside = np.argwhere(found.array)[::997]
    points = (ras_to_lps @ found.affine @ np.column_stack([inside, np.ones(len(inside))]).T)[:3]
    back = np.linalg.inv(theirs.affine) @ np.vstack([points, np.ones(points.shape[1])])
    np.testing.assert_allclose(back[:3], np.round(back[:3]), atol=1e-3)
    assert (theirs.array[tuple(np.round(back[:3]).astype(int))] == 1).all()

    array, meta = read([folder / "ct_liver_3slice" / name for name in ("01.dcm", "02.dcm", "03.dcm")])
    on_ct = read_seg(folder / "liver_seg.dcm", like=meta)
    assert on_ct.array.shape == array.shape
    assert np.median(array[on_ct.array == 1]) == pytest.approx(100, abs=60)  # liver, in Hounsfield units
