from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from banet_monai.explain.cases import ExplainedCase, _part
from banet_monai.explain.gallery import GalleryPage, legend

NASTY = '<img src=x onerror="alert(1)"> & Søn/one'


class Reader(HTMLParser):
    """Tags with their attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def case(*, whole: bool = True) -> ExplainedCase:
    mask = torch.zeros(12, 8, dtype=torch.uint8)
    mask[3:9, 2:6] = 1
    names = [f"{kind}{n}" for kind in ("edge", "gradcam", "cff") for n in range(1, 5)]
    names += [f"ia{n}_{branch}" for n in range(1, 5) for branch in ("mask", "edge")]
    maps = {name: torch.rand(12, 8) for name in ["uncertainty", *(["boundary", *names] if whole else [])]}
    picture = np.full((8, 12, 3), 90, np.uint8)
    return ExplainedCase(
        picture, mask, maps, {"expected_error": 0.125}, ("slice 3 of 7, the one with the largest outline",)
    )


def test_all_that_the_network_has_is_in_rows() -> None:
    rows = case().rows()
    assert [len(row) for row in rows] == [4, 4, 4, 4, 4, 4]
    assert [tile.caption for tile in rows[0]] == ["image", "outline", "boundary map (fused)", "uncertainty"]
    assert rows[4][1].caption == "CFF, stage 2"


def test_rows_that_the_network_has_nothing_for_are_left_out() -> None:
    rows = case(whole=False).rows()
    assert [[tile.caption for tile in row] for row in rows] == [["image", "outline", "uncertainty"]]
    assert [tile.caption for tile in case(whole=False).strip()] == ["image", "outline"]


def test_the_strip_is_picture_four_edge_maps_attention_and_outline() -> None:
    captions = [tile.caption for tile in case().strip()]
    assert captions == ["image", *(f"edges, stage {n}" for n in range(1, 5)), "attention (IA)", "outline"]


def test_the_page_needs_nothing_from_elsewhere_and_has_every_picture(tmp_path: Path) -> None:
    page = GalleryPage(tmp_path)
    path = page.add("moles/one", case())
    page.add("two", case(whole=False))
    written = page.write()
    assert path == tmp_path / "moles" / "one_gallery.png"
    assert (tmp_path / "moles" / "one_strip.png").is_file()
    text = written.read_text(encoding="utf-8")
    found = Reader(text)
    assert not re.search(r"https?:|url\(|@import", text)
    addresses = [value for _, attributes in found.tags for key, value in attributes.items() if key in ("src", "href")]
    assert all(str(address).startswith("data:") for address in addresses)
    assert not found.all("script")
    assert not found.all("link")
    pictures = found.all("img")
    assert len(pictures) == 2
    for picture, name in zip(pictures, ("moles/one", "two"), strict=True):
        kind, _, content = str(picture["src"]).partition(",")
        assert kind == "data:image/jpeg;base64"
        assert base64.b64decode(content)[:2] == b"\xff\xd8"
        assert str(picture["alt"]).startswith(f"{name}: image, outline")
    assert "uncertainty 0.12; slice 3 of 7" in found.text
    assert "2 shown, 0 failed." in found.text
    with Image.open(path) as sheet:
        assert sheet.mode == "RGB"


def test_every_kind_of_map_is_explained(tmp_path: Path) -> None:
    page = GalleryPage(tmp_path)
    page.add("one", case())
    text = Reader(page.write().read_text(encoding="utf-8")).text
    for term, description in legend():
        assert term in text
        assert description in text


def test_names_and_reasons_are_text_whatever_they_hold(tmp_path: Path) -> None:
    page = GalleryPage(tmp_path)
    page.add(NASTY, case())
    page.failed("b<script>alert(2)</script>", "it is <b>broken</b>")
    page.failed("half\udcff", "no UTF-8")
    found = Reader(page.write().read_text(encoding="utf-8"))
    assert not found.all("script")
    assert not found.all("b")
    assert len(found.all("img")) == 1
    assert NASTY in found.text
    assert "b<script>alert(2)</script>: it is <b>broken</b>" in found.text
    assert "half\ufffd: no UTF-8" in found.text


def test_a_page_without_any_case_says_so(tmp_path: Path) -> None:
    text = Reader(GalleryPage(tmp_path).write(left_out=3).read_text(encoding="utf-8")).text
    assert "0 shown, 0 failed, 3 left out (--limit)." in text


@pytest.mark.parametrize(
    ("shape", "foreground", "expected"),
    [
        ((20, 30), (10, 15), (slice(6, 14), slice(11, 19))),
        ((20, 30), (0, 29), (slice(0, 8), slice(22, 30))),
        ((5, 30), (2, 15), (slice(0, 5), slice(11, 19))),
        ((20, 30), None, (slice(6, 14), slice(11, 19))),
    ],
)
def test_of_a_large_image_the_part_around_the_outline_is_explained(
    shape: tuple[int, int], foreground: tuple[int, int] | None, expected: tuple[slice, ...]
) -> None:
    labels = torch.zeros(shape, dtype=torch.uint8)
    if foreground is not None:
        labels[foreground] = 1
    assert _part(labels, 8) == expected
