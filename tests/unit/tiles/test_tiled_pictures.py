from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from banet_monai.handlers import Progress
from banet_monai.inferers import SegmentationInferer
from banet_monai.tiles import (
    TiledPictures,
    TiledTiff,
    is_tiled_tiff,
    ordinary_records,
    probability_strips,
    write_mask_tiff,
)
from banet_monai.transforms import PictureReader

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (70, 50, 3), dtype=np.uint8)  # rows, columns, colour


def tiled(path: Path, rows: NDArray[Any], **options: Any) -> Path:
    photometric = "rgb" if rows.ndim == 3 else "minisblack"
    tifffile.imwrite(path, rows, **{"tile": (16, 32), "photometric": photometric, "compression": "zlib"} | options)
    return path


class Bright(torch.nn.Module):
    """Logits that are the red channel: every pixel for itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1]


class Report:
    def __init__(self) -> None:
        self.results: dict[str, Path] = {}
        self.failures: dict[str, str] = {}
        self.warnings: dict[str, str] = {}

    def done(self, name: str, *results: str | Path) -> None:
        self.results[name] = Path(results[0])

    def failed(self, name: str, reason: str) -> None:
        self.failures[name] = reason

    def warned(self, name: str, text: str) -> None:
        self.warnings[name] = text


def tqdm_on_a_terminal(**options: Any) -> Any:
    return tqdm(**options | {"disable": False})


def pictures(folder: Path, records: list[dict[str, Any]], report: Report, **options: Any) -> TiledPictures:
    inferer = SegmentationInferer(roi_size=16, overlap=0.5, amp="none")
    given = {"network": Bright(), "inferer": inferer, "output_dir": folder, "window": 16, "max_pixels": 100}
    return TiledPictures(records, report=report, **given | options)


@pytest.mark.parametrize("rows", [RGB, RGB[..., 0], RGB.astype(np.uint16) * 257], ids=["rgb", "grey", "16 bits"])
def test_rows_are_those_of_the_file(tmp_path: Path, rows: NDArray[Any]) -> None:
    with TiledTiff(tiled(tmp_path / "a.tif", rows)) as tiff:
        assert (tiff.width, tiff.height, tiff.channels) == (50, 70, rows.shape[2] if rows.ndim == 3 else 1)
        for start, stop in ((0, 70), (3, 5), (15, 33), (60, 70), (0, 1)):
            expected = rows[start:stop].reshape(stop - start, 50, -1)
            np.testing.assert_array_equal(tiff.rows(start, stop), expected)


def test_only_tiled_tiffs_are_for_tiles(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "strips.tif", RGB, photometric="rgb")
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    assert is_tiled_tiff(tiled(tmp_path / "a.tif", RGB)) == (50, 70)
    assert is_tiled_tiff(tmp_path / "strips.tif") is None
    assert is_tiled_tiff(tmp_path / "broken.tif") is None


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (RGB.astype(np.float32), {}, r"'a\.tif' holds values of type float32; 8 or 16 bits"),
        (RGB, {"tile": None}, r"'a\.tif' is stored in strips; save it as a tiled TIFF"),
        (RGB[..., 0], {"photometric": "miniswhite"}, r"'a\.tif' is stored as MINISWHITE; save it as grey or RGB"),
        (np.stack([RGB, RGB]), {}, r"'a\.tif' has 2 pages"),
        (RGB, {"photometric": "ycbcr"}, "is stored as YCBCR; save it as grey or RGB"),
    ],
)
def test_other_tiffs_are_refused_in_words(
    tmp_path: Path, rows: NDArray[Any], options: dict[str, Any], message: str
) -> None:
    tiled(tmp_path / "a.tif", rows, **{"photometric": "rgb"} | options if rows.ndim == 4 else options)
    with pytest.raises(ValueError, match=message):
        TiledTiff(tmp_path / "a.tif")


def test_a_damaged_tile_is_said(tmp_path: Path) -> None:
    path = tiled(tmp_path / "a.tif", RGB)
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.dataoffsets[2]
    content = bytearray(path.read_bytes())
    content[place : place + 20] = bytes(20)
    path.write_bytes(content)
    with (
        TiledTiff(path) as tiff,
        pytest.raises(ValueError, match=r"'a\.tif' has a damaged tile .* copy or save it anew"),
    ):
        tiff.rows(0, 70)


def test_a_mask_in_strips_comes_back_as_it_was(tmp_path: Path) -> None:
    mask = (RNG.random((1100, 700)) > 0.5).astype(np.uint8) * np.uint8(255)
    strips = np.split(mask, [1, 300, 513, 1024])
    write_mask_tiff(tmp_path / "m.tif", strips, width=700, height=1100)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), mask)
    assert is_tiled_tiff(tmp_path / "m.tif") == (700, 1100)


def test_a_mask_of_the_wrong_height_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a mask of 5 rows was announced, and 3 came"):
        write_mask_tiff(tmp_path / "m.tif", [np.zeros((3, 4), np.uint8)], width=4, height=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("height", [10, 16, 17, 53])
@pytest.mark.parametrize("downscale", [1, 3])
def test_strips_of_a_pixelwise_network_are_its_probabilities(height: int, downscale: int) -> None:
    picture = torch.randn(1, 20, height, generator=torch.Generator().manual_seed(0))
    strips = probability_strips(
        lambda start, stop: picture[..., start:stop], lambda x: x, height=height, window=16, downscale=downscale
    )
    whole = torch.sigmoid(picture)
    if downscale > 1:
        size = (20 * downscale, height * downscale)
        whole = torch.nn.functional.interpolate(whole[None], size=size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.cat(list(strips), dim=1), whole[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("width", [40, 16, 9])
def test_strips_blend_as_windows_over_the_whole_picture_do(width: int) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 1, 5, padding=2).eval()
    picture = torch.randn(1, 3, width, 61)
    inferer = SegmentationInferer(roi_size=16, overlap=0.5, amp="none")
    with torch.no_grad():
        whole = torch.sigmoid(inferer(picture, network))[0, 0]
        strips = probability_strips(
            lambda start, stop: picture[0, ..., start:stop], lambda x: inferer(x, network), height=61, window=16
        )
        assert (torch.cat(list(strips), dim=1) - whole).abs().max() < 1e-5


def test_a_tiled_picture_above_the_limit_is_segmented_and_the_others_are_left(tmp_path: Path) -> None:
    path = tiled(tmp_path / "a.tif", RGB)
    report = Report()
    others = [{"image": str(tmp_path / "b.png"), "name": "b"}]
    case = pictures(tmp_path, [{"image": str(path), "name": "a"}, *others], report)
    assert ordinary_records(case.tiled + others, max_pixels=100) == others
    case.run()
    assert report.failures == report.warnings == {}
    expected = (RGB[..., 0] / 255 >= 0.485).astype(np.uint8) * 255  # the normalised red channel is not negative
    np.testing.assert_array_equal(tifffile.imread(report.results["a"]), expected)


def test_below_the_limit_a_tiled_picture_goes_the_ordinary_way(tmp_path: Path) -> None:
    records = [{"image": str(tiled(tmp_path / "a.tif", RGB)), "name": "a"}]
    case = pictures(tmp_path, records, Report(), max_pixels=3500)
    assert case.tiled == []
    assert ordinary_records(records, max_pixels=3500) == records


def test_blocks_are_averaged_and_the_mask_has_the_size_of_the_file(tmp_path: Path) -> None:
    rows = np.zeros((64, 64, 3), np.uint8)
    rows[:, 32:] = 255
    report = Report()
    pictures(tmp_path, [{"image": str(tiled(tmp_path / "a.tif", rows)), "name": "a"}], report, downscale=4).run()
    mask = tifffile.imread(report.results["a"])
    assert mask.shape == (64, 64)
    assert not mask[:, :30].any()
    assert (mask[:, 34:] == 255).all()


def test_what_cannot_be_given_is_said(tmp_path: Path) -> None:
    report = Report()
    records = [{"image": str(tiled(tmp_path / "a.tif", RGB)), "name": "a"}]
    extras = {"overlay": True, "measurements": "true", "uncertainty": "none", "boundary": False}
    pictures(tmp_path, records, report, output_format="png,contours", extras=extras).run()
    assert report.warnings == {"a": "done in tiles, so that there is no png,contours file, no overlay, no measurements"}


def test_a_case_that_fails_is_reported_and_the_next_is_done(tmp_path: Path) -> None:
    report = Report()
    broken = tiled(tmp_path / "a.tif", RGB.astype(np.float32))
    records = [{"image": str(broken), "name": "a"}, {"image": str(tiled(tmp_path / "b.tif", RGB)), "name": "b"}]
    pictures(tmp_path, records, report).run()
    assert "holds values of type float32" in report.failures["a"]
    assert list(report.results) == ["b"]


def test_values_that_are_no_numbers_are_a_failure_and_no_empty_mask(tmp_path: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1] * float("nan")

    report = Report()
    records = [{"image": str(tiled(tmp_path / "a.tif", RGB)), "name": "a"}]
    pictures(tmp_path / "out", records, report, network=Broken()).run()
    assert "no numbers (NaN or infinite)" in report.failures["a"]
    assert not list((tmp_path / "out").glob("*"))


def test_a_mask_that_cannot_be_written_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "a_mask.tif"))

    monkeypatch.setattr("banet_monai.tiles.pictures.write_mask_tiff", full)
    report = Report()
    pictures(tmp_path, [{"image": str(tiled(tmp_path / "a.tif", RGB)), "name": "a"}], report).run()
    assert report.failures["a"].startswith("'a_mask.tif' cannot be written: No space left on device; free some space")


def test_progress_shows_the_name_of_the_case_and_not_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("banet_monai.tiles.pictures.tqdm", tqdm_on_a_terminal)
    records = [{"image": str(tiled(tmp_path / "DOE_JANE.tif", RGB)), "name": "case-0001"}]
    pictures(tmp_path, records, Report(), handlers=[Progress("segmenting")]).run()
    told = capsys.readouterr().err
    assert "case-0001: 100%" in told
    assert "DOE" not in told


def test_a_share_of_a_pixel_is_no_scale(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tile_downscale must be a whole number from 1 on, got 1\.5"):
        pictures(tmp_path, [], Report(), downscale=1.5)


def in_bits(path: Path, values: NDArray[Any], bits: int, *, tiled: bool = True) -> Path:
    """A grey TIFF of one tile, or of one strip, whose samples are packed, which tifffile alone does not write."""
    text = "".join(format(int(value), f"0{bits}b") for value in values.ravel())
    data = int(text, 2).to_bytes(len(text) // 8, "big")
    rows, columns = values.shape
    place = {322: columns, 323: rows, 324: 8, 325: len(data)} if tiled else {273: 8, 278: rows, 279: len(data)}
    tags = sorted({256: columns, 257: rows, 258: bits, 259: 1, 262: 1, 277: 1, **place}.items())
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start, end = struct.pack("<4sI", b"II*\0", 8 + len(data)), struct.pack("<H", len(tags))
    path.write_bytes(start + data + end + table + bytes(4))
    return path


@pytest.mark.parametrize("bits", [4, 12])
def test_samples_of_other_than_8_or_16_bits_are_refused_and_not_taken_for_dark(tmp_path: Path, bits: int) -> None:
    path = in_bits(tmp_path / "a.tif", np.full((16, 16), 2**bits - 1), bits)
    assert is_tiled_tiff(path) == (16, 16)
    with pytest.raises(ValueError, match=rf"'a\.tif' holds values of {bits} bits; save it with 8 or 16"):
        TiledTiff(path)


def test_a_strip_of_12_bits_is_white_at_4095_the_ordinary_way(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(16, 16)
    reader = PictureReader()
    array, meta = reader.get_data(reader.read(in_bits(tmp_path / "a.tif", values, 12, tiled=False)))
    np.testing.assert_array_equal(array.T, values)
    assert (meta["bits"], meta["value_range"]) == (12, (0.0, 4095.0))


def test_a_network_of_several_classes_fails_the_case_and_writes_no_mask(tmp_path: Path) -> None:
    report = Report()
    records = [{"image": str(tiled(tmp_path / "a.tif", RGB)), "name": "a"}]
    pictures(tmp_path / "out", records, report, out_channels=3).run()
    assert "tells 3 classes apart, and tiles are for one structure alone" in report.failures["a"]
    assert not (tmp_path / "out").exists()


def test_each_process_has_a_share_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"image": str(tiled(tmp_path / f"{name}.tif", RGB)), "name": name} for name in "abcde"]
    monkeypatch.setattr("banet_monai.tiles.pictures.process_count", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr("banet_monai.tiles.pictures.process_rank", lambda rank=rank: rank)
        shares.append([record["name"] for record in pictures(tmp_path, records, Report()).tiled])
    assert shares == [["a", "c", "e"], ["b", "d"]]


def test_the_mask_itself_is_not_among_what_is_lacking(tmp_path: Path) -> None:
    report = Report()
    records = [{"image": str(tiled(tmp_path / "a.tif", RGB)), "name": "a"}]
    pictures(tmp_path, records, report, output_format="auto,contours").run()
    assert report.warnings == {"a": "done in tiles, so that there is no contours file"}
