import logging
import os
import re
from urllib.error import URLError

import pytest
import torch

from banet_monai.networks import BANet, build_encoder, initialize_weights, load_encoder_weights, load_weights
from banet_monai.networks.weights import ENCODER_WEIGHTS_VARIABLE, IMAGENET_URLS

CLASSIFIER = {
    "resnet18": {"fc.weight": (1000, 512), "fc.bias": (1000,)},
    "mobilenet_v2": {"features.18.0.weight": (1280, 320, 1, 1), "classifier.1.weight": (1000, 1280)},
    "mobilenet_v3_large": {"features.16.0.weight": (960, 160, 1, 1), "classifier.0.weight": (1280, 960)},
}


def tiny(spatial_dims=2, in_channels=3, out_channels=1, **options):
    return BANet(
        spatial_dims,
        in_channels,
        out_channels,
        **{"encoder": "mobilenet_v2", "output_stride": 16, "width": 8, "aspp_channels": 8, **options},
    )


def classification_state(name):
    """Made-up file of a 2D classification network in torchvision's layout."""
    torch.manual_seed(3)
    state = {
        key: torch.rand_like(value) if value.is_floating_point() else value
        for key, value in build_encoder(name).state_dict().items()
    }
    return state | {key: torch.zeros(shape) for key, shape in CLASSIFIER[name].items()}


def weights_of(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def assert_unchanged(network, before):
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="banet_monai.networks.weights")
    return caplog


@pytest.fixture(autouse=True)
def no_encoder_variable(monkeypatch):
    monkeypatch.delenv(ENCODER_WEIGHTS_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def mobilenet_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenet.pt"
    torch.save(classification_state("mobilenet_v2"), path)
    return path


# --- encoder weights


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("resnet18", r"fc\.\*"),
        ("mobilenet_v2", r"features\.18\.\*, classifier\.\*"),
        ("mobilenet_v3_large", r"features\.16\.\*, classifier\.\*"),
    ],
)
def test_classification_weights_load_without_the_classifier_and_say_so(name, dropped, tmp_path, log):
    state = classification_state(name)
    torch.save(state, tmp_path / "file.pt")
    network = tiny(encoder=name)
    load_encoder_weights(network, tmp_path / "file.pt")
    assert all(torch.equal(value, state[key]) for key, value in network.encoder.state_dict().items())
    assert len(log.messages) == 1
    assert re.search(f"encoder {name} from .*file.pt .*without the classifier's {dropped}", log.text)


def test_an_encoder_alone_takes_the_same_file(mobilenet_file):
    encoder = build_encoder("mobilenet_v2", output_stride=16)
    load_encoder_weights(encoder, str(mobilenet_file))
    assert torch.equal(
        encoder.features[0][0].weight, torch.load(mobilenet_file, weights_only=True)["features.0.0.weight"]
    )


def test_counters_of_batch_norm_may_be_absent_as_in_old_files(tmp_path):
    state = {k: v for k, v in classification_state("resnet18").items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.pt")
    network = tiny(encoder="resnet18")
    load_encoder_weights(network, tmp_path / "old.pt")
    assert torch.equal(network.encoder.bn1.running_mean, state["bn1.running_mean"])


def test_one_channel_gets_the_sum_of_the_rgb_kernels(mobilenet_file, log):
    network = tiny(in_channels=1)
    load_encoder_weights(network, mobilenet_file)
    rgb = torch.load(mobilenet_file, weights_only=True)["features.0.0.weight"]
    torch.testing.assert_close(network.encoder.features[0][0].weight, rgb[:, :1] + rgb[:, 1:2] + rgb[:, 2:])
    assert "first convolution adapted from 3 to 1 channels" in log.text


def test_more_channels_get_the_rgb_kernels_in_turn(mobilenet_file, log):
    network = tiny(in_channels=4)
    load_encoder_weights(network, mobilenet_file)
    rgb = torch.load(mobilenet_file, weights_only=True)["features.0.0.weight"]
    expected = torch.stack([rgb[:, 0], rgb[:, 1], rgb[:, 2], rgb[:, 0]], dim=1) * 0.75
    torch.testing.assert_close(network.encoder.features[0][0].weight, expected)
    assert "first convolution adapted from 3 to 4 channels" in log.text


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_large"])
def test_3d_kernels_are_the_2d_ones_spread_along_the_third_axis(name, tmp_path, log):
    state = classification_state(name)
    torch.save(state, tmp_path / "flat.pt")
    network = tiny(3, encoder=name)
    load_encoder_weights(network, tmp_path / "flat.pt")
    for key, value in network.encoder.state_dict().items():
        torch.testing.assert_close(value.sum(dim=-1) if value.ndim == 5 else value, state[key])
    stem = network.encoder.state_dict()["conv1.weight" if name == "resnet18" else "features.0.0.weight"]
    torch.testing.assert_close(stem[..., :1].expand_as(stem), stem)
    assert "2D kernels inflated to 3D" in log.text


def test_weights_of_another_encoder_are_refused_whole(mobilenet_file):
    network = tiny(encoder="resnet18")
    before = weights_of(network)
    message = (
        r"mobilenet\.pt does not fit the resnet18 encoder, nothing was loaded: 1\d\d missing \(conv1\.weight, .*…\); "
        r".* unexpected .* The file holds the weights of mobilenet_v2\."
    )
    with pytest.raises(ValueError, match=message):
        load_encoder_weights(network, mobilenet_file)
    assert_unchanged(network, before)


def test_imagenet_weights_need_batch_norm(mobilenet_file):
    with pytest.raises(ValueError, match="ImageNet weights need norm='batch'"):
        load_encoder_weights(tiny(norm="instance"), mobilenet_file)


def test_a_network_without_an_encoder_is_named(mobilenet_file):
    with pytest.raises(ValueError, match="Linear is no encoder of build_encoder"):
        load_encoder_weights(torch.nn.Linear(1, 1), mobilenet_file)


def test_the_server_is_asked_for_checked_tensors_only(monkeypatch):
    asked = {}

    def answer(url, **options):
        asked.update(options, url=url)
        return classification_state("mobilenet_v2")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", answer)
    line = load_encoder_weights(tiny(), "imagenet")
    assert asked["url"] == "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"
    assert asked["weights_only"] is True
    assert asked["check_hash"] is True
    assert asked["url"] in line


def test_a_failed_download_says_what_works_offline(monkeypatch):
    def fail(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(ConnectionError, match=r"no route to host.*local copy.*BANET_ENCODER_WEIGHTS.*init='none'"):
        load_encoder_weights(tiny(), "imagenet")


def test_every_encoder_has_an_official_file():
    assert set(IMAGENET_URLS) == {
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "mobilenet_v2",
        "mobilenet_v3_large",
    }


# --- whole networks


@pytest.mark.parametrize("nest", [lambda state: state, lambda state: {"model": state}], ids=["flat", "below-model"])
def test_a_saved_network_loads_exactly(nest, tmp_path):
    source, network = tiny(), tiny()
    torch.save(nest(source.state_dict()), tmp_path / "model.pt")
    load_weights(network, tmp_path / "model.pt")
    assert_unchanged(network, source.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet18"}, r"\d+ missing .* unexpected .* of another shape .*encoder='mobilenet_v2', width=8"),
        ({"out_channels": 3}, r"of another shape \(.*\(8?1, 8, 1, 1\) in the file, \(3, 8, 1, 1\).*out_channels=1"),
        ({"width": 16}, r"fits BANet\(spatial_dims=2, in_channels=3, out_channels=1, encoder='mobilenet_v2', width=8"),
        ({"in_channels": 1}, r"features\.0\.0\.weight \(\(32, 3, 3, 3\) in the file, \(32, 1, 3, 3\) in the network\)"),
        ({"separable": True}, "separable=False"),
        ({"use_mtl": False}, r"unexpected \(tasks\.0\."),
    ],
)
def test_weights_of_another_architecture_are_refused_whole(options, message, tmp_path):
    torch.save(tiny().state_dict(), tmp_path / "model.pt")
    network = tiny(**options)
    before = weights_of(network)
    with pytest.raises(ValueError, match=rf"model\.pt does not fit BANet, nothing was loaded: .*{message}"):
        load_weights(network, tmp_path / "model.pt")
    assert_unchanged(network, before)


def test_one_missing_key_is_enough_to_refuse(tmp_path):
    state = tiny().state_dict()
    del state["head.conv.bias"]
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"nothing was loaded: 1 missing \(head\.conv\.bias\)\. The file fits"):
        load_weights(tiny(), tmp_path / "model.pt")


def test_encoder_weights_are_not_taken_for_a_network(mobilenet_file):
    with pytest.raises(ValueError, match=r"It is for the encoder alone: load_encoder_weights\(\) takes it"):
        load_weights(tiny(), mobilenet_file)


# --- files that are no weights


class Malicious:
    """Unpickling this makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(zipped, tmp_path):
    file = tmp_path / "evil.pt"
    torch.save({"head": Malicious(tmp_path / "ran")}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"evil\.pt holds Python objects that could run code .* was refused"):
        load_weights(tiny(), file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_short_is_named(zipped, tmp_path):
    file = tmp_path / "short.pt"
    torch.save({"a": torch.rand(1000)}, file, _use_new_zipfile_serialization=zipped)
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"short\.pt .*damaged"):
        load_weights(tiny(), file)


def test_text_is_no_weights_file(tmp_path):
    (tmp_path / "page.pt").write_text("<html>404 not found</html>")
    with pytest.raises(ValueError, match=r"page\.pt .*damaged"):
        load_weights(tiny(), tmp_path / "page.pt")


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "nothing.pt").touch()
    with pytest.raises(ValueError, match=r"nothing\.pt is empty \(0 bytes\)"):
        load_weights(tiny(), tmp_path / "nothing.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds a list and no state dictionary"),
        ({}, "holds a dict and no state dictionary"),
        ({"epoch": 3, "network": {"a": torch.zeros(1)}}, "no flat state dictionary: epoch, network hold no tensor"),
    ],
)
def test_other_contents_are_described(content, message, tmp_path):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=message):
        load_weights(tiny(), tmp_path / "model.pt")


def test_a_script_archive_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "model.ts"))
    with pytest.raises(ValueError, match=r"model\.ts cannot be read as weights.*TorchScript"):
        load_weights(tiny(), tmp_path / "model.ts")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*lost\.pt; give the path"):
        load_weights(tiny(), tmp_path / "lost.pt")


# --- init


def test_init_none_keeps_the_random_weights(log):
    network = tiny()
    before = weights_of(network)
    assert initialize_weights(network, "none") == "weights: random (init=none)"
    assert log.messages == ["weights: random (init=none)"]
    assert_unchanged(network, before)


def test_init_shipped_loads_the_whole_network(tmp_path, log):
    source, network = tiny(), tiny()
    torch.save(source.state_dict(), tmp_path / "model.pt")
    line = initialize_weights(network, "shipped", shipped=tmp_path / "model.pt")
    assert log.messages == [line] == [f"weights: whole network from {tmp_path / 'model.pt'}"]
    assert_unchanged(network, source.state_dict())


def test_init_shipped_needs_the_file():
    with pytest.raises(ValueError, match="init='shipped' needs the path of the shipped file"):
        initialize_weights(tiny(), "shipped")


def test_init_present_takes_the_file_where_it_is_and_imagenet_elsewhere(mobilenet_file, tmp_path):
    present = tmp_path / "model.pt"
    options = {"encoder_weights": mobilenet_file, "present": present}
    assert initialize_weights(tiny(), "present", **options).startswith("weights: encoder mobilenet_v2 from")
    torch.save(tiny().state_dict(), present)
    assert initialize_weights(tiny(), "present", **options) == f"weights: whole network from {present}"


def test_init_imagenet_prefers_the_argument_to_the_variable(mobilenet_file, monkeypatch, log, tmp_path):
    monkeypatch.setenv(ENCODER_WEIGHTS_VARIABLE, str(tmp_path / "other.pt"))
    line = initialize_weights(tiny(), "imagenet", encoder_weights=mobilenet_file)
    assert log.messages == [line]
    assert f"encoder mobilenet_v2 from {mobilenet_file}" in line


def test_init_imagenet_takes_the_file_of_the_variable(mobilenet_file, monkeypatch):
    monkeypatch.setenv(ENCODER_WEIGHTS_VARIABLE, str(mobilenet_file))
    assert str(mobilenet_file) in initialize_weights(tiny(), "imagenet")


def test_init_with_a_path_tells_a_network_from_an_encoder(mobilenet_file, tmp_path, log):
    torch.save(tiny().state_dict(), tmp_path / "run.pt")
    assert initialize_weights(tiny(), tmp_path / "run.pt").startswith("weights: whole network from")
    assert initialize_weights(tiny(), str(mobilenet_file)).startswith("weights: encoder mobilenet_v2 from")
    assert len(log.messages) == 2


def test_a_mistyped_init_is_taken_for_a_path_and_named():
    with pytest.raises(FileNotFoundError, match=r"no weights file shiped; .* init='shipped', 'imagenet' or 'none'"):
        initialize_weights(tiny(), "shiped")
