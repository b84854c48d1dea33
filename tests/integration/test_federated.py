"""One round of federated learning with MONAI's own client, two hospitals and the bundle as it is. No network."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics, ModelType, WeightType
from monai.fl.utils.exchange_object import ExchangeObject
from monai.utils import set_determinism
from PIL import Image

from banet_monai.data import make_demonstration_data
from tests.bundle_runs import ROOT, SMALL, constant_network, random_network

pytestmark = pytest.mark.slow

TRAINING, VALIDATION = 4, 3  # pictures of each hospital
EVERYWHERE = 50.0  # logit
ADVISED = {"ema_decay": 0, "max_epochs": 50}  # as docs/scale.md has it
EVALUATION = ["configs/inference.json", "configs/evaluate.json"]


class Hospital:
    """Its bundle, its pictures and its client."""

    def __init__(self, root: Path, number: int, training: dict[str, object], **options: object) -> None:
        self.root = root
        self.data = make_demonstration_data(root / "data", num_train=TRAINING, num_val=VALIDATION, size=64, seed=number)
        ignored = shutil.ignore_patterns("models", "docs", "tasks")
        shutil.copytree(ROOT / "bundle", root / "skin", ignore=ignored)
        own = {"dataset_dir": str(self.data), "image_size": SMALL["image_size"]}
        self.client = MonaiAlgo(
            "skin",
            train_kwargs={**SMALL, **own, "output_dir": str(root / "run"), "seed": number, **training},
            eval_kwargs={**own, "output_dir": str(root / "evaluation")},
            **options,
        )
        with pytest.warns(UserWarning, match="provisioned by the FL system"):
            self.client.initialize({ExtraItems.CLIENT_NAME: root.name, ExtraItems.APP_ROOT: str(root)})

    def lesion_share(self) -> float:
        """Mean share of lesion pixels in its validation masks: the Jaccard index of 'lesion everywhere'."""
        masks = (self.data / "val" / "masks").iterdir()
        return float(np.mean([(np.asarray(Image.open(mask)) > 127).mean() for mask in masks]))


@pytest.fixture(scope="module")
def round_one(tmp_path_factory):
    """Two hospitals after a local epoch each, the weights both began with, and what each sends."""
    with pytest.MonkeyPatch.context() as patch:
        work = tmp_path_factory.mktemp("federation")
        (work / "cwd").mkdir()
        patch.chdir(work / "cwd")
        first = random_network().state_dict()
        hospitals = [
            Hospital(work / "north", 1, {}),  # every choice of the client and of the bundle as they come
            Hospital(work / "south", 2, ADVISED, config_evaluate_filename=EVALUATION, eval_workflow_name="infer"),
        ]
        sent = []
        for hospital in hospitals:
            hospital.client.train(ExchangeObject(weights={name: value.clone() for name, value in first.items()}))
            sent.append(hospital.client.get_weights())
        yield hospitals, first, sent
        for hospital in hospitals:
            hospital.client.finalize()
        assert not list((work / "cwd").iterdir()), "something was written outside the hospitals' folders"
        set_determinism(None)


def federated_average(first, sent):
    """FedAvg of two hospitals with as many pictures each: the mean of their changes, added to the old weights."""
    return {
        name: (value + sum(part.weights[name].to(value) for part in sent) / len(sent)).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in first.items()
    }


def test_every_hospital_trains_one_epoch_on_its_own_pictures(round_one):
    hospitals, _, sent = round_one
    for hospital, part in zip(hospitals, sent, strict=True):
        assert part.statistics["current_epoch"] == 1
        assert part.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS] == TRAINING / SMALL["batch_size"]
        images = [Path(case["image"]) for case in hospital.client.train_workflow.train_dataset_data]
        assert all(hospital.data in image.parents for image in images)


def test_hospitals_send_changes_of_all_weights_and_nothing_else(round_one):
    _, first, sent = round_one
    for part in sent:
        assert part.weight_type == WeightType.WEIGHT_DIFF
        assert part.optim is None
        assert part.weights.keys() == first.keys()
        assert all(torch.isfinite(value).all() for value in part.weights.values())
    changed = [{name for name, value in part.weights.items() if value.abs().max() > 0} for part in sent]
    assert "head.conv.weight" in changed[0] & changed[1]
    assert not torch.equal(sent[0].weights["head.conv.weight"], sent[1].weights["head.conv.weight"])


def test_the_average_is_evaluated_by_every_hospital_and_trained_on(round_one):
    hospitals, first, sent = round_one
    average = federated_average(first, sent)
    for hospital in hospitals:
        metrics = hospital.client.evaluate(ExchangeObject(weights=dict(average))).metrics
        assert 0 <= metrics["val_ja"] <= 1
    client = hospitals[0].client
    client.train(ExchangeObject(weights=dict(average)))
    assert client.trainer.state.epoch == 2
    assert all(torch.equal(client.global_weights[name], value) for name, value in average.items())


def test_evaluation_measures_the_weights_that_the_server_sends(round_one):
    hospitals, _, _ = round_one
    weights = constant_network(EVERYWHERE).state_dict()
    north, south = (hospital.client.evaluate(ExchangeObject(weights=weights)).metrics for hospital in hospitals)
    assert north["val_ja"] == pytest.approx(hospitals[0].lesion_share(), abs=0.02)  # on the network's grid
    assert south["val_ja"] == pytest.approx(hospitals[1].lesion_share(), abs=1e-5)  # in the pixels of the files
    assert (south["val_sensitivity"], south["val_specificity"], south["val_misses"]) == (1, 0, 0)
    assert (hospitals[1].root / "evaluation" / "cases.csv").is_file()


def test_the_best_local_weights_can_be_asked_for(round_one):
    hospitals, first, _ = round_one
    best = hospitals[1].client.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL})
    assert best.weights.keys() == first.keys()


def test_weights_of_another_network_are_refused(round_one):
    hospitals, _, _ = round_one
    with pytest.raises(RuntimeError, match="No global weights converted"):
        hospitals[0].client.train(ExchangeObject(weights={"layer.weight": torch.zeros(1)}))
