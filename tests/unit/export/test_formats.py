from dataclasses import replace

import pytest
import torch

from banet_monai.backends import TorchExportNetwork, TorchScriptNetwork, _providers, load_exported
from banet_monai.choices import EXPORTS
from banet_monai.export import describe, export
from banet_monai.networks import BANet


def network():
    torch.manual_seed(0)
    return BANet(encoder="mobilenet_v2", output_stride=16, width=8, aspp_channels=8, separable=True).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network and its files of the formats that need no further package."""
    plain, folder = network(), tmp_path_factory.mktemp("exported")
    description = describe(plain, task="skin_lesion")
    for to in ("torch-export", "torchscript"):
        export(plain, folder / f"model{EXPORTS[to]}", to=to, description=description)
    return plain, folder, description


@pytest.mark.parametrize(("suffix", "kind"), [(".pt2", TorchExportNetwork), (".ts", TorchScriptNetwork)])
@torch.no_grad()
def test_file_gives_the_logits_of_the_network_for_other_batches_and_sizes(exported, suffix, kind):
    plain, folder, description = exported
    file = load_exported(folder / f"model{suffix}", task="skin_lesion")
    assert isinstance(file, kind)
    assert file.description == description
    for shape in ((1, 3, 32, 32), (3, 3, 47, 65)):
        x = torch.rand(shape)
        torch.testing.assert_close(file(x), plain(x), rtol=0, atol=1e-4)


def test_nothing_else_is_left_in_the_folder(exported):
    assert sorted(path.name for path in exported[1].iterdir()) == ["model.pt2", "model.ts"]


def test_file_of_another_task_is_refused(exported):
    with pytest.raises(ValueError, match=r"model.ts' is for the task 'skin_lesion', not 'polyp'"):
        TorchScriptNetwork(exported[1] / "model.ts", task="polyp")


def test_exported_network_is_for_evaluation_alone(exported):
    file = load_exported(exported[1] / "model.ts")
    assert file.eval() is file
    with pytest.raises(RuntimeError, match="exported network and cannot be trained"):
        file.train()
    with pytest.raises(RuntimeError, match="holds its weights; for other weights export again"):
        file.load_state_dict({})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 64, 64), r"takes images \(batch, 3, x, y\), got shape \(1, 1, 64, 64\)"),
        ((3, 64, 64), r"got shape \(3, 64, 64\)"),
        ((1, 3, 16, 64), r"needs at least \(32, 32\) pixels per axis, got \(16, 64\)"),
    ],
)
def test_image_that_does_not_fit_is_refused(exported, shape, message):
    with pytest.raises(ValueError, match=message):
        load_exported(exported[1] / "model.ts")(torch.zeros(shape))


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".ts"])
def test_damaged_file_is_refused(tmp_path, suffix):
    (tmp_path / f"model{suffix}").write_bytes(b"no network")
    with pytest.raises(ValueError, match=rf"model{suffix}' cannot be read \(.*\): it is damaged"):
        load_exported(tmp_path / f"model{suffix}")


def test_missing_file_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no file '.*model.onnx'; make it: banet export .*model.onnx --to onnx"
    ):
        load_exported(tmp_path / "model.onnx")


def test_unknown_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model.pt' ends in none of \.onnx, \.xml, \.pt2, \.ts"):
        load_exported(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("to", "name", "message"),
    [
        ("tflite", "a.onnx", "must be one of onnx, openvino, torch-export, torchscript, got 'tflite'"),
        ("onnx", "a.pt", r"a file for onnx ends in \.onnx, got 'a\.pt'"),
    ],
)
def test_wrong_format_or_ending_is_refused_before_anything_is_written(tmp_path, to, name, message):
    plain = network()
    with pytest.raises(ValueError, match=message):
        export(plain, tmp_path / name, to=to, description=describe(plain, task="skin_lesion"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("to", "name"), [("onnx", "a.onnx"), ("openvino", "a.xml")])
def test_missing_package_is_named_with_what_to_install(tmp_path, monkeypatch, to, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    plain = network()
    with pytest.raises(ModuleNotFoundError, match=rf'needs the package \w+: pip install "banet-monai\[{to}\]"'):
        export(plain, tmp_path / name, to=to, description=describe(plain, task="skin_lesion"))


def test_half_a_file_never_has_the_name(tmp_path, monkeypatch):
    """An older file stays as it was when writing breaks off."""
    (tmp_path / "model.ts").write_bytes(b"older")

    def broken(module, file, **options):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch.jit, "save", broken)
    plain = network()
    with pytest.raises(OSError, match="disk full"):
        export(plain, tmp_path / "model.ts", to="torchscript", description=describe(plain, task="skin_lesion"))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("model.ts", b"older")]


@pytest.mark.parametrize("to", ["torch-export", "torchscript"])
def test_a_full_disk_is_an_os_error_in_words(tmp_path, monkeypatch, to):
    def full(module, file, **options):
        raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed\nC++ stack")

    monkeypatch.setattr(torch.jit, "save", full)
    monkeypatch.setattr(torch.export, "save", full)
    plain, path = network(), tmp_path / f"model{EXPORTS[to]}"
    with pytest.raises(OSError, match=r"PyTorch cannot write 'model\.\w+': .* file write failed$"):
        export(plain, path, to=to, description=describe(plain, task="skin_lesion"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_itself_however_its_path_is_spelled(exported, tmp_path):
    """Named as its own weights, as by --weights, there is nothing to hold it to."""
    plain, path = exported[0], tmp_path / "own.ts"
    export(plain, path, to="torchscript", description=replace(exported[2], weights_sha256="0" * 64))
    (tmp_path / "deep").mkdir()
    load_exported(path, weights=tmp_path / "deep" / ".." / "own.ts")
    (tmp_path / "other.pt").write_bytes(b"other")
    with pytest.raises(ValueError, match="was made from other weights"):
        load_exported(path, weights=tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cpu", ["CPUExecutionProvider"]),
        ("cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("cuda:1", [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]),
    ],
)
def test_onnx_runtime_keeps_to_the_device(device, expected):
    here = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert _providers(torch.device(device), here) == expected
    assert _providers(torch.device(device), here[2:]) == ["CPUExecutionProvider"]
