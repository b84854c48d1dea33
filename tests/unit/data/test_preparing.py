import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from banet_monai.data.datalists import training_cases, validation_cases
from banet_monai.data.official_pictures import Scaling
from banet_monai.data.official_sets import ISIC_2017, KVASIR_SEG, SHENZHEN
from banet_monai.data.preparing import DamagedFilesError, prepare_decathlon, prepare_pictures
from banet_monai.dicom.archives import ArchiveError
from tests.official_archives import (
    BLUE,
    GREEN,
    KVASIR_NAMES,
    banner,
    bar,
    encoded,
    hippocampus_archive,
    hippocampus_members,
    isic_archives,
    kvasir_archive,
    make_tar,
    make_zip,
    shenzhen_archives,
    volume,
)


@pytest.fixture
def downloads(tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "data" / "set"


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def unpack(archives):
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(path.parent)
        path.unlink()


# ---- ISIC 2017 -------------------------------------------------------------------------------------------------------


def test_isic_2017_is_divided_as_officially_and_superpixels_are_left_out(downloads, out):
    prepared = prepare_pictures(ISIC_2017, isic_archives(downloads), out)
    assert files_below(out) == [
        "prepared.json",
        "train/images/ISIC_0000000.jpg",
        "train/images/ISIC_0000001.jpg",
        "train/masks/ISIC_0000000.png",
        "train/masks/ISIC_0000001.png",
        "val/images/ISIC_0001769.jpg",
        "val/masks/ISIC_0001769.png",
    ]
    assert prepared.cases == {"train": 2, "val": 1}
    assert prepared.official == {"train": 2000, "val": 150}
    assert {reason: len(names) for reason, names in prepared.left_out.items()} == {
        "superpixel maps": 3,
        "other files": 2,
    }


def test_pictures_are_copied_byte_for_byte_where_nothing_is_scaled(downloads, out):
    prepare_pictures(ISIC_2017, isic_archives(downloads), out)
    assert (out / "train/images/ISIC_0000000.jpg").read_bytes() == encoded(banner(), "JPEG")
    assert np.array_equal(pixels(out / "train/masks/ISIC_0000000.png"), bar())


def test_pictures_and_masks_are_cropped_alike(downloads, out):
    prepared = prepare_pictures(ISIC_2017, isic_archives(downloads), out, scaling=Scaling("crop", 32))
    picture, mask = pixels(out / "val/images/ISIC_0001769.jpg"), pixels(out / "val/masks/ISIC_0001769.png")
    assert picture.shape == (32, 32, 3)
    np.testing.assert_allclose(picture[:, 4:12].mean((0, 1)), GREEN, atol=8)
    np.testing.assert_allclose(picture[:, 20:28].mean((0, 1)), BLUE, atol=8)
    assert np.array_equal(mask, bar((32, 32), slice(8, 24)))
    assert prepared.rule.startswith("largest centred square, scaled to 32 x 32")


def test_what_is_prepared_is_what_training_reads(downloads, out):
    prepare_pictures(ISIC_2017, isic_archives(downloads), out)
    assert [case["name"] for case in training_cases(str(out))] == ["ISIC_0000000", "ISIC_0000001"]
    assert [case["name"] for case in validation_cases(str(out))] == ["ISIC_0001769"]


@pytest.mark.parametrize("unpacked", [False, True])
def test_the_folder_that_holds_archives_or_what_was_in_them_will_do(downloads, out, unpacked):
    archives = isic_archives(downloads)
    if unpacked:
        unpack(archives)
    (downloads / "holiday.jpg").write_bytes(b"x")
    prepared = prepare_pictures(ISIC_2017, [downloads], out)
    assert prepared.cases == {"train": 2, "val": 1}
    assert f"{downloads.name}/holiday.jpg" in prepared.left_out["other files"]


def test_one_part_alone_will_do(downloads, out):
    assert prepare_pictures(ISIC_2017, isic_archives(downloads)[2:], out).cases == {"val": 1}
    assert not (out / "train").exists()


def test_the_test_part_is_left_out(downloads, out):
    isic_archives(downloads)
    (downloads / "ISIC-2017_Test_v2_Data").mkdir()
    (downloads / "ISIC-2017_Test_v2_Data/ISIC_0012086.jpg").write_bytes(b"x")
    assert len(prepare_pictures(ISIC_2017, [downloads], out).left_out["files of the test part"]) == 1


def test_only_the_listed_cases_are_kept(downloads, out):
    only = {"ISIC_0000001", "ISIC_0001769"}
    prepared = prepare_pictures(ISIC_2017, isic_archives(downloads), out, only=only)
    assert prepared.cases == {"train": 1, "val": 1}
    assert prepared.left_out["cases that are not listed"] == ["ISIC_0000000"]


def test_a_listed_case_that_is_not_there_is_named(downloads, out):
    with pytest.raises(ValueError, match="1 listed cases are not in the sources, or without a mask: ISIC_0000009"):
        prepare_pictures(ISIC_2017, isic_archives(downloads), out, only=["ISIC_0000000", "ISIC_0000009"])
    assert not out.exists()


@pytest.mark.parametrize(
    ("left_out", "lacking"),
    [(0, "images of 'train' are missing; give ISIC-2017_Training_Data.zip"), (3, "ISIC-2017_Validation_Part1_Gr")],
)
def test_an_archive_that_is_missing_is_named(downloads, out, left_out, lacking):
    archives = isic_archives(downloads)
    with pytest.raises(ValueError, match=lacking):
        prepare_pictures(ISIC_2017, archives[:left_out] + archives[left_out + 1 :], out)
    assert not out.parent.exists()


def test_the_archive_of_another_year_is_refused_with_the_names_of_the_right_ones(downloads, out):
    wrong = make_zip(
        downloads / "ISIC2018_Task1-2_Training_Input.zip",
        {"ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg": encoded(banner(), "JPEG")},
    )
    message = "'ISIC2018_Task1-2_Training_Input.zip' holds nothing of ISIC 2017. Expected are ISIC-2017_Training_Data"
    with pytest.raises(ValueError, match=message):
        prepare_pictures(ISIC_2017, [*isic_archives(downloads), wrong], out)


def test_an_archive_beside_the_folder_in_it_is_refused(downloads, out):
    archives = isic_archives(downloads)
    with zipfile.ZipFile(archives[0]) as archive:
        archive.extractall(downloads)
    with pytest.raises(ValueError, match="are the same; give each archive or folder once"):
        prepare_pictures(ISIC_2017, [downloads], out)


# ---- Kvasir-SEG and Shenzhen -----------------------------------------------------------------------------------------


def test_kvasir_masks_lose_the_noise_of_jpeg(downloads, out):
    prepared = prepare_pictures(KVASIR_SEG, [kvasir_archive(downloads)], out)
    assert prepared.cases == {"train": 2}
    assert {reason: len(names) for reason, names in prepared.left_out.items()} == {"hidden files": 2, "other files": 1}
    for name in KVASIR_NAMES:
        assert np.array_equal(pixels(out / f"train/masks/{name}.png"), bar(columns=slice(16, 40)))
        assert (out / f"train/images/{name}.jpg").read_bytes() == encoded(banner(), "JPEG")


def test_a_mask_of_another_size_is_left_out_and_said(downloads, out):
    first, second = KVASIR_NAMES
    archive = kvasir_archive(downloads, {first: encoded(bar(), "JPEG"), second: encoded(bar((30, 60)), "JPEG")})
    prepared = prepare_pictures(KVASIR_SEG, [archive], out)
    assert prepared.cases == {"train": 1}
    assert prepared.left_out["cases whose mask has another size than the image"] == [second]


def test_pictures_in_place_of_masks_are_refused_by_name(downloads, out):
    photograph = encoded(np.full((32, 64, 3), 130), "JPEG")
    archive = kvasir_archive(downloads, dict.fromkeys(KVASIR_NAMES, photograph))
    message = rf"2 of 2 cases cannot be used: {KVASIR_NAMES[0]}\.jpg is no mask"
    with pytest.raises(DamagedFilesError, match=message):
        prepare_pictures(KVASIR_SEG, [archive], out)
    assert not out.exists()


def test_shenzhen_pictures_without_a_mask_are_counted_and_readings_of_patients_stay_out(downloads, out):
    prepared = prepare_pictures(SHENZHEN, shenzhen_archives(downloads), out, scaling=Scaling("stretch", 32))
    assert prepared.cases == {"train": 2}
    assert prepared.left_out["pictures without a mask"] == ["CHNCXR_0002_0"]
    assert len(prepared.left_out["clinical readings"]) == 3
    assert files_below(out / "train") == [
        "images/CHNCXR_0001_0.jpg",
        "images/CHNCXR_0327_1.jpg",
        "masks/CHNCXR_0001_0.png",
        "masks/CHNCXR_0327_1.png",
    ]
    picture = pixels(out / "train/images/CHNCXR_0001_0.jpg")
    assert picture.shape == (32, 32)
    assert np.abs(picture.astype(int) - 90).max() <= 1
    assert np.array_equal(pixels(out / "train/masks/CHNCXR_0327_1.png"), bar((32, 32), slice(0, 16)))


def test_shenzhen_without_masks_names_what_is_missing(downloads, out):
    with pytest.raises(ValueError, match=r"the masks of 'train' are missing; give mask\.zip"):
        prepare_pictures(SHENZHEN, shenzhen_archives(downloads)[:1], out)


# ---- Medical Segmentation Decathlon ----------------------------------------------------------------------------------


def test_a_decathlon_task_keeps_its_volumes_and_drops_test_images_and_hidden_files(downloads, out):
    prepared = prepare_decathlon([hippocampus_archive(downloads)], out)
    assert files_below(out) == [
        "dataset.json",
        "imagesTr/hippocampus_001.nii.gz",
        "imagesTr/hippocampus_003.nii.gz",
        "labelsTr/hippocampus_001.nii.gz",
        "labelsTr/hippocampus_003.nii.gz",
        "prepared.json",
    ]
    assert (out / "imagesTr/hippocampus_003.nii.gz").read_bytes() == volume(value=100)
    assert prepared.title == "Medical Segmentation Decathlon, Hippocampus"
    assert prepared.cases == prepared.official == {"train": 2}
    assert prepared.left_out["test images without a mask"] == ["hippocampus_002"]
    assert len(prepared.left_out["hidden files"]) == 3


def test_dataset_json_lists_what_was_kept_and_is_what_training_reads(downloads, out):
    prepare_decathlon([hippocampus_archive(downloads)], out, only=["hippocampus_003"])
    description = json.loads((out / "dataset.json").read_text())
    assert description["numTraining"] == 1
    assert description["test"] == []
    assert description["labels"]["2"] == "Posterior"
    assert [case["name"] for case in training_cases(str(out), val_fraction=0)] == ["hippocampus_003"]


def test_the_folder_of_a_task_without_dataset_json_is_paired_by_name(downloads, out):
    for name, content in hippocampus_members().items():
        (downloads / name).parent.mkdir(parents=True, exist_ok=True)
        (downloads / name).write_bytes(content)
    (downloads / "Task04_Hippocampus/dataset.json").unlink()
    (downloads / "Task04_Hippocampus/labelsTr/hippocampus_001.nii.gz").unlink()
    prepared = prepare_decathlon([downloads / "Task04_Hippocampus"], out)
    assert prepared.cases == {"train": 1}
    assert prepared.official == {}
    assert prepared.left_out["volumes without image or mask"] == ["hippocampus_001"]
    assert "dataset.json" not in files_below(out)


def test_cases_that_dataset_json_lists_and_the_archive_lacks_are_said(downloads, out):
    members = hippocampus_members()
    del members["Task04_Hippocampus/labelsTr/hippocampus_003.nii.gz"]
    prepared = prepare_decathlon([make_tar(downloads / "Task04_Hippocampus.tar", members)], out)
    assert prepared.cases == {"train": 1}
    assert prepared.official == {"train": 2}
    assert prepared.left_out["volumes without image or mask"] == ["hippocampus_003"]


def test_a_label_of_another_size_is_left_out(downloads, out):
    members = hippocampus_members()
    members["Task04_Hippocampus/labelsTr/hippocampus_001.nii.gz"] = volume((4, 5, 2))
    prepared = prepare_decathlon([make_tar(downloads / "Task04_Hippocampus.tar", members)], out)
    assert prepared.left_out["cases whose mask has another size than the image"] == ["hippocampus_001"]
    assert files_below(out / "imagesTr") == ["hippocampus_003.nii.gz"]


def test_a_damaged_volume_is_named(downloads, out):
    members = hippocampus_members()
    members["Task04_Hippocampus/imagesTr/hippocampus_003.nii.gz"] = b"\x1f\x8b no more"
    with pytest.raises(DamagedFilesError, match=r"imagesTr/hippocampus_003\.nii\.gz is no NIfTI file, or damaged"):
        prepare_decathlon([make_tar(downloads / "Task04_Hippocampus.tar", members)], out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"dataset\.json' cannot be read \(JSONDecodeError\)"),
        (b"[]", "must be an object with 'training', got list"),
        (b'{"training": ["a"]}', "'training' in dataset.json must be a list of"),
        (b'{"training": [{"image": 1, "label": 2}]}', "'training' in dataset.json must be a list of"),
    ],
)
def test_a_dataset_json_that_cannot_be_understood_is_refused(downloads, out, content, message):
    members = {**hippocampus_members(), "Task04_Hippocampus/dataset.json": content}
    with pytest.raises(ValueError, match=message):
        prepare_decathlon([make_tar(downloads / "Task04_Hippocampus.tar", members)], out)


def test_another_archive_is_no_task_and_the_expected_one_is_named(downloads, out):
    with pytest.raises(ValueError, match=r"holds no task of the Decathlon. Expected is .*Task04_Hippocampus\.tar"):
        prepare_decathlon([kvasir_archive(downloads)], out)


def test_two_tasks_are_refused(downloads, out):
    hippocampus_archive(downloads)
    members = {name.replace("Task04", "Task05"): content for name, content in hippocampus_members().items()}
    make_tar(downloads / "Task05_Hippocampus.tar", members)
    with pytest.raises(ValueError, match="the sources hold 2 tasks"):
        prepare_decathlon([downloads], out)


def test_a_task_that_is_given_twice_is_refused(downloads, out):
    archive = hippocampus_archive(downloads)
    with pytest.raises(ValueError, match="or one of them twice"):
        prepare_decathlon([downloads, archive], out)


# ---- all or nothing --------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_empty_is_refused_and_stays(downloads, out):
    out.mkdir(parents=True)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="'set' is not empty; give a new or an empty folder"):
        prepare_pictures(ISIC_2017, isic_archives(downloads), out)
    assert files_below(out.parent) == ["set/mine.txt"]


def test_a_file_in_place_of_the_folder_is_refused(downloads, out):
    out.parent.mkdir()
    out.write_text("mine")
    with pytest.raises(FileExistsError, match="'set' is a file"):
        prepare_pictures(ISIC_2017, isic_archives(downloads), out)


def test_an_empty_folder_is_filled(downloads, out):
    out.mkdir(parents=True)
    assert prepare_pictures(ISIC_2017, isic_archives(downloads), out).cases == {"train": 2, "val": 1}
    assert (out / "train").is_dir()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_preparation_that_ends_early_leaves_nothing(downloads, out, error):
    def stop(done, total):
        assert (done, total) == (1, 3)
        raise error

    with pytest.raises(error):
        prepare_pictures(ISIC_2017, isic_archives(downloads), out, progress=stop)
    assert list(out.parent.iterdir()) == []


def test_damage_in_an_archive_leaves_nothing_and_names_the_file(downloads, out):
    archives = isic_archives(downloads)
    content = bytearray(archives[0].read_bytes())
    content[content.index(b"ISIC_0000001.jpg") + 400] ^= 0xFF
    archives[0].write_bytes(content)
    with pytest.raises(DamagedFilesError, match=r"1 of 3 cases cannot be used: ISIC_0000001\.jpg cannot be read"):
        prepare_pictures(ISIC_2017, archives, out)
    assert list(out.parent.iterdir()) == []


def test_a_hostile_archive_leaves_nothing(downloads, out):
    archives = isic_archives(downloads)
    with zipfile.ZipFile(archives[0], "a") as archive:
        archive.writestr("../ISIC_0000005.jpg", b"x")
    with pytest.raises(ArchiveError, match="has an unsafe name"):
        prepare_pictures(ISIC_2017, archives, out)
    assert not out.parent.exists()


def test_progress_counts_cases(downloads, out):
    calls = []
    prepare_pictures(ISIC_2017, isic_archives(downloads), out, progress=lambda *counts: calls.append(counts))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_the_same_archives_give_the_same_bytes(downloads, tmp_path):
    archives = isic_archives(downloads)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        prepare_pictures(ISIC_2017, archives, folder, scaling=Scaling("crop", 32))
    first, second = ({name: Path(folder, name).read_bytes() for name in files_below(folder)} for folder in folders)
    assert first == second


def test_the_record_tells_what_was_done_without_paths(downloads, out):
    prepare_pictures(ISIC_2017, isic_archives(downloads), out)
    text = (out / "prepared.json").read_text()
    record = json.loads(text)
    assert record["data_set"] == "ISIC 2017"
    assert record["cases"] == {"train": 2, "val": 1}
    assert record["official_cases"] == {"train": 2000, "val": 150}
    assert len(record["left_out"]["superpixel maps"]) == 3
    assert str(downloads) not in text
