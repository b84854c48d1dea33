"""Second masks that finished runs draw: known masks, lists that leave held-back cases alone, and the command."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from banet_monai.data import training_cases, validation_cases
from banet_monai.networks import BANet
from benchmarks.accuracy.definitions import load_definitions, plan
from benchmarks.accuracy.execution import Places, Workplace
from benchmarks.accuracy.teach import main, mean_mask

BIAS = 5.0


def test_the_mean_of_the_networks_decides_and_a_half_is_foreground():
    opinions = [torch.tensor([0.9, 0.2, 0.75, 0.4]), torch.tensor([0.3, 0.4, 0.25, 0.6])]
    assert mean_mask(opinions).tolist() == [1, 0, 1, 1]
    with pytest.raises(ValueError, match="at least one network"):
        mean_mask([])


@pytest.fixture
def places(tmp_path):
    """Two training pictures and a held-back one, 64 x 32 pixels, with empty masks."""
    for part, count in (("train", 2), ("val", 1)):
        for kind in ("images", "masks"):
            (tmp_path / "data" / "pictures" / part / kind).mkdir(parents=True)
        for number in range(count):
            folder = tmp_path / "data" / "pictures" / part
            Image.new("RGB", (64, 32), "pink").save(folder / "images" / f"{part}{number}.png")
            Image.new("L", (64, 32)).save(folder / "masks" / f"{part}{number}.png")
    return Places(tmp_path / "data", None, tmp_path / "runs", tmp_path / "runs")


@pytest.fixture
def experiments(tmp_path):
    """The project's definitions with a data set of these pictures."""
    definitions = load_definitions()
    definitions["datasets"] = {"pictures": {"folder": "pictures"}, "again": {"taught": "pictures"}}
    definitions["budgets"] = {
        "quick": {**definitions["budgets"]["quick"], "dataset": "pictures"},
        "second": {"dataset": "again", "blocks": [{"experiments": ["banet"], "seeds": [0]}]},
    }
    path = tmp_path / "experiments.json"
    path.write_text(json.dumps(definitions))
    return path


@pytest.fixture
def teacher(places, experiments):
    """A finished run whose network calls every pixel lesion."""
    run = plan(load_definitions(experiments), "quick", only=["banet"])[0]
    network = BANet(encoder="mobilenet_v2", output_stride=16, width=96, separable=True, dropout=0.1)
    torch.nn.init.zeros_(network.head.conv.weight)
    torch.nn.init.constant_(network.head.conv.bias, BIAS)
    Workplace(run, places).weights.parent.mkdir(parents=True)
    torch.save(network.state_dict(), Workplace(run, places).weights)
    return run


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def options(places, experiments):
    return ["--data", str(places.data), "--runs", str(places.runs), "--experiments", str(experiments)]


def test_training_cases_get_a_second_mask_and_held_back_ones_none(places, experiments, teacher, capsys):
    assert main([teacher.name, "--dataset", "pictures", *options(places, experiments)]) == 0
    assert "1 networks taught" in capsys.readouterr().out
    listed = places.runs / "taught" / "pictures.csv"
    training, held_back = training_cases(str(listed)), validation_cases(str(listed))
    assert [case["name"] for case in training] == ["train0", "train0_taught", "train1", "train1_taught"]
    assert [case["name"] for case in held_back] == ["val0"]
    masks = [pixels(case["label"]) for case in (*training, *held_back)]
    assert [mask.mean() for mask in masks] == [0, 255, 0, 255, 0]
    assert {mask.shape for mask in masks} == {(32, 64)}
    assert not (places.runs / "taught" / "waiting.csv").exists()


def test_masks_that_are_there_already_are_kept(places, experiments, teacher):
    masks = places.runs / "taught" / "masks"
    masks.mkdir(parents=True)
    Image.new("L", (64, 32), 7).save(masks / "train0.png")
    assert main([teacher.name, "--dataset", "pictures", *options(places, experiments)]) == 0
    assert pixels(masks / "train0.png").mean() == 7
    assert pixels(masks / "train1.png").mean() == 255


def test_a_run_on_the_taught_list_finds_it_or_says_how_to_make_it(places, experiments, teacher):
    run = plan(load_definitions(experiments), "second")[0]
    with pytest.raises(FileNotFoundError, match=r"benchmarks\.accuracy teach RUN \.\.\. --dataset pictures"):
        places.dataset(run)
    main([teacher.name, "--dataset", "pictures", *options(places, experiments)])
    with places.dataset(run).open() as file:
        assert [row["split"] for row in csv.DictReader(file)].count("train") == 4


def test_what_is_missing_is_named(places, experiments, teacher, capsys):
    assert main([teacher.name, "--dataset", "faces", *options(places, experiments)]) == 2
    assert "no data set 'faces', there are: pictures, again" in capsys.readouterr().err
    assert main([teacher.name, "--dataset", "again", *options(places, experiments)]) == 2
    assert "'again' is taught itself" in capsys.readouterr().err
    Workplace(teacher, places).weights.unlink()
    assert main([teacher.name, "--dataset", "pictures", *options(places, experiments)]) == 2
    assert "is not finished" in capsys.readouterr().err
    nowhere = dataclasses.replace(places, data=None)
    assert nowhere.taught("pictures").parent == places.runs / "taught"
