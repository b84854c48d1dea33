import numpy as np
import pytest

from banet_monai.dicom import find_dicom_cases
from banet_monai.dicom.finding import files_below
from tests.dicom_objects import image, series, write, write_all


def slices(count=3, **attributes):
    objects = series(np.zeros((count, 4, 4), np.int16))
    for ds in objects:
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
    return objects


def test_series_of_one_folder_are_told_apart_by_uid(tmp_path):
    first = write_all(slices(3), tmp_path, order=[2, 0, 1])
    second = write_all(slices(2, SeriesInstanceUID="1.2.3", SeriesNumber="9"), tmp_path, order=[10, 11])
    cases = find_dicom_cases([*second, *first]).cases
    assert [case.paths for case in cases] == [tuple(sorted(first)), tuple(second)]
    assert [(case.modality, case.series_number) for case in cases] == [("CT", 4), ("CT", 9)]


def test_same_series_uid_in_two_studies_is_two_series(tmp_path):
    paths = write_all(slices(2), tmp_path / "a") + write_all(slices(2, StudyInstanceUID="1.9"), tmp_path / "b")
    assert len(find_dicom_cases(paths).cases) == 2


def test_empty_uids_do_not_join_folders(tmp_path):
    empty = {"SeriesInstanceUID": "", "StudyInstanceUID": ""}
    paths = write_all(slices(2, **empty), tmp_path / "a") + write_all(slices(2, **empty), tmp_path / "b")
    assert [len(case.paths) for case in find_dicom_cases(paths).cases] == [2, 2]


@pytest.mark.parametrize("modality", ["DX", "US", "XC"])
def test_single_pictures_of_one_series_are_cases_of_their_own(tmp_path, modality):
    objects = [image(np.zeros((4, 4), np.uint8), modality=modality, number=k) for k in (1, 2)]
    assert [len(case.paths) for case in find_dicom_cases(write_all(objects, tmp_path)).cases] == [1, 1]


def test_slices_without_a_place_stay_in_their_series(tmp_path):
    objects = slices(3)
    del objects[1].ImagePositionPatient
    assert [len(case.paths) for case in find_dicom_cases(write_all(objects, tmp_path)).cases] == [3]


def test_multi_frame_objects_are_cases_of_their_own(tmp_path):
    objects = [image(np.zeros((3, 4, 4), np.uint8), modality="US", frames=3, number=k) for k in (1, 2)]
    assert [len(case.paths) for case in find_dicom_cases(write_all(objects, tmp_path)).cases] == [1, 1]


def test_localizers_and_other_objects_are_skipped_with_a_reason(tmp_path):
    scout = slices(1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    others = [image(np.zeros((8, 8), np.uint8), modality=modality) for modality in ("SEG", "SR")]
    paths = write_all([*scout, *others], tmp_path) + write_all(slices(2), tmp_path / "ct")
    cases, skipped = find_dicom_cases(paths)
    assert [len(case.paths) for case in cases] == [2]
    assert [reason for _, reason in skipped] == [
        "localizer",
        "non-image DICOM object (SEG)",
        "non-image DICOM object (SR)",
    ]


def test_file_that_cannot_be_parsed_is_a_case_so_that_it_is_counted(tmp_path):
    (tmp_path / "empty.dcm").write_bytes(b"")
    assert find_dicom_cases([tmp_path / "empty.dcm"]).cases[0].paths == (tmp_path / "empty.dcm",)


def test_case_says_what_it_is_without_naming_the_patient(tmp_path):
    paths = write_all(slices(3, SeriesDescription="Doe"), tmp_path)
    assert str(find_dicom_cases(paths).cases[0]) == "CT number 4 (3 files)"


def test_modality_that_is_no_code_is_not_repeated(tmp_path):
    path = write(image(np.zeros((4, 4), np.uint8), Modality="SOMECODE"), tmp_path / "x.dcm")
    path.write_bytes(path.read_bytes().replace(b"SOMECODE", b"DOE^JOHN"))
    assert find_dicom_cases([path]).cases[0].modality == ""


def test_files_below_visits_linked_folders_once_and_leaves_one_out(tmp_path):
    for name in ("b/2.txt", "a/1.txt", "out/3.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path, tmp_path / "out")]
    assert found == ["a/1.txt", "b/2.txt"]
