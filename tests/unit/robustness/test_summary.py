from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from banet_monai.robustness import Condition, summarise, write_results
from banet_monai.robustness.measuring import CaseRow
from banet_monai.robustness.plots import draw
from banet_monai.robustness.summary import HOLDS, NOTICED, UNNOTICED, slope_of, verdict_of
from banet_monai.robustness.tables import card_table, rule_in_words


def row(case: str, condition: Condition, ja: float, number: float, **changes: Any) -> CaseRow:
    """A case whose ten pixels are said to be foreground at 0.9, of which eight are."""
    bins = [[0.0, 10.0], [0.0, 9.0], [0.0, 8.0]]
    values = {"boundary_iou": ja / 2, "missed": False, "bins": bins, "amount": condition.amount, **changes}
    return CaseRow(case, condition.corruption, condition.strength, ja=ja, expected_error=number, **values)


def rows(cases: int = 12) -> list[CaseRow]:
    """Clean cases whose error is twice the number; blur and noise that cost 0.3 each, of which blur is noticed."""
    made = []
    for index in range(cases):
        number = 0.05 + 0.01 * index
        clean = 1 - 2 * number
        made += [
            row(f"case{index}", Condition("clean", 0), clean, number),
            row(f"case{index}", Condition("blur", 1), clean - 0.02, number),
            row(f"case{index}", Condition("blur", 5), clean - 0.3, number + 0.1),
            row(f"case{index}", Condition("noise", 5), clean - 0.3, number + 0.05, missed=index == 0),
        ]
    return made


def by_name(summary: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["corruption"], row["strength"]): row for row in summary["conditions"]}


def test_falls_and_rises_are_those_that_were_put_in() -> None:
    summary = summarise(rows(), failures={"bad": "it is damaged"})
    found = by_name(summary)
    assert summary["cases"] == 12
    assert summary["failed"] == {"bad": "it is damaged"}
    assert summary["rule"]["slope"] == pytest.approx(2.0, abs=1e-4)
    assert found["clean", 0]["ja"]["mean"] == pytest.approx(1 - 2 * 0.105, abs=1e-5)
    assert found["blur", 5]["fall_of_ja"]["mean"] == pytest.approx(0.3, abs=1e-5)
    assert found["blur", 5]["fall_of_ja"]["interval"] == pytest.approx([0.3, 0.3], abs=1e-5)  # the same for every case
    assert found["blur", 5]["rise_is_worth"] == pytest.approx(0.2, abs=1e-4)
    assert found["noise", 5]["rise_is_worth"] == pytest.approx(0.1, abs=1e-4)
    assert found["noise", 5]["missed"] == 1
    assert found["clean", 0]["ece"]["mean"] == pytest.approx(0.1)
    assert [found[key]["verdict"] for key in (("blur", 1), ("blur", 5), ("noise", 5))] == [HOLDS, NOTICED, UNNOTICED]


@pytest.mark.parametrize(
    ("fall", "lowest", "rise", "slope", "verdict"),
    [
        (0.05, 0.04, 0.0, 1.0, HOLDS),
        (0.06, -0.01, 0.0, 1.0, HOLDS),  # it may be chance
        (0.06, 0.01, 0.03, 1.0, NOTICED),
        (0.06, 0.01, 0.029, 1.0, UNNOTICED),
        (0.06, 0.01, 0.02, 2.0, NOTICED),
        (0.30, 0.20, -0.1, 1.0, UNNOTICED),  # surer of itself on worse outlines
        (0.06, None, 0.03, 1.0, NOTICED),  # a single case, without an interval
        (0.05, None, 0.00, 1.0, HOLDS),
    ],
)
def test_the_rule_is_the_one_that_is_written_down(
    fall: float, lowest: float | None, rise: float, slope: float, verdict: str
) -> None:
    assert verdict_of(fall, lowest, rise, slope) == verdict


def test_few_cases_or_a_number_without_meaning_are_taken_one_to_one() -> None:
    number = np.linspace(0, 0.3, 12)
    assert slope_of(number, 3 * number) == (pytest.approx(3.0), True)
    assert slope_of(number[:9], 3 * number[:9]) == (1.0, False)
    assert slope_of(np.full(12, 0.2), number) == (1.0, False)
    assert slope_of(number, -number) == (1.0, False)


def test_calibration_is_of_the_pixels_of_all_cases_together() -> None:
    over, under = [[10.0], [9.0], [8.0]], [[30.0], [21.0], [24.0]]
    clean = Condition("clean", 0)
    summary = summarise([row("a", clean, 1, 0, bins=over), row("b", clean, 1, 0, bins=under)])
    assert by_name(summary)["clean", 0]["ece"]["mean"] == pytest.approx(abs(30 - 32) / 40)


def test_the_same_rows_give_the_same_summary() -> None:
    assert summarise(rows()) == summarise(rows())


def test_rows_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no case could be measured"):
        summarise([])
    with pytest.raises(ValueError, match=r"the condition 'clean' is needed"):
        summarise([row("a", Condition("blur", 1), 1, 0)])
    with pytest.raises(ValueError, match=r"must be measured on the same cases"):
        summarise([*rows(), row("other", Condition("blur", 1), 1, 0)])


def test_the_card_says_from_where_on_it_breaks_and_where_unnoticed() -> None:
    summary = summarise(rows())
    lines = card_table(summary).splitlines()
    assert lines[2] == "| Blur (sigma in pixels) | 0.5, 5 | 5 | none | 0.490 at 5 |"
    assert lines[3] == "| Noise (sigma, share of white) | 0.12 | 0.12 | **0.12** | 0.490 at 0.12 |"
    assert "falls by more than 0.05" in rule_in_words(summary)
    assert "2.00 of error (1 - JA) per 1 of the number" in rule_in_words(summary)


def test_all_files_are_written_whole_and_hold_what_they_say(tmp_path: Path) -> None:
    summary = summarise(rows(), failures={"<b>.png": "it is <i>damaged</i>"})
    page, *others = write_results(tmp_path, summary, rows())
    assert [path.name for path in (page, *others)] == [
        "robustness.html",
        "robustness.json",
        "robustness.csv",
        "robustness_cases.csv",
        "robustness.svg",
    ]
    text = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;.png: it is &lt;i&gt;damaged" in text
    assert "<script" not in text
    assert "src=" not in text
    assert "breaks unnoticed" in text
    assert json.loads((tmp_path / "robustness.json").read_text()) == summary
    table = list(csv.DictReader(io.StringIO((tmp_path / "robustness.csv").read_text())))
    assert [line["verdict"] for line in table] == ["", HOLDS, NOTICED, UNNOTICED]
    assert float(table[2]["fall_of_ja"]) == pytest.approx(0.3)
    cases = list(csv.DictReader(io.StringIO((tmp_path / "robustness_cases.csv").read_text())))
    assert len(cases) == 48
    assert cases[3]["missed"] == "1"
    assert float(cases[0]["ece"]) == pytest.approx(0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in (page, *others))


def test_the_plot_has_a_panel_for_each_kind_and_four_lines_in_it() -> None:
    svg = ElementTree.fromstring(draw(summarise(rows())))
    panels = [part for part in svg if part.tag.endswith("g")]
    assert len(panels) == 2
    for panel in panels:
        assert len([part for part in panel if part.tag.endswith("polyline")]) == 4


def test_a_single_case_has_figures_and_no_interval(tmp_path: Path) -> None:
    summary = summarise(rows(1))
    found = by_name(summary)
    assert found["blur", 5]["fall_of_ja"] == {"mean": pytest.approx(0.3), "interval": None}
    assert found["clean", 0]["ece"] == {"mean": pytest.approx(0.1), "interval": None}
    assert found["blur", 1]["verdict"] == HOLDS
    assert found["noise", 5]["verdict"] == UNNOTICED  # a rise of 0.05 for a fall of 0.3
    page, *_ = write_results(tmp_path, summary, rows(1))
    assert "the JA of this single case, which has no interval" in page.read_text(encoding="utf-8")
    assert "95 %" not in page.read_text(encoding="utf-8")
    line = list(csv.DictReader(io.StringIO((tmp_path / "robustness.csv").read_text())))[2]
    assert (line["fall_of_ja"], line["fall_of_ja_low"], line["fall_of_ja_high"]) == ("0.3", "", "")
