"""The built archive on a machine without this repository: unpacked, and used by the commands of its own README.

The Python of these tests has every package that the archive names, and not ``banet_monai``.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import banet_monai
from banet_monai.data import make_demonstration_data
from tests.archives import MAIN, python_without_package, run_in
from tools.build_bundle import build

pytestmark = pytest.mark.slow

ARCHIVE = f"{MAIN}_v{banet_monai.__version__}.zip"
BUNDLE = ("-W", "ignore", "-m", "monai.bundle")
SMALL = ("--image_size", "64")
NETWORK = (
    "network_def",
    "--meta_file",
    "{root}/configs/metadata.json",
    "--config_file",
    "{root}/configs/inference.json",
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The zip file, and nothing beside it."""
    dist = tmp_path_factory.mktemp("dist")
    shutil.rmtree(build("skin_lesion", dist))
    return dist / ARCHIVE


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    return python_without_package(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Data to train on and to segment; commands without ``--dataset_dir`` find them too, as ``demo``."""
    return make_demonstration_data(tmp_path_factory.mktemp("data") / "demo", num_train=4, num_val=2, size=64)


@pytest.fixture(scope="module")
def unpacked(archive, tmp_path_factory):
    """The archive in an empty folder."""
    return unpack(archive, tmp_path_factory.mktemp("unpacked"))


def unpack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    (bundle,) = folder.iterdir()
    return bundle


def readme_commands(bundle: Path) -> list[list[str]]:
    """The commands of the README's section on use, as words without ``python``."""
    text = (bundle / "docs" / "README.md").read_text()
    section = re.search(r"^## Usage\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for line in section[1].splitlines() if line.startswith("    ")]
    assert all(line.startswith("python -m ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def state_of(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True)


def test_package_is_not_installed_where_these_tests_run(python, tmp_path):
    output = run_in(tmp_path, python, "-c", "import monai, torch, banet_monai", expect=1)
    assert output.strip().endswith("ModuleNotFoundError: No module named 'banet_monai'")


def test_commands_of_its_own_readme_work_in_the_order_in_which_they_stand(archive, python, data, tmp_path):
    bundle = unpack(archive, tmp_path / "unpacked")
    shipped = contents(bundle)
    install, *commands = readme_commands(bundle)
    assert install[1:] == ["pip", "install", "--requirement", "requirements.txt"]
    assert [" ".join(words[1:4]) for words in commands] == [
        "monai.bundle run --config_file",
        "monai.bundle run training",
        "monai.bundle run --config_file",
        "banet_monai.restore",
        "monai.bundle verify_net_in_out network_def",
        "monai.bundle ckpt_export network_def",
        "monai.bundle onnx_export network_def",
    ]
    outputs, weights = [], []
    for words in commands:
        folder = f"{data}/inference" if "configs/inference.json" in words else str(data)
        outputs.append(run_in(bundle, python, *(folder if word == "FOLDER" else word for word in words)))
        weights.append((bundle / "models" / "model.pt").read_bytes())

    assert "5 done, 0 skipped, 0 failed." in outputs[0]
    assert len(list((bundle / "results").rglob("*_mask.*"))) == 5 + 2  # of five inputs, and of two validation pictures
    assert weights[0] == shipped["models/model.pt"]
    assert weights[1] == weights[2] != shipped["models/model.pt"]
    assert json.loads((bundle / "results" / "evaluation" / "summary.json").read_text())["n"] == 2
    assert weights[3] == shipped["models/model.pt"]
    (kept,) = (bundle / "models" / "trained").iterdir()
    assert kept.read_bytes() == weights[2]
    assert "data shape of network is verified with no error" in outputs[4]
    torch.jit.load(bundle / "model.ts")
    assert (bundle / "model.onnx").is_file()
    changed = {path for path, content in shipped.items() if contents(bundle).get(path) != content}
    assert changed == set()


def test_everything_works_from_a_foreign_folder(archive, python, data, tmp_path):
    bundle = unpack(archive, tmp_path / "unpacked")
    place = tmp_path / "place"
    shutil.copytree(data, place / "demo")
    root = ("--bundle_root", str(bundle))

    def monai(*words):
        return run_in(place, python, *BUNDLE, *(word.format(root=bundle) for word in words), *root)

    monai("run", "--config_file", "{root}/configs/inference.json", *SMALL)
    with (
        Image.open(data / "inference" / "skin_rgb.png") as image,
        Image.open(place / "results/skin_rgb_mask.png") as mask,
    ):
        assert mask.size == image.size
        assert set(np.unique(np.asarray(mask))) <= {0, 255}

    monai(
        "run",
        "training",
        "--config_file",
        "{root}/configs/train.json",
        "--max_epochs",
        "1",
        "--num_workers",
        "0",
        *SMALL,
    )
    trained, shipped = (state_of(bundle / "models" / path) for path in ("model.pt", "shipped/model.pt"))
    assert trained.keys() == shipped.keys()
    assert not all(torch.equal(trained[name], shipped[name]) for name in trained)

    monai("run", "--config_file", "{root}/configs/evaluate.json", *SMALL)
    assert json.loads((place / "results" / "evaluation" / "summary.json").read_text())["n"] == 2

    assert "verified with no error" in monai("verify_net_in_out", *NETWORK)
    monai("ckpt_export", *NETWORK, "--filepath", "model.ts", "--ckpt_file", "{root}/models/model.pt")
    assert (place / "model.ts").is_file()
    assert {path.name for path in place.iterdir()} == {"demo", "results", "model.ts"}


def test_wrong_weights_are_refused_with_their_names_and_no_mask_is_written(unpacked, python, data, tmp_path):
    state = state_of(unpacked / "models" / "model.pt")
    state["head.conv.weights"] = state.pop("head.conv.weight")
    torch.save(state, tmp_path / "model.pt")
    words = ("run", "--config_file", f"{unpacked}/configs/inference.json", "--bundle_root", str(unpacked))
    options = ("--dataset_dir", f"{data}/inference", "--checkpoint", str(tmp_path / "model.pt"))
    output = run_in(tmp_path, python, *BUNDLE, *words, *options, expect=1)
    assert "nothing was loaded: 1 missing (head.conv.weight); 1 unexpected (head.conv.weights)" in output
    assert not list(tmp_path.rglob("*_mask.*"))


# MONAI's own way to a bundle: from an address, and then into Python
LOAD = """
from pathlib import Path
import sys
import torch
from monai.bundle import download, load
name, archive = sys.argv[1:]
download(name=name, url=Path(archive).as_uri(), bundle_dir="bundles", progress=False)
sys.path.insert(0, f"bundles/{name}")
network = load(name, bundle_dir="bundles", workflow_type="inference", device="cpu")
state = torch.load(f"bundles/{name}/models/model.pt", weights_only=True)
loaded = network.state_dict()
assert loaded.keys() == state.keys()
assert all(torch.equal(loaded[key], state[key]) for key in state)
import banet_monai
assert Path(banet_monai.__file__).is_relative_to(Path("bundles").resolve())
print(tuple(network.eval()(torch.zeros(1, 3, 64, 96)).shape))
"""


def test_monai_downloads_and_loads_it(archive, python, tmp_path):
    output = run_in(tmp_path, python, "-W", "ignore", "-c", LOAD, MAIN, str(archive))
    assert output.splitlines()[-1] == "(1, 1, 64, 96)"
    assert (tmp_path / "bundles" / MAIN / "configs" / "metadata.json").is_file()
