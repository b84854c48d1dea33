"""The cases with their pictures, and what orders, searches and strips them."""

from __future__ import annotations

from banet_monai.report.page.cards import card, line_sample
from banet_monai.report.page.content import Page
from banet_monai.report.page.figures import COLUMNS
from banet_monai.report.page.html import Html, el, section

__all__ = ["case_list", "large_view"]

LAYERS = (("prediction", "Prediction", True), ("truth", "Truth", True), ("chords", "Diameters", False))


def case_list(page: Page) -> Html:
    """Every case that has pictures, in the first order."""
    lead = next((column for column in COLUMNS if column.key == page.sorted_by), None)
    cards = [card(case, number, page.columns, lead) for number, case in page.cards]
    rest = len(page.cases) - len(cards)
    note = None
    if rest:
        first = f"The first {len(cards)} cases in this order have" if cards else "No case has"
        note = el("p", {"class": "muted"}, f"{first} pictures here; the other {rest} stand in the table alone.")
    return section(
        "cases",
        "Cases",
        note,
        _toolbar(page) if page.cases else el("p", None, "The run has no case with a result."),
        _legend(page) if cards else None,
        el("div", {"id": "cards"}, cards),
    )


def _toolbar(page: Page) -> Html:
    names = ["Case", *(f"{c.heading} ({unit})" if unit else c.heading for c, unit in page.columns_with_units)]
    options = [el("option", {"value": place}, name) for place, name in enumerate(names)]
    return el(
        "div",
        {"class": "toolbar script", "role": "group", "aria-label": "Order, search and layers"},
        el("label", {"for": "sort"}, "Sort by"),
        el("select", {"id": "sort", "autocomplete": "off"}, options),
        el("button", {"type": "button", "id": "direction"}, "Ascending"),
        el("label", {"for": "search"}, "Find"),
        el("input", {"type": "search", "id": "search", "placeholder": "name", "autocomplete": "off"}),
        _checkbox("With notes only", {"id": "warned"}) if any(case.notes for case in page.cases) else None,
        _layers(page) if page.cards else None,
        el("output", {"id": "said", "role": "status", "aria-live": "polite"}),
    )


def _layers(page: Page) -> Html:
    """A switch for each kind of line, with a sample of it."""
    shown = {"prediction"}.union(*(case.shows for _, case in page.cards))
    samples = {"prediction": line_sample(1), "truth": line_sample(None)}
    boxes = [
        _checkbox(text, {"data-layer": key, "checked": is_on}, samples.get(key))
        for key, text, is_on in LAYERS
        if key in shown
    ]
    legend = el("legend", {"class": "visually-hidden"}, "Lines on the pictures")
    return el("fieldset", {"class": "samples"}, legend, boxes)


def _checkbox(text: str, attributes: dict[str, object], sample: Html | None = None) -> Html:
    return el("label", None, el("input", {"type": "checkbox", **attributes, "autocomplete": "off"}), text, sample)


def _legend(page: Page) -> Html:
    shown = frozenset[str]().union(*(case.shows for _, case in page.cards))
    names = list(page.summary.get("classes", {}))
    samples = [(line_sample(number), f"Prediction: {name}") for number, name in enumerate(names, start=1)]
    if len(names) < 2:
        samples = [(line_sample(1), "Prediction")]
    if "truth" in shown:
        samples.append((line_sample(None), "Truth"))
    is_twice = {"class": "twice" if len(names) < 2 else None}  # the toolbar shows the same samples
    entries = [el("li", is_twice, sample, text) for sample, text in samples]
    if "uncertainty" in shown:
        entries.append(el("li", None, "Uncertainty: 0", el("span", {"class": "heat", "aria-hidden": "true"}), "1"))
    return el("ul", {"class": "legend", "aria-label": "Legend"}, entries)


def large_view() -> Html:
    """The window in which the script shows one case as large as it fits."""
    buttons = [
        el("button", {"type": "button", "id": key}, text)
        for key, text in (("previous", "Previous"), ("next", "Next"), ("close", "Close"))
    ]
    bar = el("div", {"class": "bar"}, el("h2", {"id": "large-title"}), buttons)
    return el("dialog", {"id": "large", "aria-labelledby": "large-title"}, bar, el("div", {"id": "large-place"}))
