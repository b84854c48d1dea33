import itertools

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from banet_monai.dicom import SeriesReader
from banet_monai.dicom.geometry import Plane, stack_planes
from tests.dicom_objects import decimal, lps_of, series, turned, write_all

AXES = [sign * np.eye(3)[axis] for axis in range(3) for sign in (1, -1)]
# Row and column direction along two different axes: 24 pairs; stacking against or along the normal gives the 48
# orientations of a volume's axes, because files arrive in any order.
ORIENTATIONS = [(*row, *column) for row, column in itertools.permutations(AXES, 2) if row @ column == 0]
LPS = np.diag([-1, -1, 1, 1])


@pytest.fixture(scope="module")
def hd():
    """The oracle; it needs pydicom 3, the reader does not."""
    return pytest.importorskip("highdicom", exc_type=ImportError)


angles = st.floats(-180, 180)
orientations = st.sampled_from(ORIENTATIONS) | st.builds(turned, angles, angles, angles)


@st.composite
def grids(draw):
    size = st.floats(0.05, 6.0)
    return {
        "orientation": draw(orientations),
        "origin": tuple(draw(st.floats(-500, 500)) for _ in range(3)),
        "spacing": (draw(size), draw(size)),
        "step": draw(st.floats(0.2, 8.0)),
    }


def planes_of(grid, count):
    """Planes as a file states them, with numbers cut to 16 characters."""
    return [
        Plane(
            name=f"{k}.dcm",
            shape=(8, 9),
            position=tuple(float(v) for v in decimal(lps_of((0, 0, k), **grid))),
            orientation=tuple(float(v) for v in decimal(grid["orientation"])),
            spacing=tuple(float(v) for v in decimal(grid["spacing"])),
        )
        for k in range(count)
    ]


@pytest.mark.parametrize("against", [False, True])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_all_48_axis_orientations_put_voxels_in_their_place(orientation, against):
    grid = {"orientation": orientation, "origin": (5.0, -7.0, 11.0), "spacing": (0.8, 0.5), "step": 2.5}
    planes = planes_of(grid, 4)
    stack = stack_planes(planes[::-1] if against else planes)
    assert stack.order == ([3, 2, 1, 0] if against else [0, 1, 2, 3])
    for index in itertools.product((0, 8), (0, 7), (0, 3)):
        np.testing.assert_allclose((LPS @ stack.affine @ [*index, 1])[:3], lps_of(index, **grid), atol=1e-9)


@given(grids(), st.permutations(range(6)))
@settings(max_examples=50, deadline=None)
def test_voxels_lie_in_their_place_whatever_the_order_of_files(grid, order):
    planes = planes_of(grid, 6)
    stack = stack_planes([planes[k] for k in order])
    assert [order[k] for k in stack.order] == [0, 1, 2, 3, 4, 5]
    for index in itertools.product((0, 8), (0, 7), (0, 5)):
        np.testing.assert_allclose((LPS @ stack.affine @ [*index, 1])[:3], lps_of(index, **grid), atol=1e-5)


@given(grids())
@settings(max_examples=50, deadline=None)
def test_axes_are_right_handed_and_as_long_as_the_spacing(grid):
    affine = stack_planes(planes_of(grid, 3)).affine
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(lengths, [grid["spacing"][1], grid["spacing"][0], grid["step"]], rtol=1e-4)
    assert np.linalg.det(affine[:3, :3]) > 0


@given(grids(), st.permutations(range(4)), st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_files_hold_the_same_value_at_the_same_point_as_two_other_readers_find(tmp_path_factory, hd, grid, order, seed):
    data = np.random.default_rng(seed).permutation(4 * 3 * 5).reshape(4, 3, 5).astype(np.int16)
    objects = series(data, **grid)
    paths = write_all(objects, tmp_path_factory.mktemp("series"), order=order)
    reader = SeriesReader()
    array, meta = reader.get_data(reader.read(sorted(paths)))
    # Each other reader has axes of its own: the patient point decides.
    oracle = hd.get_volume_from_series(objects, dtype=np.float32, perpendicular_tol=1e-3)
    itk = SimpleITK.ImageSeriesReader()
    itk.SetFileNames([str(path) for path in paths])
    other = itk.Execute()
    for index in np.ndindex(5, 3, 4):
        lps = (LPS @ meta["affine"] @ [*index, 1])[:3]
        np.testing.assert_allclose(lps, lps_of(index, **grid), atol=1e-4)
        at = np.linalg.solve(oracle.affine, [*lps, 1])[:3]
        np.testing.assert_allclose(at, np.round(at), atol=1e-2)
        assert oracle.array[tuple(np.round(at).astype(int))] == array[index]
    corner = other.TransformIndexToPhysicalPoint((4, 2, 3))
    np.testing.assert_allclose(corner, lps_of((4, 2, 3), **grid), atol=1e-2)
    assert other[4, 2, 3] == array[4, 2, 3] == data[3, 2, 4]
