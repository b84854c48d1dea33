import hashlib
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from scipy import ndimage

from banet_monai.data import check_dataset, demonstration_data, make_demonstration_data, mask_ids, read_mask
from banet_monai.data.skin_phantom import skin_picture


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def small(root: Path, seed: int = 0) -> Path:
    return make_demonstration_data(root, seed=seed, num_train=3, num_val=2, size=64)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return small(tmp_path_factory.mktemp("phantom") / "demo")


def test_the_set_passes_its_own_check(demo):
    report = check_dataset(demo)
    assert report.ok
    assert (report.training, report.validation) == (3, 2)
    assert not report.empty_masks


def test_the_readme_says_that_it_is_synthetic(demo):
    assert (demo / "README.txt").read_text().startswith("Synthetic demonstration data: made by code, no patient.")


def test_the_same_seed_gives_the_same_bytes(demo, tmp_path):
    assert digests(small(tmp_path / "again")) == digests(demo)


def test_another_seed_gives_other_pictures(demo, tmp_path):
    other, first = digests(small(tmp_path / "other", seed=1)), digests(demo)
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first if not name.endswith("README.txt"))


def test_pictures_to_segment_are_of_the_kinds_promised(demo):
    modes = {}
    for path in sorted((demo / "inference").glob("skin_*.[pj]*g")):
        with Image.open(path) as picture:
            modes[path.name] = (picture.format, picture.mode, picture.width != picture.height)
            truth = read_mask(demo / "inference_truth" / f"{path.stem}_mask.png")
            assert truth.shape == (picture.height, picture.width)
    assert modes == {
        "skin_photo.jpg": ("JPEG", "RGB", True),
        "skin_rgb.png": ("PNG", "RGB", True),
        "skin_rgba.png": ("PNG", "RGBA", False),
    }


def test_the_volume_is_oblique_and_anisotropic_and_its_truth_lies_on_its_grid(demo):
    volume = nib.load(demo / "inference/skin_volume.nii.gz")
    truth = nib.load(demo / "inference_truth/skin_volume_mask.nii.gz")
    assert volume.get_data_dtype() == np.uint8
    assert volume.header.get_zooms() == pytest.approx((0.8, 0.8, 3.0))
    directions = volume.affine[:3, :3] / volume.header.get_zooms()
    assert np.abs(directions).max() < np.cos(np.deg2rad(10))
    assert np.linalg.det(directions) == pytest.approx(1)  # LPS to RAS turns, it does not mirror
    np.testing.assert_array_equal(truth.affine, volume.affine)
    grey, inside = np.asarray(volume.dataobj).astype(float), np.asarray(truth.dataobj) == 1
    assert grey[inside].mean() < grey[~inside].mean() - 60


@pytest.fixture(scope="module")
def series(demo):
    files = sorted((demo / "inference/skin_series").glob("*.dcm"))
    return [pydicom.dcmread(file) for file in files]


def heights(series):
    normal = np.cross(series[0].ImageOrientationPatient[:3], series[0].ImageOrientationPatient[3:])
    return np.array([normal @ np.array(one.ImagePositionPatient, float) for one in series])


def test_the_series_is_regular_oblique_and_of_no_patient(series):
    assert len(series) == 14
    np.testing.assert_allclose(np.diff(np.sort(heights(series))), 4.0, atol=1e-6)
    assert max(abs(float(cosine)) for cosine in series[0].ImageOrientationPatient) < np.cos(np.deg2rad(10))
    assert {str(one.PatientName) for one in series} == {"SYNTHETIC^PHANTOM"}
    assert {one.SeriesInstanceUID for one in series} == {series[0].SeriesInstanceUID}
    assert len({one.SOPInstanceUID for one in series}) == 14
    assert all(one.SOPInstanceUID.is_valid and int(one.SOPInstanceUID[5:]) < 2**128 for one in series)


def test_neither_file_names_nor_instance_numbers_follow_the_position(series):
    order = np.argsort(heights(series)).tolist()
    numbers = [series[index].InstanceNumber for index in order]
    assert order not in (sorted(order), sorted(order, reverse=True))
    assert sorted(numbers) == list(range(1, 15))
    assert numbers not in (sorted(numbers), sorted(numbers, reverse=True))


def test_the_truth_of_the_series_lies_where_its_slices_are(demo, series):
    truth = nib.load(demo / "inference_truth/skin_series_mask.nii.gz")
    inside = np.asarray(truth.dataobj) == 1
    ordered = [series[index] for index in np.argsort(heights(series))]
    grey = np.stack([one.pixel_array.T / 65535 for one in ordered], axis=-1)
    assert grey.shape == inside.shape
    assert grey[inside].mean() < grey[~inside].mean() - 0.25
    for index, one in enumerate(ordered):
        lps = np.array([-1, -1, 1]) * (truth.affine @ [0, 0, index, 1])[:3]
        np.testing.assert_allclose(lps, np.array(one.ImagePositionPatient, float), atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_lesion_is_one_darker_part_without_holes(seed):
    picture, mask = skin_picture(np.random.default_rng(seed), 72, 96)
    assert picture.shape == (72, 96, 3)
    assert ndimage.label(mask)[1] == 1
    assert ndimage.label(~mask, np.ones((3, 3)))[1] >= 1
    np.testing.assert_array_equal(ndimage.binary_fill_holes(mask), mask)
    assert 0.02 < mask.mean() < 0.6
    ring = ndimage.binary_dilation(mask, iterations=12) & ~ndimage.binary_dilation(mask, iterations=5)
    assert picture[mask].mean() < picture[ring].mean() - 10


def test_complete_data_are_left_alone(demo):
    before = (demo / "README.txt").stat().st_mtime_ns
    assert demonstration_data(demo) == str(demo)
    assert (demo / "README.txt").stat().st_mtime_ns == before


def test_damaged_data_are_made_anew(demo, tmp_path, monkeypatch):
    root = tmp_path / "demo"
    shutil.copytree(demo, root)
    (root / "train/images/synthetic_000.png").unlink()
    monkeypatch.setattr("banet_monai.data.phantom.make_demonstration_data", small)
    demonstration_data(root)
    assert digests(root) == digests(demo)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_an_empty_folder_is_filled(demo, tmp_path):
    (tmp_path / "demo").mkdir()
    assert digests(small(tmp_path / "demo")) == digests(demo)


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(
        FileExistsError, match=r"holds something that is no demonstration data: name a new or empty folder"
    ):
        demonstration_data(tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_another_process_that_was_faster_is_no_error(demo, tmp_path, monkeypatch):
    root = tmp_path / "demo"

    def overtaken(path):
        shutil.copytree(demo, path)
        raise FileExistsError("appeared while it was being made")

    monkeypatch.setattr("banet_monai.data.phantom.make_demonstration_data", overtaken)
    assert demonstration_data(root) == str(root)


def test_sizes_too_small_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"need size >= 64 and at least one .*, got 32, 48, 12"):
        make_demonstration_data(tmp_path / "demo", size=32)


def test_masks_are_black_and_white_pictures(demo):
    values = read_mask(demo / "train/masks/synthetic_000.png")
    assert set(np.unique(values)) == {0, 255}
    assert mask_ids(values).max() == 1
