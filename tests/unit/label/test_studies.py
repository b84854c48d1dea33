from __future__ import annotations

import pytest
from PIL import Image

from banet_monai.label import LISTED, check_studies, demonstration_studies


def test_images_of_a_folder_are_counted(tmp_path):
    for name in ("a.png", "b.nii.gz", "c.dcm", "notes.txt"):
        (tmp_path / name).touch()
    studies = check_studies(str(tmp_path))
    assert (studies.place, studies.images) == (str(tmp_path.resolve()), 3)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("http://localhost:8042/dicom-web", "http://localhost:8042/dicom-web"),
        ("HTTPS://pacs.example/DICOM-web/", "https://pacs.example/DICOM-web"),
    ],
)
def test_an_address_is_taken_without_asking(address, place):
    studies = check_studies(address)
    assert (studies.place, studies.images) == (place, None)


def test_a_password_in_an_address_is_refused_without_being_repeated():
    with pytest.raises(ValueError, match="MONAI_LABEL_DICOMWEB_PASSWORD") as refused:
        check_studies("https://jane:secret@pacs.example/dicom-web")
    assert "secret" not in str(refused.value)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder '.*nowhere' does not exist; name a folder of images"):
        check_studies(str(tmp_path / "nowhere"))


def test_a_file_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(NotADirectoryError, match=r"a\.png' is a file; name the folder that it lies in"):
        check_studies(str(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "it is empty. Listed are .png"),
        (["notes.txt"], "only 1 other file. Listed are"),
        (["day/a.png"], "itself, but below it, as in '{folder}/day'"),
        (["A.PNG"], "suffixes must be in small letters"),
    ],
)
def test_a_folder_without_a_listed_image_is_refused_with_a_hint(tmp_path, files, words):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"there is no image in") as caught:
        check_studies(str(tmp_path))
    assert words.format(folder=tmp_path) in str(caught.value)


def test_demonstration_pictures_are_drawn_once(tmp_path):
    folder = demonstration_studies(tmp_path / "studies")
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == "synthetic_01.png"
    assert len(names) == 8
    assert check_studies(str(folder)).images == 8
    Image.new("RGB", (4, 4)).save(folder / names[0])
    demonstration_studies(folder)
    with Image.open(folder / names[0]) as picture:
        assert picture.size == (4, 4)


def test_both_kinds_of_nifti_and_of_pictures_are_listed():
    assert {".nii", ".nii.gz", ".png", ".jpg", ".jpeg", ".tif", ".bmp", ".dcm"} <= set(LISTED)
