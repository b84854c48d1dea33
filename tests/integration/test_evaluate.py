"""The evaluation command, with networks whose figures are known without running them."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.bundle_runs import EVALUATION, constant_network, make_clone, run

pytestmark = pytest.mark.slow

EVERYWHERE, NOWHERE = 50.0, -50.0  # logits


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return make_clone(tmp_path_factory.mktemp("clone"))


def evaluate(clone, logit, output_dir, expect=0, **options):
    torch.save(constant_network(logit).state_dict(), output_dir.with_suffix(".pt"))
    return run(
        clone,
        *("monai.bundle", "run", "evaluating", "--config_file", EVALUATION),
        expect=expect,
        image_size=64,
        output_dir=output_dir,
        checkpoint=output_dir.with_suffix(".pt"),
        **options,
    )


def rows(folder):
    return list(csv.DictReader((folder / "cases.csv").read_text().splitlines()))


def lesion_shares(clone):
    """Share of lesion pixels in each validation mask, by name of the case."""
    masks = sorted((clone / "demo" / "val" / "masks").iterdir())
    return {mask.stem: float((np.asarray(Image.open(mask)) > 127).mean()) for mask in masks}


def test_a_prediction_of_lesion_everywhere_scores_the_share_of_the_lesion(clone, tmp_path):
    output = evaluate(clone, EVERYWHERE, tmp_path / "out")
    shares = lesion_shares(clone)
    table = rows(tmp_path / "out")
    assert [row["case"] for row in table] == list(shares)
    for row in table:
        assert float(row["ja"]) == pytest.approx(shares[row["case"]], abs=1e-5)
        assert (float(row["sensitivity"]), float(row["specificity"]), row["missed"]) == (1, 0, "0")

    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["n"], summary["failed"], summary["overall"]["misses"]) == (len(shares), 0, 0)
    assert summary["overall"]["metrics"]["ja"]["mean"] == pytest.approx(np.mean(list(shares.values())), abs=1e-5)
    assert summary["classes"].keys() == {"skin lesion"}
    assert "| JA |" in output
    assert "FutureWarning" not in output
    assert sorted(path.name for path in (tmp_path / "out").glob("*_mask.png")) == [f"{n}_mask.png" for n in shares]


def test_cases_that_cannot_be_read_are_counted_and_the_others_measured(clone, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(clone / "demo" / "val", data / "val")
    shutil.copytree(clone / "demo" / "train", data / "train")
    torn = data / "val" / "images" / "synthetic_000.png"
    torn.write_bytes(torn.read_bytes()[:500])

    output = evaluate(clone, NOWHERE, tmp_path / "out", expect=1, dataset_dir=data)
    assert "1 of 2 cases failed: synthetic_000" in output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["n"], summary["failed"], summary["overall"]["misses"]) == (1, 1, 1)
    (row,) = rows(tmp_path / "out")
    assert (row["case"], float(row["ja"]), float(row["specificity"]), row["missed"]) == ("synthetic_001", 0, 1, "1")


def test_without_paths_no_name_of_a_file_is_told(clone, tmp_path):
    evaluate(clone, EVERYWHERE, tmp_path / "out", no_paths="true")
    names = list(lesion_shares(clone))
    assert [row["case"] for row in rows(tmp_path / "out")] == [f"case-{k:04d}" for k in range(1, len(names) + 1)]
    told = " ".join(path.name for path in (tmp_path / "out").rglob("*"))
    told += (tmp_path / "out" / "manifest.json").read_text()
    assert [name for name in names if name in told] == []
