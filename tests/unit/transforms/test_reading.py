from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import EnsureChannelFirstd, LoadImaged
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from banet_monai.transforms import LoadCased
from tests.dicom_objects import image, write

OBLIQUE = np.array([[0.8, -0.3, 0.1, -20], [0.4, 1.2, -0.2, 5], [0.1, 0.3, 2.5, 40], [0, 0, 0, 1.0]])
VOLUME = np.random.default_rng(0).integers(0, 100, (6, 5, 4)).astype(np.int16)


def save_nifti(path: Path, values: NDArray[Any], affine: NDArray[Any] = OBLIQUE) -> str:
    nibabel.Nifti1Image(values, affine).to_filename(path)
    return str(path)


def load(path: object, **options: Any) -> MetaTensor:
    return LoadCased("image", **options)({"image": path})["image"]


def test_a_picture_is_channel_first_with_x_before_y(tmp_path: Path) -> None:
    rows = np.zeros((4, 6, 3), dtype=np.uint8)
    rows[1, 5] = (10, 20, 30)  # row 1, column 5
    Image.fromarray(rows).save(tmp_path / "a.png")
    image = load(str(tmp_path / "a.png"))
    assert image.shape == (3, 6, 4)
    assert image.dtype == torch.float32
    assert image[:, 5, 1].tolist() == [10, 20, 30]
    assert image.meta["filename_or_obj"] == str(tmp_path / "a.png")
    assert image.meta["kind"] == "picture"


def test_a_volume_keeps_its_values_order_and_affine(tmp_path: Path) -> None:
    image = load(save_nifti(tmp_path / "a.nii.gz", VOLUME))
    np.testing.assert_array_equal(image[0].numpy(), VOLUME)
    np.testing.assert_allclose(image.affine.numpy(), OBLIQUE, atol=1e-5)
    assert image.meta["spacing_unit"] == "mm"
    assert image.meta["kind"] == "nifti"
    assert np.isnan(image.meta["value_range"]).all()


def test_values_and_affine_equal_those_of_monais_own_loader(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", VOLUME)
    stock = LoadImaged("image", ensure_channel_first=True)({"image": path})["image"]
    ours = load(path)
    assert torch.equal(ours.as_tensor(), stock.as_tensor())
    assert torch.equal(ours.affine, stock.affine)


@pytest.mark.parametrize(("dtype", "bits", "high"), [(np.uint8, 8, 255.0), (np.uint16, 16, 65535.0)])
def test_the_stored_type_of_a_nifti_gives_the_value_range(tmp_path: Path, dtype: type, bits: int, high: float) -> None:
    image = load(save_nifti(tmp_path / "a.nii.gz", VOLUME.astype(dtype)))
    assert image.meta["bits"] == bits
    assert tuple(image.meta["value_range"]) == (0.0, high)


def test_a_scaled_nifti_has_an_unknown_range(tmp_path: Path) -> None:
    file = nibabel.Nifti1Image(VOLUME * 2.5, np.eye(4))
    file.set_data_dtype(np.uint8)
    file.to_filename(tmp_path / "a.nii.gz")
    image = load(str(tmp_path / "a.nii.gz"))
    assert image.meta["bits"] == 8
    np.testing.assert_allclose(image[0].numpy(), VOLUME * 2.5, atol=1)
    assert np.isnan(image.meta["value_range"]).all()


def test_a_4d_nifti_has_its_last_axis_as_channels(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.stack([VOLUME, VOLUME + 1], axis=-1))
    image = load(path, in_channels=2)
    assert image.shape == (2, 6, 5, 4)
    np.testing.assert_array_equal(image[1].numpy(), VOLUME + 1)


def test_a_4d_nifti_whose_last_axis_is_not_the_networks_channels_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.stack([VOLUME] * 5, axis=-1))
    with pytest.raises(ValueError, match=r"'a\.nii\.gz'.*last axis has 5 entries, but the network takes 3 channels"):
        load(path, in_channels=3)


def test_rgb_voxels_become_channels(tmp_path: Path) -> None:
    rgb = np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"] = 7
    image = load(save_nifti(tmp_path / "a.nii.gz", rgb), in_channels=3)
    assert image.shape == (3, 6, 5, 4)
    assert image[:, 0, 0, 0].tolist() == [0, 7, 0]
    assert tuple(image.meta["value_range"]) == (0.0, 255.0)


def test_a_2d_nifti_and_one_with_a_single_slice_keep_their_rank(tmp_path: Path) -> None:
    assert load(save_nifti(tmp_path / "a.nii.gz", VOLUME[..., 0])).shape == (1, 6, 5)
    assert load(save_nifti(tmp_path / "b.nii.gz", VOLUME[..., :1])).shape == (1, 6, 5, 1)


def test_big_endian_nifti_is_read(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.Nifti1Image(VOLUME.astype(">i2"), np.eye(4), header).to_filename(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(load(str(tmp_path / "a.nii.gz"))[0].numpy(), VOLUME)


def test_free_text_of_the_header_stays_out_of_the_meta(tmp_path: Path) -> None:
    file = nibabel.Nifti1Image(VOLUME, np.eye(4))
    file.header["descrip"] = b"DOE^JANE"
    file.to_filename(tmp_path / "a.nii.gz")
    assert "DOE" not in str(load(str(tmp_path / "a.nii.gz")).meta)


def bad_nifti(folder: Path, kind: str) -> str:
    path = folder / f"{kind}.nii.gz"
    if kind == "nan":
        values = VOLUME.astype(np.float32)
        values[0, 0, 0] = np.nan
        return save_nifti(path, values)
    if kind == "pixel":
        return save_nifti(path, VOLUME[:1, :1, :1])
    if kind == "complex":
        return save_nifti(path, VOLUME.astype(np.complex64))
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_bytes(gzip.compress(b"hello" * 100))
    else:
        noise = np.random.default_rng(0).integers(0, 255, (32, 32, 8)).astype(np.uint8)
        content = Path(save_nifti(path, noise)).read_bytes()
        path.write_bytes(content[: len(content) // 2])
    return str(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", r"^'nan\.nii\.gz' holds NaN or infinite values; replace them"),
        ("pixel", r"^'pixel\.nii\.gz' has the shape \(1, 1, 1\); at least two axes"),
        ("complex", r"^'complex\.nii\.gz' holds values of type complex64"),
        ("empty", r"^'empty\.nii\.gz' is empty \(0 bytes\)"),
        ("text", r"^'text\.nii\.gz' is truncated, corrupt or no NIfTI"),
        ("cut", r"^'cut\.nii\.gz' is truncated, corrupt or no NIfTI"),
    ],
)
def test_a_bad_nifti_is_named_with_what_is_wrong(tmp_path: Path, kind: str, message: str) -> None:
    path = bad_nifti(tmp_path, kind)
    with pytest.raises(ValueError, match=message):
        load(path)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_nifti_whose_place_is_no_number_is_refused(tmp_path: Path, wrong: float) -> None:
    path = Path(save_nifti(tmp_path / "a.nii", VOLUME))
    content = bytearray(path.read_bytes())
    content[252:256] = struct.pack("<hh", 0, 1)  # sform alone, whose first row begins at byte 280
    content[280:284] = struct.pack("<f", wrong)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^'a\.nii' states a place or spacing that is NaN or infinite"):
        load(str(path))


def test_a_failing_reader_is_not_followed_by_another_one(tmp_path: Path) -> None:
    """A NIfTI with the suffix of a picture is an error; MONAI's loader would go through its other readers."""
    save_nifti(tmp_path / "a.nii", VOLUME)
    (tmp_path / "a.nii").rename(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"'a\.png' is no picture"):
        load(str(tmp_path / "a.png"))


@pytest.mark.parametrize("suffix", [".png", ".nii"])
def test_without_a_suffix_the_first_bytes_decide(tmp_path: Path, suffix: str) -> None:
    if suffix == ".png":
        Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(tmp_path / "a.png")
    else:
        save_nifti(tmp_path / "a.nii", VOLUME)
    bare = (tmp_path / f"a{suffix}").rename(tmp_path / "bare")
    assert load(str(bare)).shape[1] == 6


def test_a_file_of_no_known_kind_is_refused_with_what_works(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"'notes\.txt' is of no known kind; PNG, JPEG, TIFF, BMP, NIfTI"):
        load(str(tmp_path / "notes.txt"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'a\.nii\.gz'"):
        load(str(tmp_path / "a.nii.gz"))


def test_masks_keep_palette_indices_and_one_of_three_equal_channels(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    palette = Image.fromarray(ids)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.dstack([ids * 255] * 3)).save(tmp_path / "rgb.png")
    loader = LoadCased("label")
    assert loader({"label": str(tmp_path / "palette.png")})["label"][0].T.tolist() == ids.tolist()
    assert loader({"label": str(tmp_path / "rgb.png")})["label"].shape == (1, 3, 2)


def test_it_is_a_load_imaged_and_gives_the_meta_dict_that_monai_label_asks_for(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(tmp_path / "a.png")
    loader = LoadCased("image")
    assert isinstance(loader, LoadImaged)
    loader._loader.image_only = False  # what MONAI Label does
    loaded = loader({"image": str(tmp_path / "a.png")})
    assert loaded["image_meta_dict"]["filename_or_obj"] == str(tmp_path / "a.png")
    assert loaded["image_meta_dict"]["spatial_shape"].tolist() == [6, 4]


def test_ensure_channel_first_after_it_changes_nothing(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 6, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    loaded = LoadCased("image")({"image": str(tmp_path / "a.png")})
    assert EnsureChannelFirstd("image")(loaded)["image"].shape == (3, 6, 4)


def test_a_batch_of_pictures_and_volumes_collates_and_comes_apart_again(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(tmp_path / "a.png")
    paths = [str(tmp_path / "a.png"), save_nifti(tmp_path / "b.nii.gz", VOLUME[:6, :4, 0].astype(np.uint8))]
    batch = list_data_collate([{"image": load(path)} for path in paths])
    kinds = [item["image"].meta["kind"] for item in decollate_batch(batch)]
    assert kinds == ["picture", "nifti"]


def write_dicom_series(folder: Path) -> list[str]:
    """Three CT slices of 2x3 pixels (PS3.3 A.3), 5 mm apart, the topmost first."""
    folder.mkdir()
    series, frame = generate_uid(), generate_uid()
    paths = []
    for index, height in enumerate((10.0, 5.0, 0.0)):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series, series, frame
        dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "CT", "MONOCHROME2", 1
        dataset.Rows, dataset.Columns = 2, 3
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.PixelSpacing, dataset.ImageOrientationPatient = [1, 1], [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [0, 0, height]
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.PixelData = (np.arange(6, dtype=np.uint16) + 100 * int(height)).tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.preamble = b"\0" * 128
        path = folder / f"{index}.dcm"
        dataset.is_little_endian, dataset.is_implicit_VR = True, False  # what pydicom 2.4 asks for
        dataset.save_as(path, write_like_original=False)
        paths.append(str(path))
    return paths


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pydicom")
@pytest.mark.filterwarnings("ignore:.*(write_like_original|is_little_endian|is_implicit_VR).*:DeprecationWarning")
def test_the_files_of_a_dicom_series_and_their_folder_give_one_volume(tmp_path: Path) -> None:
    paths = write_dicom_series(tmp_path / "ct")
    for source in (paths, str(tmp_path / "ct")):
        volume = load(source)
        assert volume.shape == (1, 3, 2, 3)
        assert volume.meta["kind"] == "dicom"
        # column, row; slices from feet to head; stored values minus 1024
        assert volume[0, 2, 1].tolist() == [5 - 1024, 505 - 1024, 1005 - 1024]
        assert volume.meta["value_range"][0] == -1024
        np.testing.assert_allclose(np.abs(volume.affine.numpy()), np.diag([1, 1, 5, 1]))


@pytest.mark.filterwarnings("ignore:.*(write_like_original|is_little_endian|is_implicit_VR).*:DeprecationWarning")
def test_one_dicom_file_is_a_picture_with_or_without_its_suffix(tmp_path: Path) -> None:
    first = write_dicom_series(tmp_path / "ct")[0]
    assert load(first).shape == (1, 3, 2)
    assert load(str(Path(first).rename(tmp_path / "bare"))).meta["kind"] == "dicom"


def test_a_dicom_window_is_applied_where_it_is_asked_for(tmp_path):
    values = np.array([[0, 100, 200, 300]], np.uint16).repeat(2, axis=0)
    path = write(image(values, modality="DX", WindowCenter="150.5", WindowWidth="201"), tmp_path / "x.dcm")
    plain = LoadCased("image")({"image": str(path)})["image"]
    assert plain[0, :, 0].tolist() == [0, 100, 200, 300]
    windowed = LoadCased("image", window="voi")({"image": str(path)})["image"]
    # PS3.3 equation C.11-1: (x - (c - 0.5)) / (w - 1) + 0.5 with c = 150.5 and w = 201, cut to [0, 1].
    assert windowed[0, :, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])
    assert tuple(windowed.meta["value_range"]) == (0, 1)
    chosen = LoadCased("image", window=(100.5, 101))({"image": str(path)})["image"]
    assert chosen[0, :, 0].tolist() == pytest.approx([0, 0.5, 1, 1])
