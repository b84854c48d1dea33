"""The training command: what it writes, where it starts from, what it refuses, and that it resumes exactly."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.bundle_runs import equal_states, make_clone, random_network, train, train_and_kill

pytestmark = pytest.mark.slow

EPOCHS = 3


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return make_clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def whole_run(clone):
    """Output of an uninterrupted run from random weights; its results are in runs/whole."""
    shipped = (clone / "bundle" / "models" / "model.pt").read_bytes()
    output = train(clone, init="none", max_epochs=EPOCHS, output_dir="runs/whole")
    assert [path.name for path in (clone / "bundle" / "models").iterdir()] == ["model.pt"]
    assert (clone / "bundle" / "models" / "model.pt").read_bytes() == shipped
    return output


def weights_lines(output: str) -> list[str]:
    """What the one line says that names the starting weights."""
    return re.findall(r"networks\.weights: weights: (.*)", output)


def test_a_run_leaves_weights_state_and_curves_in_its_folder(clone, whole_run):
    folder = clone / "runs" / "whole"
    weights = torch.load(folder / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    assert random_network().load_state_dict(weights)
    assert torch.load(folder / "state.pt", weights_only=True)["progress"]["epoch"] == EPOCHS
    assert sorted(path.name.split(".")[0] for path in folder.iterdir()) == ["events", "model", "state"]


def test_tensorboard_shows_curves_and_outlines(clone, whole_run):
    events = EventAccumulator(str(clone / "runs" / "whole"))
    events.Reload()
    assert {"train_loss", "val_ja"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("val_ja")) == EPOCHS + 1  # and one before training
    (tag,) = events.Tags()["images"]
    assert "truth" in tag


def test_a_run_says_where_it_began_and_how_to_use_its_weights(whole_run):
    assert weights_lines(whole_run) == ["random (init=none)"]
    assert "Before training: val_ja" in whole_run
    assert "--checkpoint runs/whole/model.pt" in whole_run


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_killed_and_resumed_run_ends_with_the_same_bits(clone, whole_run, num_workers):
    folder, options = clone / "runs" / f"killed{num_workers}", {"max_epochs": EPOCHS, "num_workers": num_workers}
    reference = clone / "runs" / "whole"
    if num_workers:  # workers draw from generators of their own, so that the run differs
        reference, options = clone / "runs" / "whole2", {**options, "init": "shipped"}
        assert weights_lines(train(clone, output_dir=reference, **options)) == [
            "whole network from bundle/models/model.pt"
        ]
    else:
        options["init"] = "none"
    folder.mkdir()
    train_and_kill(clone, folder / "state.pt", output_dir=folder, **options)
    output = train(clone, resume=True, output_dir=folder, **options)
    assert "Resumed after epoch 1." in output
    assert equal_states(folder / "model.pt", reference / "model.pt")
    assert equal_states(folder / "state.pt", reference / "state.pt", part="network")
    assert equal_states(folder / "state.pt", reference / "state.pt", part="averaging")


def test_a_second_run_moves_the_first_aside_and_starts_from_imagenet_weights(clone, tmp_path):
    (clone / "runs" / "twice").mkdir(parents=True)
    (clone / "runs" / "twice" / "model.pt").write_text("of the first run")
    encoder = tmp_path / "mobilenet_v2.pth"
    torch.save(random_network().encoder.state_dict(), encoder)

    output = train(
        clone,
        init="imagenet",
        encoder_weights=encoder,
        max_epochs=1,
        limit=2,
        output_dir="runs/twice",
        ema_decay=0,
        resume=False,
    )
    assert weights_lines(output) == [f"encoder mobilenet_v2 from {encoder}"]
    assert (clone / "runs" / "twice-1" / "model.pt").read_text() == "of the first run"
    assert torch.load(clone / "runs" / "twice" / "model.pt", weights_only=True)


def test_a_start_that_fails_leaves_an_earlier_run_and_init_present_goes_on_from_it(clone, tmp_path):
    folder = clone / "runs" / "present"
    folder.mkdir(parents=True)
    torch.save(random_network().state_dict(), folder / "model.pt")
    for mistake in ({"dataset_dir": tmp_path / "nowhere"}, {"max_epochs": 0}):
        train(clone, expect=None, output_dir="runs/present", **mistake)
        assert [path.name for path in folder.parent.glob("present*")] == ["present"]

    output = train(clone, init="present", max_epochs=1, limit=2, output_dir="runs/present")
    assert weights_lines(output) == ["whole network from runs/present/model.pt"]
    assert (clone / "runs" / "present-1" / "model.pt").is_file()


def test_a_run_starts_from_the_weights_of_a_path(clone, tmp_path):
    start = tmp_path / "start.pt"
    torch.save(random_network().state_dict(), start)
    output = train(
        clone, init=start, max_epochs=1, limit=2, learning_rate=0.0, weight_decay=0.0, output_dir=tmp_path / "run"
    )
    assert weights_lines(output) == [f"whole network from {start}"]
    trained = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["network"]
    before = torch.load(start, weights_only=True)
    assert all(torch.equal(trained[name], before[name]) for name, _ in random_network().named_parameters())


def test_data_that_cannot_be_trained_on_are_refused_with_every_file_named(clone, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(clone / "demo" / "train", data / "train")
    shutil.copytree(clone / "demo" / "val", data / "val")
    (data / "train" / "images" / "synthetic_000.png").write_bytes(b"")
    masks = data / "train" / "masks"
    Image.fromarray(np.arange(37, dtype=np.uint8).repeat(64).reshape(37, 64)).resize((64, 64), 0).save(masks / "x.png")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(masks / "synthetic_001.png")
    shutil.move(masks / "x.png", masks / "synthetic_002.png")
    with Image.open(data / "train" / "images" / "synthetic_002.png") as picture:
        size = picture.size
    with Image.open(masks / "synthetic_002.png") as mask:
        mask.resize(size, 0).save(masks / "synthetic_002.png")

    output = train(clone, expect=None, dataset_dir=data, init="none", output_dir=tmp_path / "run")
    assert_refused(output, r"the data set has 3 errors: .*synthetic_000.png .*0 bytes")
    assert_refused(output, r"synthetic_001.png has 20 x 20 pixels")
    assert_refused(output, r"synthetic_002.png: a mask with \d+ different values")


def assert_refused(output: str, message: str) -> None:
    assert re.search(message, output), output[-3000:]
    assert "Epoch[1]" not in output
