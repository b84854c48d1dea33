import gc
import warnings

import numpy as np
import pytest
from pydicom.fileset import FileSet

from banet_monai.dicom.dicomdir import dicomdir_files, is_dicomdir
from banet_monai.dicom.parsing import DicomReadError
from tests.dicom_objects import image, series, write, write_all
from tests.dicomdirs import write_dicomdir


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_files_are_found_in_upper_and_lower_case_and_with_version_numbers(tmp_path):
    touch(tmp_path / "dicom/Im1", tmp_path / "DICOM2/IM2;1", tmp_path / "DICOM2/IM3.", tmp_path / "DICOM2/OTHER")
    names = [None, ["DICOM", "IM1"], ["DICOM2", "IM2"], ["DICOM2", "IM3"], ["DICOM", "IM1"], ["DICOM", "IM9"]]
    found = dicomdir_files(write_dicomdir(tmp_path / "DICOMDIR", names))
    assert found.files == [tmp_path / "dicom/Im1", tmp_path / "DICOM2/IM2;1", tmp_path / "DICOM2/IM3."]
    assert found.missing == [tmp_path / "DICOM/IM9"]
    assert found.skipped == [(tmp_path / "DICOMDIR", "DICOMDIR")]


def test_exact_name_goes_before_one_in_other_case(tmp_path):
    touch(tmp_path / "im1", tmp_path / "IM1")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this disk does not tell upper from lower case")
    assert dicomdir_files(write_dicomdir(tmp_path / "DICOMDIR", [["IM1"]])).files == [tmp_path / "IM1"]
    assert dicomdir_files(write_dicomdir(tmp_path / "DICOMDIR", [["im1"]])).files == [tmp_path / "im1"]


@pytest.mark.parametrize("name", [["..", "SECRET"], ["A", "..", "..", "SECRET"], ["/etc/passwd"], ["C:", "X"], ["."]])
def test_names_outside_its_folder_are_left_alone(tmp_path, name):
    touch(tmp_path / "SECRET", tmp_path / "cd/IM1", tmp_path / "cd/A/IM2")
    found = dicomdir_files(write_dicomdir(tmp_path / "cd/DICOMDIR", [["IM1"], name]))
    assert found.files == [tmp_path / "cd/IM1"]
    assert found.missing == []
    assert found.skipped == [(tmp_path / "cd/DICOMDIR", "DICOMDIR (names 1 files outside its folder)")]


def test_links_are_not_followed_out_of_its_folder(tmp_path):
    touch(tmp_path / "secret/IM1", tmp_path / "cd/IM2")
    (tmp_path / "cd/A").symlink_to(tmp_path / "secret")
    (tmp_path / "cd/IM3").symlink_to(tmp_path / "cd/IM2")
    found = dicomdir_files(write_dicomdir(tmp_path / "cd/DICOMDIR", [["A", "IM1"], ["IM3"]]))
    assert found.files == [tmp_path / "cd/IM3"]
    assert (tmp_path / "cd/A/IM1", "named by the DICOMDIR, a link to outside its folder") in found.skipped


def test_folder_that_is_named_is_missing_as_a_file(tmp_path):
    touch(tmp_path / "A/IM1")
    assert dicomdir_files(write_dicomdir(tmp_path / "DICOMDIR", [["A"]])).missing == [tmp_path / "A"]


def test_dicomdir_is_known_by_its_name_or_its_class(tmp_path):
    plain = write(image(np.zeros((4, 4), np.uint8)), tmp_path / "a.dcm")
    assert is_dicomdir(tmp_path / "dicomdir")
    assert is_dicomdir(write_dicomdir(tmp_path / "index.dcm", [["A"]]))
    assert not is_dicomdir(plain)
    touch(tmp_path / "broken.dcm")
    assert not is_dicomdir(tmp_path / "broken.dcm")


def test_dicomdir_without_a_file_or_no_dicomdir_at_all_is_named(tmp_path):
    with pytest.raises(ValueError, match="'DICOMDIR' names no file"):
        dicomdir_files(write_dicomdir(tmp_path / "DICOMDIR", [None]))
    touch(tmp_path / "bad/DICOMDIR")
    with pytest.raises(DicomReadError, match="'DICOMDIR' cannot be parsed as DICOM"):
        dicomdir_files(tmp_path / "bad/DICOMDIR")


def test_file_set_written_by_pydicom_is_read(tmp_path):
    objects = series(np.zeros((3, 4, 4), np.int16))
    for ds in objects:
        ds.StudyTime, ds.AccessionNumber, ds.StudyID = "120000", "", "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom leaves it to the garbage collector to remove a temporary folder
        files = FileSet()
        for path in write_all(objects, tmp_path / "in"):
            files.add(path)
        files.write(tmp_path / "cd")
        del files
        gc.collect()
    found = dicomdir_files(tmp_path / "cd/DICOMDIR")
    assert sorted(found.files) == sorted(path for path in (tmp_path / "cd").rglob("IM*") if path.is_file())
    assert (len(found.files), found.missing) == (3, [])
