"""8-bit integers: made from the shipped weights with pictures, run like any other OpenVINO file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from banet_monai.backends import OpenVinoNetwork
from banet_monai.cli import cli
from banet_monai.data.skin_phantom import skin_picture
from banet_monai.report.manifest import file_sha256

pytestmark = pytest.mark.slow
pytest.importorskip("nncf")

WEIGHTS = Path(__file__).parents[2] / "bundle" / "models" / "model.pt"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Drawn pictures to calibrate on and to segment."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3)
    for number in range(10):
        Image.fromarray(skin_picture(rng, 230, 260)[0]).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def file(tmp_path_factory, pictures):
    path = tmp_path_factory.mktemp("int8") / "model.xml"
    result = CliRunner().invoke(cli, ["export", str(path), "--int8", str(pictures)])
    assert result.exit_code == 0, result.output
    assert "openvino in 8-bit integers from 10 images" in result.stdout
    assert len(result.stdout.splitlines()) == 1  # no progress bars of the quantiser
    return path


def test_file_is_small_and_says_from_which_weights_it_was_made(file):
    facts = OpenVinoNetwork(file, weights=WEIGHTS).description
    assert facts.precision == "int8"
    assert facts.weights_sha256 == file_sha256(WEIGHTS)
    assert facts.task == "skin_lesion"
    assert sum(part.stat().st_size for part in (file, file.with_suffix(".bin"))) < 0.45 * WEIGHTS.stat().st_size


def test_ordinary_convolutions_compute_in_8_bits_and_nothing_else_does(file):
    import openvino

    operations = openvino.Core().read_model(file).get_ops()
    kinds = Counter(operation.get_type_name() for operation in operations)
    quantised = {
        (user.get_node().get_type_name(), user.get_index())
        for operation in operations
        if operation.get_type_name() == "FakeQuantize"
        for user in operation.output(0).get_target_inputs()
        if user.get_node().get_type_name() != "ShapeOf"
    }
    assert quantised == {("Convolution", 0)}
    constants = (operation for operation in operations if operation.get_type_name() == "Constant")
    in_8_bits = [constant for constant in constants if constant.get_element_type().get_type_name() == "i8"]
    assert len(in_8_bits) == kinds["Convolution"]  # their weights
    assert kinds["GroupConvolution"] > 30


@pytest.mark.parametrize("made", ["here", "shipped"])
def test_command_segments_with_it_as_with_the_network(made, file, pictures, tmp_path):
    words_of_it = ("--weights", str(file)) if made == "here" else ()  # the shipped one is found beside the weights
    for name, words in {"int8": ("--backend", "openvino", *words_of_it), "torch": ()}.items():
        result = CliRunner().invoke(cli, ["segment", str(pictures), "-o", str(tmp_path / name), "--quiet", *words])
        assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "torch").glob("*_mask.png"))
    assert len(names) == 10
    shares = []
    for name in names:
        one, other = (np.asarray(Image.open(tmp_path / way / name)) > 0 for way in ("int8", "torch"))
        shares.append((one & other).sum() / max(1, (one | other).sum()))
    assert np.mean(shares) > 0.95
    manifest = json.loads((tmp_path / "int8" / "manifest.json").read_text())
    assert file_sha256(file if made == "here" else WEIGHTS.with_suffix(".xml")) in json.dumps(manifest)
