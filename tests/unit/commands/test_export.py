import json

import pytest
import torch
from click.testing import CliRunner

from banet_monai.cli import cli
from banet_monai.networks import BANet

METADATA = {"version": "1.2.3", "network_data_format": {"outputs": {"pred": {"channel_def": {"1": "spot"}}}}}
NETWORK = {"_target_": "banet_monai.networks.BANet", "encoder": "mobilenet_v2", "output_stride": 16, "separable": True}
SMALL = {"width": 8, "aspp_channels": 8}
CONFIG = {
    "bundle_root": ".",
    "task": "spot",
    "checkpoint": "$@bundle_root + '/models/model.pt'",
    "network_def": NETWORK | SMALL,
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {
                "_target_": "banet_monai.transforms.ToWorkingGridd",
                "keys": "image",
                "scale": "stretch",
                "image_size": 64,
            },
            {"_target_": "banet_monai.transforms.NormalizeImaged", "keys": "image", "intensity": "rgb"},
        ],
    },
    "postprocessing": {"transforms": [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}]},
}


def export(*words):
    result = CliRunner().invoke(cli, ["export", *map(str, words)])
    assert "Traceback" not in result.output
    return result


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with a small network."""
    root = tmp_path_factory.mktemp("bundle")
    torch.manual_seed(0)
    (root / "configs").mkdir()
    (root / "models").mkdir()
    (root / "configs" / "inference.json").write_text(json.dumps(CONFIG))
    (root / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    torch.save(
        BANet(encoder="mobilenet_v2", output_stride=16, separable=True, **SMALL).state_dict(),
        root / "models" / "model.pt",
    )
    return root


def test_file_in_a_folder_is_named_after_the_task_and_describes_itself(bundle, tmp_path):
    from banet_monai.backends import load_exported

    result = export(tmp_path / "out", "--to", "torchscript", "--bundle", bundle)
    assert result.exit_code == 0, result.output
    assert "spot.ts: torchscript, " in result.stdout
    facts = load_exported(tmp_path / "out" / "spot.ts", task="spot", weights=bundle / "models" / "model.pt").description
    assert (facts.bundle_version, facts.activation, facts.labels) == ("1.2.3", "sigmoid", {"1": "spot"})
    assert facts.normalisation["intensity"] == "rgb"
    assert facts.normalisation["mean"] == [0.485, 0.456, 0.406]
    assert facts.scale == {"scale": "stretch", "image_size": [64, 64], "spacing": None, "orientation": None}


def test_format_follows_from_the_ending(bundle, tmp_path):
    result = export(tmp_path / "network.ts", "--bundle", bundle, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "network.ts").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("out",), "--to is missing: one of onnx, openvino, torch-export, torchscript, or OUT ending in .onnx"),
        (("out", "--to", "onyx"), "'onyx' is none of onnx, openvino, torch-export, torchscript (did you mean 'onnx'?)"),
        (("a.onnx", "--to", "torchscript"), "OUT 'a.onnx' is a file for onnx, --to says torchscript; give a folder"),
        (("a.onnx", "--to", "onnx,openvino"), "OUT 'a.onnx' is a file for onnx, --to says onnx, openvino"),
        (("a.ts", "--task", "spots"), "there is no task 'spots' (did you mean 'spot'?)"),
        (("a.ts", "--set", "network_def::width=9"), "does not fit BANet, nothing was loaded"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(bundle, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = export(*words, "--bundle", bundle)
    assert result.exit_code == 2
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file_is_refused(bundle, tmp_path):
    (tmp_path / "notes").write_text("")
    result = export(tmp_path / "notes", "--to", "onnx", "--bundle", bundle)
    assert result.exit_code == 2
    assert "is a file; give a folder, or a name ending in .onnx" in result.stderr


@pytest.mark.parametrize(("to", "package"), [("onnx", "onnx"), ("openvino", "openvino")])
def test_missing_package_is_named_with_what_to_install(bundle, tmp_path, monkeypatch, to, package):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = export(tmp_path, "--to", to, "--bundle", bundle)
    assert result.exit_code == 2
    assert f'{to} needs the package {package}: pip install "banet-monai[{to}]"' in result.stderr


@pytest.mark.parametrize(("difference", "told"), [(0.5, "5.0e-01"), (float("nan"), "nan")])
def test_file_that_differs_from_the_network_is_not_kept(bundle, tmp_path, monkeypatch, difference, told):
    monkeypatch.setattr("banet_monai.commands.export._difference", lambda *_: difference)
    result = export(tmp_path / "a.ts", "--bundle", bundle)
    assert result.exit_code == 1
    assert f"torchscript: the file differs from the network by {told} and was removed" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a.onnx",), "--int8 makes a file for OpenVINO alone, not for onnx"),
        (("out", "--to", "openvino,onnx"), "--int8 makes a file for OpenVINO alone, not for openvino, onnx"),
    ],
)
def test_8_bit_integers_are_for_openvino_alone(bundle, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = export(*words, "--bundle", bundle, "--int8", tmp_path)
    assert result.exit_code == 2
    assert message in result.stderr


def test_8_bit_integers_without_their_package_say_what_to_install(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = export(tmp_path / "a.xml", "--bundle", bundle, "--int8", tmp_path)
    assert result.exit_code == 2
    assert '--int8 needs the package nncf: pip install "banet-monai[int8]"' in result.stderr


def test_folder_of_calibration_that_is_not_there_is_refused(bundle, tmp_path):
    result = export(tmp_path / "a.xml", "--bundle", bundle, "--int8", tmp_path / "none")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_weights_of_an_openvino_file_of_the_same_name_are_left_alone(bundle, tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(bytes(3_000_000))
    result = export(tmp_path / "a.ts", "--bundle", bundle)
    size = (tmp_path / "a.ts").stat().st_size / 1e6
    assert f"torchscript, {size:.1f} MB, " in result.stdout
    monkeypatch.setattr("banet_monai.commands.export._difference", lambda *_: 0.5)
    assert export(tmp_path / "a.ts", "--bundle", bundle).exit_code == 1
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("a.bin", 3_000_000)]
