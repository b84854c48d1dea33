from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from banet_monai.uncertainty import fit_temperature, read_temperature, write_temperatures
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
