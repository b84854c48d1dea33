"""Figures over seeds and cases whose values are known by hand."""

import pytest

from benchmarks.accuracy.estimates import compare, scores_of
from tests.unit.benchmarks.accuracy_results import make_result

BASE = {0: [0.8, 0.6], 1: [0.9, 0.7]}


def scores(experiment, ja_by_seed, **options):
    return scores_of([make_result(experiment, seed, ja, **options) for seed, ja in ja_by_seed.items()])


def test_mean_and_deviation_are_over_the_means_of_the_seeds():
    base = scores("banet", BASE)
    assert base.mean("ja") == pytest.approx(0.75)
    assert base.deviation("ja") == pytest.approx(0.1 / 2**0.5)  # of 0.7 and 0.8, n - 1


def test_one_seed_has_no_deviation():
    assert scores("banet", {0: [0.8, 0.6]}).deviation("ja") is None


def test_the_interval_of_cases_that_are_alike_has_no_width():
    assert scores("banet", {0: [0.6, 0.6], 1: [0.8, 0.8]}).interval("ja") == pytest.approx((0.7, 0.7))


def test_the_interval_over_two_cases_reaches_from_one_to_the_other():
    assert scores("banet", BASE).interval("ja") == pytest.approx((0.65, 0.85))  # case means over seeds


def test_misses_are_the_mean_over_seeds():
    assert scores("banet", {0: [0.0, 0.6], 1: [0.9, 0.7]}).misses() == 0.5


def test_classes_of_a_case_are_averaged():
    one = make_result("banet", 0, [0.8, 0.6], classes=("a", "b"), second_class=[0.4, 0.2])
    assert scores_of([one]).of("ja")[0].tolist() == pytest.approx([0.6, 0.4])


def test_a_difference_that_is_the_same_for_every_case_and_seed_is_certain():
    difference = compare(scores("unet", {0: [0.7, 0.5], 1: [0.8, 0.6]}), scores("banet", BASE), "ja")
    assert difference.mean == pytest.approx(-0.1)
    assert difference.per_seed == pytest.approx((-0.1, -0.1))
    assert difference.by_cases == pytest.approx((-0.1, -0.1))
    assert difference.by_both == pytest.approx((-0.1, -0.1))
    assert difference.clear


def test_a_difference_of_opposite_sign_in_two_cases_is_not_clear():
    difference = compare(scores("unet", {0: [0.9, 0.5], 1: [1.0, 0.6]}), scores("banet", BASE), "ja")
    assert difference.mean == pytest.approx(0.0)
    assert difference.by_cases == pytest.approx((-0.1, 0.1))
    assert not difference.clear


def test_only_the_interval_over_seeds_too_sees_that_seeds_disagree():
    difference = compare(scores("unet", {0: [0.9, 0.7], 1: [0.8, 0.6]}), scores("banet", BASE), "ja")
    assert difference.per_seed == pytest.approx((0.1, -0.1))
    assert difference.by_cases == pytest.approx((0.0, 0.0))
    assert difference.by_both == pytest.approx((-0.1, 0.1))
    assert not difference.clear


def test_the_comparison_uses_the_seeds_that_both_have():
    difference = compare(scores("unet", {1: [1.0, 0.8], 2: [0.0, 0.0]}), scores("banet", BASE), "ja")
    assert difference.per_seed == pytest.approx((0.1,))
    assert difference.by_both is None
    assert not difference.clear


def test_cases_are_paired_by_name_and_not_by_place():
    turned = make_result("unet", 0, [0.8, 0.6])
    turned["cases"]["rows"].reverse()
    difference = compare(scores_of([turned]), scores("banet", {0: [0.8, 0.6]}), "ja")
    assert difference.by_cases == pytest.approx((0.0, 0.0))


def test_methods_without_a_common_seed_or_case_are_refused():
    with pytest.raises(ValueError, match="'unet' and 'banet' have no common seed"):
        compare(scores("unet", {5: [0.1, 0.2]}), scores("banet", BASE), "ja")
    with pytest.raises(ValueError, match="'unet' and 'banet' were judged on different cases"):
        compare(scores("unet", {0: [0.1, 0.2, 0.3]}), scores("banet", BASE), "ja")


def test_results_that_do_not_belong_together_are_refused():
    base = make_result("banet", 0, [0.8, 0.6])
    longer = make_result("banet", 1, [0.8, 0.6])
    longer["definition"]["overrides"]["max_epochs"] = 99
    with pytest.raises(ValueError, match=r"definitions differ: .*seed0, .*seed1"):
        scores_of([base, longer])
    with pytest.raises(ValueError, match="'banet' has a seed twice"):
        scores_of([base, base])
    with pytest.raises(ValueError, match="seed1 was judged on other cases"):
        scores_of([base, make_result("banet", 1, [0.8, 0.6, 0.1])])
