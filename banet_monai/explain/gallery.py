"""A page of pictures with what the network saw in them: one HTML file without anything from elsewhere, and PNGs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from banet_monai.explain.cases import ExplainedCase
from banet_monai.explain.pictures import Rgb, draw_tiles
from banet_monai.files import NOTICE, write_beside
from banet_monai.report.page.html import Html, el

__all__ = ["GALLERY", "GalleryPage", "legend"]

GALLERY = "gallery.html"
QUALITY = 88  # of the JPEGs inside the page; the PNG beside it has every pixel
STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 68rem; margin: 0 auto; padding: 1rem; }
img { max-width: 100%; height: auto; display: block; }
figure { margin: 0.5rem 0 2.5rem; }
h2 { font-size: 1.1rem; overflow-wrap: anywhere; margin: 0; }
dt { font-weight: 600; }
dd { margin: 0 0 0.5rem 1.5rem; }
nav li { overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class _Entry:
    name: str
    said: str
    picture: str  # data URI


def legend() -> list[tuple[str, str]]:
    """What each kind of map shows, as term and description."""
    own_scale = "Each picture has its own scale."
    return [
        ("Outline", "the mask on the network's own grid, as a line between pixels."),
        (
            "Boundary map (fused)",
            "mean over the four stages of the probability that a pixel lies on an edge; black 0, pale yellow 0.5. A "
            "line that is broken or doubled, or that leaves the outline, marks where the stages disagree.",
        ),
        ("Number", "uncertainty of the whole case: 0 where the network is sure, 1 where it is not."),
        (
            "Uncertainty",
            "entropy of the mean probability of the samples; black: sure, pale yellow: it could be either. A thin "
            "rim is normal, a wide band or a patch beside the outline asks for a look.",
        ),
        (
            "Edge map, stage 1 to 4",
            "what each stage takes for the boundary by itself: stage 1 is fine and sees texture and hairs, stage 4 is "
            "coarse and sees the whole object. Black 0, pale yellow 0.5.",
        ),
        (
            "IA, edges to mask (and mask to edges)",
            "interactive attention: how much the features of one branch change by what the other sends where it is "
            f"unsure. {own_scale}",
        ),
        (
            "CFF, stage 1 to 4",
            f"cross feature fusion: how much a stage changes by what the three others send it. {own_scale}",
        ),
        (
            "Grad-CAM, stage 1 to 4",
            "where features of the encoder stand that raise the logits inside the outline; pale yellow is the "
            "strongest. It shows what the outline rests on, not whether it is right.",
        ),
    ]


class GalleryPage:
    """Collects cases, writes a PNG of each at once, and the page at the end.

    Args:
        output_dir: folder of ``gallery.html`` and, for each case, of ``<name>_gallery.png`` and ``<name>_strip.png``
            (picture, edge maps, attention and outline in one row).
        title: of the page.
    """

    def __init__(self, output_dir: str | Path, *, title: str = "What BA-Net saw") -> None:
        self.output_dir = Path(output_dir)
        self.title = title
        self.failures: list[tuple[str, str]] = []
        self._entries: list[_Entry] = []

    @property
    def shown(self) -> int:
        """Cases on the page so far."""
        return len(self._entries)

    def add(self, name: str, case: ExplainedCase) -> Path:
        """Draw a case.

        Args:
            name: path of its PNG below the folder, without suffix; shown on the page.
            case: what to draw.

        Returns:
            The PNG with everything.

        Raises:
            OSError: when it cannot be written.
        """
        sheet, strip = draw_tiles(case.rows()), draw_tiles([case.strip()])
        stem = self.output_dir / name
        path = write_beside(stem.with_name(f"{stem.name}_gallery.png"), Image.fromarray(sheet).save)
        write_beside(stem.with_name(f"{stem.name}_strip.png"), Image.fromarray(strip).save)
        said = f"uncertainty {case.score:.2f}" + "".join(f"; {note}" for note in case.notes)
        self._entries.append(_Entry(name, said, _data_uri(sheet)))
        return path

    def failed(self, name: str, reason: str) -> None:
        """Name a case that could not be shown."""
        self.failures.append((name, reason))

    def write(self, *, left_out: int = 0) -> Path:
        """Write the page.

        Args:
            left_out: further cases that nobody looked at, which the page then says.

        Raises:
            OSError: when it cannot be written.
        """
        text = str(self._page(left_out)).encode("utf-8", "replace")
        return write_beside(self.output_dir / GALLERY, lambda path: path.write_bytes(text))

    def _page(self, left_out: int) -> Html:
        terms = [part for term, text in legend() for part in (el("dt", None, term), el("dd", None, text))]
        counts = f"{self.shown} shown, {len(self.failures)} failed"
        counts += f", {left_out} left out (--limit)" if left_out else ""
        body: list[Html] = [
            el("h1", None, self.title),
            el("p", None, f"{NOTICE} {counts}."),
            el("details", {"open": True}, el("summary", None, "What is to be seen"), el("dl", None, terms)),
            _failed_list(self.failures),
            *(_figure(number, entry) for number, entry in enumerate(self._entries)),
        ]
        head = [
            el("meta", {"charset": "utf-8"}),
            el("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            el("title", None, self.title),
            el("style", None, Html(STYLE)),
        ]
        return Html(
            "<!doctype html>\n"
            + el("html", {"lang": "en"}, el("head", None, head), el("body", None, el("main", None, body)))
        )


def _figure(number: int, entry: _Entry) -> Html:
    what = "image, outline, boundary map, uncertainty, edge maps, attention, fusion and Grad-CAM"
    alt = f"{entry.name}: {what}; {entry.said}"
    return el(
        "section",
        {"aria-labelledby": f"case-{number}"},
        el("h2", {"id": f"case-{number}"}, el("bdi", None, entry.name)),
        el("p", None, entry.said),
        el("figure", None, el("img", {"src": Html(entry.picture), "alt": alt, "loading": "lazy"})),
    )


def _failed_list(failures: Sequence[tuple[str, str]]) -> Html:
    if not failures:
        return Html("")
    items = [el("li", None, el("bdi", None, name), f": {reason}") for name, reason in failures]
    return el("nav", {"aria-label": "failed"}, el("h2", None, "Could not be shown"), el("ul", None, items))


def _data_uri(picture: Rgb) -> str:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")
