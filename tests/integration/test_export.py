"""ONNX, OpenVINO, torch.export and TorchScript files of the shipped network against the network, on pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from monai.bundle import ConfigParser
from PIL import Image

from banet_monai.backends import OnnxNetwork, OpenVinoNetwork, load_exported
from banet_monai.choices import EXPORTS
from banet_monai.cli import cli
from banet_monai.data.skin_phantom import skin_picture
from banet_monai.export import describe, export
from banet_monai.networks import BANet
from banet_monai.segmenter import Segmenter

pytestmark = pytest.mark.slow

BUNDLE = Path(__file__).parents[2] / "bundle"
WEIGHTS = BUNDLE / "models" / "model.pt"
FORMATS = tuple(EXPORTS)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The shipped network in every format, by the command."""
    folder = tmp_path_factory.mktemp("exported")
    result = CliRunner().invoke(cli, ["export", str(folder), "--to", ",".join(FORMATS)])
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == len(FORMATS)
    return {to: folder / f"skin_lesion{suffix}" for to, suffix in EXPORTS.items()}


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(device="cpu", options={"amp": "none"})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Drawn pictures of three shapes."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3)
    for number, (height, width) in enumerate([(224, 224), (300, 420), (360, 240)]):
        Image.fromarray(skin_picture(rng, height, width)[0]).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("to", FORMATS)
@torch.no_grad()
def test_file_gives_the_logits_of_the_network_on_pictures(files, segmenter, pictures, to):
    """Float32; other batches and sizes than those of the export. Logits lie between about -10 and 10."""
    network = load_exported(files[to], task="skin_lesion", weights=WEIGHTS, amp="none")
    images = [segmenter.preprocessing({"image": str(path)})["image"].as_tensor()[None] for path in pictures]
    for image in (torch.cat([image[..., :224, :224] for image in images]), *images):
        torch.testing.assert_close(network(image), segmenter.network(image), rtol=0, atol=1e-4)


def test_a_shape_that_comes_often_gets_a_program_of_its_own_and_the_same_logits(files, segmenter, monkeypatch):
    monkeypatch.setattr("banet_monai.backends.OFTEN", 2)
    monkeypatch.setattr("banet_monai.backends.MOST_PROGRAMS", 1)
    network = OpenVinoNetwork(files["openvino"], amp="none")
    image = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    calls = [network(image) for _ in range(2)]
    assert network._own == {}
    calls += [network(image) for _ in range(2)]
    assert list(network._own) == [(1, 3, 96, 64)]
    for _ in range(4):
        turned = network(image.mT)
    assert list(network._own) == [(1, 3, 96, 64)]  # no more than one here
    for logits in calls:
        torch.testing.assert_close(logits, segmenter.network(image), rtol=0, atol=1e-4)
    torch.testing.assert_close(turned, segmenter.network(image.mT), rtol=0, atol=1e-4)
    assert network(image[..., :64, :]).shape == (1, 1, 64, 64)  # it still takes every size


@pytest.mark.parametrize("to", FORMATS)
def test_file_says_how_pictures_are_normalised(files, to):
    facts = load_exported(files[to]).description
    assert (facts.task, facts.activation, facts.labels["1"]) == ("skin_lesion", "sigmoid", "skin lesion")
    assert facts.normalisation["mean"] == [0.485, 0.456, 0.406]
    assert facts.scale["image_size"] == [224, 224]
    assert (facts.min_size, facts.size_divisible_by) == ((32, 32), 1)
    assert facts.bundle_version == json.loads((BUNDLE / "configs" / "metadata.json").read_text())["version"]


@pytest.mark.parametrize(("to", "kind"), [("onnx", OnnxNetwork), ("openvino", OpenVinoNetwork)])
def test_bundle_segments_with_the_file(files, segmenter, pictures, to, kind):
    """The overlay of the backend finds the file beside the weights, and the masks are those of PyTorch."""
    configs = ("configs/inference.json", f"configs/inference_{to}.json")
    other = Segmenter(configs=configs, device="cpu", options={"amp": "none", "exported": str(files[to])})
    assert isinstance(other.network, kind)
    for path in pictures:
        expected, found = segmenter(path), other(path)
        np.testing.assert_allclose(found.probability, expected.probability, atol=1e-4)
        assert (found.mask != expected.mask).mean() < 1e-4


@pytest.mark.parametrize(("to", "kind"), [("onnx", OnnxNetwork), ("openvino", OpenVinoNetwork)])
def test_file_of_another_task_or_training_is_refused(files, tmp_path, to, kind):
    with pytest.raises(ValueError, match="is for the task 'skin_lesion', not 'polyp'"):
        kind(files[to], task="polyp")
    (tmp_path / "model.pt").write_bytes(WEIGHTS.read_bytes() + b" ")
    with pytest.raises(ValueError, match="made from other weights than"):
        kind(files[to], weights=tmp_path / "model.pt")


def test_openvino_file_without_its_weights_is_refused(files, tmp_path):
    (tmp_path / "model.xml").write_bytes(files["openvino"].read_bytes())
    with pytest.raises(FileNotFoundError, match=r"model\.bin' is missing: OpenVINO keeps the weights"):
        OpenVinoNetwork(tmp_path / "model.xml")


def test_damaged_openvino_file_is_refused(tmp_path):
    (tmp_path / "model.xml").write_text("no network")
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.xml' cannot be read"):
        OpenVinoNetwork(tmp_path / "model.xml")


def test_onnx_file_that_another_program_wrote_is_refused(files, tmp_path):
    import onnx

    model = onnx.load(files["onnx"])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="was not written by 'banet export'"):
        OnnxNetwork(tmp_path / "model.onnx")


@torch.no_grad()
def test_volume_network_goes_through_onnx(tmp_path):
    torch.manual_seed(0)
    network = BANet(3, 1, 3, encoder="mobilenet_v2", stem_stride=1, output_stride=16, width=8, aspp_channels=8).eval()
    path = export(network, tmp_path / "a.onnx", to="onnx", description=describe(network, task="hippocampus"))
    x = torch.rand(1, 1, 33, 40, 24)
    torch.testing.assert_close(OnnxNetwork(path)(x), network(x), rtol=0, atol=1e-3)


def test_tensorrt_overlay_runs_without_tensorrt_as_pytorch_does(segmenter, pictures):
    """MONAI's ``trt_compile`` then hands the network back. On a GPU this has not been run."""
    parser = ConfigParser(
        ConfigParser.load_config_files(
            [str(BUNDLE / "configs" / f"{name}.json") for name in ("inference", "inference_trt")]
        )
    )
    arguments = parser.get_parsed_content("network", instantiate=False).get_config()
    assert arguments["args"] == {"precision": "fp16", "dynamic_batchsize": [1, 8, 8]}
    if torch.cuda.is_available():
        return
    configs = ("configs/inference.json", "configs/inference_trt.json")
    other = Segmenter(configs=configs, device="cpu", options={"amp": "none"})
    np.testing.assert_array_equal(other(pictures[0]).probability, segmenter(pictures[0]).probability)
