"""The bundle as MONAI Deploy's MonaiBundleInferenceOperator takes it (App SDK 4.0.0), retold without the SDK.

It reads ``preprocessing``, ``inferer`` and ``postprocessing`` of ``inference.json`` and the names of the first input
and output in ``metadata.json``; takes out transforms whose class is called ``LoadImage...`` or ``SaveImage...``; and
puts an image from memory in. The network is a TorchScript file or, from a folder, ``network`` with ``models/model.pt``.
tests/integration/test_deploy_app.py runs the SDK itself.
"""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, ensure_tuple
from PIL import Image

from banet_monai.data import make_demonstration_data
from banet_monai.segmenter import Segmenter
from banet_monai.transforms import LoadCased

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundle"
APP = ROOT / "docs" / "recipes" / "deploy_app.py"


class Operator:
    """What the SDK's operator does between its ports."""

    def __init__(self, bundle: Path) -> None:
        parser = ConfigParser()
        parser.read_meta(json.loads((bundle / "configs" / "metadata.json").read_text()))
        parser.read_config([str(bundle / "configs" / "inference.json")])
        parser.parse()
        formats = parser["_meta_"]["network_data_format"]
        self.input, self.output = next(iter(formats["inputs"])), next(iter(formats["outputs"]))
        self.inferer = parser.get_parsed_content("inferer")
        self.preprocessing = self.chain(parser, "preprocessing")
        self.postprocessing = self.chain(parser, "postprocessing")
        self.parser = parser

    @staticmethod
    def chain(parser: ConfigParser, name: str):
        compose = parser.get_parsed_content(name)
        taken_out = ("LoadImage", "SaveImage")
        compose.transforms = tuple(
            step for step in compose.transforms if not any(name in type(step).__name__ for name in taken_out)
        )
        assert isinstance(compose.transforms[0], MapTransform)  # else the SDK hands it no dictionary
        return compose

    def load_folder(self, bundle: Path) -> torch.nn.Module:
        network = self.parser.get_parsed_content("network")
        network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True), strict=True)
        return network.eval()

    def compute(self, value: np.ndarray, meta: dict, network) -> np.ndarray:
        """An image and its meta data to what the next operator gets: label ids ``(slice, row, column)``."""
        with torch.no_grad():
            value = convert_to_dst_type(value, dst=value)[0]
            image = self.preprocessing({self.input: MetaTensor.ensure_torch_and_prune_meta(value, meta)})[self.input]
            outputs = self.inferer(inputs=image[None], network=network)
            record = self.postprocessing({self.output: ensure_tuple(outputs)[0], self.input: image})
        labels = np.squeeze(record[self.output].cpu().numpy(), 0)
        return labels.astype(np.uint8) if labels.ndim == 2 else np.swapaxes(labels, 0, 2).astype(np.uint8)


class Model:
    """The SDK hands the inferer an object that is called like a network and is none."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def __call__(self, *args, **kwargs):
        return self.network(*args, **kwargs)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demonstration_data(tmp_path_factory.mktemp("data") / "demo", num_train=1, num_val=1, size=96)


@pytest.fixture(scope="module")
def operator():
    return Operator(BUNDLE)


@pytest.fixture(scope="module")
def network(operator):
    return operator.load_folder(BUNDLE)


@pytest.fixture(scope="module")
def plain():
    """The same weights and configuration from the file."""
    return Segmenter(BUNDLE)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """The working directory, in which the operator must leave nothing: a container may be read-only."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


def from_dicom(values: np.ndarray, affine: np.ndarray) -> dict:
    """What the SDK says of a volume that it made from DICOM."""
    return {
        "original_channel_dim": "no_channel",
        "original_affine": affine,
        "affine": affine,
        "space": "RAS",
        "spacing": np.abs(np.diag(affine)[:3]),
        "spatial_shape": np.asarray(values.shape),
        "Modality": "OT",
        "series_instance_uid": "1.2.3",
    }


@pytest.fixture(scope="module")
def picture(demo):
    """A picture's file and its pixels, ``(x, y, channel)``."""
    file = next((demo / "val" / "images").iterdir())
    return file, np.asarray(Image.open(file).convert("RGB")).swapaxes(0, 1)


def test_a_picture_in_memory_gives_the_mask_of_its_file(picture, operator, network, plain):
    file, pixels = picture
    mask = operator.compute(pixels, {"original_channel_dim": -1}, network)
    assert mask.dtype == np.uint8
    assert mask.shape == (1, *pixels.shape[1::-1])  # (slice, row, column)
    assert 0 < mask.mean() < 1
    np.testing.assert_array_equal(mask[0], plain(file).mask.T)


def test_a_network_that_is_no_module_gives_the_same_mask_but_for_rounding(picture, operator, network, plain):
    file, pixels = picture
    mask = operator.compute(pixels, {"original_channel_dim": -1}, Model(network))
    assert (mask[0] != plain(file).mask.T).mean() < 0.005


def test_a_volume_in_memory_gives_the_mask_of_its_file(demo, operator, network, plain):
    file = demo / "inference" / "skin_volume.nii.gz"
    nifti = nibabel.load(file)
    values = np.asarray(nifti.dataobj)
    assert values.dtype == np.uint8
    mask = operator.compute(values, from_dicom(values, nifti.affine), network)
    assert mask.shape == values.shape[::-1]
    assert 0 < mask.mean() < 1
    np.testing.assert_array_equal(mask, plain(file).mask.T)


def test_a_single_dicom_image_in_memory_is_one_slice(demo, operator, network):
    file = next((demo / "val" / "images").iterdir())
    grey = np.asarray(Image.open(file).convert("L")).T
    flat = operator.compute(grey[:, :, None], from_dicom(grey[:, :, None], np.eye(4)), network)
    assert flat.shape == (1, *grey.shape[::-1])
    picture = operator.compute(grey, {"original_channel_dim": "no_channel"}, network)
    np.testing.assert_array_equal(flat, picture)


def test_colour_that_the_sdk_calls_without_channel_has_it_last(demo):
    colour = np.zeros((6, 5, 4, 3), np.uint8)
    colour[..., 1] = 7
    image = MetaTensor(torch.from_numpy(colour), meta=from_dicom(colour[..., 0], np.eye(4)))
    loaded = LoadCased(keys="image", in_channels=3)({"image": image})["image"]
    assert loaded.shape == (3, 6, 5, 4)
    assert (loaded[1] == 7).all()
    assert (loaded.meta["kind"], loaded.meta["value_range"]) == ("memory", (0.0, 255.0))


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4)), torch.zeros(4, 4), MetaTensor(torch.zeros(4, 4)), MetaTensor(torch.zeros(2, 2, 2, 2, 2))],
)
def test_an_image_in_memory_that_does_not_say_where_its_channels_are_is_refused(image):
    with pytest.raises(ValueError, match=r"an image in memory of shape \(.*'original_channel_dim' is the axis"):
        LoadCased(keys="image")({"image": image})


def test_the_first_names_are_those_that_the_application_connects(operator):
    assert (operator.input, operator.output) == ("image", "pred")
    text = APP.read_text(encoding="utf-8")
    assert f'IOMapping("{operator.input}", Image, IOType.IN_MEMORY)' in text
    assert f'IOMapping("{operator.output}", Image, IOType.IN_MEMORY)' in text


def test_the_application_is_python_and_what_it_takes_from_this_package_is_there(operator):
    tree = ast.parse(APP.read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    assert constants["TASK"] == operator.parser["task"]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("banet_monai"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names)
