"""Small folders of results for the tests of the report, and their pages taken apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from banet_monai.metrics.table import CaseTable

__all__ = ["Element", "Page", "box", "evaluated", "result_folder"]

VOID = {"br", "col", "img", "input", "link", "meta"}
SIZE = (48, 40)  # width and height of the pictures


def box(left: int, top: int, right: int, bottom: int, *, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask ``(rows, columns)`` of 0 and 1 with one rectangle."""
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def result_folder(
    root: Path,
    masks: Mapping[str, np.ndarray],
    *,
    images: bool = True,
    extra: Sequence[Mapping[str, Any]] = (),
    entries: Mapping[str, Mapping[str, Any]] | None = None,
    **manifest: Any,
) -> Path:
    """``root/out`` with masks and a manifest, and ``root/images`` with pictures of noise of the same names."""
    out = root / "out"
    files = []
    for number, (name, mask) in enumerate(masks.items()):
        path = out / f"{name}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask * 255).save(path)
        files.append(
            {"path": f"{name}.png", "fate": "result", "result": f"{name}_mask.png", **(entries or {}).get(name, {})}
        )
        if images:
            pixels = np.random.default_rng(number).integers(0, 255, (*mask.shape, 3), dtype=np.uint8)
            picture = root / "images" / f"{name}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(picture)
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "notice": "For research use, not a medical device.",
        "started": "2026-01-02T03:04:05+00:00",
        "versions": {"banet_monai": "0.1.0"},
        "device": "cpu",
        "weights": {"file": "model.pt", "sha256": "ab" * 32},
        "files": [*files, *extra],
        **manifest,
    }
    (out / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    return out


def evaluated(out: Path, pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Write ``cases.csv`` and ``summary.json`` of (prediction, truth) as an evaluation does, and return the summary."""
    table = CaseTable(["lesion"])
    for name, (pred, truth) in pairs.items():
        table.add(name, *(torch.from_numpy(mask.T.copy())[None] for mask in (pred, truth)))
    summary = table.summary(resamples=50)
    table.write(out / "cases.csv", out / "summary.json", summary)
    return summary


class Element:
    """One element of a page."""

    def __init__(self, tag: str, attributes: dict[str, str | None], parent: Element | None) -> None:
        self.tag = tag
        self.attributes = attributes
        self.parent = parent
        self.children: list[Element | str] = []

    def __getitem__(self, name: str) -> str:
        value = self.attributes.get(name)
        return "" if value is None else value

    @property
    def text(self) -> str:
        """All text inside, white space as single blanks."""
        parts = [child if isinstance(child, str) else f" {child.text} " for child in self.children]
        return " ".join("".join(parts).split())

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Elements inside, in their order; ``class_="case"`` asks for one of the classes."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if (not tag or child.tag == tag) and child._has(attributes):
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def one(self, tag: str = "", **attributes: str) -> Element:
        """The only such element."""
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} of {tag} {attributes}"
        return found[0]

    def _has(self, wanted: Mapping[str, str]) -> bool:
        for name, value in wanted.items():
            if name == "class_":
                if value not in self["class"].split():
                    return False
            elif self[name.replace("_", "-")] != value:
                return False
        return True


class Page(HTMLParser):
    """A page as a tree; an element that is not closed where it should be is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Element("", {}, None)
        self.current = self.root
        self.feed(text)
        self.close()
        assert self.current is self.root, f"<{self.current.tag}> is not closed"

    @classmethod
    def read(cls, path: Path) -> Element:
        return cls(path.read_text(encoding="utf-8")).root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), self.current)
        assert len(element.attributes) == len(attrs), f"an attribute of <{tag}> stands twice"
        self.current.children.append(element)
        if tag not in VOID:
            self.current = element

    def handle_endtag(self, tag: str) -> None:
        assert self.current.tag == tag, f"</{tag}> closes <{self.current.tag}>"
        assert self.current.parent is not None
        self.current = self.current.parent

    def handle_data(self, data: str) -> None:
        self.current.children.append(data)
