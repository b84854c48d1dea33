import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from banet_monai.data import mask_ids, read_mask
from tests.dicom_objects import image, write


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float32])
def test_zero_and_one_stay(dtype):
    np.testing.assert_array_equal(mask_ids(np.array([[0, 1], [1, 0]], dtype=dtype)), [[0, 1], [1, 0]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
def test_255_means_one(dtype):
    ids = mask_ids(np.array([0, 255, 255], dtype=dtype))
    assert ids.dtype == np.uint8
    assert ids.tolist() == [0, 1, 1]


def test_values_within_ten_of_0_or_255_are_jpeg_noise():
    assert mask_ids(np.array([0, 1, 10, 245, 250, 255], np.uint8)).tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("value", [11, 128, 244])
def test_a_value_eleven_off_is_named(value):
    with pytest.raises(ValueError, match=rf"3 different values \(0, {value}, 255\) cannot be read: one class needs"):
        mask_ids(np.array([0, value, 255], np.uint8))


def test_37_grey_values_are_counted_and_the_first_are_named():
    with pytest.raises(ValueError, match=r"37 different values \(0, 7, 14, 21, 28, 35, 42, 49, ...\)"):
        mask_ids((np.arange(37) * 7).astype(np.uint8))


def test_label_ids_of_several_classes_are_not_noise_of_an_empty_mask():
    with pytest.raises(ValueError, match=r"\(0, 1, 2\) .* label ids of several classes need num_classes"):
        mask_ids(np.array([0, 1, 2], np.uint8))
    assert mask_ids(np.array([0, 1, 2], np.uint8), num_classes=2).tolist() == [0, 1, 2]


@pytest.mark.parametrize("value", [3, 255])
def test_an_id_above_the_number_of_classes_is_refused(value):
    with pytest.raises(ValueError, match=rf"\(0, {value}\) cannot be read: 2 classes need the ids 0 to 2"):
        mask_ids(np.array([0, value]), num_classes=2)


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0, np.nan, np.inf])
def test_values_that_are_no_ids_are_refused(value):
    with pytest.raises(ValueError, match=r"2 different values \(.*\) cannot be read"):
        mask_ids(np.array([0.0, value], np.float32))


def test_an_empty_mask_is_background():
    assert not mask_ids(np.zeros((3, 3), np.uint8)).any()
    assert mask_ids(np.zeros((0, 3), np.uint8)).shape == (0, 3)


@pytest.mark.parametrize("num_classes", [0, 256])
def test_number_of_classes_is_checked(num_classes):
    with pytest.raises(ValueError, match=rf"1 to 255 foreground classes, got {num_classes}"):
        mask_ids(np.zeros(1), num_classes=num_classes)


def picture_of(mode: str, values: list[list[int]]) -> Image.Image:
    grey = Image.fromarray(np.array(values, np.uint8))
    return grey.convert(mode) if mode != "P" else Image.frombytes("P", grey.size, grey.tobytes())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
def test_every_kind_of_picture_gives_the_same_ids(tmp_path, mode):
    picture_of(mode, [[0, 255, 0], [255, 0, 0]]).save(tmp_path / "m.png")
    np.testing.assert_array_equal(mask_ids(read_mask(tmp_path / "m.png")), [[0, 1, 0], [1, 0, 0]])


def test_an_indexed_colour_picture_holds_label_ids(tmp_path):
    picture = picture_of("P", [[0, 1], [2, 3]])
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(mask_ids(read_mask(tmp_path / "m.png"), num_classes=3), [[0, 1], [2, 3]])


def test_a_jpeg_mask_is_read_without_its_noise(tmp_path):
    square = np.zeros((32, 32), np.uint8)
    square[8:24, 8:24] = 255
    Image.fromarray(square).save(tmp_path / "m.jpg", quality=95)
    np.testing.assert_array_equal(mask_ids(read_mask(tmp_path / "m.jpg")), square // 255)


def test_a_coloured_mask_is_refused(tmp_path):
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"coloured: save it as grey \(0 and 255\) or as an indexed-colour PNG"):
        read_mask(tmp_path / "m.png")


def test_a_mask_of_several_frames_is_refused(tmp_path):
    frame = Image.new("L", (4, 4))
    frame.save(tmp_path / "m.tif", save_all=True, append_images=[frame])
    with pytest.raises(ValueError, match=r"the mask has 2 frames, one is needed"):
        read_mask(tmp_path / "m.tif")


def test_a_nifti_mask_keeps_its_axes(tmp_path):
    labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 3
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(mask_ids(read_mask(tmp_path / "m.nii.gz"), num_classes=2), labels)


@pytest.mark.parametrize("high", [1, 255])
def test_a_dicom_mask_is_read_x_first(tmp_path, high):
    stored = np.zeros((12, 20), np.uint16)  # rows, columns
    stored[2:5, 7:16] = high
    write(image(stored, modality="MR"), tmp_path / "mask.dcm")
    ids = mask_ids(read_mask(tmp_path / "mask.dcm"))
    np.testing.assert_array_equal(ids, (stored > 0).T)
