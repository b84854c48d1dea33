from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from banet_monai.uncertainty import correlation, refer
from banet_monai.uncertainty.referral import detection


def test_a_number_that_orders_the_cases_by_their_error_is_the_oracle() -> None:
    error = np.arange(20) / 20  # 0, 0.05, ..., 0.95
    found = refer(error, error, shares=(0.1, 0.5))
    assert [row.referred for row in found] == [2, 10]
    assert found[0].error == found[0].oracle == pytest.approx(error[:18].mean())
    assert found[1].error == pytest.approx(error[:10].mean())
    assert found[0].at_random == pytest.approx(error.mean())
    assert found[0].gain == pytest.approx(error.mean() - error[:18].mean())
    assert found[0].gain_interval[0] > 0


def test_a_number_that_says_nothing_gains_nothing() -> None:
    rng = np.random.default_rng(0)
    found = refer(rng.random(200), rng.random(200), shares=(0.2,))[0]
    assert found.gain_interval[0] < 0 < found.gain_interval[1]


def test_a_number_that_is_wrong_way_round_leaves_more_error_than_chance() -> None:
    error = np.arange(20) / 20
    assert refer(-error, error, shares=(0.2,))[0].gain < 0


def test_at_least_one_case_goes_and_one_stays() -> None:
    assert refer([0.1, 0.9], [0.0, 1.0], shares=(0.01,))[0].referred == 1
    assert refer([0.1, 0.9], [0.0, 1.0], shares=(0.99,))[0].error == 0.0


@pytest.mark.parametrize("ranks", [True, False])
def test_correlations_are_those_of_scipy_ties_included(ranks: bool) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 6, 50).astype(float)
    y = x * 0.5 + rng.random(50)
    expected = stats.spearmanr(x, y).statistic if ranks else stats.pearsonr(x, y).statistic
    found = correlation(x, y, ranks=ranks)
    assert found.value == pytest.approx(expected)
    assert found.interval[0] < expected < found.interval[1]


def test_a_number_that_does_not_vary_has_no_correlation() -> None:
    found = correlation([1.0, 1.0, 1.0], [0.1, 0.2, 0.3])
    assert math.isnan(found.value)
    assert math.isnan(found.interval[0])


def test_intervals_are_the_same_every_time() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.random(30), rng.random(30)
    assert correlation(x, y) == correlation(x, y)
    assert refer(x, y) == refer(x, y)


def test_detection_is_the_share_of_pairs_in_the_right_order() -> None:
    assert detection([0.9, 0.8, 0.1, 0.2], [True, True, False, False]) == 1.0
    assert detection([0.9, 0.1, 0.5, 0.5], [True, True, False, False]) == 0.5
    assert detection([0.3, 0.3], [True, False]) == 0.5
    assert math.isnan(detection([0.3, 0.4], [False, False]))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least two cases are needed, got \(1,\)"):
        refer([0.1], [0.1])
    with pytest.raises(ValueError, match=r"two numbers for each of at least two cases"):
        correlation([0.1, 0.2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"hold NaN or infinity"):
        refer([0.1, float("nan")], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"between 0 and 1, got \[1\.0\]"):
        refer([0.1, 0.2], [0.1, 0.2], shares=(1.0,))
