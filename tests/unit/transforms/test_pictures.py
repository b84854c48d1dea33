from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from monai.data import PILReader
from numpy.typing import NDArray
from PIL import Image

from banet_monai.data.masks import read_mask
from banet_monai.data.probe import TooManyPixelsError, probe
from banet_monai.tiles.reading import TiledTiff
from banet_monai.transforms import PictureReader, pictures

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
RGB8 = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
RGB16 = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
RGBA16 = RNG.integers(0, 65536, (5, 7, 4), dtype=np.uint16)


def read(path: Path, **options: Any) -> tuple[NDArray[Any], dict[str, Any]]:
    reader = PictureReader(**options)
    return reader.get_data(reader.read(path))


def as_rows(array: NDArray[Any]) -> NDArray[Any]:
    """(x, y, ...) as MONAI holds a picture -> (row, column, ...) as it is drawn."""
    return np.swapaxes(array, 0, 1)


def png_of(lines: bytes, width: int, color_type: int, *, bits: int = 8, changed: Any = lambda stream: stream) -> bytes:
    """A PNG of filtered scanlines (PNG specification, sections 4, 9 and 11), its compressed stream changed at will."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    height = len(lines) // (1 + width * channels * bits // 8)
    size = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    content = chunk(b"IHDR", size) + chunk(b"IDAT", changed(zlib.compress(lines))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def write_png16(path: Path, rows: NDArray[np.uint16], color_type: int) -> None:
    """A 16-bit PNG (PNG specification, sections 4 and 11), which PIL cannot write in colour."""

    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    path.write_bytes(png_of(lines, rows.shape[1], color_type, bits=16))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("rows", [GREY8, RGB8], ids=["grey", "rgb"])
def test_8_bit_pictures_come_as_stored(tmp_path: Path, suffix: str, rows: NDArray[np.uint8]) -> None:
    Image.fromarray(rows).save(tmp_path / f"a{suffix}")
    array, meta = read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(as_rows(array), rows)
    assert meta["bits"] == 8
    assert meta["value_range"] == (0.0, 255.0)
    assert meta["spacing_unit"] == "px"


def test_axes_are_those_of_monais_own_reader(tmp_path: Path) -> None:
    Image.fromarray(RGB8).save(tmp_path / "a.png")
    stock = PILReader()
    expected, expected_meta = stock.get_data(stock.read(tmp_path / "a.png"))
    array, meta = read(tmp_path / "a.png")
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(meta["spatial_shape"], expected_meta["spatial_shape"])
    assert meta["original_channel_dim"] == expected_meta["original_channel_dim"] == -1


def test_jpeg_is_read_close_to_what_was_saved(tmp_path: Path) -> None:
    rows = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    Image.fromarray(rows).save(tmp_path / "a.jpg", quality=95)
    array, meta = read(tmp_path / "a.jpg")
    assert np.abs(as_rows(array).astype(int) - rows).max() <= 3
    assert meta["value_range"] == (0.0, 255.0)


@pytest.fixture(params=["imagecodecs", "Pillow alone"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With libspng for what it can read, and as where imagecodecs is not installed."""
    if request.param == "Pillow alone":
        monkeypatch.setattr(pictures, "_png_decoder", lambda: None)
    else:
        pytest.importorskip("imagecodecs")
    return str(request.param)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize(
    ("filtered", "rows"),
    [
        ([0, 10, 20, 30], [10, 20, 30]),  # as it is
        ([1, 10, 10, 246], [10, 20, 10]),  # to the left, modulo 256
        ([2, 0, 255, 5], [100, 102, 109]),  # above: 100, 103, 104
        ([3, 1, 1, 1], [51, 78, 92]),  # the mean of left and above, rounded down
        ([4, 1, 1, 1], [101, 104, 105]),  # Paeth's predictor
    ],
    ids=["none", "sub", "up", "average", "paeth"],
)
def test_every_filter_of_a_png_is_undone(tmp_path: Path, filtered: list[int], rows: list[int]) -> None:
    above = [0, 100, 103, 104]
    (tmp_path / "a.png").write_bytes(png_of(bytes(above + filtered), 3, 0))
    array, _ = read(tmp_path / "a.png")
    assert as_rows(array).tolist() == [above[1:], rows]


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize(
    ("color_type", "expected"),
    [(0, [[1, 2], [3, 4]]), (2, [[[1, 2, 3], [4, 5, 6]]] * 2), (6, [[[1, 2, 3], [5, 6, 7]]] * 2)],
    ids=["grey", "rgb", "rgba"],
)
def test_a_png_of_8_bits_comes_as_stored_by_either_decoder(tmp_path: Path, color_type: int, expected: Any) -> None:
    lines = {0: b"\0\1\2\0\3\4", 2: (b"\0\1\2\3\4\5\6") * 2, 6: (b"\0\1\2\3\0\5\6\7\0") * 2}[color_type]
    (tmp_path / "a.png").write_bytes(png_of(lines, 2, color_type))
    array, meta = read(tmp_path / "a.png")
    assert as_rows(array).tolist() == expected
    assert (meta["bits"], meta["format"]) == (8, "PNG")


@pytest.mark.usefixtures("decoder")
def test_grey_of_two_bits_and_a_colour_called_transparent_come_as_pillow_has_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_of(bytes([0, 0b00011011] * 2), 4, 0, bits=2))
    Image.fromarray(RGB8).save(tmp_path / "b.png", transparency=tuple(int(value) for value in RGB8[0, 0]))
    assert as_rows(read(tmp_path / "a.png")[0]).tolist() == [[0, 85, 170, 255]] * 2
    np.testing.assert_array_equal(as_rows(read(tmp_path / "b.png")[0]), RGB8)


def test_imagecodecs_decodes_plain_pngs_and_pillow_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def decode(content: bytes) -> NDArray[np.uint8]:
        decoded.append(len(content))
        return RGB8

    monkeypatch.setattr(pictures, "_png_decoder", lambda: decode)
    Image.fromarray(RGB8).save(tmp_path / "a.png")
    Image.fromarray(RGB8).quantize(4).save(tmp_path / "palette.png")
    Image.fromarray(RGB8).save(tmp_path / "a.bmp")
    for name in ("a.png", "palette.png", "a.bmp"):
        read(tmp_path / name)
    assert decoded == [(tmp_path / "a.png").stat().st_size]


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize(
    "changed",
    [
        lambda stream: stream[:-1] + bytes([stream[-1] ^ 1]),
        lambda stream: stream[: len(stream) // 2],
        lambda stream: zlib.compress(zlib.decompress(stream)[:-9]),
        lambda stream: zlib.compress(b"\x09" + zlib.decompress(stream)[1:]),
    ],
    ids=["wrong check", "cut short", "rows are missing", "unknown filter"],
)
def test_a_damaged_png_is_refused_in_the_same_words_by_either_decoder(tmp_path: Path, changed: Any) -> None:
    lines = b"".join(b"\0" + row.tobytes() for row in RGB8)
    (tmp_path / "a.png").write_bytes(png_of(lines, RGB8.shape[1], 2, changed=changed))
    with pytest.raises(ValueError, match=r"^'a\.png' is truncated or corrupt"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_exact(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(GREY16).save(tmp_path / f"a{suffix}")
    array, meta = read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(as_rows(array), GREY16)
    assert (meta["bits"], meta["value_range"]) == (16, (0.0, 65535.0))


@pytest.mark.parametrize(("rows", "color_type"), [(RGB16, 2), (RGBA16, 6)], ids=["rgb", "rgba"])
def test_16_bit_colour_png_is_exact(tmp_path: Path, rows: NDArray[np.uint16], color_type: int) -> None:
    write_png16(tmp_path / "a.png", rows, color_type)
    array, meta = read(tmp_path / "a.png")
    np.testing.assert_array_equal(as_rows(array), rows[..., :3])
    assert (meta["bits"], meta["value_range"]) == (16, (0.0, 65535.0))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("rows", [RGB16, RGBA16], ids=["rgb", "rgba"])
def test_16_bit_colour_tiff_is_exact(
    tmp_path: Path, rows: NDArray[np.uint16], compression: str | None, byteorder: Any
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rows, photometric="rgb", compression=compression, byteorder=byteorder)
    array, meta = read(path)
    np.testing.assert_array_equal(as_rows(array), rows[..., :3])
    assert meta["bits"] == 16


def test_16_bit_colour_in_separate_planes_is_refused_rather_than_cut_to_8_bits(tmp_path: Path) -> None:
    planes = np.moveaxis(RGB16, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(ValueError, match=r"'a\.tif' stores 16-bit colour .* interleaved RGB"):
        read(tmp_path / "a.tif")


def test_16_bit_grey_with_alpha_is_refused_rather_than_cut_to_8_bits(tmp_path: Path) -> None:
    write_png16(tmp_path / "a.png", RGB16[..., :2], 4)
    with pytest.raises(ValueError, match="16-bit grey without alpha"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.int32])
def test_float_and_signed_tiff_have_an_unknown_range(tmp_path: Path, dtype: type) -> None:
    rows = (GREY8.astype(np.int32) - 100).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", rows)
    array, meta = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(as_rows(array), rows)
    assert np.isnan(meta["value_range"]).all()


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    rgba = np.dstack([RGB8, np.zeros((5, 7), dtype=np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(as_rows(read(tmp_path / "a.png")[0]), RGB8)
    Image.fromarray(np.dstack([GREY8, GREY8 // 2])).save(tmp_path / "la.png")
    np.testing.assert_array_equal(as_rows(read(tmp_path / "la.png")[0]), GREY8)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 3), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    array, _ = read(tmp_path / "a.tif")
    assert array.shape == (4, 3, 3)
    assert array[0, 0].tolist() == [255, 0, 0]


def test_a_palette_picture_gives_colours_and_a_palette_mask_its_indices(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(tmp_path / "a.png")
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]])
    np.testing.assert_array_equal(as_rows(read(tmp_path / "a.png")[0]), colours[indices])
    np.testing.assert_array_equal(as_rows(read(tmp_path / "a.png", keep_palette=True)[0]), indices)


@pytest.mark.parametrize("palette", [[255] * 3 + [0] * 3, [0] * 3 + [255] * 3], ids=["white first", "black first"])
def test_a_palette_of_black_and_white_is_read_by_its_colours_whichever_comes_first(
    tmp_path: Path, palette: list[int]
) -> None:
    white = palette.index(255) // 3
    lesion = np.zeros((5, 7), dtype=bool)
    lesion[1:3, 2:6] = True
    picture = Image.fromarray(np.where(lesion, white, 1 - white).astype(np.uint8), mode="P")
    picture.putpalette(palette)
    picture.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(as_rows(read(tmp_path / "mask.png", keep_palette=True)[0]), lesion * 255)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), lesion * 255)


@pytest.mark.parametrize("palette", [None, [0] * 768, [0] * 3 + [255] * 3 + [0] * 3], ids=["none", "black", "short"])
def test_label_ids_under_a_palette_that_says_nothing_stay_label_ids(tmp_path: Path, palette: list[int] | None) -> None:
    ids = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    ids = ids if palette else np.minimum(ids, 1)  # without one, Pillow writes one bit
    picture = Image.frombytes("P", (3, 2), ids.tobytes())
    if palette is not None:
        picture.putpalette(palette)
    for suffix in (".png", ".tif"):
        picture.save(tmp_path / f"mask{suffix}")
        np.testing.assert_array_equal(as_rows(read(tmp_path / f"mask{suffix}", keep_palette=True)[0]), ids)
        np.testing.assert_array_equal(read_mask(tmp_path / f"mask{suffix}"), ids)


def test_one_bit_is_0_and_255_for_a_picture_and_0_and_1_for_a_mask(tmp_path: Path) -> None:
    bits = GREY8 > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    np.testing.assert_array_equal(as_rows(read(tmp_path / "a.png")[0]), bits * 255)
    np.testing.assert_array_equal(as_rows(read(tmp_path / "a.png", keep_palette=True)[0]), bits)


def test_the_exif_orientation_leaves_the_pixel_grid_as_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(RGB8).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(as_rows(read(tmp_path / "a.png")[0]), RGB8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", [RGB8, GREY8, RGB16, GREY16], ids=["RGB8", "GREY8", "RGB16", "GREY16"])
def test_the_orientation_of_a_tiff_leaves_the_pixel_grid_as_stored_in_tiles_too(
    tmp_path: Path, pixels: NDArray[Any], orientation: int
) -> None:
    colour = "minisblack" if pixels.ndim == 2 else "rgb"
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=colour, extratags=[tag])
    array, meta = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(as_rows(array), pixels)
    assert tuple(meta["spatial_shape"]) == pixels.shape[1::-1]
    assert probe(tmp_path / "a.tif", decode=True).size == pixels.shape[1::-1]
    if pixels.ndim == 2:
        np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), pixels)
    tifffile.imwrite(tmp_path / "tiled.tif", pixels, photometric=colour, extratags=[tag], tile=(16, 16))
    with TiledTiff(tmp_path / "tiled.tif") as tiled:
        np.testing.assert_array_equal(tiled.rows(0, len(pixels)), pixels.reshape(*pixels.shape[:2], -1))


def test_a_tiff_of_several_pages_is_refused_but_thumbnails_are_not(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([GREY8, GREY8]), photometric="minisblack")
    with pytest.raises(ValueError, match=r"'stack\.tif' has 2 pages"):
        read(tmp_path / "stack.tif")
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as writer:
        writer.write(GREY8, photometric="minisblack")
        writer.write(GREY8[::2, ::2], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(as_rows(read(tmp_path / "pyramid.tif")[0]), GREY8)


def broken(folder: Path, kind: str) -> Path:
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = folder / f"{kind}.png"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("hello")
    elif kind == "pixel":
        Image.new("RGB", (1, 1)).save(path)
    elif kind == "nan":
        path = folder / "nan.tif"
        tifffile.imwrite(path, np.full((4, 4), np.nan, dtype=np.float32))
    else:
        path = folder / kind
        Image.fromarray(noise).save(path)
        content = path.read_bytes()
        if kind == "flipped.png":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + b"\xff" * 8 + content[middle + 8 :])
        else:
            path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", r"^'empty\.png' is empty \(0 bytes\)"),
        ("text", r"^'text\.png' is no picture that PIL knows; PNG, JPEG, TIFF and BMP work"),
        ("pixel", r"^'pixel\.png' is 1x1 pixels; at least 2x2"),
        ("nan", r"^'nan\.tif' holds NaN"),
        ("cut.png", r"^'cut\.png' is truncated or corrupt"),
        ("cut.jpg", r"^'cut\.jpg' is truncated or corrupt"),
        ("cut.bmp", r"^'cut\.bmp' is truncated or corrupt"),
        ("flipped.png", r"^'flipped\.png' is truncated or corrupt"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong_and_without_its_folder(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(broken(tmp_path, kind))
    assert str(tmp_path) not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file 'a\.png'"):
        read(tmp_path / "a.png")


def test_a_picture_above_the_limit_of_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB8).save(path)
    path.write_bytes(path.read_bytes()[:60])  # the header alone: decoding it would be another error
    with pytest.raises(ValueError, match=r"'a\.png' is 7x5, .* limit is .* tiled TIFF.*--max-pixels 35 ") as refused:
        read(path, max_pixels=34)
    assert isinstance(refused.value, TooManyPixelsError)


def test_max_pixels_alone_decides_whatever_pillow_thinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RGB8).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read(tmp_path / "a.png", max_pixels=35)[0].shape == (7, 5, 3)
    assert read(tmp_path / "a.png", max_pixels=None)[0].shape == (7, 5, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_limit_of_no_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="max_pixels must be a positive number, got 0"):
        PictureReader(max_pixels=0)


def test_two_pictures_are_not_stacked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pictures are read one at a time, got 2"):
        PictureReader().read([tmp_path / "a.png", tmp_path / "b.png"])


def test_a_tiled_tiff_above_the_limit_is_not_told_to_become_one(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((32, 32), np.uint8), tile=(16, 16))
    with pytest.raises(TooManyPixelsError, match="banet segment does tiled TIFFs like it in tiles") as told:
        read(tmp_path / "a.tif", max_pixels=100)
    assert "Save it as a tiled TIFF" not in str(told.value)
