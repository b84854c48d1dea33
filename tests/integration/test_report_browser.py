"""``report.html`` in a real browser: it renders, loads nothing, and can be sorted, searched and used by keyboard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from banet_monai.data import demonstration_data
from banet_monai.report.page import write_report
from tests.browser import Browser, find_chromium
from tests.report_folders import box, evaluated, result_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium: bash .ci/debian, or install one"),
]

SECONDS = 300
EVIL = "z<b>&\"'"
TRUTH = box(10, 8, 34, 30)
CASES = {  # prediction and uncertainty; JA is the share of columns
    "case 10": (box(10, 8, 34, 30), 0.2),
    "case 2": (box(10, 8, 28, 30), 0.7),
    "case 1": (box(10, 8, 22, 30), float("nan")),
    EVIL: (box(40, 2, 46, 8), 0.9),
}
WORST_FIRST = [EVIL, "case 1", "case 2", "case 10"]

ROWS = "[...document.querySelectorAll('#figures tbody tr')].filter(r => !r.hidden).map(r => r.dataset.name)"
CARDS = "[...document.querySelectorAll('.case')].filter(c => !c.hidden).map(c => c.dataset.name)"
FOCUS = "document.activeElement.id || document.activeElement.textContent"
NAMELESS = """
(() => {
  const text = (id) => document.getElementById(id)?.textContent.trim();
  const named = (e) => e.getAttribute("aria-label") || text(e.getAttribute("aria-labelledby")) || e.alt ||
    e.labels?.[0]?.textContent.trim() || e.textContent.trim();
  return [...document.querySelectorAll("button, a, select, input, img, svg:not([aria-hidden]), [role=region], section")]
    .filter((e) => !named(e)).map((e) => e.outerHTML.slice(0, 80));
})()
"""
CONTRASTS = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest("svg, script, dialog:not([open])") || !e.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push([e.tagName, e.textContent.slice(0, 30), ratio]);
  }
  return low;
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    entries: dict[str, dict[str, Any]] = {name: {"uncertainty": sure} for name, (_, sure) in CASES.items()}
    entries["case 2"]["warnings"] = ["the picture was turned"]
    out = result_folder(root, {name: mask for name, (mask, _) in CASES.items()}, entries=entries)
    (root / "masks").mkdir()
    for name in CASES:
        Image.fromarray(TRUTH * 255).save(root / "masks" / f"{name}.png")
        Image.fromarray(np.full((40, 48), 30000, dtype=np.uint16)).save(out / f"{name}_uncertainty.png")
    evaluated(out, {name: (mask, TRUTH) for name, (mask, _) in CASES.items()})
    return write_report(out, images=root)


@pytest.fixture
def tab(browser: Browser, page: Path) -> Browser:
    browser.resize(1280, 900)
    browser.prefer(color_scheme="light", reduced_motion="reduce")
    browser.open(page.as_uri())
    browser.run("localStorage.clear()")
    browser.open(page.as_uri())
    return browser


def complaints(browser: Browser) -> list[object]:
    """What the console and the log have said."""
    kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    return [parameters for method, parameters in browser.events if method in kinds]


def requests(browser: Browser) -> list[str]:
    asked = [p["request"]["url"] for method, p in browser.events if method == "Network.requestWillBeSent"]
    return [address for address in asked if not address.startswith("data:")]


def check_page(browser: Browser, page: Path) -> None:
    """What holds of every page, however it was made."""
    assert complaints(browser) == []
    assert requests(browser) == [page.as_uri()]
    assert browser.run("document.images.length") > 0
    assert browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.run(NAMELESS) == []
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_it_renders_without_a_complaint_and_asks_the_network_for_nothing(tab: Browser, page: Path) -> None:
    check_page(tab, page)
    assert tab.run("document.querySelector('h1').textContent") == "Evaluation report"
    assert tab.run(ROWS) == tab.run(CARDS) == WORST_FIRST


def test_what_is_not_ours_does_not_run_or_load(tab: Browser) -> None:
    tab.run(
        "document.body.insertAdjacentHTML('beforeend', '<img src=https://example.org/a.png onerror=\"window.x=1\">')"
    )
    tab.run(
        "(() => { const s = document.createElement('script'); s.text = 'window.y = 1'; document.body.append(s); })()"
    )
    assert tab.run("new Promise(done => setTimeout(() => done([window.x, window.y].join()), 200))") == ","
    assert "Content Security Policy" in json.dumps(complaints(tab))


def test_a_heading_sorts_table_and_pictures_by_mouse(tab: Browser) -> None:
    tab.click("#figures th:first-child button")
    by_name = ["case 1", "case 2", "case 10", EVIL]  # numbers in names count as numbers
    assert tab.run(ROWS) == tab.run(CARDS) == by_name
    assert tab.run("document.querySelectorAll('#figures [aria-sort]').length") == 1
    assert tab.run("document.querySelector('#figures th').ariaSort") == "ascending"
    tab.click("#figures th:first-child button")
    assert tab.run(ROWS) == by_name[::-1]
    assert tab.run("document.querySelector('#figures th').ariaSort") == "descending"
    assert tab.run("document.querySelector('#said').textContent") == "4 cases, by Case, descending"


def test_a_heading_sorts_by_keyboard_and_keeps_the_focus(tab: Browser) -> None:
    tab.run("document.querySelector('#figures th:first-child button').focus()")
    tab.press("Tab", code=9)
    assert tab.run(FOCUS) == "JA"
    tab.press("Enter", code=13, text="\r")
    assert tab.run(ROWS) == WORST_FIRST[::-1]
    tab.press(" ", code=32, text=" ")
    assert tab.run(ROWS) == WORST_FIRST
    assert tab.run(FOCUS) == "JA"


def test_a_figure_that_is_missing_comes_last_in_both_directions(tab: Browser) -> None:
    place = tab.run(
        "[...document.querySelectorAll('#figures thead th')].findIndex(h => h.dataset.name === 'Uncertainty')"
    )
    heading = f"#figures th:nth-child({place + 1}) button"
    tab.click(heading)
    assert tab.run(ROWS) == [EVIL, "case 2", "case 10", "case 1"]  # the least certain first
    tab.click(heading)
    assert tab.run(ROWS) == ["case 10", "case 2", EVIL, "case 1"]


def test_the_fields_above_the_pictures_sort_and_search(tab: Browser) -> None:
    tab.run(
        "(() => { const s = document.querySelector('#sort'); s.value = '0'; s.dispatchEvent(new Event('change')); })()"
    )
    assert tab.run(CARDS)[0] == "case 1"
    tab.click("#direction")
    assert tab.run(CARDS)[0] == EVIL
    tab.click("#search")
    tab.send("Input.insertText", {"text": "CASE 1"})
    assert tab.run(CARDS) == tab.run(ROWS) == ["case 10", "case 1"]
    assert tab.run("document.querySelector('#said').textContent").startswith("2 of 4 cases")
    tab.run(
        "(() => { const s = document.querySelector('#search'); s.value = ''; s.dispatchEvent(new Event('input')); })()"
    )
    assert len(tab.run(CARDS)) == 4


def test_cases_with_notes_can_be_shown_alone(tab: Browser) -> None:
    tab.click("#warned")
    assert set(tab.run(CARDS)) == {"case 2", "case 1"}  # a warning of the run; an uncertainty that is no number


def test_lines_can_be_hidden_and_shown(tab: Browser) -> None:
    shown = "getComputedStyle(document.querySelector('.case .{}')).display"
    assert tab.run(shown.format("truth")) != "none"
    assert tab.run(shown.format("chords")) == "none"
    tab.click("[data-layer=truth]")
    tab.click("[data-layer=chords]")
    assert tab.run(shown.format("truth")) == "none"
    assert tab.run(shown.format("chords")) != "none"


def test_truth_is_dashed_and_prediction_solid(tab: Browser) -> None:
    dashes = "getComputedStyle(document.querySelector('.case .{} .line')).strokeDasharray"
    assert tab.run(dashes.format("truth")) != "none"
    assert tab.run(dashes.format("prediction")) == "none"


def test_dark_follows_the_system_and_the_button_goes_before_it(tab: Browser, page: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    assert tab.run(ground) == "rgb(255, 255, 255)"
    tab.prefer(color_scheme="dark")
    assert tab.soon(ground, "rgb(21, 23, 27)") == "rgb(21, 23, 27)"
    assert tab.soon("document.querySelector('#theme').textContent", "Light page") == "Light page"
    tab.click("#theme")
    assert tab.soon(ground, "rgb(255, 255, 255)") == "rgb(255, 255, 255)"
    tab.open(page.as_uri())
    assert tab.run(ground) == "rgb(255, 255, 255)"  # the choice is kept


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_as_the_guidelines_ask(tab: Browser, scheme: str) -> None:
    tab.prefer(color_scheme=scheme)
    assert tab.run(CONTRASTS) == []
    tab.click(".case header button")
    assert tab.run(CONTRASTS) == []


def test_the_keyboard_reaches_everything_and_is_caught_nowhere(tab: Browser) -> None:
    reached = []
    for _ in range(60):
        tab.press("Tab", code=9)
        reached.append(tab.run(FOCUS))
        if reached[-1].startswith("manifest.json"):
            break
    assert reached[0] == "Skip to the cases"
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    for name in ("theme", "sort", "direction", "search", "JA", "manifest.json"):
        assert name in reached, (name, reached)


def test_the_large_view_opens_steps_and_gives_the_focus_back(tab: Browser) -> None:
    tab.run("document.querySelector('.case header button').focus()")
    tab.press("Enter", code=13, text="\r")
    assert tab.run("document.querySelector('dialog').open")
    assert tab.run("document.querySelector('#large-title').textContent") == WORST_FIRST[0]
    assert tab.run("document.querySelectorAll('dialog figure').length") == 3  # outline, uncertainty, measurements
    tab.press("ArrowRight", code=39)
    assert tab.run("document.querySelector('#large-title').textContent") == WORST_FIRST[1]
    tab.press("Escape", code=27)
    tab.settle()
    assert not tab.run("document.querySelector('dialog').open")
    assert tab.run(FOCUS) == f"Large view of {WORST_FIRST[1]}"
    assert complaints(tab) == []


@pytest.mark.parametrize("width", [320, 400, 768, 1920])
def test_nothing_runs_over_the_edge_at_any_width(tab: Browser, width: int) -> None:
    tab.resize(width, 800)
    assert tab.run("document.documentElement.scrollWidth") == width


def test_on_paper_it_is_light_and_without_controls(tab: Browser) -> None:
    tab.send("Emulation.setEmulatedMedia", {"media": "print"})
    assert tab.run("getComputedStyle(document.querySelector('.toolbar')).display") == "none"
    assert tab.run("getComputedStyle(document.querySelector('#theme')).display") == "none"
    assert tab.run("getComputedStyle(document.querySelector('.case')).contentVisibility") == "visible"
    printed = tab.send("Page.printToPDF", {"printBackground": True})["data"]
    assert len(printed) > 20_000
    tab.send("Emulation.setEmulatedMedia", {"media": ""})


def test_without_a_script_all_is_there_in_the_first_order(browser: Browser, page: Path) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.open(page.as_uri())
    browser.send("Emulation.setScriptExecutionDisabled", {"value": False})
    assert browser.run(CARDS) == WORST_FIRST
    assert browser.run("getComputedStyle(document.querySelector('.toolbar')).display") == "none"
    assert browser.run("getComputedStyle(document.querySelector('.legend')).display") != "none"


@pytest.fixture(scope="module")
def banet(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    command = Path(sys.executable).with_name("banet")
    folder = tmp_path_factory.mktemp("command")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(*words: object) -> str:
        line = [str(command), *map(str, words)]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_pictures_and_volumes_of_the_demonstration_from_the_command_line(
    browser: Browser, banet: Callable[..., str], tmp_path: Path
) -> None:
    data = Path(demonstration_data(tmp_path / "demo"))
    out = tmp_path / "out"
    banet("segment", data / "inference", "-o", out)
    told = banet("report", out, "--images", data / "inference", "--truth", data / "inference_truth")
    assert told.strip().endswith("report.html")
    browser.resize(1280, 900)
    browser.open((out / "report.html").as_uri())
    check_page(browser, out / "report.html")
    assert sorted(browser.run(CARDS)) == ["skin_photo", "skin_rgb", "skin_rgba", "skin_series", "skin_volume"]
    titles = (
        "[...document.querySelectorAll('[data-name=skin_volume] .strip-title')].map(t => t.textContent.split(':')[0])"
    )
    assert browser.run(titles) == ["Slices", "Projections"]
    assert browser.run("document.querySelectorAll('.case .prediction').length") >= 5
    assert len(list((out / "report").glob("*.png"))) == 5
    assert (out / "report.html").stat().st_size < 2_000_000
