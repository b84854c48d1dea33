"""The page of the results as an entry of the configurations of inference and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from banet_monai.data import make_demonstration_data
from tests.bundle_runs import ROOT, random_network

CONFIGS = ROOT / "bundle" / "configs"


def run(folder: Path, *names: str, **options: Any) -> Path:
    """The configuration run on two synthetic pictures with random weights; the folder of its results."""
    make_demonstration_data(folder / "demo", num_train=1, num_val=2, size=64)
    torch.save(random_network().state_dict(), folder / "model.pt")
    parser = ConfigParser(ConfigParser.load_config_files([str(CONFIGS / f"{name}.json") for name in names]))
    data = folder / "demo" / ("val/images" if names == ("inference",) else "")
    small = {"image_size": 64, "device": "$torch.device('cpu')", "amp": "none"}
    places = {"bundle_root": str(ROOT / "bundle"), "dataset_dir": str(data), "output_dir": str(folder / "out")}
    for name, value in {**small, **places, "checkpoint": str(folder / "model.pt"), **options}.items():
        parser[name] = value
    parser["handlers"] = [step for step in parser["handlers"] if "Progress" not in step["_target_"]]
    parser.get_parsed_content("run")
    return folder / "out"


def test_inference_writes_the_page_where_it_is_asked_to(tmp_path: Path) -> None:
    page = (run(tmp_path, "inference", page="true", uncertainty="entropy") / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") >= 2
    assert "Segmentation report" in page


def test_evaluation_writes_it_with_the_truth_of_its_cases(tmp_path: Path) -> None:
    out = run(tmp_path, "inference", "evaluate", page=True)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Evaluation report" in page
    assert len(list((out / "report").glob("*.png"))) == 2


@pytest.mark.parametrize("names", [("inference",), ("inference", "evaluate")])
def test_no_page_is_drawn_by_default(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert not (run(tmp_path, *names) / "report.html").exists()
