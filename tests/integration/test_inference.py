"""The inference command on what people have: folders, lists, single files, broken files, disks that are full."""

from __future__ import annotations

import csv
import gzip
import json
import re
import resource
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from tests.bundle_runs import Payload, infer, make_clone

pytestmark = pytest.mark.slow

CASES = ("skin_photo.jpg", "skin_rgba.png", "skin_volume.nii.gz", "skin_series")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return make_clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def results(clone):
    """Results of a folder with a JPEG, an RGBA PNG, an oblique NIfTI volume, a DICOM series and a text file."""
    mixed = clone / "mixed"
    mixed.mkdir()
    for name in CASES:
        source = clone / "demo" / "inference" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, mixed / name)
    (mixed / "notes.txt").write_text("no picture")
    infer(clone, dataset_dir="mixed", output_dir="results", overlay=True)
    return clone / "results"


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def fates(folder):
    return {entry["path"]: entry for entry in manifest(folder)["files"]}


def series_affine(files):
    """Voxel (column, row, slice) to RAS mm of a DICOM series: DICOM PS3.3, C.7.6.2.1.1."""
    slices = [pydicom.dcmread(file) for file in files]
    first = slices[0]
    along_row, along_column = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(along_row, along_column)
    slices.sort(key=lambda item: normal @ np.array(item.ImagePositionPatient, float))
    start, end = (np.array(item.ImagePositionPatient, float) for item in (slices[0], slices[-1]))
    affine = np.eye(4)
    affine[:3, 0] = along_row * first.PixelSpacing[1]
    affine[:3, 1] = along_column * first.PixelSpacing[0]
    affine[:3, 2] = (end - start) / (len(slices) - 1)
    affine[:3, 3] = start
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def corners(affine, shape):
    """The eight outermost voxel centres in mm, in an order that does not depend on the direction of the axes."""
    ends = np.stack(np.meshgrid(*[(0, size - 1) for size in shape], indexing="ij"), axis=-1).reshape(-1, 3)
    points = ends @ affine[:3, :3].T + affine[:3, 3]
    return np.array(sorted(points.round(2).tolist()))


def test_every_case_gets_a_mask_and_an_overlay_and_nothing_else_is_written(results):
    written = sorted(path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file())
    assert written == [
        "manifest.json",
        "skin_photo_mask.png",
        "skin_photo_overlay.png",
        "skin_rgba_mask.png",
        "skin_rgba_overlay.png",
        "skin_series_mask.nii.gz",
        "skin_series_overlay.png",
        "skin_volume_mask.nii.gz",
        "skin_volume_overlay.png",
    ]


@pytest.mark.parametrize("name", ["skin_photo.jpg", "skin_rgba.png"])
def test_masks_of_pictures_have_their_size_and_hold_0_and_255(clone, results, name):
    stem = name.split(".")[0]
    with Image.open(clone / "mixed" / name) as picture, Image.open(results / f"{stem}_mask.png") as mask:
        assert mask.size == picture.size
        assert mask.mode == "L"
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
        with Image.open(results / f"{stem}_overlay.png") as overlay:
            assert overlay.size == picture.size


def test_mask_of_an_oblique_volume_has_its_grid(clone, results):
    volume, mask = (nib.load(path) for path in (clone / "mixed" / CASES[2], results / "skin_volume_mask.nii.gz"))
    assert np.count_nonzero(volume.affine[:3, :3]) == 9  # oblique
    assert mask.shape == volume.shape[:3]
    np.testing.assert_allclose(mask.affine, volume.affine, atol=1e-5)
    assert mask.get_data_dtype() == np.uint8
    assert set(np.unique(mask.dataobj)) <= {0, 1}


def test_mask_of_a_dicom_series_covers_the_same_space(clone, results):
    files = sorted((clone / "mixed" / "skin_series").iterdir())
    image = pydicom.dcmread(files[0])
    mask = nib.load(results / "skin_series_mask.nii.gz")
    shape = (image.Columns, image.Rows, len(files))
    assert mask.shape == shape
    np.testing.assert_allclose(corners(mask.affine, mask.shape), corners(series_affine(files), shape), atol=0.05)


def test_manifest_tells_the_fate_of_every_file(results, clone):
    entries = fates(results)
    assert entries["skin_photo.jpg"]["result"] == "skin_photo_mask.png"
    assert entries["skin_volume.nii.gz"]["result"] == "skin_volume_mask.nii.gz"
    assert entries["skin_series"]["result"] == "skin_series_mask.nii.gz"
    slices = [entry for path, entry in entries.items() if path.startswith("skin_series/")]
    assert len(slices) == len(list((clone / "mixed" / "skin_series").iterdir()))
    assert {entry["case"] for entry in slices} == {"skin_series"}
    assert entries["notes.txt"]["fate"] == "skipped"
    assert manifest(results)["counts"] == {"done": 4, "skipped": 1, "failed": 0}
    assert str(clone) not in (results / "manifest.json").read_text()


def test_a_data_list_names_its_results_and_paths(clone, tmp_path):
    shutil.copy(clone / "demo" / "inference" / "skin_rgb.png", tmp_path / "one.png")
    (tmp_path / "more").mkdir()
    shutil.copy(clone / "demo" / "inference" / "skin_photo.jpg", tmp_path / "more" / "two.jpg")
    with (tmp_path / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "name"], ["one.png", "first"], ["more/two.jpg", ""]])
    infer(clone, dataset_dir=tmp_path / "cases.csv", output_dir=tmp_path / "out")
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*_mask*")) == [
        "first_mask.png",
        "more/two_mask.png",
    ]
    assert sorted(fates(tmp_path / "out")) == ["more/two.jpg", "one.png"]


def test_a_single_file_is_segmented_without_an_overlay_where_none_is_wanted(clone, tmp_path):
    infer(clone, dataset_dir="demo/inference/skin_rgb.png", output_dir=tmp_path, overlay=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "skin_rgb_mask.png"]
    assert list(fates(tmp_path)) == ["skin_rgb.png"]


BAD_FILES = {
    "empty.png": r"0 bytes|empty",
    "torn.jpg": r"truncated|corrupt",
    "dot.png": r"1x1 pixels",
    "torn.nii.gz": r"truncated|corrupt",
    "holes.nii.gz": r"NaN",
    "time.nii.gz": r"last axis has 5",
    "torn.dcm": r"truncated|corrupt|pixel",
}


@pytest.fixture(scope="module")
def mishaps(clone):
    """Output and results folder of a batch in which every second file is broken."""
    folder = clone / "mishaps"
    folder.mkdir()
    source = clone / "demo" / "inference"
    shutil.copy(source / "skin_rgb.png", folder / "a_good.png")
    shutil.copy(source / "skin_rgba.png", folder / "z_good.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "torn.jpg").write_bytes((source / "skin_photo.jpg").read_bytes()[:1500])
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    raw = gzip.compress(gzip.decompress((source / "skin_volume.nii.gz").read_bytes())[:4000])
    (folder / "torn.nii.gz").write_bytes(raw)
    values = np.zeros((12, 10, 3), np.float32)
    values[4, 4, 1] = np.nan
    nib.save(nib.Nifti1Image(values, np.eye(4)), folder / "holes.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((12, 10, 3, 5), np.float32), np.eye(4)), folder / "time.nii.gz")
    first = sorted((source / "skin_series").iterdir())[0]
    (folder / "torn.dcm").write_bytes(first.read_bytes()[:-2000])
    output = infer(clone, expect=1, dataset_dir="mishaps", output_dir="mishaps_out")
    return output, clone / "mishaps_out"


def test_good_files_of_a_batch_with_broken_ones_are_done(mishaps):
    output, folder = mishaps
    assert sorted(path.name for path in folder.iterdir()) == ["a_good_mask.png", "manifest.json", "z_good_mask.png"]
    assert manifest(folder)["counts"]["done"] == 2
    assert "7 of 9 cases failed" in output


@pytest.mark.parametrize(("name", "reason"), BAD_FILES.items())
def test_a_broken_file_is_named_with_the_reason(mishaps, name, reason):
    entry = fates(mishaps[1])[name]
    assert entry["fate"] == "failed"
    assert re.search(reason, entry["reason"]), entry["reason"]
    assert name in entry["reason"]
    assert "/" not in entry["reason"].replace(" / ", "")


def test_an_output_folder_that_cannot_be_made_is_named(clone):
    output = infer(clone, expect=1, dataset_dir="demo/inference/skin_rgb.png", output_dir="demo/README.txt/out")
    assert re.search(r"demo/README\.txt", output)


def test_a_disk_without_room_fails_the_case_and_leaves_no_half_result(clone, tmp_path):
    def no_large_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))  # stands in for a full disk

    output = infer(
        clone,
        expect=1,
        prepare=no_large_files,
        dataset_dir="demo/inference/skin_photo.jpg",
        output_dir=tmp_path,
        overlay=True,
    )
    assert "1 of 1 cases failed" in output
    assert "cannot be written: File too large" in fates(tmp_path)["skin_photo.jpg"]["reason"]
    assert not list(tmp_path.rglob("*.part*"))


def test_weights_that_would_run_code_are_refused(clone, tmp_path):
    torch.save({"model": Payload()}, tmp_path / "evil.pt")
    output = infer(
        clone,
        expect=1,
        dataset_dir="demo/inference/skin_rgb.png",
        output_dir=tmp_path / "out",
        checkpoint=tmp_path / "evil.pt",
    )
    assert not (tmp_path / "out").exists()
    assert re.search(r"evil\.pt holds Python objects that could run code", output)
    assert not (clone / "pwned").exists()
