"""The bundle as MONAI's own tools see it: properties, labels, demonstration data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism

from banet_monai.data import make_demonstration_data

CONFIGS = Path(__file__).resolve().parents[2] / "bundle" / "configs"
LIGHT = {"image_size": 32, "num_workers": 0, "cache_rate": 0.0}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty working directory with a small set of demonstration data, as the first run leaves it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the configurations append to it
    make_demonstration_data(tmp_path / "demo", num_train=2, num_val=1, size=64)
    yield tmp_path
    set_determinism(None)


def workflow(kind: str, *names: str, **options) -> ConfigWorkflow:
    files = [str(CONFIGS / f"{name}.json") for name in names]
    return ConfigWorkflow(config_file=files, workflow_type=kind, logging_file=False, **options)


def test_training_has_every_property_of_a_bundle_and_uses_the_demonstration_data(workplace):
    training = workflow("train", "train", batch_size=1, **LIGHT)
    training.initialize()
    assert training.check_properties() == []
    assert training.dataset_dir == "demo"
    assert [Path(item["image"]).parts[:2] for item in training.train_dataset_data] == [("demo", "train")] * 2
    assert training.max_epochs == training.trainer.state.max_epochs


@pytest.mark.parametrize("names", [("inference",), ("inference", "evaluate")])
def test_inference_has_every_property_of_a_bundle_and_uses_the_demonstration_data(workplace, names):
    inference = workflow("infer", *names, image_size=32)
    inference.initialize()
    assert inference.check_properties() == []
    assert inference.dataset_dir.split("/")[0] == "demo"
    assert len(inference.dataset) == (1 if "evaluate" in names else 5)


def test_label_ids_are_read_as_monai_label_reads_them():
    """Its server takes the keys of the first output's channel_def as ids and leaves out the background."""
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    output = next(iter(metadata["network_data_format"]["outputs"].values()))
    labels = {name.lower(): int(index) for index, name in output["channel_def"].items() if name.lower() != "background"}
    evaluation = json.loads((CONFIGS / "evaluate.json").read_text())
    assert labels == {name: number for number, name in enumerate(evaluation["class_names"], start=1)}


@pytest.mark.parametrize("task", sorted(path.name for path in (CONFIGS.parent / "tasks").iterdir() if path.is_dir()))
def test_every_part_of_a_task_can_be_built(workplace, task):
    training = "network_def loss train::preprocessing train::inferer"
    validation = "validate::preprocessing validate::inferer validate::postprocessing validate::key_metric"
    parts = {
        ("train",): f"{training} {validation}",
        ("inference",): "network_def preprocessing inferer postprocessing",
        ("inference", "evaluate"): "preprocessing handlers",
    }
    for names, ids in parts.items():
        files = [CONFIGS / f"{name}.json" for name in names]
        files += [path for name in names if (path := CONFIGS.parent / "tasks" / task / f"{name}.json").is_file()]
        parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
        if names[0] == "inference":
            parser["dataset_dir"] = "demo/inference" if len(names) == 1 else "demo"
        for part in ids.split():
            assert parser.get_parsed_content(part) is not None
