from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from benchmarks.uncertainty.analysis import analyse
from benchmarks.uncertainty.measure import Measured, _places
from benchmarks.uncertainty.plots import draw_referral, draw_reliability
from benchmarks.uncertainty.tables import BEGIN, END, figures, update_page

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "benchmarks" / "results" / "uncertainty_isic2017.json"


def square(start: int, stop: int, *, side: int = 60) -> torch.Tensor:
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[start:stop, start:stop] = True
    return mask


@pytest.fixture(scope="module")
def measured() -> list[Measured]:
    """Eight cases whose number falls as their JA rises; logits twice as large as the frequencies allow."""
    rng, cases = np.random.default_rng(0), []
    for index in range(8):
        honest = rng.standard_normal((40, 40)) * 2
        truth = rng.random((40, 40)) < 1 / (1 + np.exp(-honest))
        ja, entropy = 0.3 + 0.08 * index, torch.from_numpy(rng.random((60, 60)))
        figures = {
            "ja": ja,
            "boundary_iou": ja / 2,
            "expected_error": 1 - ja,
            "near_entropy": float(rng.random()),
            "disagreement": 0.0,
            "near_variance": 0.0,
            "near_mutual_information": 0.0,
            **_places(entropy, square(10, 40), square(10, 40 + index)),
            "seconds": 2.0,
            "seconds_of_one_pass": 1.0,
        }
        cases.append(Measured(f"case{index}", figures, (honest * 2).astype(np.float16), truth))
    return cases


def test_the_tables_of_the_page_are_those_of_the_results() -> None:
    page = (ROOT / "docs" / "uncertainty.md").read_text(encoding="utf-8")
    block = page.partition(BEGIN)[2].partition(END)[0].strip()
    assert block == figures(json.loads(RESULTS.read_text()))


def test_the_words_below_the_tables_hold_for_the_results() -> None:
    """What docs/uncertainty.md says of these weights: other ones may need other words."""
    methods = json.loads(RESULTS.read_text())["methods"]
    for result in methods.values():  # "too sure of itself"; "the frequencies of all pixels together"
        assert result["temperature"] > 1
        assert result["calibration_with_temperature"]["ece"] < result["calibration"]["ece"]
        before, after = (result[key]["ece_per_picture"] for key in ("calibration", "calibration_with_temperature"))
        assert before < after < 1.5 * before  # "rises a little"
        plain, tempered = (result["numbers"][f"expected_error{end}"] for end in ("", "_with_temperature"))
        assert tempered["spearman_with_ja"] < plain["spearman_with_ja"] < 0  # "goes with JA better still"
        assert min(tempered["auc_of_low_ja"], plain["auc_of_low_ja"]) > 0.8  # "far better than chance"
        assert tempered["auc_of_low_ja"] == pytest.approx(plain["auc_of_low_ja"], abs=0.01)  # "as well as without"
        assert all(row["gain_interval"][0] > 0 for row in result["referral"]["expected_error"]["shares"])
        entropy = result["numbers"]["near_entropy"]["auc_of_low_ja"]
        assert entropy < tempered["auc_of_low_ja"]  # "mean entropy around the mask does worse"
    variance = {name: methods[name]["numbers"]["near_variance"]["auc_of_low_ja"] for name in ("mc_dropout", "tta")}
    number = "expected_error_with_temperature"
    limits = {name: methods[name]["numbers"][number]["auc_of_low_ja"] for name in variance}
    assert variance["mc_dropout"] < limits["mc_dropout"]  # "and so does the variance of dropout there"
    assert 0 < limits["tta"] - variance["tta"] < 0.01  # "the variance over flips and turns hardly does"
    one, eight = methods["entropy"]["numbers"], methods["mc_dropout"]["numbers"]
    assert abs(one[number]["spearman_with_ja"] - eight[number]["spearman_with_ja"]) < 0.05  # "about as well"
    assert abs(eight["disagreement"]["auc_of_low_ja"] - eight[number]["auc_of_low_ja"]) < 0.05  # "nearly as well"


def test_the_temperatures_beside_the_weights_are_those_of_the_results() -> None:
    content = json.loads(RESULTS.read_text())
    stored = json.loads((ROOT / "bundle" / "models" / "calibration.json").read_text())
    fitted = {method: result["temperature"] for method, result in content["methods"].items()}
    assert stored["temperature"] == {"none": fitted["entropy"], **fitted}
    assert stored["weights_sha256"] == content["weights_sha256"]


def test_entropy_on_the_outline_alone_lies_near_it() -> None:
    mask = square(10, 40)
    entropy = torch.zeros(60, 60)
    entropy[10, 10:40] = 1.0
    found = _places(entropy, mask, mask)
    assert found["entropy_near"] == pytest.approx(1.0)
    assert 0.05 < found["area_near"] < 0.2
    assert found["wrong_share"] == 0.0
    assert np.isnan(found["near_wrong"])


def test_entropy_beside_a_wrong_side_is_told_from_that_beside_a_right_one() -> None:
    mask, truth = square(10, 40), square(10, 40)
    truth[30:] = False  # the side at 39 is wrong by ten pixels
    entropy = torch.zeros(60, 60)
    entropy[38:41] = 0.5
    found = _places(entropy, mask, truth)
    assert found["near_wrong"] > 0.2
    assert found["near_right"] < 0.1
    assert 0.25 < found["wrong_share"] < 0.45


def test_without_an_outline_there_is_no_place() -> None:
    found = _places(torch.rand(60, 60), square(0, 0), square(10, 40))
    assert all(np.isnan(value) for value in found.values())
    assert _places(torch.rand(60, 60), square(10, 40), square(0, 0))["wrong_share"] == 1.0


def test_results_find_what_was_put_in(measured: list[Measured], tmp_path: Path) -> None:
    result = analyse(measured)
    json.dumps(result, allow_nan=False)
    assert result["temperature"] == pytest.approx(2.0, rel=0.2)
    assert result["calibration_with_temperature"]["ece"] < result["calibration"]["ece"]
    assert result["numbers"]["expected_error"]["spearman_with_ja"] == -1.0
    assert result["numbers"]["expected_error"]["auc_of_low_ja"] == 1.0
    assert "disagreement" not in result["numbers"]  # it is 0 for all
    referral = result["referral"]["expected_error"]["shares"]
    assert all(row["error"] == row["oracle"] for row in referral)
    assert result["low_ja"] == 5
    assert result["time_relative_to_one_pass"]["median"] == 2.0

    results = {"entropy": result, "tta": result}
    draw_reliability(results, tmp_path / "reliability.svg")
    draw_referral(results, "expected_error", tmp_path / "referral.svg")
    for name in ("reliability", "referral"):
        assert ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag.endswith("svg")


def test_a_page_is_filled_between_its_marks(measured: list[Measured], tmp_path: Path) -> None:
    content = {"pictures": 8, "samples": 4, "weights_sha256": "0" * 64, "methods": {"entropy": analyse(measured)}}
    content["methods"]["entropy"]["flops_relative_to_one_pass"] = 1.0
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    update_page(page, content)
    update_page(page, content)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n8 pictures with their masks, 4 samples")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match=r"has no place for the figures"):
        update_page(page, content)
