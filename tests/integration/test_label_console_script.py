"""The archive in MONAI Label as its own documentation starts it: console script, stock application, nothing of ours."""

from __future__ import annotations

import os
import subprocess

import nibabel
import numpy as np
import pytest
from PIL import Image

from banet_monai.data.skin_phantom import skin_picture, skin_volume
from banet_monai.machine import one_core
from banet_monai.segmenter import Segmenter
from tests.bundle_runs import SECONDS
from tests.label_server import NAME, LabelServer, built_archive, label_environment
from tests.orthanc import free_port


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("stock")


@pytest.fixture(scope="module")
def archive(place):
    return built_archive(place / "dist")


@pytest.fixture(scope="module")
def studies(place):
    folder = place / "studies"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for name in ("first.png", "second.png", "photo.jpg"):
        Image.fromarray(skin_picture(rng, 120, 150)[0]).save(folder / name)
    volume, _ = skin_volume(rng, (72, 80, 4))
    nibabel.save(nibabel.Nifti1Image(volume.transpose(1, 0, 2), np.diag([-0.8, -0.8, 3, 1])), folder / "volume.nii.gz")
    return folder


@pytest.fixture(scope="module")
def server(place, archive, studies):
    """``monailabel apps``, a link, ``monailabel start_server``."""
    programs = label_environment() / "bin"
    path = {"PATH": os.pathsep.join([str(programs), os.environ["PATH"]])}
    line = [
        str(programs / "monailabel"),
        "apps",
        "--download",
        "--name",
        "monaibundle",
        "--output",
        str(place / "apps"),
    ]
    subprocess.run(line, env={**os.environ, **path}, check=True, capture_output=True, timeout=SECONDS)
    app, port, folder = place / "apps" / "monaibundle", free_port(), place / "server"
    folder.mkdir()
    (app / "model").mkdir()
    (app / "model" / NAME).symlink_to(archive, target_is_directory=True)
    line = [str(programs / "monailabel"), "start_server", "--app", str(app), "--studies", str(studies)]
    line += ["--host", "127.0.0.1", "--port", str(port), "--conf", "models", NAME, "--conf", "zoo_source", "local"]
    line += ["--conf", "sam2", "false", "--conf", "epistemic_model", NAME]
    automatic = {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    with LabelServer(line, port, folder, {**path, **automatic}) as running:
        yield running


@pytest.mark.parametrize("name", ["first.png", "photo.jpg", "volume.nii.gz"])
def test_outlines_are_those_of_the_package(server, archive, studies, tmp_path, name):
    assert server.info()["models"][NAME]["labels"] == {"skin lesion": 1}
    with one_core():  # as the server: bfloat16 differs by the number of cores
        expected = Segmenter(archive, device="cpu")(studies / name)
    voxels, affine = server.infer(name.split(".")[0]).array(tmp_path)
    np.testing.assert_array_equal(voxels, expected.mask)
    if affine is not None:
        np.testing.assert_allclose(affine, expected.affine, atol=1e-4)


def test_scoring_gives_each_image_an_entropy(server):
    server.run("scoring", max_workers=1)
    for name in ("first", "second", "photo", "volume"):
        got = server.http.get(f"{server.root}/datastore/image/info", params={"image": name}, timeout=60).json()
        assert got["epistemic_entropy"] > 0


def test_the_working_folder_stays_empty(server):
    assert {path.name for path in server.folder.iterdir()} <= {"server.log", "sessions"}
