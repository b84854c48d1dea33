"""The file of experiments is refused as a whole when anything in it is unknown, and planned in the order of worth."""

import copy
import json

import pytest

from banet_monai.data.splits import read_val_ids
from benchmarks.accuracy.collecting import definition
from benchmarks.accuracy.definitions import ROOT, load_definitions, plan
from benchmarks.accuracy.execution import Places, lay_over

HELD_BACK = ROOT / "benchmarks" / "accuracy" / "held_back"
SMALL = {
    "datasets": {"pictures": {"folder": "pictures"}},
    "experiments": {
        "one": {"title": "One", "group": "All"},
        "two": {"title": "Two", "group": "All", "network": {"use_pee": False}, "settings": {"max_epochs": 5}},
    },
    "budgets": {
        "short": {
            "dataset": "pictures",
            "settings": {"max_epochs": 2, "image_size": 32},
            "blocks": [
                {"experiments": ["one", "two"], "seeds": [0, 1]},
                {"experiments": ["one"], "seeds": [2], "settings": {"max_epochs": 3}},
            ],
        }
    },
}


def written(folder, definitions):
    path = folder / "experiments.json"
    path.write_text(json.dumps(definitions))
    return path


def changed(*keys, value):
    definitions = copy.deepcopy(SMALL)
    place = definitions
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return definitions


def test_all_experiments_of_one_seed_come_before_the_next_seed(tmp_path):
    runs = plan(load_definitions(written(tmp_path, SMALL)), "short")
    assert [(run.experiment, run.seed) for run in runs] == [("one", 0), ("two", 0), ("one", 1), ("two", 1), ("one", 2)]


def test_settings_of_the_experiment_win_over_those_of_the_block_and_these_over_the_budgets(tmp_path):
    runs = plan(load_definitions(written(tmp_path, SMALL)), "short")
    assert [run.settings["max_epochs"] for run in runs] == [2, 5, 2, 5, 3]
    assert {run.settings["image_size"] for run in runs} == {32}


def test_the_cases_of_the_learning_curve_are_those_of_the_block_or_else_of_the_budget(tmp_path):
    definitions = changed("budgets", "short", "curve_cases", value=9)
    definitions["budgets"]["short"]["blocks"][1]["curve_cases"] = 4
    runs = plan(load_definitions(written(tmp_path, definitions)), "short")
    assert [run.curve_cases for run in runs] == [9, 9, 9, 9, 4]
    assert {run.curve_cases for run in plan(load_definitions(written(tmp_path, SMALL)), "short")} == {None}


def test_runs_are_chosen_by_experiment_by_the_beginning_of_their_name_and_by_seed(tmp_path):
    definitions = load_definitions(written(tmp_path, SMALL))
    assert [run.name for run in plan(definitions, "short", only=["two"], seeds=[1])] == ["short/pictures/two/seed1"]
    assert len(plan(definitions, "short", only=["short/pictures/one"])) == 3
    assert len(plan(definitions, "short", only=["short/pictures/one/seed2"])) == 1
    with pytest.raises(ValueError, match=r"fits \['three'\]; its experiments are: one, two"):
        plan(definitions, "short", only=["three"])


def test_a_setting_joins_named_lists_of_transforms_in_its_order(tmp_path):
    definitions = changed("transforms", value={"a": [{"x": 1}, {"x": 2}], "b": [{"x": 3}]})
    definitions["experiments"]["one"]["settings"] = {"train::random_transforms": {"join": ["b", "a"]}}
    definitions["budgets"]["short"]["blocks"][1]["settings"] = {"train::random_transforms": {"join": ["b"]}}
    runs = plan(load_definitions(written(tmp_path, definitions)), "short", only=["one"])
    assert runs[0].settings["train::random_transforms"] == [{"x": 3}, {"x": 1}, {"x": 2}]
    definitions["experiments"]["one"].pop("settings")
    last = plan(load_definitions(written(tmp_path, definitions)), "short", only=["one"], seeds=[2])
    assert last[0].settings["train::random_transforms"] == [{"x": 3}]


def test_entries_of_evaluation_are_laid_over_it_and_belong_to_what_a_run_is(tmp_path):
    definitions = changed("experiments", "one", "evaluation", value={"roi_size": [8, 8]})
    one, two = plan(load_definitions(written(tmp_path, definitions)), "short", seeds=[0])
    places = Places(tmp_path, None, tmp_path / "runs", tmp_path / "results")
    (tmp_path / "pictures").mkdir()
    assert lay_over(one, places)[1]["roi_size"] == [8, 8]
    assert "roi_size" not in lay_over(two, places)[1]
    assert definition(one)["evaluation"] == {"roi_size": [8, 8]}
    assert "evaluation" not in definition(two)


def test_an_unknown_budget_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="no budget 'long', there are: short"):
        plan(load_definitions(written(tmp_path, SMALL)), "long")


def test_a_run_that_stands_twice_is_refused(tmp_path):
    twice = changed("budgets", "short", "blocks", 1, "seeds", value=[1])
    with pytest.raises(ValueError, match="same run twice: short/pictures/one/seed1"):
        plan(load_definitions(written(tmp_path, twice)), "short")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("experiments", "one", "epochs"), 3, r"experiment 'one': unknown keys \['epochs'\]"),
        (("datasets", "pictures", "path"), "x", r"data set 'pictures': unknown keys \['path'\]"),
        (("budgets", "short", "size"), 1, r"budget 'short': unknown keys \['size'\]"),
        (("budgets", "short", "dataset"), "faces", r"budget 'short', block 1: unknown data set \['faces'\]"),
        (("budgets", "short", "blocks", 0, "experiments"), ["six"], r"block 1: unknown experiment \['six'\]"),
        (("budgets", "short", "settings"), {"image_sise": 32}, "'image_sise' is no entry of the training config"),
        (("experiments", "one", "settings"), {"seed": 3}, "experiment 'one': 'seed' is set by the harness"),
        (("experiments", "one", "settings"), {"loss": {"join": ["a"]}}, r"'one', 'loss': unknown lists .*\['a'\]"),
        (("experiments", "one", "evaluation"), {"roi": 3}, "'roi' is no entry of the evaluation configuration"),
        (("experiments", "one", "evaluation"), {"checkpoint": "x"}, "'checkpoint' is set by the harness"),
        (("experiments", "one", "settings"), {"network_def::width": 3}, "'network_def::width' is set by the harness"),
    ],
)
def test_what_is_unknown_is_refused_by_its_place(tmp_path, keys, value, message):
    with pytest.raises(ValueError, match=message):
        load_definitions(written(tmp_path, changed(*keys, value=value)))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("val_ids", "nowhere.txt", "list of names 'nowhere.txt'"), ("task", "teeth", "bundle has no task 'teeth'")],
)
def test_a_missing_file_of_a_data_set_is_named(tmp_path, key, value, message):
    with pytest.raises(FileNotFoundError, match=f"data set 'pictures'.*{message}"):
        load_definitions(written(tmp_path, changed("datasets", "pictures", key, value=value)))


def test_the_file_of_the_project_plans_the_least_that_must_exist_first():
    runs = plan(load_definitions(), "cpu")
    wanted = ["banet", "banet_no_pee", "banet_no_mtl", "banet_no_ia", "banet_no_cff", "unet", "deeplabv3"]
    assert [(run.seed, run.experiment) for run in runs[:21]] == [(seed, name) for seed in range(3) for name in wanted]


@pytest.mark.parametrize("budget", ["quick", "cpu", "recipe", "tasks", "gpu"])
def test_every_budget_of_the_project_can_be_planned(budget):
    assert plan(load_definitions(), budget)


def test_as_many_names_are_held_back_as_the_data_sets_say():
    for name, dataset in load_definitions()["datasets"].items():
        if dataset.get("val_ids"):
            names = read_val_ids(ROOT / dataset["val_ids"])
            assert len(set(names)) == len(names) == dataset["held_back"], name


def test_the_three_folds_share_no_picture_and_cover_the_official_training_part():
    folds = [set(read_val_ids(HELD_BACK / f"isic2017_fold{fold}.txt")) for fold in range(3)]
    assert len(set.union(*folds)) == sum(map(len, folds)) == 1800
    held_back = set(read_val_ids(HELD_BACK / "isic2017.txt"))
    assert len(held_back & set.union(*folds)) == 279
