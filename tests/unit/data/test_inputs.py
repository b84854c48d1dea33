import json

import numpy as np
import pytest

from banet_monai.data.inputs import case_records, find_cases, find_inputs
from tests.dicom_objects import image, series, write, write_all


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
