"""What the configurations refuse, and that the message says what came and what would work.

In this process, because starting Python takes longer than a refusal; exit codes are tests of tests/integration.
"""

from __future__ import annotations

import re
import shutil
import sys
import traceback
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.utils import set_determinism
from PIL import Image

from banet_monai.data import make_demonstration_data
from tests.bundle_runs import Payload, random_network

CONFIGS = Path(__file__).resolve().parents[2] / "bundle" / "configs"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = make_demonstration_data(tmp_path_factory.mktemp("data") / "demo", num_train=2, num_val=1, size=64)
    torch.save(random_network().state_dict(), folder / "fitting.pt")
    torch.save(random_network(width=32).state_dict(), folder / "narrow.pt")
    torch.save({"model": Payload()}, folder / "evil.pt")
    (folder / "nothing").mkdir()
    return folder


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the configurations append to it
    yield tmp_path
    set_determinism(None)


def run(kind: str, name: str, **options) -> None:
    file = str(CONFIGS / f"{name}.json")
    workflow = ConfigWorkflow(config_file=file, workflow_type=kind, logging_file=False, image_size=32, **options)
    workflow.initialize()
    workflow.run()


def refusal(kind: str, name: str, **options) -> str:
    """Everything that the error of a run says."""
    with pytest.raises(Exception, match=r".") as caught:
        run(kind, name, **options)
    assert not list(Path().rglob("*_mask.*"))
    assert not list(Path().rglob("state.pt"))
    return "".join(traceback.format_exception(caught.value))


def test_a_configuration_that_is_not_there_is_named():
    assert re.search(r"config file: .*trian\.json", refusal("train", "trian"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "vgg16"}, r"vgg16.*mobilenet_v2"),
        ({"dataset_dir": "no/such/folder"}, r"data folder or list 'no/such/folder' does not exist"),
        ({"dataset_dir": "{data}/nothing"}, r"no data set in '.*nothing': it is empty\. What works: 'images/' with"),
        ({"init": "no_such_weights"}, r"no weights file no_such_weights; .*'imagenet' or 'none'"),
        ({"init": "{data}/narrow.pt"}, r"narrow\.pt does not fit BANet, nothing was loaded: .*width=32"),
        ({"init": "{data}/evil.pt"}, r"evil\.pt holds Python objects that could run code"),
        ({"output_dir": "{data}/README.txt/run"}, r"cannot write to folder '.*README\.txt/run'.*--output_dir"),
        ({"amp": "half"}, r"amp must be one of .*got 'half'"),
        ({"scale": "squeeze"}, r"scale must be one of .*got 'squeeze'"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_training_refuses_wrong_options_before_its_first_step(data, options, message):
    options = {"dataset_dir": str(data), "init": "none", "num_workers": 0, **options}
    options = {name: str(value).replace("{data}", str(data)) for name, value in options.items()}
    assert re.search(message, refusal("train", "train", **{**options, "num_workers": 0}))
    assert not Path("pwned").exists()


def test_training_refuses_data_without_a_foreground_pixel(data, tmp_path):
    for part in ("train", "val"):
        shutil.copytree(data / part, tmp_path / "empty" / part)
    for mask in (tmp_path / "empty" / "train" / "masks").iterdir():
        with Image.open(mask) as picture:
            Image.new("L", picture.size).save(mask)
    text = refusal("train", "train", dataset_dir="empty", init="none", num_workers=0)
    assert "none of the 2 training masks has a foreground pixel" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset_dir": "no/such/place"}, r"'no/such/place' does not exist\. Accepted are pictures"),
        ({"dataset_dir": "{data}/README.txt"}, r"there is no image in '.*README\.txt'.*Accepted are pictures"),
        ({"dataset_dir": "{data}/nothing"}, r"there is no image in '.*nothing'"),
        ({"checkpoint": "nowhere/model.pt"}, r"no weights file nowhere/model\.pt"),
        ({"checkpoint": "{data}/narrow.pt"}, r"narrow\.pt does not fit BANet, nothing was loaded: .*width=32"),
        ({"checkpoint": "{data}/README.txt"}, r"README\.txt is damaged or no weights file"),
        ({"checkpoint": "{data}/evil.pt"}, r"evil\.pt holds Python objects that could run code"),
        ({"encoder": "vgg16"}, r"vgg16.*mobilenet_v2"),
        ({"output_dir": "{data}/inference"}, r"the output folder is the input folder"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_inference_refuses_wrong_options_and_writes_no_mask(data, options, message):
    options = {"dataset_dir": f"{data}/inference", "checkpoint": f"{data}/fitting.pt", **options}
    options = {name: value.replace("{data}", str(data)) for name, value in options.items()}
    assert re.search(message, refusal("infer", "inference", **options))
    assert not Path("pwned").exists()
