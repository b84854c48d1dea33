import gzip
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from banet_monai.data.probe import UnreadableFileError, probe
from tests.dicom_objects import image, write


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_size_is_columns_then_rows(tmp_path, noise, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    assert probe(path) == ((60, 40), hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_truncated_picture_is_found(tmp_path, noise, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    cut(path, 0.6)
    with pytest.raises(UnreadableFileError, match=r"^is truncated or corrupt$"):
        probe(path)


def test_damage_in_the_middle_is_found_when_decoding(tmp_path, noise):
    path = tmp_path / "a.png"
    Image.fromarray(noise).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    assert probe(path).size == (60, 40)
    with pytest.raises(UnreadableFileError, match=r"^is truncated or corrupt$"):
        probe(path, decode=True)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_size_of_a_volume_is_its_shape(tmp_path, suffix):
    path = tmp_path / f"v.{suffix}"
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.int16), np.eye(4)), path)
    assert probe(path).size == (3, 4, 5)


def test_a_nifti2_volume_is_read(tmp_path):
    nib.save(nib.Nifti2Image(np.ones((3, 4, 5), np.int16), np.eye(4)), tmp_path / "v.nii")
    assert probe(tmp_path / "v.nii").size == (3, 4, 5)


def test_a_truncated_volume_is_found(tmp_path):
    path = tmp_path / "v.nii"
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.int16), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UnreadableFileError, match=r"^is truncated: 462 of 472 bytes$"):
        probe(path)


def test_a_truncated_compressed_volume_is_found(tmp_path):
    path = tmp_path / "v.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((9, 9, 9)), np.eye(4)), path)
    cut(path, 0.5)
    with pytest.raises(UnreadableFileError, match=r"^is truncated or corrupt \(gzip\)$"):
        probe(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"", "is empty (0 bytes)"),
        ("a.png", b"no picture", "is no picture, or its beginning is damaged"),
        ("v.nii", b"no volume at all", "is no NIfTI file, or its header is damaged"),
        ("v.nii.gz", b"no volume at all", "is truncated or corrupt (gzip)"),
        ("v.nii.gz", gzip.compress(b"x" * 400, mtime=0), "is no NIfTI file, or its header is damaged"),
        ("d.dcm", b"no DICOM", "is no DICOM file"),
        ("d", b"\0" * 128 + b"DICM", "is truncated, corrupt or no image"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        probe(tmp_path / name)
    assert str(caught.value) == reason


def test_missing_files_and_empty_folders_are_said(tmp_path):
    with pytest.raises(UnreadableFileError, match=r"^does not exist$"):
        probe(tmp_path / "absent.png")
    with pytest.raises(UnreadableFileError, match=r"^is an empty folder$"):
        probe(tmp_path)


def test_values_of_a_dicom_file_are_not_quoted_by_the_library_that_reads_them(tmp_path, caplog, recwarn):
    ds = image(np.zeros((4, 6), np.uint8), modality="DX", SpecificCharacterSet="ISO_IR 192")
    path = write(ds, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"ISO_IR DOE"))
    assert probe(path).size == (6, 4)
    assert (caplog.text, list(recwarn)) == ("", [])


def test_a_dicom_size_of_several_values_is_damage(tmp_path):
    path = write(image(np.zeros((4, 6), np.uint8), modality="DX"), tmp_path / "a.dcm")
    columns = b"\x28\x00\x11\x00US"
    path.write_bytes(path.read_bytes().replace(columns + b"\x02\x00\x06\x00", columns + b"\x04\x00\x06\x00\x07\x00"))
    with pytest.raises(UnreadableFileError, match=r"^is truncated, corrupt or no image$"):
        probe(path)
