"""The configurations must stay readable: few expressions, no code hidden in strings, no silent drift between them."""

from __future__ import annotations

import json
import pydoc
import re
from pathlib import Path

import pytest
from monai.bundle import ComponentLocator, ConfigParser

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
CONFIGS = BUNDLE / "configs"
WORKFLOWS = [
    *sorted(path for path in CONFIGS.glob("*.json") if path.name != "metadata.json"),
    *sorted(path for path in BUNDLE.glob("tasks/*/*.json") if path.name != "metadata.json"),
]
TASKS = ["", *sorted(path.name for path in (BUNDLE / "tasks").iterdir() if path.is_dir())]  # "" is the shipped task
MOST_EXPRESSIONS = 16
LONGEST_EXPRESSION = 100
CODE = re.compile(r"\blambda\b|\bfor\b|\bglob\b|\bexec\b|\beval\(|\[[^\]]*:[^\]]*\]")  # the last one is slicing
OPTIONS = [
    "dataset_dir",
    "encoder",
    "image_size",
    "batch_size",
    "max_epochs",
    "learning_rate",
    "amp",
    "cache_rate",
    "num_workers",
    "seed",
    "val_fraction",
    "init",
    "resume",
    "ckpt_dir",
    "output_dir",
]
INFERENCE_ONLY = ("slice_axis", "max_pixels")  # of volumes and pictures that nobody chose for training


def label(path: Path) -> str:
    return str(path.relative_to(BUNDLE).with_suffix(""))


def leaves(config, path=""):
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else None
    if items is None:
        yield path, config
        return
    for key, value in items:
        yield from leaves(value, f"{path}::{key}" if path else str(key))


def merged(task: str, *names: str) -> dict:
    """The configurations ``names`` of the bundle, each with the task's override laid over it, as MONAI merges them."""
    files = []
    for name in names:
        files += [CONFIGS / f"{name}.json"]
        own = BUNDLE / "tasks" / task / f"{name}.json"
        files += [own] if task and own.is_file() else []
    return ConfigParser.load_config_files([str(file) for file in files])


def at(config, path: str):
    for key in path.split("::"):
        config = config[int(key) if isinstance(config, list) else key]
    return config


def with_values(config: dict, item):
    """``item`` with references to plain options replaced by their values."""
    if isinstance(item, dict):
        return {key: with_values(config, value) for key, value in item.items()}
    if isinstance(item, list):
        return [with_values(config, value) for value in item]
    if isinstance(item, str) and item.startswith("@") and not isinstance(at(config, item[1:]), dict):
        return with_values(config, at(config, item[1:]))
    return item


def image_steps(config: dict, path: str) -> list[dict]:
    """What happens to the image in a list of transforms, without what concerns the label."""
    steps = []
    for step in with_values(config, at(config, path)):
        keys = step["keys"] if isinstance(step["keys"], list) else [step["keys"]]
        if "image" in keys:
            steps.append({k: v for k, v in step.items() if k not in ("keys", *INFERENCE_ONLY)})
    return steps


@pytest.mark.parametrize("path", WORKFLOWS, ids=label)
def test_expressions_are_few_short_and_free_of_logic(path):
    found = {p: v for p, v in leaves(json.loads(path.read_text())) if isinstance(v, str) and v.startswith("$")}
    assert len(found) <= MOST_EXPRESSIONS, f"{len(found)} expressions, move some into banet_monai: {found}"
    for where, text in found.items():
        assert len(text) <= LONGEST_EXPRESSION, f"{where}: expression of {len(text)} characters"
        assert not CODE.search(text), f"{where}: {text}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=label)
def test_ids_use_the_current_separator(path):
    texts = [value for _, value in leaves(json.loads(path.read_text())) if isinstance(value, str)]
    assert not [text for text in texts if text[:1] in "@$%" and "#" in text]


@pytest.mark.parametrize("path", WORKFLOWS, ids=label)
def test_files_end_with_a_newline_and_hold_no_tabs(path):
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert "\t" not in text


@pytest.mark.parametrize("path", WORKFLOWS, ids=label)
def test_every_target_can_be_imported(path):
    locator = ComponentLocator()
    targets = {v for p, v in leaves(json.loads(path.read_text())) if p.rsplit("::", 1)[-1] == "_target_"}
    for target in targets:
        assert pydoc.locate(target) if "." in target else locator.get_component_module_name(target), target


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "names",
    [
        ("train",),
        ("train", "multi_gpu_train"),
        ("inference",),
        ("inference", "multi_gpu_evaluate"),
        ("inference", "evaluate"),
        ("inference", "evaluate", "multi_gpu_evaluate"),
    ],
)
def test_every_reference_leads_somewhere(task, names):
    config = merged(task, *names)
    parser = ConfigParser(config)
    for where, text in leaves(config):
        for reference in re.findall(r"@([\w:]+)", text) if isinstance(text, str) and text[:1] in "@$" else ():
            assert reference in parser, f"{where}: @{reference}"


def test_every_option_stands_at_the_top_of_the_training_configuration():
    names = list(json.loads((CONFIGS / "train.json").read_text()))
    assert set(OPTIONS) <= set(names[: names.index("network_def")])


def test_training_handlers_are_a_literal_list_of_objects():
    for task in TASKS:
        handlers = merged(task, "train")["train"]["handlers"]
        assert isinstance(handlers, list)
        assert all(isinstance(handler, dict) and "_target_" in handler for handler in handlers)


@pytest.mark.parametrize("name", ["multi_gpu_train", "multi_gpu_evaluate"])
def test_several_processes_change_no_handler(name):
    overlay = json.loads((CONFIGS / f"{name}.json").read_text())
    assert not [key for key in overlay if "handlers" in key]


@pytest.mark.parametrize(("name", "overlay"), [("train", "multi_gpu_train"), ("inference", "multi_gpu_evaluate")])
def test_several_processes_begin_with_all_that_one_begins_with(name, overlay):
    alone, together = (json.loads((CONFIGS / f"{file}.json").read_text())["initialize"] for file in (name, overlay))
    assert [step for step in together if step != "@processes"] == alone


@pytest.mark.parametrize("task", TASKS)
def test_training_and_inference_describe_the_same_network(task):
    train, inference = merged(task, "train"), merged(task, "inference")
    assert with_values(train, train["network_def"]) == with_values(inference, inference["network_def"])


@pytest.mark.parametrize("task", TASKS)
def test_training_inference_and_evaluation_prepare_images_in_the_same_way(task):
    train = image_steps(merged(task, "train"), "train::deterministic_transforms")
    assert len(train) >= 3
    assert image_steps(merged(task, "inference"), "preprocessing::transforms") == train
    assert image_steps(merged(task, "inference", "evaluate"), "preprocessing::transforms") == train


def test_validation_prepares_images_as_training_does():
    assert merged("", "train")["validate"]["preprocessing"]["transforms"] == "%train::deterministic_transforms"


@pytest.mark.parametrize("task", TASKS)
def test_evaluation_finishes_masks_as_inference_does(task):
    inference = merged(task, "inference")["postprocessing"]["transforms"]
    evaluation = merged(task, "inference", "evaluate")["postprocessing"]["transforms"]
    assert [step for step in inference if "DropChannel" not in step["_target_"]] == evaluation


@pytest.mark.parametrize("task", TASKS)
def test_evaluation_divides_the_data_as_training_does(task):
    train, evaluate = merged(task, "train"), merged(task, "inference", "evaluate")
    assert [evaluate[name] for name in ("val_fraction", "val_ids", "seed")] == [
        train[name] for name in ("val_fraction", "val_ids", "seed")
    ]
    assert evaluate["class_names"]
