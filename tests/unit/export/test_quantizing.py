import pytest
import torch
from monai.data import MetaTensor

from banet_monai.export import describe, quantize
from banet_monai.export.tasks import calibration_images
from banet_monai.networks import BANet


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return BANet(encoder="mobilenet_v2", output_stride=16, width=8, aspp_channels=8, separable=True).eval()


def test_only_openvino_files_are_made(network, tmp_path):
    images = [torch.zeros(1, 3, 32, 32)] * 8
    with pytest.raises(ValueError, match=r"is one for OpenVINO and ends in \.xml, got 'model\.onnx'"):
        quantize(network, tmp_path / "model.onnx", description=describe(network, task="spot"), images=images)


def test_too_few_images_are_refused(network, tmp_path):
    images = [torch.zeros(1, 3, 32, 32)] * 7
    with pytest.raises(ValueError, match="need at least 8 images to calibrate on, got 7"):
        quantize(network, tmp_path / "model.xml", description=describe(network, task="spot"), images=images)


def test_missing_package_is_named_with_what_to_install(network, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    images = [torch.zeros(1, 3, 32, 32)] * 8
    with pytest.raises(ModuleNotFoundError, match=r'need the package nncf: pip install "banet-monai\[int8\]"'):
        quantize(network, tmp_path / "model.xml", description=describe(network, task="spot"), images=images)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shape", "roi_size", "wanted"),
    [
        ((3, 40, 50), (32, 32), (1, 3, 32, 32)),
        ((3, 20, 50), (32, 32), (1, 3, 32, 32)),  # padded
        ((3, 40, 50, 9), (32, 32), (1, 3, 32, 32)),  # a slice of a volume
        ((1, 40, 50, 9), (32, 32, 8), (1, 1, 32, 32, 8)),
    ],
)
def test_windows_come_from_the_middle_of_images_spread_over_the_folder(tmp_path, shape, roi_size, wanted):
    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")  # found by name and first bytes, never read
    read = []

    def preprocessing(record):
        read.append(record["name"])
        image = torch.zeros(shape)
        image[0, shape[1] // 2, shape[2] // 2] = 1
        return {"image": MetaTensor(image)}

    windows = calibration_images(preprocessing, tmp_path, roi_size=roi_size, count=3)
    assert read == ["0", "3", "6"]
    assert [tuple(window.shape) for window in windows] == [wanted] * 3
    assert all(window.dtype == torch.float32 and type(window) is torch.Tensor for window in windows)
    assert float(windows[0].max()) == 1
