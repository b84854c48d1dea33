"""Folds of one data set, each case judged by the network that was trained without it."""

import pytest

from benchmarks.accuracy.folds import parts_of, with_folds_together
from benchmarks.accuracy.tables import Report
from tests.unit.benchmarks.accuracy_results import make_result

DATASETS = ["pictures", "pictures_fold0", "pictures_fold1"]


def fold_result(experiment, fold, ja, commit="abc1234"):
    result = make_result(experiment, 0, ja, commit=commit)
    result["name"] = f"cpu/pictures_fold{fold}/{experiment}/seed0"
    result["definition"] |= {"dataset": f"pictures_fold{fold}", "held_back": f"fold{fold}.txt"}
    result["training"]["seconds_per_epoch"] = 40.0 + 20 * fold
    for index, row in enumerate(result["cases"]["rows"]):
        row[0] = f"case_{fold}_{index}"
    return result


def groups_of(*results):
    groups = {}
    for result in results:
        groups.setdefault(result["name"].rsplit("/", 2)[0], []).append(result)
    return groups


@pytest.fixture
def report():
    groups = groups_of(
        fold_result("banet", 0, [0.9, 0.7]),
        fold_result("banet", 1, [0.5], commit="fff0000"),
        fold_result("unet", 0, [0.8, 0.6]),
        fold_result("unet", 1, [0.1]),
    )
    return Report("cpu/pictures_folds", with_folds_together(groups, DATASETS)["cpu/pictures_folds"])


def test_the_mean_is_that_of_all_cases_and_not_of_the_folds(report):
    assert report.scores["banet"].mean("ja") == pytest.approx(0.7)
    assert report.scores["banet"].seeds == (0,)


def test_differences_are_paired_case_by_case_over_all_folds(report):
    assert report.differences("ja")["unet"].mean == pytest.approx(-0.2)  # -0.1, -0.1 and -0.4


def test_the_caption_says_how_many_cases_there_are_and_who_judged_them(report):
    words = (
        "3 held-back cases, 128 x 128 pixels, 2 epochs of batch 16; each case by the one of 2 networks that was trained"
    )
    assert report.caption().startswith(words)


def test_times_are_means_over_the_folds(report):
    assert "| 50.0 | 10.0 | 2, 2 | 100 | 1900 |" in report.table_of_costs()


def test_what_is_not_the_same_in_all_runs_is_said_of_runs_and_not_of_folds(report):
    assert report.warnings() == ["**Not the same in all runs**: commit: abc1234 (3 runs), fff0000 (1 runs)."]


def test_an_experiment_that_waits_for_a_fold_is_left_out():
    groups = groups_of(fold_result("banet", 0, [0.9]), fold_result("banet", 1, [0.5]), fold_result("unet", 0, [0.8]))
    together = with_folds_together(groups, DATASETS)
    assert [result["experiment"] for result in together["cpu/pictures_folds"]] == ["banet"]
    assert set(together) == {*groups, "cpu/pictures_folds"}
    assert "cpu/pictures_folds" not in with_folds_together(groups, [*DATASETS, "pictures_fold2"])


def test_a_case_in_two_folds_is_refused():
    again = fold_result("banet", 1, [0.5])
    again["cases"]["rows"][0][0] = "case_0_0"
    groups = groups_of(fold_result("banet", 0, [0.9]), again)
    with pytest.raises(ValueError, match=r"held back in two of them: .*fold0/banet/seed0, .*fold1/banet/seed0"):
        with_folds_together(groups, DATASETS)


@pytest.mark.parametrize("change", [{"learning_rate": 0.1}, {"network_def": {"_target_": "unet"}}])
def test_folds_that_were_trained_otherwise_are_refused(change):
    other = fold_result("banet", 1, [0.5])
    other["definition"]["overrides"] |= change
    with pytest.raises(ValueError, match=r"definitions differ: cpu/pictures_fold0/banet/seed0, cpu/pictures_fold1/"):
        with_folds_together(groups_of(fold_result("banet", 0, [0.9]), other), DATASETS)


def test_each_fold_may_go_on_from_its_own_run_but_not_from_different_ones():
    results = [fold_result("banet", fold, [0.5]) for fold in (0, 1)]
    for fold, result in enumerate(results):
        result["definition"]["overrides"]["init"] = f"run:cpu/pictures_fold{fold}/unet"
    assert "cpu/pictures_folds" in with_folds_together(groups_of(*results), DATASETS)
    results[1]["definition"]["overrides"]["init"] = "run:cpu/pictures_fold1/banet"
    with pytest.raises(ValueError, match="definitions differ"):
        with_folds_together(groups_of(*results), DATASETS)


def test_the_parts_of_an_ordinary_result_are_the_result_itself():
    result = make_result("banet", 0, [0.9])
    assert list(parts_of(result)) == [result]
