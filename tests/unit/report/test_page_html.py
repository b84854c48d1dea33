from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banet_monai.report.page.charts import histogram, scatter, ticks
from banet_monai.report.page.figures import columns_of, first_order, mean_figures, written
from banet_monai.report.page.html import Html, el, escape
from banet_monai.report.page.palette import DARK, LIGHT, PREDICTION, TRUTH, contrast, heat
from tests.report_folders import Page

EVIL = "<script>alert('x')</script>\"&\x00\ud800"


def test_text_is_escaped_in_content_and_in_attributes() -> None:
    assert el("p", {"title": '"><b'}, "<i>") == '<p title="&quot;&gt;&lt;b">&lt;i&gt;</p>'


def test_markup_of_ours_is_kept_and_lists_are_flat() -> None:
    assert el("ul", None, [el("li", None, "a"), None, [Html("<li>b</li>")]]) == "<ul><li>a</li><li>b</li></ul>"


def test_attributes_may_be_left_out_or_stand_alone() -> None:
    assert el("input", {"checked": True, "id": None, "hidden": False, "value": 0}) == '<input checked value="0">'


def test_what_no_document_may_hold_is_replaced() -> None:
    assert escape("a\x00b\ud800c") == "a\ufffdb\ufffdc"
    assert el("p", {"title": "\udcff"}) == '<p title="\ufffd"></p>'


@given(st.text())
@settings(max_examples=50, deadline=None)
def test_any_text_comes_back_from_the_page_and_adds_no_element(text: str) -> None:
    root = Page(el("p", {"title": text}, text)).root
    (paragraph,) = root.children
    assert not isinstance(paragraph, str)
    assert all(isinstance(child, str) for child in paragraph.children)
    told = str(escape(text))
    assert "<" not in told
    assert '"' not in told


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the known example of what just fails


@pytest.mark.parametrize("colors", [LIGHT, DARK])
def test_text_stands_out_from_its_ground_in_light_and_dark(colors: dict[str, str]) -> None:
    for ground in ("page", "raised"):
        for name in ("text", "muted", "accent", "warning"):
            assert contrast(colors[name], colors[ground]) >= 4.5, (name, ground)
    assert contrast(colors["bar"], colors["page"]) >= 3  # graphics


def _seen_with(kind: str, color: tuple[int, int, int]) -> np.ndarray:
    """A colour as colour-blind eyes see it (Machado, Oliveira and Fernandes 2009, severity 1), in linear light."""
    matrices = {
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        "tritanopia": [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    }
    levels = np.array(color) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return np.clip(np.array(matrices[kind]) @ linear, 0, 1)


def _lab(linear: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(np.maximum(xyz / np.array([0.9505, 1.0, 1.089]), 0.008856))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", ["protanopia", "deuteranopia", "tritanopia"])
def test_colour_blind_eyes_tell_truth_and_prediction_apart(kind: str) -> None:
    for prediction in PREDICTION[:1]:
        apart = np.linalg.norm(_lab(_seen_with(kind, TRUTH)) - _lab(_seen_with(kind, prediction)))
        assert apart > 25  # of CIE 1976; 2 is just noticeable


def test_the_scale_of_uncertainty_brightens_at_every_step_and_shows_nan_apart() -> None:
    colors = heat(np.array([0.0, 0.25, 0.5, 0.75, 1.0, np.nan, 7.0]))
    brightness = colors.astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(brightness[:5]) > 0).all()
    assert colors[6].tolist() == colors[4].tolist()
    assert colors[5].tolist() not in colors[[0, 1, 2, 3, 4]].tolist()


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.12345, 3, "0.123"),
        (12345.6, None, "12346"),
        (99.44, None, "99.4"),
        (1.234, None, "1.23"),
        (0.01234, None, "0.0123"),
        (3.0, 0, "3"),
        (math.inf, None, "∞"),
        (math.nan, 3, "–"),  # noqa: RUF001
    ],
)
def test_figures_are_written_with_the_digits_that_mean_something(value: float, digits: int | None, text: str) -> None:
    assert written(value, digits) == text


def test_with_truth_the_worst_come_first_and_those_without_truth_last() -> None:
    cases = [("a", {"ja": 0.9}), ("b", {"uncertainty": 1.0}), ("c", {"ja": 0.1}), ("d", {"ja": math.nan})]
    assert first_order(cases) == ([2, 0, 1, 3], "ja", True)


def test_without_truth_the_least_certain_come_first_and_nan_last() -> None:
    cases = [("a", {"uncertainty": 0.1}), ("b", {"uncertainty": math.nan}), ("c", {"uncertainty": 0.7})]
    assert first_order(cases) == ([2, 0, 1], "uncertainty", False)


def test_without_any_number_cases_come_by_name() -> None:
    assert first_order([("b", {}), ("a", {"area": 1.0})]) == ([1, 0], "name", True)


def test_a_case_of_several_classes_has_the_mean_over_them() -> None:
    classes = {"head": {"ja": 0.8, "hd95": 2.0}, "tail": {"ja": 0.4, "hd95": 4.0}}
    assert mean_figures(classes) == pytest.approx({"ja": 0.6, "hd95": 3.0})
    assert mean_figures({}) == {}


def test_only_figures_that_some_case_has_become_columns() -> None:
    assert [column.key for column in columns_of([{"area": 2.0}, {"ja": 0.5}])] == ["ja", "area"]


def test_ticks_are_round_numbers_within_the_axis() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(3, 17) == [5, 10, 15]
    assert ticks(2, 2) == [2]


def test_a_histogram_counts_every_finite_value_and_says_how_many_are_missing() -> None:
    root = Page(histogram([0.1, 0.12, 0.9, math.nan], "JA", bounds=(0, 1))).root
    titles = [bar.one("title").text for bar in root.all("rect")]
    assert sum(int(title.split()[0]) for title in titles) == 3
    assert "1 cases without a value" in root.one("figcaption").text
    assert root.one("svg")["aria-label"] == "Histogram of JA over 3 cases: 0.100 to 0.900, median 0.120"


def test_a_histogram_of_one_value_and_of_none() -> None:
    assert len(Page(histogram([3.0, 3.0], "Area")).root.all("rect")) == 1
    assert histogram([math.nan], "Area") == ""


def test_values_that_differ_by_rounding_alone_are_one_value_in_charts() -> None:
    # volumes of one mask on five oblique grids of one spacing: the last bits of the determinants differ
    volumes = [12.0, 12.000000000000002, 12.0, 11.999999999999998, 12.0]
    root = Page(histogram(volumes, "Volume (ml)")).root
    assert [bar.one("title").text.split()[0] for bar in root.all("rect")] == ["5"]
    root = Page(scatter(volumes, [0.1, 0.2, 0.3, 0.4, 0.5], list("abcde"), ("Volume", "JA"))).root
    assert len(root.all("circle")) == 5


def test_a_scatter_plot_states_the_rank_correlation() -> None:
    root = Page(scatter([1, 2, 3, math.nan], [9, 4, 1, 5], ["a", "b", "c", EVIL], ("Uncertainty", "JA"))).root
    assert len(root.all("circle")) == 3
    assert "Spearman) -1.00 over 3 cases" in root.one("figcaption").text
