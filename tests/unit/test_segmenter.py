import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from banet_monai.segmenter import Segmenter

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The bundle's configurations with weights that call everything lesion: the last bias is large."""
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copytree(BUNDLE / "configs", folder / "configs")
    (folder / "models").mkdir()
    torch.manual_seed(0)
    network = ConfigParser(ConfigParser.load_config_file(str(folder / "configs/inference.json"))).get_parsed_content(
        "network_def"
    )
    state = network.state_dict()
    last = [name for name in state if name.startswith("head") and name.endswith("bias")]
    assert len(last) == 1
    state[last[0]] = torch.full_like(state[last[0]], 100.0)
    torch.save(state, folder / "models/model.pt")
    return folder


@pytest.fixture(scope="module")
def segmenter(bundle):
    return Segmenter(bundle, device="cpu", options={"image_size": 64, "amp": "none"})


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 255, (40, 70, 3), dtype=np.uint8)  # 40 rows, 70 columns
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_comes_back_in_its_own_size_with_every_pixel_labelled(segmenter, picture):
    result = segmenter(picture)
    assert result.mask.shape == (70, 40)
    assert result.mask.dtype == np.uint8
    assert np.all(result.mask == 1)
    assert result.probability.shape == (1, 70, 40)
    np.testing.assert_array_equal(result.affine, np.eye(4))


def test_the_overlay_is_the_picture_as_it_is_looked_at(segmenter, picture):
    assert segmenter(picture).overlay().shape == (40, 70, 3)


def test_segmenting_twice_gives_the_same_result_and_writes_no_file(bundle, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a saved result would lie
    segmenter = Segmenter(bundle, device="cpu", options={"image_size": 64, "amp": "none"})
    first, second = segmenter(picture), segmenter(picture)
    np.testing.assert_array_equal(first.probability, second.probability)
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_a_threshold_above_one_labels_nothing(bundle, picture):
    strict = Segmenter(bundle, device="cpu", options={"image_size": 64, "amp": "none", "threshold": 1.1})
    assert not strict(picture).mask.any()


def test_an_option_that_the_configuration_lacks_is_refused(bundle):
    with pytest.raises(ValueError, match=r"no option 'treshold'; it has .*'threshold'"):
        Segmenter(bundle, options={"treshold": 0.4})


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be the folder of a MONAI bundle"):
        Segmenter(tmp_path)


def test_missing_weights_are_named(bundle, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"other\.pt"):
        Segmenter(bundle, weights=tmp_path / "other.pt")


def test_a_missing_picture_is_named(segmenter, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        segmenter(tmp_path / "nothing.png")


def test_the_chain_is_the_one_of_the_configuration(bundle, segmenter):
    written = json.loads((bundle / "configs/inference.json").read_text())["preprocessing"]["transforms"]
    assert [step["_target_"].rsplit(".", 1)[1] for step in written] == [
        type(step).__name__ for step in segmenter.preprocessing.transforms
    ]


def test_with_test_time_augmentation_a_mirrored_picture_has_the_mirrored_result(bundle, tmp_path):
    torch.manual_seed(0)
    weights = dict(torch.load(bundle / "models/model.pt", weights_only=True))
    weights.update({name: torch.zeros(1) for name in weights if name.startswith("head") and name.endswith("bias")})
    torch.save(weights, tmp_path / "model.pt")
    square = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(square).save(tmp_path / "a.png")
    Image.fromarray(np.ascontiguousarray(square[:, ::-1])).save(tmp_path / "b.png")
    options = {"image_size": 64, "amp": "none"}

    def difference(tta):
        segmenter = Segmenter(bundle, weights=tmp_path / "model.pt", device="cpu", options={**options, "tta": tta})
        one, other = (segmenter(tmp_path / name).probability for name in ("a.png", "b.png"))
        return np.abs(one - other[:, ::-1]).max()

    assert difference(tta=True) < 1e-4
    assert difference(tta=False) > 1e-3
