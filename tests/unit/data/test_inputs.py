import gc
import json
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from banet_monai.data.inputs import NoImageError, case_records, find_cases, find_inputs
from tests.dicom_objects import image, series, write, write_all
from tests.dicomdirs import write_dicomdir


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 200)


def write_series(folder, *, uid="1.2.3", number="4", first=0):
    objects = series(np.zeros((2, 4, 4), np.int16))
    for ds in objects:
        ds.SeriesInstanceUID, ds.SeriesNumber = uid, number
    return write_all(objects, folder, order=[first, first + 1])


def names(path, **options):
    return [case.name for case in find_cases(path, **options)]


def test_every_file_of_a_mixed_tree_has_a_fate(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "deep/b.nii.gz", tmp_path / "notes.txt", tmp_path / ".hidden/c.png")
    write_series(tmp_path / "ct")
    write(image(np.zeros((8, 8), np.uint8), modality="SEG"), tmp_path / "seg.dcm")
    write(image(np.zeros((8, 8), np.uint8), modality="DX"), tmp_path / "IM0001")
    found = find_inputs(tmp_path)
    assert [(case.kind, case.name, case.paths) for case in found.cases] == [
        ("dicom", "IM0001", ("IM0001",)),
        ("picture", "a", ("a.png",)),
        ("dicom", "ct", ("ct/0000.dcm", "ct/0001.dcm")),
        ("nifti", "deep/b", ("deep/b.nii.gz",)),
    ]
    assert found.skipped == [
        (".hidden/c.png", "hidden"),
        ("notes.txt", "not an image format"),
        ("seg.dcm", "non-image DICOM object (SEG)"),
    ]


def test_records_are_data_dictionaries(tmp_path):
    touch(tmp_path / "a.png")
    files = [str(path) for path in write_series(tmp_path / "ct")]
    assert case_records(tmp_path) == [
        {"image": str(tmp_path / "a.png"), "name": "a", "source": "a.png"},
        {"image": files, "name": "ct", "source": "ct"},
    ]


def test_inputs_that_would_share_a_name_keep_their_suffix(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "a.jpg", tmp_path / "b.png", tmp_path / "B.nii.gz")
    assert names(tmp_path) == ["B.nii.gz", "a.jpg", "a.png", "b.png"]


def test_series_folder_and_picture_of_the_same_name_have_two_results(tmp_path):
    touch(tmp_path / "a.png")
    write_series(tmp_path / "a")
    assert names(tmp_path) == ["a", "a.png"]


def test_series_in_the_root_is_called_after_it(tmp_path):
    write_series(tmp_path / "study")
    assert names(tmp_path / "study") == ["study"]
    assert case_records(tmp_path / "study")[0]["source"] == "."


def test_several_series_of_one_folder_are_numbered(tmp_path):
    write_series(tmp_path / "ct", uid="1.2.3", number="7")
    write_series(tmp_path / "ct", uid="1.2.4", number="3", first=10)
    assert names(tmp_path) == ["ct/series-3", "ct/series-7"]


def test_series_without_numbers_are_counted_in_path_order(tmp_path):
    write_series(tmp_path / "ct", uid="1.2.3", number="")
    write_series(tmp_path / "ct", uid="1.2.4", number="", first=10)
    assert [(case.name, case.paths[0]) for case in find_cases(tmp_path)] == [
        ("ct/series-1", "ct/0000.dcm"),
        ("ct/series-2", "ct/0010.dcm"),
    ]


def test_file_name_that_is_a_uid_keeps_its_dots(tmp_path):
    write(image(np.zeros((4, 4), np.uint8), modality="DX"), tmp_path / "1.2.840.113")
    assert names(tmp_path) == ["1.2.840.113"]


def test_single_file_is_named_by_its_stem(tmp_path):
    touch(tmp_path / "photo.JPG")
    assert names(tmp_path / "photo.JPG") == ["photo"]


def test_output_folder_inside_the_input_is_not_looked_at(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "out/a_mask.png")
    assert names(tmp_path, exclude=tmp_path / "out") == ["a"]
    assert names(tmp_path) == ["a", "out/a_mask"]


def test_output_folder_that_is_the_input_folder_is_refused(tmp_path):
    touch(tmp_path / "a.png")
    with pytest.raises(ValueError, match="the output folder is the input folder"):
        find_cases(tmp_path, exclude=tmp_path)


def test_missing_path_says_what_is_accepted(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere' does not exist. Accepted are pictures \(png"):
        find_cases(tmp_path / "nowhere")


def test_folder_without_an_image_says_what_it_holds(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no image in '.*'\. Accepted are pictures"):
        find_cases(tmp_path)
    touch(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match=r"there is no image in '.*' \(1 x not an image format\)"):
        find_cases(tmp_path)


def test_csv_list_mixes_formats_and_carries_labels(tmp_path):
    touch(tmp_path / "data/a.png", tmp_path / "data/a_seg.png", tmp_path / "b.nii.gz")
    files = [str(path) for path in write_series(tmp_path / "ct")]
    (tmp_path / "list.csv").write_text("image,label\ndata/a.png,data/a_seg.png\nb.nii.gz,\nct,\n")
    assert case_records(tmp_path / "list.csv") == [
        {"image": str(tmp_path / "b.nii.gz"), "name": "b", "source": "b.nii.gz"},
        {"image": files, "name": "ct", "source": "ct"},
        {
            "image": str(tmp_path / "data/a.png"),
            "label": str(tmp_path / "data/a_seg.png"),
            "name": "data/a",
            "source": "data/a.png",
        },
    ]


def test_a_folder_without_images_that_a_list_names_stays_a_case_that_fails(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "texts/notes.txt")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("image\na.png\nempty\ntexts\n")
    found = find_inputs(tmp_path / "list.csv")
    assert [(case.name, case.paths) for case in found.cases] == [
        ("a", ("a.png",)),
        ("empty", ("empty",)),
        ("texts", ("texts",)),
    ]
    assert found.skipped == [("texts/notes.txt", "not an image format")]


@pytest.mark.parametrize("wrap", [list, lambda rows: {"testing": rows}])
def test_json_list_takes_paths_rows_and_files_of_a_series(tmp_path, wrap):
    touch(tmp_path / "a.png", tmp_path / "b.png")
    write_series(tmp_path / "ct")
    rows = ["a.png", {"image": "b.png", "name": "second"}, {"image": ["ct/0000.dcm", "ct/0001.dcm"]}]
    (tmp_path / "list.json").write_text(json.dumps(wrap(rows)))
    assert names(tmp_path / "list.json") == ["a", "ct", "second"]


def test_file_that_a_list_takes_from_elsewhere_is_named_by_its_file_name(tmp_path):
    touch(tmp_path / "elsewhere/a.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/list.json").write_text(json.dumps(["../elsewhere/a.png"]))
    record = case_records(tmp_path / "lists/list.json")[0]
    assert (record["name"], record["source"]) == ("a", "a.png")
    assert record["image"] == str(tmp_path / "lists/../elsewhere/a.png")


def test_what_is_named_on_purpose_is_not_hidden(tmp_path):
    touch(tmp_path / ".export/a.png", tmp_path / ".export/deep/b.png", tmp_path / ".export/.cache/c.png")
    (tmp_path / "list.json").write_text(json.dumps([".export/a.png", ".export"]))
    found = find_inputs(tmp_path / "list.json")
    assert [case.paths for case in found.cases] == [(".export/a.png",), (".export/a.png",), (".export/deep/b.png",)]
    assert found.skipped == [(".export/.cache/c.png", "hidden")]
    assert names(tmp_path / ".export/a.png") == ["a"]


def test_file_that_a_list_names_and_that_is_not_there_stays_a_case(tmp_path):
    (tmp_path / "list.json").write_text(json.dumps(["gone.png"]))
    assert names(tmp_path / "list.json") == ["gone"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("list.csv", "picture\na.png\n", "does not name an image in each entry"),
        ("list.json", "[]", "does not name an image in each entry"),
        ("list.json", '{"training": ["a.png"]}', "does not name an image in each entry"),
        ("list.json", "[{", "'list.json' cannot be read"),
        ("list.json", '[{"image": "a.png", "name": "../b"}]', "a name that leaves the output folder"),
        ("list.json", '[{"image": "a.png", "name": "."}]', "a name that leaves the output folder"),
        ("list.json", '["a.png", {"image": "a.png", "label": ["m.png"]}]', "entry 2 .* has a label that is no path"),
        ("list.json", '[{"image": ["a.png", "b.png"]}]', "must be those of one DICOM series, it holds 'a.png'"),
    ],
)
def test_data_list_that_cannot_be_understood_is_named(tmp_path, file, content, message):
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        find_cases(tmp_path / file)


def test_one_label_for_a_folder_of_pictures_is_refused(tmp_path):
    touch(tmp_path / "many/a.png", tmp_path / "many/b.png", tmp_path / "m.png")
    (tmp_path / "list.csv").write_text("image,label\nmany,m.png\n")
    with pytest.raises(ValueError, match="one label for 2 images"):
        find_cases(tmp_path / "list.csv")


def zip_of(folder, path, *, prefix=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{prefix}{file.relative_to(folder).as_posix()}")
    return path


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """The folder in which temporary ones are made."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_zip_counts_as_a_folder(tmp_path, temporary):
    write_series(tmp_path / "study/ct")
    touch(tmp_path / "study/a.png", tmp_path / "study/notes.txt", tmp_path / "study/__MACOSX/._a.png")
    write(image(np.zeros((8, 8), np.uint8), modality="SEG"), tmp_path / "study/seg.dcm")
    path = zip_of(tmp_path / "study", tmp_path / "study.zip")
    with find_inputs(path) as unpacked:
        folder = find_inputs(tmp_path / "study")
        assert [(c.kind, c.name, c.paths) for c in unpacked.cases] == [(c.kind, c.name, c.paths) for c in folder.cases]
        assert unpacked.skipped == folder.skipped
        assert [case.name for case in unpacked.cases] == ["a", "ct"]
        assert all(file.is_relative_to(temporary) and file.is_file() for c in unpacked.cases for file in c.files)
    assert list(temporary.iterdir()) == []


def test_series_in_the_root_of_a_zip_is_called_after_it(tmp_path, temporary):
    write_series(tmp_path / "in")
    with find_inputs(zip_of(tmp_path / "in", tmp_path / "1.2.3.zip")) as inputs:
        assert [(case.name, case.source) for case in inputs.cases] == [("1.2.3", ".")]


def test_zip_in_a_tree_is_a_folder_called_by_its_stem(tmp_path, temporary):
    write_series(tmp_path / "in")
    touch(tmp_path / "in/b/c.png")
    (tmp_path / "tree/deep").mkdir(parents=True)
    zip_of(tmp_path / "in", tmp_path / "tree/deep/study.ZIP")
    touch(tmp_path / "tree/a.png")
    with find_inputs(tmp_path / "tree") as inputs:
        assert [(case.name, case.source) for case in inputs.cases] == [
            ("a", "a.png"),
            ("deep/study", "deep/study.ZIP"),
            ("deep/study/b/c", "deep/study.ZIP/b/c.png"),
        ]


def test_zip_beside_its_unpacked_copy_has_series_and_names_of_its_own(tmp_path, temporary):
    write_series(tmp_path / "tree/study/ct")
    zip_of(tmp_path / "tree/study", tmp_path / "tree/study.zip")
    with find_inputs(tmp_path / "tree") as inputs:
        assert [(case.name, len(case.files)) for case in inputs.cases] == [("study.zip/ct", 2), ("study/ct", 2)]


def test_hostile_and_nested_zips_in_a_tree_are_skipped_with_the_reason_and_the_rest_goes_on(tmp_path, temporary):
    touch(tmp_path / "tree/a.png")
    zip_of(tmp_path / "tree", tmp_path / "hostile.zip", prefix="../")
    (tmp_path / "broken.zip").write_bytes(b"PK")
    zip_of(tmp_path / "tree", tmp_path / "tree/inner.zip")
    zip_of(tmp_path / "tree", tmp_path / "outer.zip")
    with find_inputs(tmp_path) as inputs:
        assert [case.name for case in inputs.cases] == ["outer/a", "tree/a", "tree/inner/a"]
        reasons = dict(inputs.skipped)
    assert reasons["hostile.zip"].startswith("zip file that is not unpacked: entry 1 has an unsafe name")
    assert reasons["broken.zip"].startswith("zip file that cannot be unpacked (BadZipFile): it is no zip file")
    assert reasons["outer.zip/inner.zip"] == "zip file inside a zip file: unpack the outer one first"
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"../a.png": b"x"}, "entry 1 has an unsafe name"),
        ({"a.txt": b"x"}, "there is no image"),
        ({}, "empty zip file"),
    ],
)
def test_zip_given_as_input_that_cannot_be_used_leaves_nothing_behind(tmp_path, temporary, members, error):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=rf"(?s)bad\.zip.*{error}|{error}.*bad\.zip"):
        find_inputs(tmp_path / "bad.zip")
    assert list(temporary.iterdir()) == []


def test_files_of_a_zip_stay_while_cases_or_records_are_in_use(tmp_path, temporary):
    touch(tmp_path / "in/a.png")
    path = zip_of(tmp_path / "in", tmp_path / "in.zip")
    cases = find_cases(path)
    gc.collect()
    assert cases[0].files[0].is_file()
    del cases
    gc.collect()
    assert list(temporary.iterdir()) == []
    inputs = find_inputs(path)
    close, record = inputs.close, inputs.records()[0]
    del inputs
    gc.collect()
    assert Path(record["image"]).is_file()
    close()
    assert list(temporary.iterdir()) == []


def test_zip_in_a_data_list_is_looked_into(tmp_path, temporary):
    touch(tmp_path / "in/a.png", tmp_path / "in/b.png")
    zip_of(tmp_path / "in", tmp_path / "study.zip")
    (tmp_path / "list.json").write_text(json.dumps(["study.zip"]))
    with find_inputs(tmp_path / "list.json") as inputs:
        assert [case.name for case in inputs.cases] == ["study/a", "study/b"]


def test_dicomdir_names_the_files_and_missing_ones_stay_cases(tmp_path):
    write_series(tmp_path / "cd/ct")
    touch(tmp_path / "cd/a.png", tmp_path / "cd/autorun.exe")
    path = write_dicomdir(
        tmp_path / "cd/DICOMDIR", [["CT", "0000.DCM"], ["CT", "0001.DCM"], ["CT", "0002"], ["..", "X"]]
    )
    inputs = find_inputs(path)
    assert [(case.kind, case.name, case.paths) for case in inputs.cases] == [
        ("dicom", "CT/0002", ("CT/0002",)),
        ("dicom", "ct", ("ct/0000.dcm", "ct/0001.dcm")),
    ]
    assert inputs.skipped == [("DICOMDIR", "DICOMDIR (names 1 files outside its folder)")]


def test_dicomdir_in_a_folder_is_a_file_like_any_other(tmp_path):
    write_series(tmp_path / "ct")
    write_dicomdir(tmp_path / "DICOMDIR", [["CT", "0000.DCM"]])
    inputs = find_inputs(tmp_path)
    assert [case.name for case in inputs.cases] == ["ct"]
    assert inputs.skipped == [("DICOMDIR", "DICOMDIR")]


def test_dicomdir_of_another_name_is_known_by_its_class(tmp_path):
    write_series(tmp_path / "ct")
    path = write_dicomdir(tmp_path / "index.dcm", [["CT", "0000.DCM"], ["CT", "0001.DCM"]])
    assert names(path) == ["ct"]


def test_rules_choose_series_and_leave_everything_else_out_with_the_reason(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "b.nii", tmp_path / "notes.txt")
    write_series(tmp_path / "ct", uid="1.2.3", number="7")
    write_series(tmp_path / "ct", uid="1.2.4", number="3", first=10)
    (tmp_path / "list.json").write_text(json.dumps(["ct", "a.png", ["ct/0000.dcm", "ct/0001.dcm"], "gone.dcm"]))
    reason = "not chosen by the series rules"
    inputs = find_inputs(tmp_path, series="number=3")
    assert [case.name for case in inputs.cases] == ["ct/series-3"]  # as without rules
    assert inputs.skipped == [
        ("a.png", reason),
        ("b.nii", reason),
        ("ct/0000.dcm", reason),
        ("ct/0001.dcm", reason),
        ("list.json", "not an image format"),
        ("notes.txt", "not an image format"),
    ]
    listed = find_inputs(tmp_path / "list.json", series=[{"uid": "1.2.3"}])
    assert [case.paths for case in listed.cases] == [("ct/0000.dcm", "ct/0001.dcm")] * 2
    assert ("gone.dcm", "missing, so that no series rule can choose it") in listed.skipped


def test_rules_that_choose_nothing_say_what_is_there_without_descriptions(tmp_path):
    for ds in (objects := series(np.zeros((3, 4, 4), np.int16))):
        ds.SeriesDescription = "Doe liver"
    write_all(objects, tmp_path / "ct")
    touch(tmp_path / "a.png")
    with pytest.raises(
        NoImageError, match=r"rules choose nothing in .*: CT number 4 \(3 files\), 1 of another"
    ) as caught:
        find_inputs(tmp_path, series="modality=MR")
    assert "Doe" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_rule_that_cannot_be_understood_is_refused_before_anything_is_opened(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'modality'"):
        find_inputs(tmp_path / "nowhere", series="modalty=CT")


def test_seg_alone_is_named(tmp_path):
    path = write(image(np.zeros((8, 8), np.uint8), modality="SEG"), tmp_path / "seg.dcm")
    with pytest.raises(
        NoImageError, match=r"no image in '.*seg\.dcm' \(1 x non-image DICOM object \(SEG\)\)\. A SEG is"
    ):
        find_inputs(path)


def test_series_of_one_number_in_one_folder_have_names_of_their_own(tmp_path):
    for k in range(3):
        write_series(tmp_path / "ct", uid=f"1.2.{k}", number="4", first=10 * k)
    assert names(tmp_path) == ["ct/series-1", "ct/series-2", "ct/series-3"]


def test_cases_carry_what_a_listing_shows(tmp_path):
    write_series(tmp_path / "ct")
    touch(tmp_path / "a.png")
    picture, ct = find_cases(tmp_path)
    assert picture.dicom is None
    assert (ct.dicom.modality, ct.dicom.size, ct.dicom.frames, ct.dicom.spacing) == ("CT", (4, 4), 2, (0.8, 0.5, 2.0))


@pytest.mark.parametrize("flag", [True, "true"])
def test_without_paths_everything_is_called_by_numbers(tmp_path, temporary, flag):
    write_series(tmp_path / "DOE^JANE/ct")
    touch(tmp_path / "DOE^JANE/a.png", tmp_path / "jane.txt", tmp_path / "doe.nii")
    touch(tmp_path / "in/jane.png")
    zip_of(tmp_path / "in", tmp_path / "jane.zip")
    (tmp_path / "in/jane.png").unlink()
    (tmp_path / "zzz.zip").write_bytes(b"")
    with find_inputs(tmp_path, no_paths=flag) as inputs:
        assert [(case.kind, case.name, case.paths) for case in inputs.cases] == [
            ("picture", "case-0001", ("case-0001",)),
            ("dicom", "case-0002", ("case-0002/0001", "case-0002/0002")),
            ("nifti", "case-0003", ("case-0003",)),
            ("picture", "case-0004", ("case-0004",)),
        ]
        assert [record["source"] for record in inputs.records()] == ["case-0001", "case-0002", "case-0003", "case-0004"]
        assert [path for path, _ in inputs.skipped] == ["skipped-0001", "skipped-0002"]
        assert not any("jane" in f"{entry}".lower() or "zzz" in f"{entry}" for entry in inputs.skipped)


def test_numbers_of_cases_do_not_depend_on_rules(tmp_path):
    write_series(tmp_path / "a", uid="1.2.3", number="7")
    write_series(tmp_path / "b", uid="1.2.4", number="3")
    assert [case.name for case in find_inputs(tmp_path, no_paths=True, series="number=3").cases] == ["case-0002"]


def test_errors_without_paths_do_not_name_the_input(tmp_path):
    touch(tmp_path / "jane.txt")
    with pytest.raises(NoImageError, match="there is no image in the input") as caught:
        find_inputs(tmp_path, no_paths=True)
    assert tmp_path.name not in str(caught.value)


def test_inputs_unpack_into_cases_and_skipped_files(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "b.txt")
    cases, skipped = find_inputs(tmp_path)
    assert ([case.name for case in cases], skipped) == (["a"], [("b.txt", "not an image format")])


def test_folder_of_ten_thousand_files_is_looked_through_in_seconds(tmp_path):
    for k in range(10_000):
        (tmp_path / f"{k}.png").touch()
    opened = []
    real = Path.open
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "open", lambda self, *args, **kwargs: opened.append(self) or real(self, *args, **kwargs))
        assert len(find_cases(tmp_path)) == 10_000
    assert opened == []


def test_a_folder_that_may_not_be_read_is_skipped_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").write_bytes(b"x")
    scandir = os.scandir

    def guarded(place):
        if Path(place).name == "closed":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", guarded)
    found = find_inputs(tmp_path)
    assert [case.name for case in found.cases] == ["a"]
    assert found.skipped == [("closed", "folder that cannot be read: no permission, or it is gone")]


def test_results_of_an_earlier_run_are_no_images_unless_they_are_asked_for(tmp_path):
    touch(tmp_path / "a.png")
    results = tmp_path / "out"
    touch(results / "a_mask.png", results / "sub" / "b_mask.png")
    (results / "manifest.json").write_text('{\n    "notice": "For research use, not a medical device.",\n')
    found = find_inputs(tmp_path)
    assert [case.name for case in found.cases] == ["a"]
    assert found.skipped == [("out", "results of an earlier run")]
    assert [case.name for case in find_inputs(results).cases] == ["a_mask", "sub/b_mask"]


def test_another_manifest_makes_no_result_folder(tmp_path):
    touch(tmp_path / "web" / "icon.png")
    (tmp_path / "web" / "manifest.json").write_text("{}")
    assert [case.name for case in find_inputs(tmp_path).cases] == ["web/icon"]
