import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from monai.data import DataLoader, Dataset, decollate_batch, list_data_collate
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from banet_monai.dicom import DicomGeometryError, DicomReadError, SeriesReader, meta_list
from tests.dicom_objects import AXIAL, enhanced, image, lps_of, run_length_packed, series, turned, write, write_all

OBLIQUE = turned(20, -35, 50)
GRID = {"orientation": OBLIQUE, "origin": (-31.5, 12.25, 70.0), "spacing": (0.8, 0.5), "step": 2.5}
LPS = np.diag([-1, -1, 1, 1])


def volume(slices=5, rows=7, columns=9, dtype=np.int16):
    return np.random.default_rng(0).integers(0, 100, (slices, rows, columns)).astype(dtype)


def complete(ds):
    """The object with the type 2 attributes that test objects leave out."""
    ds.PatientBirthDate, ds.PatientSex, ds.StudyTime, ds.StudyID = "", "", "", ""
    return ds


def load(path, reader=None):
    reader = reader or SeriesReader()
    return reader.get_data(reader.read(path))


def scanned(tmp_path, objects):
    return load(write_all(objects, tmp_path))


@pytest.fixture(scope="module")
def hd():
    """The oracle; it needs pydicom 3, the reader does not."""
    return pytest.importorskip("highdicom", exc_type=ImportError)


def test_series_comes_in_columns_rows_slices_whatever_its_file_names(tmp_path):
    data = volume()
    write_all(series(data, **GRID), tmp_path, order=[3, 0, 4, 1, 2])
    array, meta = load(tmp_path)
    np.testing.assert_array_equal(array, data.transpose(2, 1, 0))
    assert array.dtype == np.float32
    assert meta["layout"] == "volume"
    assert [Path(name).name for name in meta_list(meta["series_files"])] == [f"{k:04d}.dcm" for k in (3, 0, 4, 1, 2)]


def test_every_voxel_lies_where_the_standards_equation_puts_it(tmp_path):
    write_all(series(volume(), **GRID), tmp_path)
    _, meta = load(tmp_path)
    for index in [(0, 0, 0), (8, 0, 0), (0, 6, 0), (0, 0, 4), (8, 6, 4)]:
        lps = LPS @ meta["affine"] @ [*index, 1]
        np.testing.assert_allclose(lps[:3], lps_of(index, **GRID), atol=1e-6)


def test_marker_in_patient_coordinates_is_found_at_its_voxel(tmp_path):
    data = np.zeros((5, 7, 9), np.int16)
    data[3, 1, 6] = 77  # slice 3, row 1, column 6
    write_all(series(data, **GRID), tmp_path, order=[4, 2, 0, 3, 1])
    array, meta = load(tmp_path)
    marker = np.append(lps_of((6, 1, 3), **GRID), 1)
    found = np.linalg.solve(LPS @ meta["affine"], marker)[:3]
    np.testing.assert_allclose(found, [6, 1, 3], atol=1e-5)
    assert array[6, 1, 3] == 77


def test_same_patient_point_and_value_as_highdicom_and_simpleitk(tmp_path, hd):
    paths = write_all(series(volume(), **GRID), tmp_path, order=[1, 3, 0, 2, 4])
    array, meta = load(tmp_path)
    oracle = hd.get_volume_from_series([pydicom.dcmread(path) for path in paths], dtype=np.float32)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    other = reader.Execute()
    for index in [(0, 0, 0), (8, 6, 4), (3, 5, 1), (7, 2, 3), (1, 4, 2)]:
        lps = (LPS @ meta["affine"] @ [*index, 1])[:3]
        there = np.round(np.linalg.solve(oracle.affine, [*lps, 1])[:3]).astype(int)
        assert oracle.array[tuple(there)] == array[index]
        assert other[other.TransformPhysicalPointToIndex(lps.tolist())] == array[index]


def test_affine_has_metas_that_monai_expects_and_no_patient_data(tmp_path):
    write_all(series(volume(), **GRID), tmp_path)
    _, meta = load(tmp_path)
    assert list(meta["spatial_shape"]) == [9, 7, 5]
    assert meta["space"] == "RAS"
    assert np.isnan(meta["original_channel_dim"])
    np.testing.assert_array_equal(meta["affine"], meta["original_affine"])
    assert meta["affine"] is not meta["original_affine"]
    assert (meta["modality"], meta["bits"], meta["spacing_unit"]) == ("CT", 16, "mm")
    assert "ecret" not in str(meta).lower().replace("tmp", "")
    assert "1970" not in str(meta)
    assert not any(value is None for value in meta.values())


def test_rescale_is_applied_to_each_slice_and_sets_the_value_range(tmp_path):
    objects = series(np.full((3, 4, 4), 10, np.uint16))
    for ds, (slope, intercept) in zip(objects, [("1", "-1024"), ("2", "0"), ("0.5", "1")], strict=True):
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        ds.BitsStored, ds.HighBit = 12, 11
    array, meta = scanned(tmp_path, objects)
    assert array[0, 0].tolist() == [-1014, 20, 6]
    assert meta["bits"] == 12
    assert meta["value_range"] == [-1024, 8190]


def test_signed_pixels_keep_their_sign_when_unused_bits_do_not(tmp_path):
    stored = np.array([[0x0FFF, 0x07FF], [0x0800, 0x0001]], np.uint16).view(np.int16)  # 12 bits, upper 4 are zero
    ds = image(stored, BitsStored=12, HighBit=11)
    array, meta = scanned(tmp_path, [ds])
    assert array.T.tolist() == [[-1, 2047], [-2048, 1]]
    assert meta["value_range"] == [-2048, 2047]


def test_monochrome1_is_inverted_within_its_range_with_its_window(tmp_path):
    ds = image(np.array([[0, 4095], [1000, 95]], np.uint16), modality="DX", photometric="MONOCHROME1")
    ds.BitsStored, ds.HighBit, ds.WindowCenter, ds.WindowWidth = 12, 11, "1000", "500"
    array, meta = scanned(tmp_path, [ds])
    assert array.T.tolist() == [[4095, 0], [3095, 4000]]
    assert meta["window"] == [3095, 500]
    assert meta["value_range"] == [0, 4095]


def test_monochrome1_equals_highdicom_after_rescale(tmp_path, hd):
    ds = image(volume(1)[0].astype(np.uint16), modality="DX", photometric="MONOCHROME1")
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "3", "-7", "US"
    path = write(ds, tmp_path / "x.dcm")
    array, _ = load(path)
    expected = hd.imread(path).get_frame(1, dtype=np.float32, apply_voi_transform=False)
    np.testing.assert_allclose(array.T, expected)


def test_grey_byte_picture_is_two_dimensional_with_unknown_spacing(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    array, meta = scanned(tmp_path, [image(pixels, modality="DX")])
    np.testing.assert_array_equal(array, pixels.T)
    assert array.dtype == np.uint8
    assert (meta["layout"], meta["spacing_unit"], meta["bits"]) == ("picture", "px", 8)
    np.testing.assert_array_equal(meta["affine"], np.diag([-1, -1, 1, 1]))
    assert "window" not in meta


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagerPixelSpacing"])
def test_picture_without_a_place_has_its_pixel_size_on_the_diagonal(tmp_path, keyword):
    ds = image(np.zeros((3, 4), np.uint8), modality="DX", **{keyword: ["0.2", "0.3"]})
    _, meta = scanned(tmp_path, [ds])
    np.testing.assert_allclose(meta["affine"], np.diag([-0.3, -0.2, 1, 1]))
    assert meta["spacing_unit"] == "mm"


def test_single_slice_with_a_place_is_a_picture_with_the_full_affine(tmp_path):
    _, meta = scanned(tmp_path, series(volume(1), **GRID))
    assert meta["layout"] == "picture"
    assert list(meta["spatial_shape"]) == [9, 7]
    np.testing.assert_allclose((LPS @ meta["affine"] @ [8, 6, 1, 1])[:3], lps_of((8, 6, 1), **GRID), atol=1e-6)


def test_rgb_picture_keeps_colours_in_the_last_axis(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    array, meta = scanned(tmp_path, [image(pixels, modality="XC")])
    np.testing.assert_array_equal(array, pixels.transpose(1, 0, 2))
    assert meta["original_channel_dim"] == -1


def test_planar_colour_equals_interleaved_colour(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    planar = image(pixels, modality="XC", PlanarConfiguration=1)
    planar.PixelData = pixels.transpose(2, 0, 1).tobytes()
    array, _ = scanned(tmp_path, [planar])
    np.testing.assert_array_equal(array, pixels.transpose(1, 0, 2))


def test_ybr_becomes_rgb(tmp_path):
    # Luminance 76, blue difference 85, red difference 255 is pure red (PS3.3 section C.7.6.3.1.2).
    pixels = np.broadcast_to(np.array([76, 85, 255], np.uint8), (2, 2, 3))
    array, _ = scanned(tmp_path, [image(pixels, modality="XC", photometric="YBR_FULL")])
    np.testing.assert_allclose(array[0, 0], [254, 0, 0], atol=1)


def test_palette_becomes_rgb(tmp_path):
    ds = image(np.array([[0, 1], [2, 1]], np.uint8), modality="US", photometric="PALETTE COLOR")
    tables = {"Red": [0, 200, 10, 0], "Green": [5, 100, 20, 0], "Blue": [9, 50, 30, 0]}
    for colour, table in tables.items():
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(ds, f"{colour}PaletteColorLookupTableData", bytes(table))
    array, meta = scanned(tmp_path, [ds])
    assert array[1, 0].tolist() == [200, 100, 50]
    assert array[0, 1].tolist() == [10, 20, 30]
    assert meta["value_range"] == [0, 255]


def test_modality_table_takes_the_place_of_the_rescale(tmp_path):
    table = pydicom.dataset.Dataset()
    table.add_new("LUTDescriptor", "US", [3, 0, 16])
    table.add_new("LUTData", "US", [500, 7, 900])
    table.ModalityLUTType = "US"
    ds = image(np.array([[0, 1], [2, 1]], np.uint8), ModalityLUTSequence=[table], RescaleSlope="5")
    array, meta = scanned(tmp_path, [ds])
    assert array.T.tolist() == [[500, 7], [900, 7]]
    assert meta["value_range"] == [7, 900]


def test_colour_frames_are_stacked_along_the_last_spatial_axis(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    path = write(image(pixels, modality="US", frames=5), tmp_path / "loop.dcm")
    array, meta = load(path)
    assert (array.shape, meta["layout"]) == ((6, 4, 5, 3), "frames")
    loaded = Compose([LoadImaged("image", reader=SeriesReader()), EnsureChannelFirstd("image")])({"image": str(path)})
    assert loaded["image"].shape == (3, 6, 4, 5)
    np.testing.assert_array_equal(loaded["image"][:, 2, 1, 3], pixels[3, 1, 2])


def test_frames_without_a_place_keep_their_order(tmp_path):
    pixels = volume(4, 5, 6, np.uint8)
    array, meta = scanned(tmp_path, [image(pixels, modality="US", frames=4)])
    np.testing.assert_array_equal(array, pixels.transpose(2, 1, 0))
    assert meta_list(meta["frame_numbers"]) == ["1", "2", "3", "4"]


def test_frames_of_an_enhanced_object_are_sorted_by_position(tmp_path):
    data = volume()
    array, meta = scanned(tmp_path, [enhanced(data, **GRID, order=[2, 0, 4, 1, 3])])
    np.testing.assert_array_equal(array, 2.0 * data.transpose(2, 1, 0) - 10)
    np.testing.assert_allclose((LPS @ meta["affine"] @ [8, 6, 4, 1])[:3], lps_of((8, 6, 4), **GRID), atol=1e-6)
    assert meta_list(meta["frame_numbers"]) == ["2", "4", "1", "5", "3"]
    assert meta["window"] == [50, 100]


def test_loadimaged_keeps_an_affine_and_batches_of_series(tmp_path):
    for name, window in [("a", "40"), ("b", None)]:
        objects = series(volume(4), **GRID)
        for ds in objects:
            if window:
                ds.WindowCenter, ds.WindowWidth = window, "400"
        objects[0].RescaleIntercept = "1"
        write_all(objects, tmp_path / name)
    steps = Compose([LoadImaged("image", reader="banet_monai.dicom.SeriesReader"), EnsureChannelFirstd("image")])
    data = Dataset([{"image": str(tmp_path / name)} for name in "ab"], steps)
    batch = next(iter(DataLoader(data, batch_size=2, collate_fn=list_data_collate)))
    assert batch["image"].shape == (2, 1, 9, 7, 4)
    first = decollate_batch(batch)[0]["image"]
    np.testing.assert_allclose(first.affine, load(tmp_path / "a")[1]["affine"])
    assert first.meta["value_range"] == [-32768, 32768]


def test_geometry_error_is_not_hidden_by_monais_other_readers(tmp_path):
    objects = series(volume(5))
    write_all([objects[k] for k in (0, 1, 3, 4)], tmp_path)
    with pytest.raises(DicomGeometryError, match=r"missing slices: 1 of 5"):
        LoadImaged("image", reader=SeriesReader())({"image": str(tmp_path)})


def test_picture_of_another_format_is_left_to_other_readers(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    reader = SeriesReader()
    assert not reader.verify_suffix(tmp_path / "a.png")
    with pytest.raises(DicomReadError, match=r"no DICOM: \['a.png'\]"):
        reader.read(tmp_path / "a.png")


def test_file_without_suffix_is_known_by_its_magic(tmp_path):
    path = write(image(np.zeros((3, 4), np.uint8)), tmp_path / "IM0001")
    assert SeriesReader().verify_suffix(path)
    assert load(path)[0].shape == (4, 3)


def test_folder_of_several_series_is_refused_without_naming_the_patient(tmp_path):
    write_all(series(volume()), tmp_path / "one")
    other = series(volume())
    for ds in other:
        ds.SeriesInstanceUID, ds.SeriesNumber, ds.SeriesDescription = "1.2.3.9", "7", "Doe abdomen"
    write_all(other, tmp_path / "two")
    with pytest.raises(DicomReadError, match=r"holds 2 .*CT number 4 \(5 files\), CT number 7 \(5 files\)") as error:
        load(tmp_path)
    assert "Doe" not in str(error.value)


def test_files_of_several_series_are_refused(tmp_path):
    objects = series(volume(3))
    objects[1].SeriesInstanceUID = "1.2.3.9"
    with pytest.raises(DicomReadError, match=r"belong to 2 series: CT \(2\), CT \(1\)"):
        scanned(tmp_path, objects)


def test_folder_leaves_localizers_and_other_objects_out(tmp_path):
    scout = series(volume(1))[0]
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write(scout, tmp_path / "scout.dcm")
    write(image(np.zeros((8, 8), np.uint8), modality="SEG"), tmp_path / "seg.dcm")
    write_all(series(volume()), tmp_path)
    assert load(tmp_path)[0].shape == (9, 7, 5)


@pytest.mark.parametrize(("modality", "kind"), [("SEG", "SEG"), ("SR", "SR")])
def test_object_that_is_no_image_is_refused_by_name(tmp_path, modality, kind):
    with pytest.raises(DicomReadError, match=rf"'0000.dcm' is no image to segment: .*\({kind}\)"):
        scanned(tmp_path, [image(np.zeros((8, 8), np.uint8), modality=modality)])


def test_missing_folder_and_empty_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no DICOM file .*nowhere\.dcm"):
        load(tmp_path / "nowhere.dcm")
    with pytest.raises(FileNotFoundError, match="there is no DICOM image in"):
        load(tmp_path)


def test_truncated_file_is_named(tmp_path):
    path = write(image(np.zeros((32, 32), np.int16)), tmp_path / "cut.dcm")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DicomReadError, match=r"'cut.dcm' is cut short: 1948 of 2048 bytes"):
        load(path)


def test_file_cut_within_its_header_is_named(tmp_path):
    path = write(image(np.zeros((32, 32), np.int16)), tmp_path / "cut.dcm")
    path.write_bytes(path.read_bytes()[:-2100])
    with pytest.raises(DicomReadError, match=r"'cut.dcm' (has no pixel data|cannot be parsed|is no image)"):
        load(path)


def test_empty_file_and_text_file_are_named(tmp_path):
    (tmp_path / "empty.dcm").write_bytes(b"")
    with pytest.raises(DicomReadError, match=r"'empty.dcm' is empty \(0 bytes\)"):
        load(tmp_path / "empty.dcm")
    (tmp_path / "text.dcm").write_text("this is a letter and no picture " * 40)
    with pytest.raises(DicomReadError, match=r"'text.dcm' cannot be parsed as DICOM"):
        load(tmp_path / "text.dcm")


def test_missing_pixel_data_is_named(tmp_path):
    with pytest.raises(DicomReadError, match=r"'0000.dcm' has no pixel data"):
        scanned(tmp_path, [image(np.zeros((8, 8), np.uint8), PixelData=None)])


def test_number_that_is_none_is_named_without_quoting_it(tmp_path):
    path = write(image(np.zeros((8, 8), np.uint8), PixelSpacing=["0.5", "0.5"]), tmp_path / "x.dcm")
    path.write_bytes(path.read_bytes().replace(b"0.5\\0.5", b"Doe\\0.5"))
    with pytest.raises(DicomReadError, match=r"'x.dcm': PixelSpacing does not hold numbers") as error:
        load(path)
    assert "Doe" not in str(error.value)


def test_missing_decoder_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("banet_monai.dicom.decoding.can_decode", lambda syntax: False)
    path = write(run_length_packed(image(np.zeros((8, 8), np.uint8))), tmp_path / "x.dcm", syntax=RLELossless)
    with pytest.raises(DicomReadError, match=r'compressed as RLE Lossless.*pip install "banet-monai\[dicom\]"'):
        load(path)


def test_video_is_refused_as_video(tmp_path):
    ds = run_length_packed(image(np.zeros((8, 8), np.uint8)))
    path = write(ds, tmp_path / "x.dcm", syntax="1.2.840.10008.1.2.4.102")
    with pytest.raises(DicomReadError, match=r"'x.dcm' is a video .*extract its frames"):
        load(path)


def test_run_length_and_deflated_files_equal_plain_ones(tmp_path):
    pixels = volume(1)[0]
    for name, ds, syntax in [
        ("rle.dcm", run_length_packed(image(pixels)), RLELossless),
        ("deflated.dcm", image(pixels), DeflatedExplicitVRLittleEndian),
    ]:
        path = write(ds, tmp_path / name, syntax=syntax)
        np.testing.assert_array_equal(load(path)[0], pixels.T)


def test_repairs_are_said(tmp_path):
    objects = series(volume(4), orientation=AXIAL)
    objects[1].ImageOrientationPatient = ["1.0", "0.0000003", "0.0", "0.0", "1.0", "0.0"]
    for ds, number in zip(objects, "3142", strict=True):
        ds.InstanceNumber = number
        ds.StudyInstanceUID, ds.SpecificCharacterSet = "", ""
        complete(ds)
    _, meta = scanned(tmp_path, objects)
    repairs = meta_list(meta["repairs"])
    assert [repair.split(":")[0] for repair in repairs] == [
        "SpecificCharacterSet is empty",
        "StudyInstanceUID is empty",
        "ImageOrientationPatient differs by rounding",
        "InstanceNumber does not follow the positions",
    ]


def test_clean_series_needs_no_repair(tmp_path):
    _, meta = scanned(tmp_path, [complete(ds) for ds in series(volume(4))])
    assert meta["repairs"] == ""


def test_absent_type_2_attributes_are_said(tmp_path):
    ds = complete(image(np.zeros((8, 8), np.uint8), modality="DX"))
    del ds.StudyID, ds.PatientSex
    _, meta = scanned(tmp_path, [ds])
    assert meta["repairs"] == "PatientSex, StudyID absent: taken as empty"


def test_series_that_mixes_grey_and_colour_is_refused(tmp_path):
    objects = series(volume(2, dtype=np.uint8))
    colour = series(np.zeros((1, 7, 9), np.uint8))[0]
    colour.SamplesPerPixel, colour.PhotometricInterpretation, colour.PlanarConfiguration = 3, "RGB", 0
    colour.PixelData = bytes(7 * 9 * 3 + 1)
    with pytest.raises(DicomGeometryError, match="mixes grey and colour"):
        scanned(tmp_path, [*objects, colour])


@pytest.mark.skipif("BANET_DATA" not in os.environ, reason="BANET_DATA does not name a folder with real data")
def test_real_liver_series_equals_highdicom(hd):
    folder = Path(os.environ["BANET_DATA"]) / "dicom" / "ct_liver_3slice"
    array, meta = load(folder)
    datasets = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    for ds in datasets:
        del ds.SpecificCharacterSet
    oracle = hd.get_volume_from_series(datasets, dtype=np.float32)
    corner = (LPS @ meta["affine"] @ [100, 200, 1, 1])[:3]
    there = np.round(np.linalg.solve(oracle.affine, [*corner, 1])[:3]).astype(int)
    assert oracle.array[tuple(there)] == array[100, 200, 1]
    np.testing.assert_allclose(array.sum(dtype=np.float64), oracle.array.sum(dtype=np.float64))


def test_a_photometric_interpretation_that_is_no_code_is_not_repeated(tmp_path):
    ds = image(np.zeros((2, 4), np.uint8), modality="US")
    ds["PhotometricInterpretation"]._value = "Secret^Name"  # setting it in the open way warns
    path = write(ds, tmp_path / "a.dcm")
    with pytest.raises(DicomReadError, match=r"'a\.dcm' has 1 samples per pixel of an unknown kind; what works"):
        SeriesReader().get_data(SeriesReader().read(path))
