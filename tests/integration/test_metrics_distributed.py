"""Metrics and table under two processes: the same figures as in one, each case once, one writer."""

import csv
import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from ignite.engine import Engine
from monai.data import MetaTensor
from banet_monai.metrics import CaseTableHandler, JaccardMetric

dist.init_process_group("gloo")
rank = dist.get_rank()
true = torch.zeros(1, 8, 8)
true[:, 2:6, 2:6] = 1
preds = {"a": true, "b": true * 0, "c": true.roll(2, dims=2)}
mine = [["a", "b"], ["c", "a"]][rank]  # the sampler filled the second share up with "a"

metric = JaccardMetric()
cases = [
    {"image": MetaTensor(true, meta={"filename_or_obj": f"/data/{name}.png"}), "label": true, "pred": preds[name]}
    for name in mine
]
metric([case["pred"] for case in cases], [case["label"] for case in cases])
engine = Engine(lambda _, batch: batch)
CaseTableHandler(sys.argv[1] + f"/rank{rank}", class_names=["lesion"]).attach(engine)
engine.run([[case] for case in cases])
results = {"metric": metric.aggregate().item(), "table": engine.state.metrics["val_ja"]}
Path(sys.argv[1], f"result{rank}.json").write_text(json.dumps(results))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_gather_their_cases(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*command, str(script), str(tmp_path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]

    for rank in (0, 1):
        results = json.loads((tmp_path / f"result{rank}.json").read_text())
        assert results["metric"] == pytest.approx((1 + 0 + 1 / 3 + 1) / 4)  # MONAI's metric counts the repeated case
        assert results["table"] == pytest.approx((1 + 0 + 1 / 3) / 3, abs=1e-6)  # the table does not

    rows = list(csv.DictReader((tmp_path / "rank0" / "cases.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == ["a", "b", "c"]
    assert json.loads((tmp_path / "rank0" / "summary.json").read_text())["n"] == 3
    assert not (tmp_path / "rank1").exists()
