"""Training in two processes on the CPU, by the documented command."""

from __future__ import annotations

import json

import pytest
import torch

from tests.bundle_runs import SMALL, make_clone, random_network, run

pytestmark = pytest.mark.slow

EPOCHS = 2
# Asks each process at the end of the run what it holds.
PROBE = """
import hashlib
import json
from pathlib import Path

import torch.distributed as dist


def record(network, averaged, optimizer, schedule, validator, folder):
    def digest(module):
        values = (value.detach().numpy().tobytes() for _, value in sorted(module.items()))
        return hashlib.sha256(b"".join(values)).hexdigest()

    facts = {
        "processes": dist.get_world_size(),
        "weights": digest(dict(network.named_parameters())),
        "averaged": digest(averaged.state_dict()),
        "steps": schedule.last_epoch,
        "learning_rate": optimizer.param_groups[0]["lr"],
        "val_ja": validator.state.metrics["val_ja"],
    }
    Path(folder, f"rank{dist.get_rank()}.json").write_text(json.dumps(facts))
"""
OVERLAY = {
    "record": {
        "_target_": "probe.record",
        "network": "@network_def",
        "averaged": "@averaged_network",
        "optimizer": "@optimizer",
        "schedule": "@schedule",
        "validator": "@validate::evaluator",
    },
    "run": ["@checks", "@weights", "$@train::trainer.run()", "@record"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Clone in which two processes have trained, and what they printed."""
    clone = make_clone(tmp_path_factory.mktemp("clone"))
    (clone / "probe.py").write_text(PROBE)
    (clone / "runs").mkdir()
    overlay = {**OVERLAY, "record": {**OVERLAY["record"], "folder": str(clone)}}
    (clone / "bundle" / "configs" / "probe.json").write_text(json.dumps(overlay))
    output = run(
        clone,
        *("torch.distributed.run", "--standalone", "--nnodes=1", "--nproc_per_node=2"),
        *("-m", "monai.bundle", "run", "training", "--config_file"),
        "['bundle/configs/train.json','bundle/configs/multi_gpu_train.json','bundle/configs/probe.json']",
        **{**SMALL, "batch_size": 1, "max_epochs": EPOCHS, "output_dir": "runs/two"},
    )
    return clone, output


@pytest.fixture(scope="module")
def ranks(finished):
    clone, _ = finished
    return [json.loads((clone / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_both_processes_step_their_learning_rate(ranks):
    training_pictures, per_step = 6, 2
    for rank in ranks:
        assert rank["processes"] == 2
        assert rank["steps"] == EPOCHS * training_pictures / per_step
        assert 0 < rank["learning_rate"] < 0.0005 / 2
    assert ranks[0]["learning_rate"] == ranks[1]["learning_rate"]


def test_both_processes_hold_the_same_weights_and_the_same_average(ranks):
    assert ranks[0]["weights"] == ranks[1]["weights"]
    assert ranks[0]["averaged"] == ranks[1]["averaged"]
    assert ranks[0]["weights"] != ranks[0]["averaged"]


def test_both_processes_know_the_metric_of_all_cases(ranks):
    assert ranks[0]["val_ja"] == ranks[1]["val_ja"]


def test_results_are_written_and_told_once(finished):
    clone, output = finished
    folder = clone / "runs" / "two"
    assert sorted(path.name.split(".")[0] for path in folder.iterdir()) == ["events", "model", "state"]
    assert [path.name for path in (clone / "runs").iterdir()] == ["two"]
    assert random_network().load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    assert output.count("Finished after epoch 2") == 1
    assert output.count("weights: whole network from bundle/models/model.pt") == 1
