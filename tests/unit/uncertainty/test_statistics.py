from __future__ import annotations

import math

import pytest
import torch

from banet_monai.uncertainty.statistics import Moments, RunningMoments, entropy, log_odds, probabilities


def logit(*shares: float) -> torch.Tensor:
    """Logits ``(1, 1, n, 1)`` of these probabilities."""
    return torch.logit(torch.tensor(shares)).reshape(1, 1, -1, 1)


def collected(*predictions: torch.Tensor, **options: object) -> Moments:
    moments = RunningMoments(**options)
    for prediction in predictions:
        moments.add(prediction)
    return moments.result()


def test_moments_of_three_predictions_are_those_of_the_textbook() -> None:
    found = collected(logit(0.2), logit(0.4), logit(0.9))
    assert found.mean.item() == pytest.approx(0.5, abs=1e-6)
    assert found.variance.item() == pytest.approx((0.09 + 0.01 + 0.16) / 3, abs=1e-6)
    assert found.votes.item() == pytest.approx(1 / 3, abs=1e-6)  # 0.9 alone is at or above one half


def test_equal_predictions_have_no_variance_at_all_and_share_no_information() -> None:
    found = collected(*[logit(0.3, 0.7)] * 5)
    assert torch.count_nonzero(found.variance) == 0
    assert torch.count_nonzero(found.mutual_information("sigmoid")) == 0
    assert torch.equal(found.agreement("sigmoid", 0.5), torch.ones(1, 1, 2, 1))


def test_sure_predictions_that_contradict_each_other_share_one_bit() -> None:
    found = collected(torch.full((1, 1, 1, 1), 80.0), torch.full((1, 1, 1, 1), -80.0))
    assert found.mutual_information("sigmoid").item() == pytest.approx(1.0, abs=1e-6)
    assert found.variance.item() == pytest.approx(0.25, abs=1e-6)


def test_the_agreement_is_the_share_that_decides_like_the_mean() -> None:
    found = collected(logit(0.9, 0.1), logit(0.8, 0.4), logit(0.9, 0.2), logit(0.4, 0.9))
    torch.testing.assert_close(found.agreement("sigmoid", 0.5).flatten(), torch.tensor([0.75, 0.75]))


def test_the_threshold_decides_the_votes() -> None:
    assert collected(logit(0.4), logit(0.6), threshold=0.3).votes.item() == 1.0


def test_entropy_is_one_where_nothing_is_known_and_zero_where_all_is_certain() -> None:
    known = entropy(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 3, 1), "sigmoid")
    assert known.flatten().tolist() == [0.0, 1.0, 0.0]
    assert entropy(torch.full((1, 3, 1, 1), 1 / 3), "softmax").item() == pytest.approx(1.0, abs=1e-6)
    assert entropy(torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1), "softmax").item() == 0.0


def test_entropy_of_a_quarter_is_that_of_shannon() -> None:
    expected = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert entropy(torch.full((1, 1, 1, 1), 0.25), "sigmoid").item() == pytest.approx(expected, abs=1e-6)


def test_classes_that_exclude_each_other_vote_for_the_likeliest() -> None:
    first, second = torch.tensor([0.0, 3.0, 1.0]), torch.tensor([0.0, 2.0, 5.0])
    found = collected(
        first.reshape(1, 3, 1, 1), second.reshape(1, 3, 1, 1), first.reshape(1, 3, 1, 1), activation="softmax"
    )
    torch.testing.assert_close(found.votes.flatten(), torch.tensor([0.0, 2 / 3, 1 / 3]))
    assert found.expected_entropy.shape == (1, 1, 1, 1)
    assert found.agreement("softmax", 0.5).item() == 1.0  # none of them calls it background


def test_of_several_classes_the_agreement_is_that_about_the_background() -> None:
    first, second, none = ([0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0])
    sure, split, away = (first, second, second), (first, second, none), (none, none, first)
    logits = torch.tensor([sure, split, away]).permute(1, 2, 0)  # (sample, class, pixel)
    found = collected(*logits.reshape(3, 1, 3, 3, 1), activation="softmax")
    torch.testing.assert_close(found.agreement("softmax", 0.5).flatten(), torch.tensor([1.0, 2 / 3, 2 / 3]))


@pytest.mark.parametrize(("activation", "channels"), [("sigmoid", 1), ("sigmoid", 3), ("softmax", 2), ("softmax", 4)])
def test_stacked_moments_come_apart_as_they_were(activation: str, channels: int) -> None:
    torch.manual_seed(0)
    found = collected(torch.randn(2, channels, 4, 5), torch.randn(2, channels, 4, 5), activation=activation)
    back = Moments.unstacked(found.stacked(), activation)
    for part in ("mean", "variance", "expected_entropy", "votes"):
        assert torch.equal(getattr(back, part), getattr(found, part))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_log_odds_lead_back_to_the_probability(activation: str) -> None:
    torch.manual_seed(0)
    probability = probabilities(torch.randn(1, 3, 4, 4), activation)
    torch.testing.assert_close(probabilities(log_odds(probability, activation), activation), probability)


def test_log_odds_of_certainty_are_finite() -> None:
    assert torch.isfinite(log_odds(torch.tensor([[0.0], [1.0]]), "sigmoid")).all()
    assert torch.isfinite(log_odds(torch.tensor([[0.0, 1.0]]), "softmax")).all()


def test_a_network_that_writes_into_the_same_buffer_every_time_is_no_problem() -> None:
    buffer, moments = torch.zeros(1, 1, 1, 1), RunningMoments()
    for value in (0.2, 0.6):
        buffer.copy_(logit(value))
        moments.add(buffer)
    assert moments.result().mean.item() == pytest.approx(0.4, abs=1e-6)


def test_predictions_of_other_sizes_or_kinds_are_refused() -> None:
    moments = RunningMoments()
    with pytest.raises(RuntimeError, match=r"no prediction to take the mean of"):
        moments.result()
    moments.add(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"must be \(1, 1, 2, 2\), got \(1, 1, 3, 2\)"):
        moments.add(torch.zeros(1, 1, 3, 2))
    with pytest.raises(TypeError, match=r"must be a tensor of logits, got dict"):
        moments.add({"mask": torch.zeros(1)})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"activation must be one of .*'sigmod'"):
        RunningMoments(activation="sigmod")


def test_a_blend_that_passes_one_by_rounding_still_has_an_entropy() -> None:
    above = torch.nextafter(torch.ones(1), torch.full((1,), 2.0))
    channels = torch.stack([above, torch.zeros(1), torch.zeros(1), above], dim=1)
    moments = Moments.unstacked(channels, "sigmoid")
    assert moments.mutual_information("sigmoid").item() == 0
    assert moments.agreement("sigmoid", 0.5).item() == 1
