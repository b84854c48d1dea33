"""Thresholds whose JA is known by hand, and the command on pictures made here."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from banet_monai.networks import BANet
from benchmarks.accuracy import threshold as command
from benchmarks.accuracy.definitions import load_definitions, plan
from benchmarks.accuracy.execution import Places, Workplace
from benchmarks.accuracy.threshold import THRESHOLDS, choose, curves_of_run, ja_curve, report

THREE = np.array([0.25, 0.5, 0.75])


def test_ja_at_every_threshold_is_that_of_the_pixels_at_or_above_it():
    probability = torch.tensor([[0.9, 0.5], [0.6, 0.1]])
    mask = torch.tensor([[1, 1], [0, 0]])
    # {0.9, 0.6, 0.5}, the same, {0.9}: 2 of 3, 2 of 3, 1 of 2
    assert ja_curve(probability, mask, THREE).tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 2])


def test_two_empty_masks_agree_and_a_missed_lesion_counts_nothing():
    assert ja_curve(torch.tensor([0.3, 0.1]), torch.tensor([0, 0]), THREE).tolist() == [0, 1, 1]
    assert ja_curve(torch.tensor([0.3, 0.1]), torch.tensor([1, 0]), THREE).tolist() == [1, 0, 0]


def test_probabilities_of_another_shape_than_the_mask_are_refused():
    with pytest.raises(ValueError, match=r"have shape \(2,\), their mask \(1, 2\)"):
        ja_curve(torch.zeros(2), torch.zeros(1, 2))


def test_the_highest_mean_is_chosen_and_among_equals_the_one_next_to_a_half():
    curves = np.tile([[0.8, 0.7, 0.9]], (5, 1))
    assert choose(curves, THREE).threshold == 0.75
    assert choose(np.full((5, 3), 0.8), THREE).threshold == 0.5


def test_the_gain_of_cases_that_agree_is_certain():
    choice = choose(np.tile([[0.8, 0.7, 0.9]], (10, 1)), THREE)
    assert (choice.ja, choice.ja_at_half, choice.ja_cross_fitted) == pytest.approx((0.9, 0.7, 0.9))
    assert choice.gain_interval == pytest.approx((0.2, 0.2))
    assert choice.fold_thresholds == (0.75,) * 5


def test_a_case_that_alone_makes_the_choice_does_not_profit_from_it_when_cross_fitted():
    curves = np.full((5, 3), 0.5)
    curves[0, 2] = 1.0  # without the first case all thresholds are equal
    choice = choose(curves, THREE)
    assert choice.threshold == 0.75
    assert choice.ja == pytest.approx(0.6)
    assert choice.fold_thresholds == (0.5, 0.75, 0.75, 0.75, 0.75)
    assert choice.ja_cross_fitted == pytest.approx(0.5)


def test_too_few_cases_or_no_threshold_of_a_half_are_refused():
    with pytest.raises(ValueError, match=r"at least 5 cases and the threshold 0\.5, got 4 cases"):
        choose(np.ones((4, 3)), THREE)
    with pytest.raises(ValueError, match=r"the threshold 0\.5"):
        choose(np.ones((5, 2)), np.array([0.3, 0.6]))


def test_cases_that_had_no_part_in_the_choice_judge_it():
    names = [f"case_{number}" for number in range(7)]
    curves = np.full((7, len(THRESHOLDS)), 0.5)
    curves[:5, 10] = 0.9  # at 0.15
    curves[5:, 10] = 0.2
    result = report(names, curves, names[:5])
    assert result["choice"]["threshold"] == 0.15
    assert result["cases"] == 5
    assert result["other_cases"] == {"cases": 2, "ja": 0.2, "ja_at_half": 0.5, "gain_interval": [-0.3, -0.3]}
    assert report(names, curves)["other_cases"] is None
    with pytest.raises(ValueError, match=r"1 of the cases to choose on are not held back in this run: \['other'\]"):
        report(names, curves, ["other"])


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "data", None, tmp_path / "runs", tmp_path / "runs")


@pytest.fixture
def finished(places):
    """A run whose network gives one half everywhere, and six held-back pictures, a quarter of each a lesion."""
    for part, count in (("train", 1), ("val", 6)):
        for kind in ("images", "masks"):
            (places.data / "pictures" / part / kind).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((64, 64), dtype=np.uint8)
            mask[:32, :32] = 255
            Image.new("RGB", (64, 64), "pink").save(places.data / "pictures" / part / "images" / f"{part}{number}.png")
            Image.fromarray(mask).save(places.data / "pictures" / part / "masks" / f"{part}{number}.png")
    run = plan(load_definitions(), "quick", only=["banet"])[0]
    run = dataclasses.replace(run, data={"folder": "pictures"})
    network = BANet(encoder="mobilenet_v2", output_stride=16, width=96, separable=True, dropout=0.1)
    for parameter in network.head.parameters():
        torch.nn.init.zeros_(parameter)
    weights = Workplace(run, places).weights
    weights.parent.mkdir(parents=True)
    torch.save(network.state_dict(), weights)
    return run


@pytest.mark.parametrize("tta", [False, True])
def test_held_back_cases_are_judged_in_their_own_pixels(places, finished, tta):
    names, curves = curves_of_run(finished, places, tta=tta)
    assert names == [f"val{number}" for number in range(6)]
    assert curves.shape == (6, len(THRESHOLDS))
    assert curves[:, THRESHOLDS <= 0.5] == pytest.approx(0.25)
    assert not curves[:, THRESHOLDS > 0.5].any()


def test_a_run_without_weights_is_not_finished(places, finished):
    Workplace(finished, places).weights.unlink()
    with pytest.raises(FileNotFoundError, match="the run 'quick/demonstration/banet/seed0' is not finished"):
        curves_of_run(finished, places)


def test_the_command_writes_the_curve_beside_the_run(places, finished, monkeypatch, capsys):
    monkeypatch.setattr(command, "the_run", lambda *_: finished)
    assert command.main([finished.name, "--data", str(places.data), "--runs", str(places.runs)]) == 0
    assert "chosen: 0.50, JA 0.2500 on the 6 cases that chose it" in capsys.readouterr().out
    result = json.loads((Workplace(finished, places).folder / "threshold.json").read_text())
    assert result["choice"]["threshold"] == 0.5
    assert result["test_time_augmentation"] is False
    assert len(result["thresholds"]) == len(result["mean_ja"]) == len(THRESHOLDS)


@pytest.mark.parametrize(
    ("name", "message"), [("quick/demonstration", "fits 2 runs, one is needed"), ("other/run", "there is no budget")]
)
def test_a_name_that_is_not_of_one_run_is_refused(name, message, capsys):
    assert command.main([name]) == 2
    assert message in capsys.readouterr().err
