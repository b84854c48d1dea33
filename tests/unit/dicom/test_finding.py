import errno
import os

import numpy as np
import pytest

from banet_monai.dicom import find_dicom_cases
from banet_monai.dicom.finding import files_below
from banet_monai.dicom.selection import parse_rules
from tests.dicom_objects import SERIES, SOP_CLASSES, STUDY, enhanced, image, series, turned, write, write_all


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


def test_spectra_which_have_rows_but_no_pixels_are_skipped(tmp_path):
    spectra = image(np.zeros((8, 8), np.uint8), modality="MR", PixelData=None)
    spectra.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.2"  # MR Spectroscopy Storage
    found = find_dicom_cases(write_all([spectra, *slices(2)], tmp_path))
    assert [len(case.paths) for case in found.cases] == [2]
    assert [reason for _, reason in found.skipped] == ["non-image DICOM object (spectroscopy)"]


def test_file_that_cannot_be_parsed_is_a_case_so_that_it_is_counted(tmp_path):
    (tmp_path / "empty.dcm").write_bytes(b"")
    assert find_dicom_cases([tmp_path / "empty.dcm"]).cases[0].paths == (tmp_path / "empty.dcm",)


@pytest.mark.parametrize(
    "end", [b"5.1.4.1.1", b"\x08\x00\x60\x00CS", b"\x28\x00\x10\x00US"], ids=("uid", "modality", "rows")
)
def test_image_that_is_cut_off_in_its_header_is_a_case_so_that_it_is_counted(tmp_path, end):
    path = write(image(np.zeros((8, 8), np.uint8), modality="DX"), tmp_path / "a.dcm")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(end)])
    cases, skipped = find_dicom_cases([path])
    assert ([case.paths for case in cases], skipped) == ([(path,)], [])


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


def test_a_link_in_a_circle_and_a_folder_that_is_gone_end_no_search(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "stale").mkdir()
    listed = os.scandir

    def scandir(place):
        if place.name == "stale":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(place))
        return listed(place)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [path.name for path in files_below(tmp_path)] == ["a.txt", "stale"]


def test_series_is_listed_with_facts_that_name_no_patient(tmp_path):
    # 3 slices of 4 rows and 6 columns; rows are 0.8 mm apart, columns 0.5 mm, slices 2 mm.
    objects = series(np.zeros((3, 4, 6), np.int16), orientation=turned(30, 20, 10), origin=(5.0, -7.0, 9.0))
    for ds in objects:
        ds.SeriesDescription = "Liver"
    case = find_dicom_cases(write_all(objects, tmp_path, order=[1, 2, 0])).cases[0]
    assert (case.kind, case.modality, case.series_number, case.description) == ("series", "CT", 4, "Liver")
    assert (case.size, case.frames) == ((6, 4), 3)
    assert case.spacing == pytest.approx((0.8, 0.5, 2.0), abs=1e-5)


def test_slice_distance_is_the_usual_one_where_a_slice_is_missing(tmp_path):
    objects = series(np.zeros((6, 4, 4), np.int16), step=3.0)
    del objects[2]
    assert find_dicom_cases(write_all(objects, tmp_path)).cases[0].spacing == (0.8, 0.5, 3.0)


def test_slices_of_several_orientations_have_no_slice_distance(tmp_path):
    objects = [*slices(2), *series(np.zeros((2, 4, 4), np.int16), orientation=turned(90, 0, 0))]
    assert find_dicom_cases(write_all(objects, tmp_path)).cases[0].spacing == (0.8, 0.5)


def test_single_slice_is_a_series_of_one(tmp_path):
    case = find_dicom_cases(write_all(slices(1), tmp_path)).cases[0]
    assert (case.kind, case.frames, case.spacing) == ("series", 1, (0.8, 0.5))


def test_enhanced_object_is_listed_by_its_functional_groups(tmp_path):
    place = {"orientation": turned(0, 0, 90), "origin": (0.0, 0.0, 0.0), "spacing": (0.7, 0.3), "step": 1.5}
    ds = enhanced(np.zeros((4, 3, 5), np.uint16), order=[2, 0, 3, 1], **place)
    case = find_dicom_cases([write(ds, tmp_path / "mr.dcm")]).cases[0]
    assert (case.kind, case.modality, case.size, case.frames) == ("multi-frame", "MR", (5, 3), 4)
    assert case.spacing == pytest.approx((0.7, 0.3, 1.5), abs=1e-5)


def test_pictures_and_clips_without_a_place_are_listed(tmp_path):
    xray = image(np.zeros((4, 6), np.uint8), modality="DX", ImagerPixelSpacing=["0.2", "0.1"])
    clip = image(np.zeros((3, 4, 6), np.uint8), modality="US", frames=3)
    cases = find_dicom_cases(write_all([xray, clip], tmp_path)).cases
    assert [(case.kind, case.size, case.frames, case.spacing) for case in cases] == [
        ("picture", (6, 4), 1, (0.2, 0.1)),
        ("multi-frame", (6, 4), 3, ()),
    ]


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("  Liver \x1b[31m 2mm ", "Liver [31m 2mm"),
        ("a\r\nb\tc\x7fd", "a b c d"),
        ("\u202eevil\u200b", "evil"),
        ("x" * 70, "x" * 64),
        ("early\\late", "early late"),
        ("", ""),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom.*")
def test_description_is_one_short_line_of_printable_characters(tmp_path, stored, shown):
    ds = slices(1)[0]
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SeriesDescription = stored.split("\\") if "\\" in stored else stored
    assert find_dicom_cases([write(ds, tmp_path / "a.dcm")]).cases[0].description == shown


def test_neither_uids_nor_description_stand_in_what_a_case_says_of_itself(tmp_path):
    case = find_dicom_cases(write_all(slices(2, SeriesDescription="Doe"), tmp_path)).cases[0]
    assert (case.study, case.series, case.description) == (STUDY, SERIES, "Doe")
    for said in (str(case), repr(case)):
        assert not any(secret in said for secret in (STUDY, SERIES, "Doe"))


def test_rules_leave_the_files_of_other_series_out_with_the_reason(tmp_path):
    wanted = write_all(slices(2, SeriesDescription="LIVER venous"), tmp_path / "a")
    other = write_all(slices(2, SeriesInstanceUID="1.2.3", SeriesDescription="lung"), tmp_path / "b")
    cases, skipped = find_dicom_cases([*wanted, *other], rules=parse_rules("description=*liver*"))
    assert [case.paths for case in cases] == [tuple(wanted)]
    assert skipped == [(path, "not chosen by the series rules") for path in other]


def test_empty_uids_do_not_join_series_of_other_numbers(tmp_path):
    empty = {"SeriesInstanceUID": "", "StudyInstanceUID": ""}
    first = write_all(slices(2, **empty), tmp_path)
    second = write_all(slices(2, SeriesNumber="9", **empty), tmp_path, order=[10, 11])
    assert [case.paths for case in find_dicom_cases([*first, *second]).cases] == [tuple(first), tuple(second)]


def test_screen_shot_of_a_volume_is_a_picture(tmp_path):
    shot = image(np.zeros((4, 4), np.uint8), modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.7", number=9)
    cases = find_dicom_cases([*write_all(slices(3), tmp_path), write(shot, tmp_path / "shot.dcm")]).cases
    assert [(case.kind, len(case.paths)) for case in cases] == [("series", 3), ("picture", 1)]


def test_position_that_is_no_number_stays_in_its_series(tmp_path):
    paths = write_all(slices(3), tmp_path)
    damaged = paths[2].read_bytes()
    place = damaged.index(b"\x20\x00\x32\x00DS") + 8  # ImagePositionPatient: tag, VR and length of 2 bytes, value
    paths[2].write_bytes(damaged[:place] + b"x" + damaged[place + 1 :])
    cases = find_dicom_cases(paths).cases
    assert [(case.frames, case.spacing) for case in cases] == [(3, (0.8, 0.5, 2.0))]


def test_frame_count_that_is_no_number_makes_a_case_of_its_own(tmp_path):
    path = write(image(np.zeros((3, 4, 4), np.uint8), modality="US", frames=3), tmp_path / "us.dcm")
    damaged = path.read_bytes().replace(b"IS\x02\x003 ", b"IS\x02\x00x ")
    path.write_bytes(damaged)
    good = write_all(slices(2), tmp_path)
    assert sorted((case.kind, len(case.paths)) for case in find_dicom_cases([path, *good]).cases) == [
        ("", 1),
        ("series", 2),
    ]


def test_seg_without_a_class_is_known_by_its_modality(tmp_path):
    ds = image(np.zeros((8, 8), np.uint8), modality="SEG")
    ds.SOPClassUID = SOP_CLASSES["DX"]
    assert find_dicom_cases([write(ds, tmp_path / "a.dcm")]).skipped[0][1] == "non-image DICOM object (SEG)"


def test_file_is_parsed_once_for_finding_and_again_never(tmp_path, monkeypatch):
    paths = write_all(slices(3), tmp_path)
    find_dicom_cases(paths)
    monkeypatch.setattr("banet_monai.dicom.parsing.read_partial", None)  # a second parse would call it
    assert find_dicom_cases(paths).cases[0].kind == "series"
