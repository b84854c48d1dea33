import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from banet_monai.data import check_dataset, require_valid, training_cases, validation_cases
from tests.dicom_objects import image, write


def save(root: Path, name: str, pixels: np.ndarray) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def square(value: int = 255) -> np.ndarray:
    mask = np.zeros((16, 20), np.uint8)
    mask[4:9, 5:12] = value
    return mask


@pytest.fixture
def root(tmp_path):
    """Four good training cases and two to validate on."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            save(tmp_path, f"{split}/images/{split}{number}.png", rng.integers(0, 256, (16, 20, 3), dtype=np.uint8))
            save(tmp_path, f"{split}/masks/{split}{number}.png", square())
    return tmp_path


def test_good_data_have_no_error(root):
    report = require_valid(root)
    assert report.ok
    assert (report.training, report.validation) == (4, 2)
    assert report.summary() == "4 training cases and 2 validation cases"


def test_lists_of_cases_are_checked_like_their_folder(root):
    report = check_dataset(training_cases(str(root), limit=3), validation=validation_cases(str(root)))
    assert report.ok
    assert (report.training, report.validation) == (3, 2)


def test_a_list_to_validate_on_needs_a_list_to_train_on(root):
    with pytest.raises(ValueError, match=r"a folder or data list brings its own"):
        check_dataset(root, validation=validation_cases(str(root)))


def test_unpaired_files_are_named(root):
    (root / "train/masks/train1.png").unlink()
    assert check_dataset(root).errors == ["images/train1.png has no mask in masks/"]


def volume(root: Path, name: str, *shape: int) -> dict[str, str]:
    """A case of ones, whose mask is the image itself."""
    path = str(root / f"{name}.nii")
    nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), path)
    return {"image": path, "label": path, "name": name}


def test_volumes_for_a_network_of_pictures_are_named_before_training(root, tmp_path):
    good = [volume(root, "z", 8, 6, 1), volume(root, "x", 1, 8, 6), volume(root, "colour", 8, 6, 1, 3)]
    assert not check_dataset(good[:2], spatial_dims=2).unfit
    cases = [*training_cases(str(root)), *good, volume(root, "v1", 8, 6, 4), volume(root, "v2", 8, 6, 5)]
    first, second = check_dataset(cases, spatial_dims=2).unfit
    assert first.endswith("v1.nii is a volume of 8 x 6 x 4, and the network of this task is trained on pictures: "
                          "save its slices as pictures, or choose a task with a 3D network")  # fmt: skip
    assert second.endswith("v2.nii is a volume of 8 x 6 x 5, and the network of this task is trained on pictures")
    assert not check_dataset(cases).unfit


def test_folders_of_dicom_are_held_against_the_network(root):
    for name, count in (("series", 3), ("slice", 1)):
        for number in range(count):
            write(image(np.ones((6, 8), np.int16)), root / name / f"{number}.dcm")
    (root / "series" / "notes.txt").write_text("nothing")
    mask = {"series": volume(root, "m3", 8, 6, 3), "slice": volume(root, "m1", 8, 6, 1)}
    series, single = ({"image": str(root / name), "label": mask[name]["label"]} for name in mask)
    cases = training_cases(str(root))
    report = check_dataset([*cases, series, single], spatial_dims=2)
    assert [entry.partition(": ")[0].split("/")[-1] for entry in report.errors] == [
        "series is a series of 3 DICOM files, and the network of this task is trained on pictures"
    ]
    (found,) = check_dataset([series, single], spatial_dims=3).errors
    assert found.endswith("slice is a picture of 8 x 6, and the network of this task is trained on volumes")
    assert check_dataset([series, single]).ok

    (root / "slice" / "0.dcm").write_bytes(b"no DICOM")
    broken, _ = check_dataset([series, single], spatial_dims=2).errors
    assert broken.split("/")[-1] == "slice is no DICOM file"


def test_pictures_for_a_network_of_volumes_are_named_before_training(root):
    cases = [*training_cases(str(root), limit=1), volume(root, "v", 8, 6, 4)]
    with pytest.raises(
        ValueError, match=r"train0\.png is a picture of 20 x 16, and the network of this task is trained"
    ):
        require_valid(cases, spatial_dims=3)


def test_a_line_of_pixels_is_too_small(root):
    cases = [volume(root, "line", 1, 1, 5), volume(root, "slice", 1, 8, 6)]
    assert [entry.split("/")[-1] for entry in check_dataset(cases).too_small] == [
        "line.nii has 1 x 1 x 5 pixels, nothing can be outlined in it"
    ]


def test_a_case_without_a_mask_is_named(root):
    cases = [{"image": str(root / "train/images/train0.png")}, *training_cases(str(root))[1:]]
    assert check_dataset(cases).errors == ["train0.png has no mask"]


def test_unreadable_files_are_named_each_with_its_reason(root):
    (root / "train/images/train0.png").write_bytes(b"")
    (root / "train/masks/train1.png").write_bytes(b"no picture")
    whole = (root / "val/images/val0.png").read_bytes()
    (root / "val/images/val0.png").write_bytes(whole[:300])
    assert check_dataset(root).unreadable == (
        "train/images/train0.png is empty (0 bytes)",
        "train/masks/train1.png is no picture, or its beginning is damaged",
        "val/images/val0.png is truncated or corrupt",
    )


def test_a_mask_of_another_size_is_named_with_both_sizes(root):
    save(root, "train/masks/train2.png", square().T.copy())
    assert check_dataset(root).mismatched == (
        "train/masks/train2.png has 16 x 20 pixels and its image 20 x 16: they must be equal",
    )


def test_masks_with_unexpected_values_are_named_and_the_remedy_once(root):
    for number in (0, 1):
        save(root, f"train/masks/train{number}.png", square(100))
    first, second = check_dataset(root).unexpected
    assert first.startswith("train/masks/train0.png: a mask with 2 different values (0, 100) cannot be read: one class")
    assert second == "train/masks/train1.png: a mask with 2 different values (0, 100)"


def test_label_ids_of_two_classes_need_num_classes(root):
    labels = square(1)
    labels[12:, :] = 2
    for path in root.glob("*/masks/*.png"):
        Image.fromarray(labels).save(path)
    assert len(check_dataset(root).unexpected) == 6
    assert check_dataset(root, num_classes=2).ok


def test_a_picture_on_both_sides_of_the_split_is_an_error(root):
    shutil.copy(root / "train/images/train1.png", root / "val/images/val1.png")
    assert check_dataset(root).errors == [
        "val/images/val1.png is the same picture as train/images/train1.png, one to validate and one to train on"
    ]


def test_a_picture_twice_on_one_side_is_only_remarked(root):
    shutil.copy(root / "train/images/train1.png", root / "train/images/train3.png")
    report = check_dataset(root)
    assert report.ok
    assert "1 repeated picture: train/images/train3.png is the same picture as" in report.summary()


def test_one_empty_mask_is_only_remarked(root):
    save(root, "train/masks/train3.png", square(0))
    report = check_dataset(root)
    assert report.ok
    assert report.empty_masks == ("train3",)


def test_training_masks_without_any_foreground_are_an_error(root):
    for number in range(4):
        save(root, f"train/masks/train{number}.png", square(0))
    with pytest.raises(ValueError, match=r"1 error: none of the 4 training masks has a foreground pixel"):
        require_valid(root)


@pytest.mark.parametrize("shape", [(1, 1), (1, 20)])
def test_a_picture_of_one_pixel_or_row_is_an_error(root, shape):
    save(root, "train/images/train0.png", np.zeros(shape, np.uint8))
    assert check_dataset(root).too_small == (
        f"train/images/train0.png has {shape[1]} x {shape[0]} pixels, nothing can be outlined in it",
    )


def test_require_valid_names_ten_errors_and_counts_the_others(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(14):
        save(tmp_path, f"images/{number:02d}.png", rng.integers(0, 256, (8, 8), dtype=np.uint8))
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / f"masks/{number:02d}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"^the data set has 14 errors: .* and 4 more\.$"):
        require_valid(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent' does not exist"):
        require_valid(tmp_path / "absent")


def test_masks_may_be_dicom_as_in_training(root):
    stored = (square() > 0).astype(np.uint16)
    for mask in sorted((root / "train" / "masks").iterdir()):
        write(image(stored, modality="MR"), mask.with_suffix(".dcm"))
        mask.unlink()
    report = check_dataset(root)
    assert report.errors == []
    assert report.training == 4
