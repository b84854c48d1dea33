"""Each compressed syntax is made by an encoder that is not ours and compared with the pixels that went in."""

import contextlib
import io

import numpy as np
import PIL.Image
import pydicom
import pytest
from pydicom import encaps
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from banet_monai.dicom import DicomReadError, SeriesReader, decoding
from banet_monai.dicom.parsing import parse_file
from tests.dicom_objects import PYDICOM_2, image, item, run_length_packed, write

JPEG_EXTENDED, HTJ2K = "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.201"
RAMP = (np.add.outer(np.arange(24) * 40, np.arange(32) * 25) % 4096).astype(np.uint16)  # 12 bits
NOISE = np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.uint8)
SMOOTH = np.stack(
    [np.add.outer(np.arange(24) * 2, np.arange(32) * k).astype(np.uint8) for k in (1, 3, 5)], axis=-1
)  # columns of one colour differ by little, so that JPEG changes little


def load(path):
    reader = SeriesReader()
    return reader.get_data(reader.read(path))


def twelve_bits(pixels=RAMP, **attributes):
    return image(pixels, BitsStored=12, HighBit=11, **attributes)


def packed(ds, frames, syntax, folder, **attributes):
    """Write an object whose frames were encoded elsewhere."""
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.PixelData = encaps.encapsulate(frames)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return write(ds, folder / "packed.dcm", syntax=syntax)


def by_gdcm(ds, kind, folder):
    """Write an object compressed by GDCM; ``kind`` as GDCM names it."""
    gdcm = pytest.importorskip("gdcm")
    plain, path = write(ds, folder / "plain.dcm"), folder / "packed.dcm"
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kind)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    plain.unlink()
    return path


def jpeg(pixels, **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=98, **options)
    return buffer.getvalue()


def needs(syntax):
    if not decoding.can_decode(UID(syntax)):
        pytest.skip(f"no decoder for {UID(syntax).name} with this pydicom")


@pytest.mark.parametrize(
    "kind",
    [
        "JPEGLosslessProcess14",
        "JPEGLosslessProcess14_1",
        "JPEGLSLossless",
        "JPEG2000Lossless",
        "RLELossless",
        "ExplicitVRBigEndian",
        "ImplicitVRLittleEndian",
    ],
)
@pytest.mark.parametrize("pixels", [NOISE, RAMP, RAMP.astype(np.int16) - 2000], ids=["8", "12", "16 signed"])
def test_lossless_syntaxes_written_by_gdcm_equal_the_plain_pixels(tmp_path, kind, pixels):
    ds = twelve_bits(pixels) if pixels.dtype == np.uint16 else image(pixels)
    path = by_gdcm(ds, kind, tmp_path)
    needs(pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID)
    array, _ = load(path)
    np.testing.assert_array_equal(array, pixels.T)


@pytest.mark.skipif(PYDICOM_2, reason="pydicom 2 encodes RLE alone")
@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless], ids=lambda uid: uid.name)
def test_lossless_syntaxes_written_by_pydicom_equal_the_plain_pixels(tmp_path, syntax):
    pixels = np.tile(RAMP, (3, 2))
    ds = twelve_bits(pixels)
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.compress(syntax)
    array, _ = load(write(ds, tmp_path / "x.dcm", syntax=syntax))
    np.testing.assert_array_equal(array, pixels.T)


def test_jpeg_baseline_grey_is_what_its_encoder_reads_back(tmp_path):
    data = jpeg(NOISE)
    array, _ = load(packed(image(NOISE, modality="DX"), [data], JPEGBaseline8Bit, tmp_path))
    expected = np.asarray(PIL.Image.open(io.BytesIO(data)))
    np.testing.assert_allclose(array.astype(int), expected.T, atol=1)
    assert array.dtype == np.uint8


@pytest.mark.parametrize(("photometric", "subsampling"), [("YBR_FULL", 0), ("YBR_FULL_422", 1)])
def test_jpeg_baseline_colour_becomes_rgb(tmp_path, photometric, subsampling):
    ds = image(SMOOTH, modality="XC", photometric=photometric)
    array, meta = load(packed(ds, [jpeg(SMOOTH, subsampling=subsampling)], JPEGBaseline8Bit, tmp_path))
    np.testing.assert_allclose(array.astype(int), SMOOTH.transpose(1, 0, 2), atol=12)
    assert np.abs(array.astype(int) - SMOOTH.transpose(1, 0, 2)).mean() < 3
    assert meta["photometric"] == photometric


@pytest.mark.parametrize("photometric", ["RGB", "YBR_RCT"])
def test_jpeg_2000_colour_becomes_rgb(tmp_path, photometric):
    buffer = io.BytesIO()
    PIL.Image.fromarray(SMOOTH).save(
        buffer, "JPEG2000", irreversible=False, mct=int(photometric == "YBR_RCT"), no_jp2=True
    )
    path = packed(
        image(SMOOTH, modality="XC", photometric=photometric), [buffer.getvalue()], JPEG2000Lossless, tmp_path
    )
    needs(JPEG2000Lossless)
    np.testing.assert_array_equal(load(path)[0], SMOOTH.transpose(1, 0, 2))


@pytest.mark.parametrize("has_offsets", [True, False])
def test_compressed_frames_are_taken_apart_with_and_without_an_offset_table(tmp_path, has_offsets):
    frames = [np.roll(NOISE, k, axis=1) for k in range(5)]
    ds = image(np.stack(frames), modality="US", frames=5)
    data = [jpeg(frame) for frame in frames]
    path = packed(ds, data, JPEGBaseline8Bit, tmp_path)
    if not has_offsets:
        ds.PixelData = encaps.encapsulate(data, has_bot=False)
        write(ds, path, syntax=JPEGBaseline8Bit)
    array, meta = load(path)
    expected = np.stack([np.asarray(PIL.Image.open(io.BytesIO(one))).T for one in data], axis=-1)
    np.testing.assert_allclose(array.astype(int), expected, atol=1)
    assert meta["layout"] == "frames"


@pytest.mark.skipif(PYDICOM_2, reason="pydicom 2 does not know the table")
def test_frames_of_an_extended_offset_table_are_read(tmp_path):
    frames = [np.roll(NOISE, k, axis=1) for k in range(3)]
    ds = image(np.stack(frames), modality="US", frames=3)
    data, offsets, lengths = encaps.encapsulate_extended([jpeg(frame) for frame in frames])
    ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = data, offsets, lengths
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    array, _ = load(write(ds, tmp_path / "x.dcm", syntax=JPEGBaseline8Bit))
    assert np.abs(array[:, :, 2].astype(int) - frames[2].T).mean() < 4


def test_colour_frames_of_a_compressed_clip_are_read_in_order(tmp_path):
    clip = np.stack([np.full((16, 16, 3), (40 * k, 200 - 40 * k, 90), np.uint8) for k in range(5)])
    ds = image(clip, modality="US", frames=5, photometric="YBR_FULL")
    array, _ = load(packed(ds, [jpeg(frame, subsampling=0) for frame in clip], JPEGBaseline8Bit, tmp_path))
    assert array.shape == (16, 16, 5, 3)
    np.testing.assert_allclose(array[3, 5].astype(int), clip[:, 5, 3], atol=3)


@pytest.mark.skipif(PYDICOM_2, reason="HTJ2K came with pydicom 3")
def test_high_throughput_jpeg_2000_has_a_decoder_and_a_damaged_one_is_named(tmp_path):
    assert decoding.can_decode(UID(HTJ2K))
    path = packed(image(NOISE), [b"\xff\x4f\xff\x51" + bytes(60)], HTJ2K, tmp_path)
    with pytest.raises(DicomReadError, match=r"'packed.dcm': the pixel data \(High-Throughput JPEG 2000.*openjpeg"):
        load(path)


def test_twelve_bit_jpeg_extended_is_refused_with_its_name(tmp_path):
    path = by_gdcm(twelve_bits(), "JPEGExtendedProcess2_4", tmp_path)
    with pytest.raises(DicomReadError, match=r"'packed.dcm' .* JPEG Extended.*more than 8 bits.*convert"):
        load(path)


@pytest.mark.parametrize(
    ("syntax", "plugin"),
    [
        ("1.2.840.10008.1.2.4.70", "JPEG Lossless.*python-gdcm"),
        ("1.2.840.10008.1.2.4.80", "JPEG-LS.*pyjpegls"),
        ("1.2.840.10008.1.2.4.90", "JPEG 2000.*pylibjpeg-openjpeg"),
    ],
)
def test_missing_plugin_is_named_with_the_syntax(tmp_path, monkeypatch, syntax, plugin):
    monkeypatch.setattr(decoding, "can_decode", lambda _: False)
    path = packed(image(NOISE), [b"\0\0"], syntax, tmp_path)
    with pytest.raises(DicomReadError, match=rf"'packed.dcm' is compressed as {plugin}.*no decoder|{plugin}"):
        load(path)


def test_unknown_syntax_is_named(tmp_path):
    path = packed(image(NOISE), [jpeg(NOISE)], JPEGBaseline8Bit, tmp_path)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.99"))
    with pytest.raises(DicomReadError, match=r"unknown transfer syntax 1\.2\.840\.10008\.1\.2\.4\.99"):
        load(path)


def test_cut_compressed_pixel_data_are_named(tmp_path):
    path = packed(image(NOISE), [jpeg(NOISE)], JPEGBaseline8Bit, tmp_path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DicomReadError, match=r"'packed.dcm' is cut short: its compressed pixel data have no end"):
        load(path)


def test_missing_delimiter_alone_is_no_damage(tmp_path):
    path = packed(image(NOISE), [jpeg(NOISE)], JPEGBaseline8Bit, tmp_path)
    assert path.read_bytes().endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    path.write_bytes(path.read_bytes()[:-8])
    assert load(path)[0].shape == (32, 24)


def test_more_frames_than_bytes_are_refused_before_anything_is_computed_for_them(tmp_path):
    ds = image(np.stack([NOISE] * 2), frames=2)
    ds.NumberOfFrames = 2_000_000_000
    with pytest.raises(
        DicomReadError, match=r"states 2000000000 frames, which its 1536 bytes of pixel data cannot hold"
    ):
        load(write(ds, tmp_path / "x.dcm"))


@pytest.mark.parametrize("is_compressed", [False, True])
def test_frames_are_counted_by_what_each_needs_at_least(tmp_path, is_compressed):
    ds = image(np.stack([NOISE] * 2), modality="US", frames=2)  # 96 bytes a frame of single bits, or 8 of its item
    ds = run_length_packed(ds) if is_compressed else ds
    ds.NumberOfFrames = 17 if not is_compressed else 2_000_000_000
    syntax = RLELossless if is_compressed else ExplicitVRLittleEndian
    with pytest.raises(DicomReadError, match=r"states \d+ frames, which its \d+ bytes of pixel data cannot hold"):
        load(write(ds, tmp_path / "x.dcm", syntax=syntax))


def test_compressed_pixels_in_a_file_that_says_it_is_not_compressed_are_refused(tmp_path):
    path = write(run_length_packed(image(NOISE, modality="US")), tmp_path / "x.dcm", syntax=RLELossless)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0"))
    with pytest.raises(DicomReadError, match=r"'x.dcm' holds compressed pixel data, but its transfer syntax is stated"):
        load(path)


def test_missing_compressed_frames_are_counted(tmp_path):
    path = packed(image(np.stack([NOISE] * 3), frames=3), [jpeg(NOISE)], JPEGBaseline8Bit, tmp_path)
    with pytest.raises(DicomReadError, match=r"'packed.dcm'.*(1 of 3 compressed frames|cannot be decoded)"):
        load(path)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_uncompressed_syntaxes_hold_the_same_pixels(tmp_path, syntax, dtype):
    pixels = NOISE.astype(dtype)[:, :31]  # an odd number of columns
    if syntax == ExplicitVRBigEndian:
        path = by_gdcm(image(pixels), "ExplicitVRBigEndian", tmp_path)
    else:
        path = write(image(pixels), tmp_path / "x.dcm", syntax=syntax)
    np.testing.assert_array_equal(load(path)[0], pixels.T)


def test_subsampled_uncompressed_colour_becomes_rgb(tmp_path):
    # Two pixels share their colour: Y1 Y2 Cb Cr. Y 76, Cb 85, Cr 255 is pure red; the second pixel of each is darker.
    ds = image(np.zeros((2, 4, 3), np.uint8), modality="US", photometric="YBR_FULL_422")
    ds.PixelData = bytes([76, 60, 85, 255] * 4)
    array, _ = load(write(ds, tmp_path / "x.dcm"))
    np.testing.assert_allclose(array[0, 0], [254, 0, 0], atol=1)
    np.testing.assert_allclose(array[1, 0], [238, 0, 0], atol=1)


def test_colour_that_is_not_subsampled_as_stated_is_refused(tmp_path):
    ds = image(SMOOTH, modality="US", photometric="YBR_FULL_422")
    with pytest.raises(
        DicomReadError, match=r"'x.dcm' is stated to be YBR_FULL_422.*correct PhotometricInterpretation"
    ):
        load(write(ds, tmp_path / "x.dcm"))


@pytest.mark.parametrize("pixels", [NOISE, SMOOTH], ids=["grey", "colour"])
def test_bytes_of_a_big_endian_file_in_words_are_turned(tmp_path, pixels):
    path = write(image(pixels, modality="US"), tmp_path / "x.dcm", syntax=ExplicitVRBigEndian)
    words = pixels.reshape(-1, 2)[:, ::-1].tobytes()  # PS3.5 section 7.3
    stored = path.read_bytes().replace(b"\x7f\xe0\x00\x10OB", b"\x7f\xe0\x00\x10OW")
    path.write_bytes(stored.replace(pixels.tobytes(), words))
    np.testing.assert_array_equal(load(path)[0], pixels.swapaxes(0, 1))


@pytest.mark.parametrize("tables", ["modality", "palette"])
def test_tables_of_a_big_endian_file_are_turned(tmp_path, tables):
    entries = np.arange(256) * 100 + 7
    ds = image(NOISE, modality="US")
    if tables == "modality":
        ds.ModalityLUTSequence = Sequence([item(LUTDescriptor=[256, 0, 16])])
        ds.ModalityLUTSequence[0].add_new("LUTData", "OW", entries.astype(">u2").tobytes())
    else:
        ds.PhotometricInterpretation = "PALETTE COLOR"
        for word in ("Red", "Green", "Blue"):
            setattr(ds, f"{word}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(ds, f"{word}PaletteColorLookupTableData", entries.astype(">u2").tobytes())
    array, _ = load(write(ds, tmp_path / "x.dcm", syntax=ExplicitVRBigEndian))
    np.testing.assert_array_equal(array if array.ndim == 2 else array[..., 1], entries[NOISE].T)


@pytest.mark.parametrize("planar", [0, 1])
def test_run_length_colour_is_read_whatever_its_planar_configuration_says(tmp_path, planar):
    ds = run_length_packed(image(SMOOTH, modality="XC"))
    ds.PlanarConfiguration = planar
    array, _ = load(write(ds, tmp_path / "x.dcm", syntax=RLELossless))
    np.testing.assert_array_equal(array, SMOOTH.transpose(1, 0, 2))


def test_signed_bytes_keep_their_sign(tmp_path):
    array, meta = load(write(image(np.array([[-128, -1], [0, 127]], np.int8)), tmp_path / "x.dcm"))
    assert array.T.tolist() == [[-128, -1], [0, 127]]
    assert meta["value_range"] == [-128, 127]


def test_compressed_file_without_sign_and_sample_attributes_is_read(tmp_path):
    ds = image(NOISE, modality="DX", PixelRepresentation=None, SamplesPerPixel=None)
    assert load(packed(ds, [jpeg(NOISE)], JPEGBaseline8Bit, tmp_path))[0].shape == (32, 24)


def test_planar_frames_are_put_together(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    planar = image(pixels, modality="US", frames=3, PlanarConfiguration=1)
    planar.PixelData = pixels.transpose(0, 3, 1, 2).tobytes()
    array, _ = load(write(planar, tmp_path / "x.dcm"))
    np.testing.assert_array_equal(array, pixels.transpose(2, 1, 0, 3))


def test_single_bits_are_read(tmp_path):
    bits = np.random.default_rng(1).integers(0, 2, (3, 8, 16), dtype=np.uint8)
    ds = image(bits, frames=3, BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes()
    array, meta = load(write(ds, tmp_path / "x.dcm"))
    np.testing.assert_array_equal(array, bits.transpose(2, 1, 0))
    assert meta["value_range"] == [0, 1]


@pytest.mark.parametrize("dtype", [np.uint32, np.int32])
def test_32_bit_pixels_are_read(tmp_path, dtype):
    pixels = np.array([[0, 70000], [123456, 99]], dtype)
    array, meta = load(write(image(pixels), tmp_path / "x.dcm"))
    np.testing.assert_array_equal(array, pixels.T)
    assert meta["bits"] == 32


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)])
def test_floating_point_pixels_are_read_and_their_range_is_unknown(tmp_path, keyword, dtype):
    pixels = np.array([[0.25, -3.5], [1e6, 2.0]], dtype)
    ds = image(np.zeros((2, 2), np.uint8), PixelData=None, BitsStored=None, HighBit=None, PixelRepresentation=None)
    ds.BitsAllocated = pixels.dtype.itemsize * 8
    setattr(ds, keyword, pixels.tobytes())
    array, meta = load(write(ds, tmp_path / "x.dcm"))
    np.testing.assert_array_equal(array, pixels.T)
    assert array.dtype == np.float32
    assert np.isnan(meta["value_range"]).all()


def test_samples_packed_in_twelve_bits_are_refused(tmp_path):
    ds = image(np.zeros((8, 8), np.uint16), BitsAllocated=12, BitsStored=12, HighBit=11)
    with pytest.raises(
        DicomReadError, match=r"'x.dcm' has samples of 12 in 12 bits in PixelData; what works: 1, 8, 16"
    ):
        load(write(ds, tmp_path / "x.dcm"))


def test_samples_without_a_bit_are_refused(tmp_path):
    with pytest.raises(DicomReadError, match=r"'x.dcm' has samples of 0 in 16 bits in PixelData; what works: 1, 8, 16"):
        load(write(image(RAMP, BitsStored=0), tmp_path / "x.dcm"))


def palette(**tables):
    ds = image(np.array([[0, 1], [2, 3]], np.uint8), modality="US", photometric="PALETTE COLOR")
    for word in ("Red", "Green", "Blue"):
        setattr(ds, f"{word}PaletteColorLookupTableDescriptor", [4, 0, 16])
        for kind, table in tables.items():
            setattr(ds, f"{kind}{word}PaletteColorLookupTableData", np.array(table, "<u2").tobytes())
    return ds


def test_sixteen_bit_palette_keeps_its_range(tmp_path):
    array, meta = load(write(palette(**{"": [0, 1000, 40000, 65535]}), tmp_path / "x.dcm"))
    assert array[:, :, 1].T.tolist() == [[0, 1000], [40000, 65535]]
    assert (meta["value_range"], meta["bits"]) == ([0, 65535], 16)


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_gives_what_highdicom_gives(tmp_path, bits):
    hd = pytest.importorskip("highdicom", exc_type=ImportError)
    ds = image(NOISE[:4, :5] % 9, modality="US", photometric="PALETTE COLOR")
    random = np.random.default_rng(3)
    for word in ("Red", "Green", "Blue"):
        table = random.integers(0, 2**bits, 6).astype(f"<u{bits // 8}")
        setattr(ds, f"{word}PaletteColorLookupTableDescriptor", [6, 2, bits])  # indices 2 to 7
        setattr(ds, f"{word}PaletteColorLookupTableData", table.tobytes())
    path = write(ds, tmp_path / "x.dcm")
    expected = hd.imread(path).get_frame(1)
    np.testing.assert_array_equal(load(path)[0], expected.transpose(1, 0, 2))


def test_palette_of_bytes_with_more_than_256_entries_is_looked_up(tmp_path):
    ds = image(np.array([[0, 300], [511, 600]], np.uint16), modality="US", photometric="PALETTE COLOR")
    for word in ("Red", "Green", "Blue"):
        setattr(ds, f"{word}PaletteColorLookupTableDescriptor", [512, 0, 8])
        setattr(ds, f"{word}PaletteColorLookupTableData", (np.arange(512) // 2).astype(np.uint8).tobytes())
    array, meta = load(write(ds, tmp_path / "x.dcm"))
    assert (array[..., 0].T.tolist(), meta["bits"]) == ([[0, 150], [255, 255]], 8)


@pytest.mark.parametrize(("stated", "dtype", "bits"), [(16, np.uint8, 8), (8, "<u2", 16)])
def test_palette_whose_descriptor_contradicts_its_data_is_read_by_its_data(tmp_path, stated, dtype, bits):
    table = np.array([0, 1, 200, 2**bits - 1], dtype)
    ds = palette(**{"": table})
    for word in ("Red", "Green", "Blue"):
        setattr(ds, f"{word}PaletteColorLookupTableDescriptor", [4, 0, stated])
        setattr(ds, f"{word}PaletteColorLookupTableData", table.tobytes())
    array, meta = load(write(ds, tmp_path / "x.dcm"))
    assert array[..., 2].T.tolist() == [[0, 1], [200, 2**bits - 1]]
    assert meta["bits"] == bits


def test_palette_of_colours_that_differ_in_size_is_named(tmp_path):
    ds = palette(**{"": [0, 1, 2, 3]})
    ds.GreenPaletteColorLookupTableDescriptor = [2, 0, 16]
    with pytest.raises(DicomReadError, match=r"'x.dcm' has a palette whose colours differ in their number of entries"):
        load(write(ds, tmp_path / "x.dcm"))


def test_segmented_palette_is_expanded(tmp_path):
    # One discrete segment of two entries, then a linear one of two entries that ends at 300 (PS3.3 C.7.9.2).
    array, _ = load(write(palette(Segmented=[0, 2, 0, 100, 1, 2, 300]), tmp_path / "x.dcm"))
    assert array[:, :, 0].T.tolist() == [[0, 100], [200, 300]]


def test_shared_dataset_keeps_no_pixels_and_does_not_change(tmp_path):
    ds = image(SMOOTH, modality="XC", photometric="YBR_FULL")
    path = packed(ds, [jpeg(SMOOTH, subsampling=0)], JPEGBaseline8Bit, tmp_path)
    load(path)
    kept = parse_file(path)
    assert "PixelData" not in kept.dataset
    assert "NumberOfFrames" not in kept.dataset
    assert kept.dataset.PhotometricInterpretation == "YBR_FULL"


def test_a_damaged_picture_does_not_end_the_process(tmp_path):
    pixels = np.stack([RAMP >> 4] * 3, axis=-1).astype(np.uint8)
    ds, stream = image(pixels, modality="XC", photometric="YBR_FULL_422"), jpeg(pixels)
    tables = stream.index(b"\xff\xc4")
    path = packed(ds, [stream[: tables + 30] + stream[tables + 34 :]], JPEGBaseline8Bit, tmp_path)
    with contextlib.suppress(DicomReadError):  # decoders differ in what they can still read
        load(path)


@pytest.mark.parametrize("place", [4, 5, 6, 9], ids=["precision", "rows", "columns", "samples"])
def test_a_lossless_stream_that_contradicts_its_header_is_refused(tmp_path, place):
    path = by_gdcm(twelve_bits(RAMP), "JPEGLosslessProcess14_1", tmp_path)
    ds = pydicom.dcmread(path)
    stream = bytearray(ds.PixelData)
    stream[stream.index(b"\xff\xc3") + place] ^= 0x41
    ds.PixelData = bytes(stream)
    ds.save_as(path)
    with pytest.raises(DicomReadError, match=r"'packed.dcm': the pixel data .* cannot be decoded \(ValueError\)"):
        load(path)
