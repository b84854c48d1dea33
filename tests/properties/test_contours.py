from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.draw import polygon2mask
from skimage.measure import points_in_poly

from banet_monai.report.contours import read_contours, write_contours
from banet_monai.report.outlines import filled_rings, outlines, polygons_of, ring_area, signed_field

LIMITED = settings(max_examples=40, deadline=None)
SIDES = st.integers(1, 24)
SEEDS = st.integers(0, 2**32 - 1)


def probabilities(shape: tuple[int, ...], seed: int, *, smoothness: float) -> np.ndarray:
    """Values in [0, 1] around one half: noise, or blobs where it is smoothed. Some are exactly one half."""
    rng = np.random.default_rng(seed)
    values = gaussian_filter(rng.standard_normal(shape), smoothness) if smoothness else rng.standard_normal(shape)
    values = np.clip(0.5 + values / max(1e-9, 4 * np.abs(values).max()), 0, 1)
    values[rng.random(shape) < 0.05] = 0.5
    return values.astype(np.float32)


def axes_of(quaternion: tuple[float, float, float, float]) -> np.ndarray:
    """Rotation matrix of a quaternion of any length but 0."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@LIMITED
@given(width=SIDES, height=SIDES, seed=SEEDS, smoothness=st.sampled_from([0.0, 1.0, 2.5]), level=st.floats(0.3, 0.7))
def test_exactly_the_pixels_at_or_above_the_level_lie_inside(
    width: int, height: int, seed: int, smoothness: float, level: float
) -> None:
    values = probabilities((width, height), seed, smoothness=smoothness)
    np.testing.assert_array_equal(filled_rings(outlines(values, level), values.shape), values >= level)


@LIMITED
@given(width=SIDES, height=SIDES, seed=SEEDS, smoothness=st.sampled_from([0.0, 1.0, 2.5]))
def test_polygons_are_closed_oriented_and_nested(width: int, height: int, seed: int, smoothness: float) -> None:
    values = probabilities((width, height), seed, smoothness=smoothness)
    for exterior, *holes in polygons_of(signed_field(values.astype(float) - 0.5, values >= 0.5)):
        assert ring_area(exterior) > 0
        assert exterior.min() >= 0
        assert (exterior.max(axis=0) <= [width, height]).all()
        for ring in (exterior, *holes):
            np.testing.assert_array_equal(ring[0], ring[-1])
            assert len({tuple(point) for point in ring.tolist()}) == len(ring) - 1 >= 3
        for hole in holes:
            assert ring_area(hole) < 0
            assert points_in_poly(hole, exterior).all()


@LIMITED
@given(width=st.integers(2, 24), height=st.integers(2, 24), seed=SEEDS)
def test_filling_agrees_with_scikit_image(width: int, height: int, seed: int) -> None:
    rings = outlines(probabilities((width, height), seed, smoothness=1.0))
    expected = np.zeros((width, height), dtype=bool)
    for ring in rings:
        expected ^= polygon2mask((width, height), ring - 0.5)
    np.testing.assert_array_equal(filled_rings(rings, (width, height)), expected)


@LIMITED
@given(shape=st.one_of(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES, st.integers(2, 4))), seed=SEEDS)
def test_label_ids_come_back_from_the_file(shape: tuple[int, ...], seed: int) -> None:
    labels = ["one", "two", "three"]
    noise = [probabilities(shape, seed + number, smoothness=1.0) for number in range(4)]
    ids = np.argmax(noise, axis=0).astype(np.uint8)
    with TemporaryDirectory() as folder:
        files = write_contours(Path(folder) / "a", ids, labels=labels, has_place=False)
        np.testing.assert_array_equal(read_contours(files[0]), ids)


@LIMITED
@given(shape=st.tuples(SIDES, SIDES, st.integers(2, 3)), seed=SEEDS)
def test_the_class_that_wins_a_softmax_comes_back_from_the_file(shape: tuple[int, ...], seed: int) -> None:
    maps = np.stack([probabilities(shape, seed + number, smoothness=1.0) for number in range(3)])
    with TemporaryDirectory() as folder:
        files = write_contours(Path(folder) / "a", maps, labels=["one", "two"], has_place=False)
        np.testing.assert_array_equal(read_contours(files[0]), maps.argmax(axis=0))


@LIMITED
@given(
    shape=st.tuples(st.integers(2, 10), st.integers(2, 10), st.integers(2, 4)),
    seed=SEEDS,
    quaternion=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1),
    spacing=st.tuples(*[st.floats(0.2, 5.0)] * 3),
    mirrored=st.booleans(),
)
def test_voxels_of_the_nifti_mask_lie_inside_the_outline_in_the_patient(
    shape: tuple[int, int, int],
    seed: int,
    quaternion: tuple[float, float, float, float],
    spacing: tuple[float, float, float],
    mirrored: bool,
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = axes_of(quaternion) * spacing * [1, 1, -1 if mirrored else 1]
    affine[:3, 3] = np.random.default_rng(seed).uniform(-200, 200, 3)
    mask = (probabilities(shape, seed, smoothness=1.0) >= 0.5).astype(np.uint8)
    with TemporaryDirectory() as folder:
        image = nibabel.Nifti1Image(mask, affine)
        image.to_filename(Path(folder) / "a_mask.nii.gz")
        read = nibabel.load(Path(folder) / "a_mask.nii.gz")
        files = write_contours(Path(folder) / "a", mask, labels=["a"], affine=affine, spacing_unit="mm", has_place=True)
        collection = json.loads(files[0].read_text())
        stored, to_ras = np.asarray(read.dataobj), read.affine

    outlined = {feature["properties"]["slice"]: feature for feature in collection["features"]}
    assert set(outlined) == {index for index in range(shape[2]) if stored[..., index].any()}
    for index, feature in outlined.items():
        voxels = np.array([(i, j, index) for i, j in np.ndindex(*shape[:2])])
        centres = (voxels @ to_ras[:3, :3].T + to_ras[:3, 3]) * [-1, -1, 1]  # LPS
        rings = [np.array(ring) for polygon in feature["geometry_mm"]["coordinates"] for ring in polygon]
        # The plane of the slice, found from the outline alone, and everything seen in it
        middle = np.concatenate(rings).mean(axis=0)
        _, _, directions = np.linalg.svd(np.concatenate(rings) - middle, full_matrices=False)
        assert np.abs((centres - middle) @ directions[2]).max() < 0.02
        flat = (centres - middle) @ directions[:2].T
        inside = np.zeros(len(flat), dtype=bool)
        for ring in rings:
            inside ^= points_in_poly(flat, (ring - middle) @ directions[:2].T)
        np.testing.assert_array_equal(inside, stored[..., index].ravel() > 0)
