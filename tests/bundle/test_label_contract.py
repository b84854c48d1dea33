"""What MONAI Label reads of the configurations, in the way that it reads and changes them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism

from banet_monai.data import make_demonstration_data
from banet_monai.transforms import DiscretizeLabelsd

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
TASKS = ["", *sorted(path.name for path in (BUNDLE / "tasks").iterdir() if path.is_dir())]
OPTIONS = {"threshold": 0.5, "smallest_part": 0.1, "overlap": 0.5, "sw_batch_size": 8, "tta": False}
CHANGED = {"threshold": 0.25, "smallest_part": 0.6, "overlap": 0.125, "sw_batch_size": 3, "tta": True}
OF_A_THRESHOLD = ("threshold", "smallest_part")
SEVERAL_OBJECTS = ("lung", "polyp")  # tasks whose pictures hold several, of which all parts are kept


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the configurations append to it
    yield tmp_path
    set_determinism(None)


def parser_of(task: str, name: str = "inference") -> ConfigParser:
    files = [BUNDLE / "configs" / f"{name}.json", BUNDLE / "tasks" / task / f"{name}.json"]
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files if file.is_file()]))
    parser["bundle_root"] = str(BUNDLE)
    return parser


def in_effect(parser: ConfigParser) -> dict:
    """The options as the built parts have them."""
    inferer = parser.get_parsed_content("inferer")
    steps = parser.get_parsed_content("postprocessing").transforms
    decision = next(step for step in steps if isinstance(step, DiscretizeLabelsd))
    plain = parser.get_parsed_content("plain_inferer")
    return {
        "threshold": decision.threshold,
        "smallest_part": decision.smallest_part,
        "overlap": plain.grid.overlap,
        "sw_batch_size": plain.sw_batch_size,
        "tta": inferer.enabled,
    }


def displayed(task: str) -> list[str]:
    """The options of a task's panel: where classes exclude each other there is no threshold."""
    return [name for name in OPTIONS if name not in OF_A_THRESHOLD or task != "hippocampus"]


def defaults(task: str) -> dict:
    """The options of a task before anybody changes them."""
    keeps_all = task in (*SEVERAL_OBJECTS, "hippocampus")
    return {**OPTIONS, "smallest_part": 0 if keeps_all else OPTIONS["smallest_part"]}


@pytest.mark.parametrize("task", TASKS)
def test_the_panel_shows_options_with_their_defaults(task):
    assert parser_of(task).get_parsed_content("displayable_configs") == {
        name: defaults(task)[name] for name in displayed(task)
    }


@pytest.mark.parametrize("task", TASKS)
def test_what_the_panel_changes_takes_effect_for_one_request(task):
    parser = parser_of(task)
    assert in_effect(parser) == defaults(task)
    for values in (CHANGED, OPTIONS):  # as BundleInferTask.pre_transforms does at every request
        parser["displayable_configs"].update({name: values[name] for name in displayed(task)})
        parser.parse()
        found = in_effect(parser)
        assert {name: found[name] for name in displayed(task)} == {name: values[name] for name in displayed(task)}


@pytest.mark.parametrize("task", TASKS)
def test_what_a_plain_run_changes_takes_effect_too(task):
    parser = parser_of(task)
    for name in displayed(task):
        parser[name] = CHANGED[name]
    found = in_effect(parser)
    assert {name: found[name] for name in displayed(task)} == {name: CHANGED[name] for name in displayed(task)}


@pytest.mark.parametrize("task", TASKS)
def test_building_what_the_server_reads_looks_for_no_images_and_writes_nothing(task, workplace):
    parser = parser_of(task)
    for part in ("device", "network_def", "preprocessing", "inferer", "postprocessing", "displayable_configs"):
        assert parser.get_parsed_content(part) is not None
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("task", TASKS)
def test_every_network_has_the_dropout_that_scoring_sets(task):
    parser = parser_of(task)
    parser["network_def"]["dropout"] = 0.4
    rates = [getattr(module, "p", None) for module in parser.get_parsed_content("network_def").modules()]
    assert 0.4 in rates


@pytest.mark.parametrize("task", TASKS)
def test_training_reads_the_entries_that_the_server_overrides(task):
    config = parser_of(task, "train").get()
    assert config["train"]["trainer"]["max_epochs"] == "@max_epochs"
    assert config["schedule"]["max_epochs"] == "@train::trainer::max_epochs"  # the server sets only that one
    assert config["training"] == "@run"
    assert "displayable_configs" not in config  # a request would have to bring them all


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (0, "there is no training case: no image has a mask"),
        (1, "there is no validation case to measure training by; give more cases, or set a larger share aside"),
    ],
)
def test_training_on_too_few_labels_is_refused_in_words(workplace, labels, message):
    folder = make_demonstration_data(workplace / "demo", num_train=1, num_val=1, size=64)
    image, mask = (next((folder / "train" / part).iterdir()) for part in ("images", "masks"))
    training = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "train.json"),
        workflow_type="train",
        logging_file=False,
        bundle_root=str(BUNDLE),
        init="none",
        num_workers=0,
        image_size=32,
        **{
            "train::dataset::data": [{"image": str(image), "label": str(mask)}] * labels,
            "validate::dataset::data": [],
        },
    )
    training.initialize()
    with pytest.raises(RuntimeError, match="Failed to") as caught:
        training.run()
    assert message in str(caught.value.__cause__)
