import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from banet_monai.data import training_cases, validation_cases


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(cases: list[dict[str, str]]) -> list[str]:
    return [case["name"] for case in cases]


def test_given_train_and_val_folders_are_kept(tmp_path):
    touch(tmp_path, "train/images/b.jpg", "train/masks/b.png", "train/images/a.jpg", "train/masks/a.png")
    touch(tmp_path, "val/images/c.jpg", "val/masks/c.png")
    assert training_cases(str(tmp_path))[0] == {
        "image": str(tmp_path / "train/images/a.jpg"),
        "label": str(tmp_path / "train/masks/a.png"),
        "name": "a",
    }
    assert names(training_cases(str(tmp_path), val_fraction=0.5, seed=3)) == ["a", "b"]
    assert names(validation_cases(str(tmp_path), val_fraction=0.5, seed=3)) == ["c"]


def test_validation_folder_and_labels_folder_are_names_too(tmp_path):
    touch(tmp_path, "train/images/a.jpg", "train/labels/a.png", "validation/images/b.jpg", "validation/labels/b.png")
    assert names(validation_cases(str(tmp_path))) == ["b"]


@pytest.mark.parametrize("folder", ["", "train/"])
def test_a_folder_without_validation_is_split_by_fraction(tmp_path, folder):
    for number in range(20):
        touch(tmp_path, f"{folder}images/p{number:02d}.png", f"{folder}masks/p{number:02d}.png")
    training, validation = (
        training_cases(str(tmp_path), val_fraction=0.25),
        validation_cases(str(tmp_path), val_fraction=0.25),
    )
    assert (len(training), len(validation)) == (15, 5)
    assert sorted(names(training) + names(validation)) == [f"p{number:02d}" for number in range(20)]
    assert names(validation) != names(validation_cases(str(tmp_path), val_fraction=0.25, seed=1))


@pytest.mark.parametrize("ending", ["_mask", "_segmentation", "_seg"])
def test_mask_names_may_carry_an_ending(tmp_path, ending):
    touch(tmp_path, "train/images/a.jpg", f"train/masks/a{ending}.png", "val/images/a_b.jpg", "val/masks/a_b.png")
    assert training_cases(str(tmp_path))[0]["label"].endswith(f"a{ending}.png")


def test_an_exact_mask_name_is_not_taken_by_a_shorter_image_name(tmp_path):
    touch(tmp_path, "train/images/a.jpg", "train/images/a_mask.jpg", "train/masks/a_mask.png", "train/masks/a.png")
    touch(tmp_path, "val/images/v.jpg", "val/masks/v.png")
    assert [Path(case["label"]).name for case in training_cases(str(tmp_path))] == ["a.png", "a_mask.png"]


def test_decathlon_folders_work_without_their_json_and_hidden_files_are_ignored(tmp_path):
    touch(
        tmp_path,
        *(f"{folder}/{name}.nii.gz" for folder in ("imagesTr", "labelsTr") for name in ("h_1", "h_2", "._h_1")),
    )
    assert sorted(names(training_cases(str(tmp_path)) + validation_cases(str(tmp_path)))) == ["h_1", "h_2"]


def test_decathlon_json_names_the_cases(tmp_path):
    touch(
        tmp_path, *(f"{folder}/{name}.nii.gz" for folder in ("imagesTr", "labelsTr") for name in ("h_1", "h_2", "h_3"))
    )
    entries = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in ("h_1", "h_2")]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": entries, "test": ["./imagesTs/h_9.nii.gz"]}))
    assert sorted(names(training_cases(str(tmp_path)) + validation_cases(str(tmp_path)))) == ["h_1", "h_2"]


def test_csv_list_with_split_column(tmp_path):
    touch(tmp_path, "p/a.jpg", "p/b.jpg", "p/c.jpg", "m/a.png", "m/b.png")
    (tmp_path / "list.csv").write_text(
        "Image, Label ,split\np/a.jpg,m/a.png,training\np/b.jpg,m/b.png,val\np/c.jpg,,test\n", encoding="utf-8-sig"
    )
    path = str(tmp_path / "list.csv")
    assert training_cases(path) == [
        {"image": str(tmp_path / "p/a.jpg"), "label": str(tmp_path / "m/a.png"), "name": "a"}
    ]
    assert names(validation_cases(path)) == ["b"]


def test_csv_list_with_patients_keeps_each_patient_on_one_side(tmp_path):
    rows = ["image,label,patient"]
    for number in range(30):
        touch(tmp_path, f"{number:02d}.png", f"{number:02d}_m.png")
        rows.append(f"{number:02d}.png,{number:02d}_m.png,P{number % 6}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    patients = [
        {int(name) % 6 for name in names(side(str(tmp_path / "list.csv"), val_fraction=0.3))}
        for side in (training_cases, validation_cases)
    ]
    assert len(patients[0]) == 4
    assert len(patients[1]) == 2
    assert not patients[0] & patients[1]


def test_a_split_that_divides_a_patient_is_refused(tmp_path):
    touch(tmp_path, "a.png", "b.png", "m.png")
    (tmp_path / "list.csv").write_text("image,label,split,patient\na.png,m.png,train,P1\nb.png,m.png,val,P1\n")
    with pytest.raises(ValueError, match=r"stand in training and in validation: P1"):
        training_cases(str(tmp_path / "list.csv"))


def test_json_list_in_monai_form(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nii.gz", "m.nii.gz")
    content = {
        "training": [{"image": "a.nii.gz", "label": "m.nii.gz"}],
        "validation": [{"image": "b.nii.gz", "label": "m.nii.gz"}],
    }
    (tmp_path / "list.json").write_text(json.dumps(content))
    assert names(training_cases(str(tmp_path / "list.json"))) == ["a"]
    assert names(validation_cases(str(tmp_path / "list.json"))) == ["b"]


def test_fold_column_chooses_the_validation_fold(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.png", "m.png")
    rows = [{"image": f"{name}.png", "label": "m.png", "fold": fold} for fold, name in enumerate("abc")]
    (tmp_path / "list.json").write_text(json.dumps({"training": rows}))
    assert names(validation_cases(str(tmp_path / "list.json"), fold=1)) == ["b"]
    assert names(training_cases(str(tmp_path / "list.json"), fold=1)) == ["a", "c"]


def test_equal_file_names_in_two_folders_become_two_names(tmp_path):
    touch(tmp_path, "p1/001.png", "p2/001.png", "m.png")
    (tmp_path / "list.csv").write_text("image,label,split\np1/001.png,m.png,train\np2/001.png,m.png,train\n")
    assert names(training_cases(str(tmp_path / "list.csv"))) == ["p1/001", "p2/001"]


@pytest.mark.parametrize("absolute", [False, True])
def test_equal_file_names_outside_the_folder_of_the_list_become_two_names_inside_the_results(tmp_path, absolute):
    touch(tmp_path, "p1/001.png", "p2/001.png", "m.png", "lists/x")
    start = tmp_path.as_posix() if absolute else ".."
    rows = "".join(f"{start}/{folder}/001.png,{start}/m.png,train\n" for folder in ("p1", "p2"))
    (tmp_path / "lists" / "list.csv").write_text(f"image,label,split\n{rows}")
    assert names(training_cases(str(tmp_path / "lists" / "list.csv"))) == ["p1/001", "p2/001"]


@pytest.mark.parametrize(
    ("file_name", "content"), [("ids.txt", "# fixed\nb\n\n"), ("ids.json", '{"validation": ["b"]}')]
)
def test_listed_ids_fix_the_validation_cases(tmp_path, file_name, content):
    touch(tmp_path, *(f"images/{name}.png" for name in "abc"), *(f"masks/{name}.png" for name in "abc"))
    (tmp_path / file_name).write_text(content)
    ids = str(tmp_path / file_name)
    assert names(validation_cases(str(tmp_path), val_ids=ids)) == ["b"]
    assert names(training_cases(str(tmp_path), val_ids=ids, limit=1)) == ["a"]


def test_a_listed_id_that_stands_in_both_parts_of_the_data_is_named(tmp_path):
    touch(tmp_path, *(f"{part}/{kind}/a.png" for part in ("train", "val") for kind in ("images", "masks")))
    touch(tmp_path, "train/images/b.png", "train/masks/b.png")
    (tmp_path / "ids.txt").write_text("a\n")
    with pytest.raises(ValueError, match=r"'ids.txt' lists cases whose name stands twice .* val/: a; rename one"):
        validation_cases(str(tmp_path), val_ids=str(tmp_path / "ids.txt"))
    (tmp_path / "ids.txt").write_text("b\n")
    assert names(validation_cases(str(tmp_path), val_ids=str(tmp_path / "ids.txt"))) == ["b"]


def test_listed_ids_that_are_unknown_are_named(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png", "ids.txt")
    (tmp_path / "ids.txt").write_text("a\nz\n")
    with pytest.raises(ValueError, match=r"ids.txt' lists validation cases that the data do not hold: z"):
        validation_cases(str(tmp_path), val_ids=str(tmp_path / "ids.txt"))


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent' does not exist"):
        training_cases(str(tmp_path / "absent"))


def test_empty_folder_says_which_layouts_work(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"it is empty. What works: 'images/' with 'masks/'"):
        training_cases(str(tmp_path))


def test_folder_of_another_layout_says_what_it_holds(tmp_path):
    touch(tmp_path, "pictures/a.png")
    with pytest.raises(FileNotFoundError, match=r"it holds pictures/. What works"):
        training_cases(str(tmp_path))


def test_empty_images_folder_says_which_files_are_readable(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no image in the folders of .*; readable are .nii.gz"):
        training_cases(str(tmp_path))


def test_images_without_a_mask_folder_are_refused(tmp_path):
    touch(tmp_path, "images/a.png")
    with pytest.raises(ValueError, match=r"needs 'masks/' or 'labels/' beside 'images/' and has neither"):
        training_cases(str(tmp_path))


def test_unpaired_files_are_named(tmp_path):
    touch(tmp_path, "images/a.png", "images/b.png", "masks/a.png", "masks/c.png")
    with pytest.raises(ValueError, match=r"images/b.png has no mask in masks/; masks/c.png has no image in images/"):
        training_cases(str(tmp_path))


def test_a_picture_of_a_kind_that_is_not_read_is_named_beside_its_mask(tmp_path):
    touch(tmp_path, "images/a.png", "images/b.webp", "masks/a.png", "masks/b_mask.png")
    with pytest.raises(ValueError, match=r"masks/b_mask.png has no image in images/ \(b.webp is of a kind that is not"):
        training_cases(str(tmp_path))


def test_at_most_ten_unpaired_files_are_named(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png", *(f"images/u{number:02d}.png" for number in range(13)))
    with pytest.raises(ValueError, match=r"u09.png has no mask in masks/ and 3 more"):
        training_cases(str(tmp_path))


def test_two_images_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "images/a.png", "images/a.jpg", "masks/a.png")
    with pytest.raises(ValueError, match=r"holds a.jpg and a.png: one name, two files"):
        training_cases(str(tmp_path))


def test_folders_below_images_are_refused_not_ignored(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png", "images/seq1/b.png")
    with pytest.raises(ValueError, match=r"images/seq1/ is a folder: .* use a data list"):
        training_cases(str(tmp_path))


@pytest.mark.parametrize(
    ("file_name", "content", "message"),
    [
        ("l.csv", "picture,label\na.png,m.png\n", "has no column image; its header is 'picture,label'"),
        ("l.csv", "image;label\na.png;m.png\n", "its header is 'image;label', and columns are separated by commas"),
        ("l.csv", "image,label\na.png,\u00e4.png\n".encode("latin-1"), "is no text in UTF-8: save it as UTF-8"),
        ("l.csv", "image,label,split\na.png,m.png,holdout\n", "has the split 'holdout'; what works: train, val, test"),
        ("l.csv", "image,label,split\na.png,m.png,train\nb.png,m.png,\n", "'split' is given for 1 of 2 cases"),
        ("l.csv", "image,label\na.png,\n", "gives no label for case 1"),
        (
            "l.csv",
            "image,label,patient,sequence\na.png,m.png,1,2\n",
            r"several columns to group by \(patient, sequence\)",
        ),
        ("l.csv", "image,label\n", "names no case"),
        ("l.csv", "image,label\na.png,m.png\na.png,m.png\n", "the list names a twice"),
        ("l.json", "{", "cannot be read: "),
        ("l.json", "3", "must hold a list of cases"),
        ("l.json", '{"train": []}', "names no case: it must hold a list of cases"),
        ("l.json", '[{"Image": ["a.png"], "label": "m.png"}]', "has a case whose 'image' is no path"),
        ("l.json", '[{"image": ["a.png"], "label": "m.png"}]', "has a case whose 'image' is no path"),
        ("l.json", '["a.png"]', "each case must look like"),
        ("l.csv", "image,label,name\na.png,m.png,../../x\n", "case 1 of .* a name that leaves the folder of results"),
        ("l.csv", "image,label,name\na.png,m.png,/x\n", "case 1 of .* a name that leaves the folder of results"),
        ("l.txt", "a.png", "list that ends in .csv or .json"),
    ],
)
def test_a_data_list_that_cannot_be_understood_says_why(tmp_path, file_name, content, message):
    touch(tmp_path, "a.png", "b.png", "m.png")
    (tmp_path / file_name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        training_cases(str(tmp_path / file_name))


def test_a_data_list_that_names_a_missing_file_says_which(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "l.csv").write_text("image,label\na.png,m.png\n")
    with pytest.raises(
        FileNotFoundError, match=r"case 1 of the data list 'l.csv' names 'm.png', which does not exist\."
    ):
        training_cases(str(tmp_path / "l.csv"))
    (tmp_path / "l.csv").write_text("image,label\nb\\a.png,a.png\n")
    with pytest.raises(FileNotFoundError, match=r"which does not exist \(folders are separated by /\)"):
        training_cases(str(tmp_path / "l.csv"))


def test_one_case_cannot_be_split(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    with pytest.raises(ValueError, match=r"one case cannot be split into training and validation"):
        training_cases(str(tmp_path))
    assert names(training_cases(str(tmp_path), val_fraction=0.0)) == ["a"]
    assert names(validation_cases(str(tmp_path), val_fraction=1.0)) == ["a"]
    with pytest.raises(ValueError, match=r"leaves no validation case of 1: check its split, val_fraction \(now 0.0\)"):
        validation_cases(str(tmp_path), val_fraction=0.0)


def test_a_limit_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"limit must be at least 1, or null for all cases, got 0"):
        training_cases(str(tmp_path), limit=0)
    with pytest.raises(ValueError, match="limit must be a number, got 'two'"):
        training_cases(str(tmp_path), limit="two")
    with pytest.raises(ValueError, match="val_fraction must be a number, got 'ten'"):
        training_cases(str(tmp_path), val_fraction="ten")


def test_cases_load_with_monai(tmp_path):
    from monai.transforms import LoadImaged

    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / folder / f"{name}.png")
    case = training_cases(str(tmp_path), val_fraction=0.5)[0]
    assert LoadImaged(keys=["image", "label"])(case)["image"].shape == (6, 4)


@pytest.mark.parametrize("validation", [True, False])
def test_test_rows_of_a_json_list_are_left_out_with_and_without_a_validation_part(tmp_path, validation):
    touch(tmp_path, *(f"{kind}{number}.png" for kind in "im" for number in range(4)))
    rows = [{"image": f"i{number}.png", "label": f"m{number}.png"} for number in range(4)]
    rows[1]["split"] = "test"
    content = {"training": rows[:3], "validation": rows[3:]} if validation else {"training": rows, "validation": None}
    if not validation:
        content["training"] = [{"split": "train", **row} for row in rows]
    (tmp_path / "list.json").write_text(json.dumps(content))
    assert "i1" not in names(training_cases(str(tmp_path / "list.json")))


@pytest.mark.parametrize("written", ["{}", "{}.0"])
def test_folds_are_whole_numbers_and_one_that_no_case_has_is_refused(tmp_path, written):
    touch(tmp_path, *(f"{kind}{number}.png" for kind in "im" for number in range(4)))
    lines = [f"i{number}.png,m{number}.png,{written.format(number % 2)}" for number in range(4)]
    (tmp_path / "list.csv").write_text("\n".join(["image,label,fold", *lines]))
    assert names(validation_cases(str(tmp_path / "list.csv"), fold=1)) == ["i1", "i3"]
    with pytest.raises(ValueError, match=r"no case is of fold 2, there are: 0; 1"):
        training_cases(str(tmp_path / "list.csv"), fold=2)


def test_accents_in_one_or_two_characters_pair_and_are_found_in_lists(tmp_path):
    composed, apart = "caf\u00e9", "cafe\u0301"
    touch(tmp_path, f"images/{composed}.png", f"masks/{apart}.png", "images/b.png", "masks/b.png")
    (tmp_path / "val.txt").write_text(apart)
    assert names(validation_cases(str(tmp_path), val_ids=str(tmp_path / "val.txt"))) == [composed]


def test_a_description_beside_the_folders_is_no_list(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png", "images/b.png", "masks/b.png")
    (tmp_path / "dataset.json").write_text('{"title": "Lesions", "license": "CC0"}')
    assert names(training_cases(str(tmp_path), val_fraction=0)) == ["a", "b"]


@pytest.mark.parametrize("sign", ["\x85", "\u2028", "\x0b"])
def test_file_names_of_a_csv_keep_signs_that_only_look_like_line_ends(tmp_path, sign):
    touch(tmp_path, f"x{sign}y.png", "mask.png")
    (tmp_path / "list.csv").write_text(f"image,label\nx{sign}y.png,mask.png\n", encoding="utf-8")
    assert names(training_cases(str(tmp_path / "list.csv"), val_fraction=0)) == [f"x{sign}y"]


def test_cases_to_validate_on_are_numbered_where_names_shall_not_be_told(tmp_path):
    touch(tmp_path, *[f"{part}/{name}.png" for part in ("images", "masks") for name in ("DOE", "ROE", "ZOE")])
    cases = validation_cases(str(tmp_path), val_fraction=1, no_paths="true")
    assert names(cases) == ["case-0001", "case-0002", "case-0003"]
    assert [Path(case["image"]).stem for case in cases] == ["DOE", "ROE", "ZOE"]
