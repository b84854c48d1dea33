"""Series -> mask -> SEG and NIfTI -> read back: the same voxel at the same place in the patient, whoever reads."""

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from banet_monai.dicom import SeriesReader
from banet_monai.dicom.seg import write_seg
from banet_monai.dicom.seg_reading import read_seg
from banet_monai.transforms.formats import write_label_nifti
from tests.dicom_objects import enhanced, lps_of, series, turned, write, write_all

AXES = [sign * np.eye(3)[axis] for axis in range(3) for sign in (1, -1)]
# Row and column direction along two different axes: 24 pairs; files in the order of their positions or against it make
# the 48 orientations of a volume's axes.
ORIENTATIONS = [
    tuple(float(v) for v in (*row, *column)) for row, column in itertools.permutations(AXES, 2) if row @ column == 0
]
RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
NEAR = 0.01  # mm

angles = st.floats(-180, 180)
orientations = st.sampled_from(ORIENTATIONS) | st.builds(turned, angles, angles, angles)


@pytest.fixture(scope="module")
def hd():
    return pytest.importorskip("highdicom", exc_type=ImportError)


@st.composite
def grids(draw):
    size = st.floats(0.05, 6.0)
    return {
        "orientation": draw(orientations),
        "origin": tuple(draw(st.floats(-500, 500)) for _ in range(3)),
        "spacing": (draw(size), draw(size)),
        "step": draw(st.floats(0.2, 8.0)),
    }


def read(paths):
    reader = SeriesReader()
    return reader.get_data(reader.read(paths))


def without_symmetry(shape, seed, *, labels=2):
    """Label ids (column, row, slice); the first and the last slice of many are empty."""
    ids = np.random.default_rng(seed).integers(0, labels + 1, shape).astype(np.uint8)
    ids[0, 0, shape[2] // 2] = 1  # something at least
    if shape[2] > 2:
        ids[..., 0] = ids[..., -1] = 0
    return ids


def points_of(ids, lps):
    """Patient points (LPS mm) of every labelled voxel, with its label, in a fixed order."""
    inside = np.argwhere(ids)
    points = (lps @ np.column_stack([inside, np.ones(len(inside))]).T)[:3].T
    found = np.column_stack([points, ids[tuple(inside.T)]])
    return found[np.lexsort(np.round(found / (2 * NEAR)).T)]


def expected_points(ids, grid):
    """The same, written out from PS3.3 equation C.7.6.2.1-1; ``ids`` on the slices as they were made."""
    found = np.array([[*lps_of(index, **grid), ids[tuple(index)]] for index in np.argwhere(ids)])
    return found[np.lexsort(np.round(found / (2 * NEAR)).T)]


def assert_same_points(found, expected):
    """As sets: for each expected point the nearest one found is near enough and has its label."""
    assert found.shape == expected.shape
    apart = np.linalg.norm(expected[:, None, :3] - found[None, :, :3], axis=2)
    nearest = apart.argmin(axis=1)
    assert apart.min(axis=1).max() < NEAR
    assert len(set(nearest.tolist())) == len(expected)
    np.testing.assert_array_equal(found[nearest, 3], expected[:, 3])


def by_highdicom(hd, path):
    """Label ids and the (4, 4) matrix from their indices to LPS mm, without any code of ours."""
    volume = hd.seg.segread(path).get_volume(combine_segments=True, perpendicular_tol=1e-2)
    return volume.array, volume.affine


def by_simple_itk(path):
    image = SimpleITK.ReadImage(str(path))
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), lps


def check_round_trip(hd, folder, paths, ids, grid, *, kind="binary"):
    """``ids`` on the grid as it was made must lie at the same points in SEG and NIfTI, whoever reads them."""
    array, meta = read(paths)
    assert array.shape == ids.shape
    np.testing.assert_allclose((RAS_LPS @ meta["affine"])[:3, 3], lps_of((0, 0, 0), **grid), atol=NEAR)
    expected = expected_points(ids, grid)

    seg = write_seg(ids, paths, folder / "seg.dcm", task="hippocampus", kind=kind)
    assert_same_points(points_of(*by_highdicom(hd, seg)), expected)
    found = read_seg(seg)
    assert_same_points(points_of(found.array.reshape(*ids.shape[:2], -1), RAS_LPS @ found.affine), expected)
    np.testing.assert_array_equal(read_seg(seg, like=meta).array, ids)

    nifti = write_label_nifti(folder / "mask.nii.gz", ids, affine=meta["affine"])
    loaded = nibabel.load(nifti)
    np.testing.assert_array_equal(np.asarray(loaded.dataobj), read_seg(seg, like=loaded.affine, shape=ids.shape).array)
    assert_same_points(points_of(np.asarray(loaded.dataobj), RAS_LPS @ loaded.affine), expected)
    assert_same_points(points_of(*by_simple_itk(nifti)), expected)


@pytest.mark.parametrize("against", [False, True])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_all_48_axis_orientations_keep_every_voxel_in_its_place(tmp_path, hd, orientation, against):
    grid = {"orientation": orientation, "origin": (5.0, -7.0, 11.0), "spacing": (0.8, 0.5), "step": 2.5}
    order = np.random.default_rng(7).permutation(5).tolist()
    objects = series(np.zeros((5, 5, 3), np.int16), **grid)
    for k, ds in enumerate(reversed(objects) if against else objects):
        ds.InstanceNumber = str(k + 1)
    paths = write_all(objects, tmp_path / "series", order=order)
    check_round_trip(hd, tmp_path, sorted(paths), without_symmetry((3, 5, 5), seed=3), grid)


@given(grids(), st.tuples(*[st.integers(3, 9)] * 3), st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_any_orientation_spacing_and_size_keeps_every_voxel_in_its_place(
    tmp_path_factory, hd, grid, size, random, seed
):
    columns, rows, slices = size
    order = random.sample(range(slices), slices)
    folder = tmp_path_factory.mktemp("case")
    paths = write_all(series(np.zeros((slices, rows, columns), np.int16), **grid), folder / "series", order=order)
    ids = without_symmetry((columns, rows, slices), seed)
    check_round_trip(hd, folder, sorted(paths), ids, grid, kind=random.choice(["binary", "labelmap"]))


@given(grids(), st.permutations(range(4)), st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_frames_of_one_object_in_any_order_keep_every_voxel_in_its_place(tmp_path_factory, hd, grid, order, seed):
    folder = tmp_path_factory.mktemp("case")
    path = write(enhanced(np.zeros((4, 6, 5), np.int16), **grid, order=order), folder / "enhanced.dcm")
    check_round_trip(hd, folder, [path], without_symmetry((5, 6, 4), seed), grid)


@given(grids(), st.tuples(*[st.integers(4, 8)] * 3), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_a_marker_drawn_in_patient_coordinates_is_found_again_everywhere(tmp_path_factory, hd, grid, size, seed):
    # Drawn in the images: the picture element nearest to a point of the patient is bright.
    columns, rows, slices = size
    rng = np.random.default_rng(seed)
    at = tuple(int(rng.integers(0, n)) for n in size)
    marker = lps_of(at, **grid)
    pixels = np.zeros((slices, rows, columns), np.int16)
    objects = series(pixels, **grid)
    for ds in objects:
        x, y = (np.array(ds.ImageOrientationPatient[k : k + 3], dtype=float) for k in (0, 3))
        offset = marker - np.array(ds.ImagePositionPatient, dtype=float)
        column, row = offset @ x / float(ds.PixelSpacing[1]), offset @ y / float(ds.PixelSpacing[0])
        if abs(offset @ np.cross(x, y)) < 0.1 * grid["step"]:
            drawn = np.zeros((rows, columns), np.int16)
            drawn[round(row), round(column)] = 1000
            ds.PixelData = drawn.tobytes()
    folder = tmp_path_factory.mktemp("case")
    paths = write_all(objects, folder / "series", order=rng.permutation(slices).tolist())

    array, meta = read(sorted(paths))
    ids = (array > 500).astype(np.uint8)
    expected = np.array([[*marker, 1]])
    assert_same_points(points_of(ids, RAS_LPS @ meta["affine"]), expected)
    seg = write_seg(ids, meta, folder / "seg.dcm", task="lung")
    assert_same_points(points_of(*by_highdicom(hd, seg)), expected)
    found = read_seg(seg)
    assert_same_points(points_of(found.array, RAS_LPS @ found.affine), expected)
    nifti = write_label_nifti(folder / "mask.nii.gz", ids, affine=meta["affine"])
    assert_same_points(points_of(*by_simple_itk(nifti)), expected)
    loaded = nibabel.load(nifti)
    assert_same_points(points_of(np.asarray(loaded.dataobj), RAS_LPS @ loaded.affine), expected)
