import json

import pytest

from banet_monai.bundles import config_names, find_bundle, nearest, with_hint


@pytest.fixture
def root(tmp_path):
    """A bundle with the task "mole" and, in tasks/, "nail" that changes three entries."""
    folder = tmp_path / "clone" / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "tasks" / "nail").mkdir(parents=True)
    main = {
        "task": "mole",
        "checkpoint": "$@bundle_root + '/models/model.pt'",
        "size": 4,
        "chain": {"steps": [{"width": 1}, {"width": 2}]},
    }
    nail = {"task": "nail", "checkpoint": "runs/nail/model.pt", "size": 5, "chain::steps::1": {"width": 3}}
    (folder / "configs" / "inference.json").write_text(json.dumps(main))
    (folder / "tasks" / "nail" / "inference.json").write_text(json.dumps(nail))
    return folder


def test_the_bundle_beside_the_package_is_the_default():
    assert find_bundle().root.name == "bundle"
    assert [task.name for task in find_bundle().tasks()] == ["skin_lesion", "hippocampus", "lung", "polyp"]


def test_a_folder_without_configuration_is_no_bundle(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no bundle: it has no configs/inference\.json"):
        find_bundle(tmp_path)


def test_the_main_task_is_the_default_and_has_the_name_that_the_configuration_says(root):
    bundle = find_bundle(root)
    assert [task.name for task in bundle.tasks()] == ["mole", "nail"]
    assert bundle.task().name == "mole"
    assert bundle.task("mole").is_main
    assert bundle.task(str(root)).is_main


def test_a_task_lays_its_entries_over_those_of_the_bundle(root):
    bundle = find_bundle(root)
    assert bundle.task("mole").config()["chain"] == {"steps": [{"width": 1}, {"width": 2}]}
    config = bundle.task("nail").config()
    assert (config["task"], config["size"]) == ("nail", 5)
    assert config["chain"] == {"steps": [{"width": 1}, {"width": 3}]}


def test_an_unknown_task_is_answered_with_the_nearest_and_all(root):
    with pytest.raises(
        ValueError, match=r"no task 'nails' \(did you mean 'nail'\?\); there are mole, nail, and folders"
    ):
        find_bundle(root).task("nails")


def test_a_folder_that_is_no_task_is_named(root, tmp_path):
    with pytest.raises(ValueError, match=r"the folder '.*' has no inference\.json"):
        find_bundle(root).task(str(tmp_path))


def test_a_broken_configuration_is_named(root):
    (root / "tasks" / "nail" / "inference.json").write_text("{")
    with pytest.raises(ValueError, match=r"nail/inference\.json' is not JSON"):
        find_bundle(root).task("nail").config()


def test_weights_inside_the_bundle_are_found_through_its_expression(root):
    assert find_bundle(root).task().weights() == root / "models" / "model.pt"


def test_relative_weights_count_from_the_working_directory_then_from_beside_the_bundle(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = find_bundle(root).task("nail")
    assert str(task.weights()) == "runs/nail/model.pt"
    beside = root.parent / "runs" / "nail" / "model.pt"
    beside.parent.mkdir(parents=True)
    beside.touch()
    assert task.weights() == beside
    (tmp_path / "runs" / "nail").mkdir(parents=True)
    (tmp_path / "runs" / "nail" / "model.pt").touch()
    assert str(task.weights()) == "runs/nail/model.pt"


def test_weights_beside_the_configuration_of_a_task_come_first(root):
    (root / "tasks" / "nail" / "model.pt").touch()
    assert find_bundle(root).task("nail").weights() == root / "tasks" / "nail" / "model.pt"


def test_weights_of_another_expression_are_left_to_the_configuration(root):
    (root / "tasks" / "nail" / "inference.json").write_text(json.dumps({"checkpoint": "$@root + '/x.pt'"}))
    assert find_bundle(root).task("nail").weights() is None


def test_names_of_a_configuration_are_those_that_monai_takes():
    config = {"a": 1, "b": {"c": [{"d": 2}, 3]}}
    assert list(config_names(config)) == ["a", "b", "b::c", "b::c::0", "b::c::0::d", "b::c::1"]


@pytest.mark.parametrize(
    ("word", "match"), [("treshold", "threshold"), ("OVERLAP", "overlap"), ("over-lap", "overlap"), ("xyz", "")]
)
def test_the_nearest_word_is_the_most_similar(word, match):
    assert nearest(word, ["overlap", "threshold"]) == match


def test_a_hint_is_given_only_where_a_word_is_near():
    assert with_hint("no 'a1'", "a1", ["a12"]) == "no 'a1' (did you mean 'a12'?)."
    assert with_hint("no 'xx'", "xx", ["a12"]) == "no 'xx'."
