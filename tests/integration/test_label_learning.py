"""A real MONAI Label learns: it asks for the least certain picture, trains on submitted labels, and can go back."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from banet_monai.data.skin_phantom import skin_picture
from banet_monai.machine import one_core
from banet_monai.segmenter import Segmenter
from tests.label_server import BANET, NAME, banet_label
from tests.orthanc import free_port

SIZE = (120, 140)  # rows, columns
CLEAR = [f"clear_{number}" for number in range(5)]
FAINT = "faint"  # the lesion is hardly darker than the skin, so where it ends is uncertain


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("learning")


@pytest.fixture(scope="module")
def archive(place):
    """The one that the command builds for itself."""
    return place / "server" / "app" / "bundles" / NAME


@pytest.fixture(scope="module")
def studies(place):
    """Pictures; in ``place/masks`` labels that no present weights give: the frame around each picture's centre."""
    folder, masks = place / "studies", place / "masks"
    folder.mkdir()
    masks.mkdir()
    for number, name in enumerate(CLEAR):
        Image.fromarray(skin_picture(np.random.default_rng(number), *SIZE)[0]).save(folder / f"{name}.png")
        mask = np.ones(SIZE, np.uint8)
        mask[30:-30, 30:-30] = 0
        Image.fromarray(mask).save(masks / f"{name}.png")
    picture, lesion = skin_picture(np.random.default_rng(1), *SIZE)
    skin = picture[~lesion].mean(axis=0)
    Image.fromarray((skin + 0.09 * (picture - skin)).clip(0, 255).astype(np.uint8)).save(folder / f"{FAINT}.png")
    return folder


@pytest.fixture(scope="module")
def server(place, studies):
    folder = place / "server"
    folder.mkdir()
    with banet_label(folder, free_port(), studies) as running:
        yield running


def weights(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def same(first, second):
    one, two = weights(first), weights(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def assert_outline_of(archive, server, studies, name, folder):
    """The server's outline is that of the weights which the archive has now."""
    with one_core():  # as the server: bfloat16 differs by the number of cores
        mask = Segmenter(archive, device="cpu")(studies / f"{name}.png").mask
    voxels, _ = server.infer(name).array(folder)
    np.testing.assert_array_equal(voxels, mask)
    return voxels


def test_the_least_certain_picture_is_asked_for_first_and_then_the_next(server):
    server.wait_for("scoring")  # it began when the server did
    scores = {}
    for name in (*CLEAR, FAINT):
        got = server.http.get(f"{server.root}/datastore/image/info", params={"image": name}, timeout=60).json()
        scores[name] = got["epistemic_entropy"]
    assert all(0 < score < 0.37 for score in scores.values())  # -p log p is at most 1 / e
    ranked = sorted(scores, key=scores.get, reverse=True)
    assert ranked[0] == FAINT
    assert scores[FAINT] > 1.5 * scores[ranked[1]]
    assert [server.next_image("epistemic")["id"] for _ in range(2)] == ranked[:2]


def test_training_on_five_submitted_labels_changes_the_next_outline_and_restoring_brings_the_first_back(
    server, archive, studies, place, tmp_path
):
    model, shipped = archive / "models" / "model.pt", archive / "models" / "shipped" / "model.pt"
    before = assert_outline_of(archive, server, studies, CLEAR[0], tmp_path)
    original = tmp_path / "original.pt"
    shutil.copyfile(model, original)

    for name in CLEAR:
        assert server.submit(name, place / "masks" / f"{name}.png") == {"image": name, "label": name}
    assert server.next_image("random")["id"] == FAINT  # the others have labels now
    server.run("train", max_epochs=1)

    assert not same(model, original)
    assert same(shipped, original)
    assert sorted(path.name for path in model.parent.glob("*.pt")) == ["model.pt"]
    assert server.info()["train_stats"][NAME] is not None
    after = assert_outline_of(archive, server, studies, CLEAR[0], tmp_path)
    assert (after != before).any()

    done = subprocess.run(
        [BANET, "label", "--restore", "--bundle", archive], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "has the weights again that it shipped with" in done.stdout
    assert same(model, original)
    np.testing.assert_array_equal(assert_outline_of(archive, server, studies, CLEAR[0], tmp_path), before)


def test_weights_of_another_network_are_refused_by_the_running_server_and_not_loaded_in_part(
    server, archive, studies, tmp_path
):
    model = archive / "models" / "model.pt"
    kept = tmp_path / "kept.pt"
    shutil.copyfile(model, kept)
    state = weights(model)
    name = next(name for name in state if name.endswith("weight"))
    torch.save({key: value for key, value in state.items() if key != name}, model)
    answer = server.infer(CLEAR[0])
    assert answer.status == 500
    assert "Missing key(s)" in answer.detail
    assert name in answer.detail
    shutil.copyfile(kept, model)
    assert_outline_of(archive, server, studies, CLEAR[0], tmp_path)


def test_labels_and_runs_lie_with_the_studies_and_the_archive(archive, studies, place):
    assert {path.name for path in (studies / "labels" / "final").iterdir()} == {f"{name}.png" for name in CLEAR}
    assert (archive / "runs" / "state.pt").is_file()
    assert {path.name for path in (place / "server").iterdir()} <= {"app", "server.log", "sessions"}
    assert json.loads((studies / "datastore_v2.json").read_text())["objects"].keys() == {*CLEAR, FAINT}
