from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from banet_monai.transforms import DiscretizeLabelsd
from banet_monai.uncertainty import (
    TemperProbabilityd,
    find_temperature,
    fit_temperature,
    read_temperature,
    temper,
    write_temperatures,
)
from banet_monai.uncertainty.temperature import negative_log_likelihood


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_logits_that_are_too_large_by_a_factor_have_it_as_their_temperature(scale: float) -> None:
    torch.manual_seed(0)
    honest = torch.randn(200_000) * 2
    labels = torch.bernoulli(honest.sigmoid())
    assert fit_temperature(honest * scale, labels) == pytest.approx(scale, rel=0.02)


def test_classes_that_exclude_each_other_have_one_temperature() -> None:
    torch.manual_seed(0)
    honest = torch.randn(100_000, 3) * 2
    labels = torch.multinomial(honest.softmax(dim=1), 1)[:, 0]
    assert fit_temperature(honest * 2.5, labels, activation="softmax") == pytest.approx(2.5, rel=0.03)


def test_the_fitted_temperature_is_better_than_its_neighbours() -> None:
    torch.manual_seed(1)
    logits = torch.randn(5000) * 3
    labels = torch.bernoulli((logits * 0.7).sigmoid())
    best = fit_temperature(logits, labels)
    loss = [float(negative_log_likelihood(logits / t, labels)) for t in (best, best * 0.97, best * 1.03)]
    assert loss[0] == min(loss)


def test_labels_that_are_predicted_without_a_mistake_give_a_small_temperature() -> None:
    assert fit_temperature(torch.tensor([2.0, -2.0]), torch.tensor([1, 0])) < 0.2


def test_labels_against_the_logits_give_the_largest() -> None:
    assert fit_temperature(torch.tensor([9.0, -9.0]), torch.tensor([0, 1])) > 10


def test_it_is_fitted_inside_inference_mode_too() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        honest = torch.randn(20_000) * 2
        labels = torch.bernoulli(honest.sigmoid())
        assert fit_temperature(honest * 2, labels) == pytest.approx(2.0, rel=0.05)


def test_a_written_file_gives_each_method_its_own(tmp_path: Path) -> None:
    path = write_temperatures(tmp_path / "calibration.json", {"none": 1.23456, "tta": 0.9}, facts={"data": "made up"})
    assert json.loads(path.read_text()) == {"data": "made up", "temperature": {"none": 1.2346, "tta": 0.9}}
    assert read_temperature(str(path), "tta") == 0.9
    assert read_temperature(path, "none") == 1.2346


def test_a_number_is_a_temperature_as_text_too() -> None:
    assert read_temperature(2, "none") == 2.0
    assert read_temperature("1.5", "none") == 1.5


def test_what_is_no_temperature_is_refused(tmp_path: Path) -> None:
    for wrong in (0, -1, float("nan"), "inf"):
        with pytest.raises(ValueError, match=r"temperature must be a positive number"):
            read_temperature(wrong, "none")
    with pytest.raises(FileNotFoundError, match=r"there is no file 'nowhere.json'"):
        read_temperature("nowhere.json", "none")
    for content in ("no json", "[]", '{"temperature": 3}', '{"temperature": {"none": "hot"}}'):
        (tmp_path / "wrong.json").write_text(content)
        with pytest.raises(ValueError, match=r"wrong.json' holds no fitted temperatures"):
            read_temperature(tmp_path / "wrong.json", "none")
    write_temperatures(tmp_path / "some.json", {"none": 1.0}, facts={})
    with pytest.raises(ValueError, match=r"no temperature for 'ensemble', only for \['none'\]"):
        read_temperature(tmp_path / "some.json", "ensemble")
    with pytest.raises(ValueError, match=r"needs finite logits of at least one pixel"):
        fit_temperature(torch.tensor([float("nan")]), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"needs finite logits of at least one pixel"):
        fit_temperature(torch.zeros(0), torch.zeros(0))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of weights, with temperatures beside it that were fitted for it."""
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    facts = {"weights_sha256": hashlib.sha256(b"weights").hexdigest()}
    write_temperatures(tmp_path / "calibration.json", {"none": 1.5, "tta": 1.25}, facts=facts)
    return path


def test_the_temperature_beside_the_weights_is_taken_by_method(weights: Path) -> None:
    assert find_temperature("fitted", method="none", checkpoint=weights) == 1.5
    assert find_temperature("fitted", method="tta", checkpoint=str(weights)) == 1.25
    assert find_temperature("0.8", method="tta", checkpoint=weights) == 0.8


def test_without_a_file_or_without_weights_the_temperature_is_one(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "model.pt"
    other.write_bytes(b"weights")
    assert find_temperature("fitted", checkpoint=other) == 1.0
    assert find_temperature("fitted", checkpoint=tmp_path / "missing.pt") == 1.0


def test_temperatures_of_other_weights_are_not_used_and_this_is_said(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights.write_bytes(b"trained anew")
    assert find_temperature("fitted", checkpoint=weights) == 1.0
    assert "were fitted for other weights than" in caplog.text
    assert "its SHA-256 differs" in caplog.text
    with pytest.raises(ValueError, match=r"fitted for other weights than .*model\.pt"):
        find_temperature(weights.with_name("calibration.json"), checkpoint=weights)


def test_a_method_without_a_fitted_temperature_goes_without_and_this_is_said(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert find_temperature("fitted", method="ensemble", checkpoint=weights) == 1.0
    assert "has no temperature for 'ensemble'" in caplog.text


def test_temperatures_that_do_not_say_whose_they_are_count_only_by_name(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_temperatures(tmp_path / "calibration.json", {"none": 3.0}, facts={})
    assert find_temperature("fitted", checkpoint=weights) == 1.0
    assert "does not say which weights" in caplog.text
    assert find_temperature(path, checkpoint=weights) == 3.0


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_network_that_is_far_too_unsure_gets_its_small_temperature(activation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20000, generator=generator) * 2
    labels = (torch.rand(20000, generator=generator) < torch.sigmoid(logits)).long()
    given = 0.1 * (logits if activation == "sigmoid" else torch.stack([torch.zeros_like(logits), logits], dim=1))
    assert fit_temperature(given, labels, activation=activation) == pytest.approx(0.1, rel=0.05)


def test_a_probability_that_passes_one_by_rounding_stays_one() -> None:
    above = torch.nextafter(torch.ones(1), torch.full((1,), 2.0))
    assert temper(above, 1.6).tolist() == [1.0]
    assert temper(torch.tensor([-1e-7]), 1.6).tolist() == [0.0]


def test_a_tempered_probability_is_the_one_of_the_divided_logit() -> None:
    logits = torch.tensor([[-3.0, -0.5, 0.0, 2.0]])
    torch.testing.assert_close(temper(logits.sigmoid(), 2.0), (logits / 2).sigmoid())
    classes = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 1.0]])
    tempered = temper(classes.softmax(dim=0), 2.0, activation="softmax")
    torch.testing.assert_close(tempered, (classes / 2).softmax(dim=0))
    certain = torch.tensor([[0.0, 1.0]])
    assert torch.equal(temper(certain, 3.0), certain)


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_a_mask_is_the_same_at_every_temperature_and_its_contour_level_goes_along(threshold: float) -> None:
    probability = torch.rand(1, 40, 50, generator=torch.Generator().manual_seed(0))
    probability[0, 0, :3] = torch.tensor([threshold, 0.0, 1.0])
    record = {"pred": MetaTensor(probability, meta={"kind": "picture"})}
    decided = DiscretizeLabelsd(threshold=threshold, probability_key="probability")(record)
    tempered = TemperProbabilityd(temperature=2.0)(decided)
    assert torch.equal(tempered["pred"], decided["pred"])
    values, level = tempered["probability"], tempered["probability"].meta["level"]
    odds = np.sqrt(threshold / (1 - threshold))  # the square root is what a temperature of 2 makes of odds
    assert level == pytest.approx(odds / (1 + odds))
    clear = (probability - threshold).abs() > 1e-6
    assert torch.equal((values.as_tensor() >= level)[clear], (decided["pred"].as_tensor() > 0)[clear])
    assert values.meta["kind"] == "picture"


def test_a_temperature_of_one_leaves_probabilities_as_they_are() -> None:
    probability = torch.rand(1, 4, 4)
    assert TemperProbabilityd()({"probability": probability})["probability"] is probability


def test_a_step_with_a_temperature_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature must be a positive number, got 0"):
        TemperProbabilityd(temperature=0)
    with pytest.raises(ValueError, match=r"activation must be one of .*'tanh'"):
        TemperProbabilityd(activation="tanh")


def test_an_exported_file_has_the_temperature_of_the_weights_that_it_was_made_from(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made_from = hashlib.sha256(weights.read_bytes()).hexdigest()
    exported = weights.with_suffix(".onnx")
    exported.write_bytes(b"another file")
    expected = find_temperature("fitted", checkpoint=weights)
    assert expected != 1
    assert find_temperature("fitted", checkpoint=exported, weights_sha256=made_from) == expected
    assert caplog.text == ""
    assert find_temperature("fitted", checkpoint=exported, weights_sha256="0" * 64) == 1
    assert "were fitted for other weights than" in caplog.text
