import dataclasses
import json

import pytest

import banet_monai
from banet_monai.export import Description, describe
from banet_monai.networks import BANet

WEIGHTS = b"some weights"


def described(**changes):
    network = BANet(3, 1, 3, encoder="mobilenet_v2", width=8, aspp_channels=8, stem_stride=1)
    return dataclasses.replace(
        describe(network, task="hippocampus", normalisation={"intensity": "percentiles"}), **changes
    )


def test_description_says_what_the_network_takes_and_gives():
    facts = described()
    assert (facts.spatial_dims, facts.in_channels, facts.out_channels) == (3, 1, 3)
    assert facts.axes == ("batch", "channel", "x", "y", "z")
    assert (facts.min_size, facts.size_divisible_by) == ((16, 16, 16), 1)
    assert facts.version == banet_monai.__version__


def test_json_comes_back_as_it_went():
    facts = described(labels={"1": "anterior"}, scale={"scale": "native", "image_size": [224, 224]})
    assert Description.from_json(facts.to_json(), origin="a.onnx") == facts


def test_right_task_version_and_weights_pass(tmp_path):
    weights = tmp_path / "model.pt"
    weights.write_bytes(WEIGHTS)
    network = BANet(encoder="mobilenet_v2", width=8, aspp_channels=8)
    facts = describe(network, task="skin_lesion", weights=weights)
    facts.require("a.onnx", task="skin_lesion", weights=weights)
    facts.require("a.onnx")
    facts.require("a.onnx", weights=tmp_path / "not_there.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "polyp"}, "'a.onnx' is for the task 'polyp', not 'hippocampus'; .* banet export --task hippocampus"),
        ({"version": "0.0.9"}, "written by banet_monai 0.0.9, this is .*; run 'banet export' again"),
        ({"weights_sha256": "0" * 64}, "made from other weights than '.*model.pt'"),
    ],
)
def test_another_task_version_or_training_is_refused(tmp_path, changes, message):
    weights = tmp_path / "model.pt"
    weights.write_bytes(WEIGHTS)
    with pytest.raises(ValueError, match=message):
        described(**changes).require("a.onnx", task="hippocampus", weights=weights)


@pytest.mark.parametrize("text", ["", "no json", "[]", "3", '{"task": "polyp"}'])
def test_file_without_a_description_is_refused(text):
    with pytest.raises(ValueError, match=r"'a.onnx' was (not )?written by"):
        Description.from_json(text, origin="a.onnx")


def test_description_of_another_version_with_other_facts_is_called_so():
    facts = {**json.loads(described().to_json()), "version": "9.0.0", "colour": "blue"}
    with pytest.raises(ValueError, match=r"written by banet_monai 9\.0\.0"):
        Description.from_json(json.dumps(facts), origin="a.onnx")
