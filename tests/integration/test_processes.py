"""Evaluation, validation and inference in several processes: the same tables and files as in one. On the CPU (gloo)."""

from __future__ import annotations

import csv
import json

import pytest

from banet_monai.data import make_demonstration_data
from tests.bundle_runs import EVALUATION, SEVERAL, make_clone, run

pytestmark = pytest.mark.slow

CASES = 5  # two processes get three and two
TORN = "synthetic_003"  # of the second process
TORCHRUN = ("torch.distributed.run", "--standalone", "--nnodes=1")
TWO = (*TORCHRUN, "--nproc_per_node=2", "-m", "monai.bundle", "run", "--config_file")
ONE = ("monai.bundle", "run", "--config_file")
OVERLAY = "'bundle/configs/multi_gpu_evaluate.json'"
EVALUATION_OF_SEVERAL = f"{EVALUATION[:-1]},{OVERLAY}]"
# Validates as training does, and writes the figure of each process.
PROBE = """
import json
from pathlib import Path

from banet_monai.handlers import process_rank


def record(validator, folder):
    Path(folder, f"rank{process_rank()}.json").write_text(json.dumps(validator.state.metrics))
"""
VALIDATE_ONLY = {
    "record": {"_target_": "probe.record", "validator": "@validate::evaluator", "folder": "@output_dir"},
    "run": ["@weights", "$@validate::evaluator.run()", "@record"],
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = make_clone(tmp_path_factory.mktemp("clone"))
    make_demonstration_data(folder / "demo", num_train=2, num_val=CASES, size=64)
    return folder


@pytest.fixture(scope="module")
def evaluated(clone):
    """Data with a torn picture, evaluated by one process and by two; and what the two printed."""
    data = clone / "torn"
    make_demonstration_data(data, num_train=2, num_val=CASES, size=64)
    torn = data / "val" / "images" / f"{TORN}.png"
    torn.write_bytes(torn.read_bytes()[:500])
    options = {"image_size": 64, "dataset_dir": data, "expect": 1}
    run(clone, *ONE, EVALUATION, output_dir="one", **options)
    output = run(clone, *TWO, EVALUATION_OF_SEVERAL, output_dir="two", **options)
    return clone / "one", clone / "two", output


def test_tables_of_two_processes_are_those_of_one_byte_for_byte(evaluated):
    one, two, _ = evaluated
    for name in ("cases.csv", "summary.json"):
        assert (two / name).read_bytes() == (one / name).read_bytes()


def test_every_case_is_measured_once_though_shares_are_uneven(evaluated):
    _, two, _ = evaluated
    names = [row["case"] for row in csv.DictReader((two / "cases.csv").read_text().splitlines())]
    assert names == [f"synthetic_{number:03d}" for number in range(CASES) if number != 3]
    summary = json.loads((two / "summary.json").read_text())
    assert (summary["n"], summary["failed"]) == (CASES - 1, 1)


def test_the_results_of_all_processes_lie_in_one_folder_with_one_manifest(evaluated):
    one, two, _ = evaluated
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())
    assert len(list(two.glob("*_mask.png"))) == CASES - 1
    alone, together = (json.loads((folder / "manifest.json").read_text()) for folder in (one, two))
    assert together["processes"] == 2
    assert together["counts"] == alone["counts"] == {"done": CASES - 1, "skipped": 0, "failed": 1}
    for entry in (*alone["files"], *together["files"]):
        assert entry.pop("seconds") >= 0
    assert together["files"] == alone["files"]


def test_a_case_that_fails_on_one_rank_is_told_and_ends_the_run_with_an_error(evaluated):
    _, _, output = evaluated
    assert output.count(f"1 of {CASES} cases failed: {TORN}: {TORN}.png") == 1
    assert output.count("table in two/cases.csv") == 1
    assert output.count("4 done, 0 skipped, 1 failed") == 1


def test_two_processes_segment_a_folder(clone, evaluated):
    one, _, _ = evaluated
    several = f"['bundle/configs/inference.json',{OVERLAY}]"
    pictures = clone / "demo" / "val" / "images"  # those of the evaluation, all of them whole
    output = run(clone, *TWO, several, dataset_dir=pictures, image_size=64, output_dir="together")
    assert output.count(f"{CASES} done, 0 skipped, 0 failed") == 1
    assert len(list((clone / "together").glob("*_mask.png"))) == CASES
    for mask in one.glob("*_mask.png"):
        assert (clone / "together" / mask.name).read_bytes() == mask.read_bytes()


def test_validation_during_training_gives_every_process_the_figure_of_one(clone):
    (clone / "probe.py").write_text(PROBE)
    (clone / "bundle" / "configs" / "probe.json").write_text(json.dumps(VALIDATE_ONLY))
    options = {"image_size": 64, "num_workers": 0}
    run(clone, *ONE, "['bundle/configs/train.json','bundle/configs/probe.json']", output_dir="runs/one", **options)
    run(clone, *TWO, f"{SEVERAL[:-1]},'bundle/configs/probe.json']", output_dir="runs/two", **options)
    alone = json.loads((clone / "runs" / "one" / "rank0.json").read_text())
    for rank in (0, 1):
        together = json.loads((clone / "runs" / "two" / f"rank{rank}.json").read_text())
        assert together["val_ja"] == pytest.approx(alone["val_ja"], abs=1e-12)
    assert 0 < alone["val_ja"] < 1


def test_more_processes_than_cases_are_refused_before_anything_is_written(clone):
    picture = clone / "demo" / "val" / "images" / "synthetic_000.png"
    several = f"['bundle/configs/inference.json',{OVERLAY}]"
    output = run(clone, *TWO, several, expect=1, dataset_dir=picture, image_size=64, output_dir="refused")
    assert "2 processes cannot share 1 case, each needs one; start 1 at most" in output
    assert not (clone / "refused").exists()
