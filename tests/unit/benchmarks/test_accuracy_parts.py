"""What is lost and gained with the small parts of masks."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.accuracy import parts
from benchmarks.accuracy.parts import METRICS, judge, main, scores, summary

SHARES = (0.0, 0.1, 1.0)


def lesion(*spots):
    """A lesion of 10 x 10 pixels, and specks of 2 x 2."""
    mask = np.zeros((40, 40), dtype=bool)
    mask[5:15, 5:15] = True
    for row, column in spots:
        mask[row : row + 2, column : column + 2] = True
    return mask


def test_a_speck_that_is_no_lesion_costs_until_it_is_dropped():
    found = judge(lesion((30, 30)), lesion(), SHARES)
    assert found.shape == (3, len(METRICS))
    ja, biou, distance, nsd = found.T
    assert ja.tolist() == pytest.approx([100 / 104, 1, 1])
    assert biou[0] < 1
    assert biou[1:].tolist() == [1, 1]
    assert distance[0] > 15
    assert distance[1:].tolist() == [0, 0]
    assert nsd[0] < 1
    assert nsd[1:].tolist() == [1, 1]


def test_a_speck_that_is_a_lesion_is_lost_with_its_share():
    ja = judge(lesion((30, 30)), lesion((30, 30)), (0.0, 0.04, 0.1))[:, 0]
    assert ja.tolist() == pytest.approx([1, 1, 100 / 104])


def test_differences_are_means_over_cases_with_the_number_that_rise_and_fall():
    cases = np.stack([
        judge(lesion((30, 30)), lesion(), SHARES),
        judge(lesion((30, 30)), lesion((30, 30)), SHARES),
        judge(lesion(), lesion(), SHARES),
        judge(lesion() & False, lesion(), SHARES),
    ])  # fmt: skip
    nothing, tenth, all_but_one = summary(cases, SHARES)
    assert (nothing["share"], nothing["changed"], nothing["ja"]["difference"]) == (0.0, 0, 0.0)
    assert nothing["ja"]["mean"] == pytest.approx((100 / 104 + 1 + 1 + 0) / 4, abs=1e-5)
    assert (tenth["changed"], tenth["better"], tenth["worse"]) == (2, 1, 1)
    assert tenth["worst"] == pytest.approx(-4 / 104, abs=1e-5)
    assert tenth["ja"]["difference"] == pytest.approx(0, abs=1e-5)
    low, high = tenth["ja"]["interval"]
    assert low < 0 < high
    diagonal = np.sqrt(2) * 40  # what a miss counts
    assert tenth["hd95"]["mean"] == pytest.approx((0 + cases[1, 1, 2] + 0 + diagonal) / 4, abs=1e-5)
    assert {**all_but_one, "share": 0.1} == tenth


class OneSpeck:
    """Two cases; the network outlines a speck beside the lesion of the first."""

    def __init__(self, run, places):
        self.run = run

    def batches(self):
        yield from (f"{self.run.dataset}_a", f"{self.run.dataset}_b")

    def predict(self, batch):
        spots = [(30, 30)] if batch.endswith("_a") else []
        probability = torch.from_numpy(lesion(*spots))[None].float() * 0.9
        return {"name": batch, "pred": probability, "label": SimpleNamespace(as_tensor=lambda: lesion_of_truth())}


def lesion_of_truth():
    return torch.from_numpy(lesion())[None]


def named(_definitions, name):
    return SimpleNamespace(name=name, dataset=name.split("/")[1])


def test_the_cases_of_a_run_are_judged_by_name(monkeypatch):
    monkeypatch.setattr(parts, "Predictor", OneSpeck)
    found = scores(named(None, "final/fold1/banet/seed0"), None)
    assert sorted(found) == ["fold1_a", "fold1_b"]
    tenth = parts.SHARES.index(0.1)
    assert found["fold1_a"][[0, tenth], 0].tolist() == pytest.approx([100 / 104, 1])
    assert found["fold1_b"][:, 0].tolist() == [1] * len(parts.SHARES)


def test_the_command_puts_runs_together_and_refuses_the_same_cases_twice(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(parts, "Predictor", OneSpeck)
    monkeypatch.setattr(parts, "the_run", named)
    runs = [f"final/isic2017_fold{number}/banet/seed0" for number in (1, 2)]
    assert main([*runs, "--write", str(tmp_path / "out.json")]) == 0
    assert "0.10  ja +0.0192" in capsys.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["runs"], written["cases"]) == (runs, 4)
    assert [row["share"] for row in written["shares"]] == list(parts.SHARES)
    assert written["shares"][-1]["better"] == 2
    assert main([runs[0], runs[0]]) == 2
    assert "2 cases are held back in several of the runs" in capsys.readouterr().err
