"""``banet label`` up to the moment when the server takes over; the server itself is a test of tests/integration."""

from __future__ import annotations

import os
import shutil
import socket

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from banet_monai.cli import cli
from tests.bundle_runs import random_network
from tests.label_fakes import fake_environment, make_archive


@pytest.fixture(scope="module")
def state():
    return random_network().state_dict()


@pytest.fixture
def archive(tmp_path, state):
    root = make_archive(tmp_path / "dist" / "banet_skin_lesion_segmentation")
    torch.save(state, root / "models" / "model.pt")
    return root


@pytest.fixture
def studies(tmp_path):
    folder = tmp_path / "studies"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    return folder


@pytest.fixture
def words(tmp_path, archive):
    """Options that name an archive, an environment and a free port."""
    environment = fake_environment(tmp_path / "environment")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return ["--bundle", archive, "--environment", environment, "--app", tmp_path / "app", "--port", port]


@pytest.fixture(autouse=True)
def execve(monkeypatch):
    """Command line and variables of the servers that would have taken over."""
    calls = []

    def take_over(program, line, variables):
        calls.append((line, variables))
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", take_over)
    monkeypatch.setattr(os, "chdir", lambda folder: None)
    return calls


def label(*words):
    return CliRunner().invoke(cli, ["label", *(str(word) for word in words)])


def only_error(result, code=2):
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    return lines[0].removeprefix("banet: error: ")


@pytest.mark.skipif(os.name != "posix", reason="elsewhere the server is a child process")
def test_the_server_starts_with_the_archive_linked_and_says_where(studies, words, execve, tmp_path):
    result = label(studies, *words)
    ((line, variables),) = execve
    assert line[1:4] == ["-m", "monailabel.main", "start_server"]
    assert str(studies.resolve()) in line
    assert (tmp_path / "app" / "model" / "banet_skin_lesion_segmentation" / "models" / "model.pt").is_file()
    assert variables["PYTHONPATH"] == str(tmp_path / "app")
    shown = result.stdout.splitlines()
    assert shown[0] == "MONAI Label 0.8.5 with banet_skin_lesion_segmentation"
    assert shown[1] == f"studies: {studies.resolve()} (1 image)"
    assert shown[2].startswith(f"server:  http://127.0.0.1:{words[-1]}")


def test_a_missing_environment_is_told_with_the_command_that_makes_it(studies, words, tmp_path, execve):
    words[3] = tmp_path / "none"
    message = only_error(label(studies, *words))
    assert message.startswith("there is no environment of MONAI Label at ")
    assert "python tools/label_environment.py .venv-label" in message
    assert execve == []


def test_a_broken_torchvision_is_told_with_its_remedy(studies, words, tmp_path):
    words[3] = fake_environment(tmp_path / "broken", problem="RuntimeError: operator torchvision::nms does not exist")
    message = only_error(label(studies, *words), code=1)
    assert "torchvision 0.28.0 does not import beside torch 2.13.0" in message
    assert message.endswith("--patch-torchvision")


def test_a_port_that_is_taken_is_refused_before_anything_else(studies, words):
    with socket.create_server(("127.0.0.1", 0)) as other:
        words[-1] = other.getsockname()[1]
        assert only_error(label(studies, *words)) == (
            f"port {words[-1]} of 127.0.0.1 is taken by another program; choose another: --port N."
        )


def test_an_empty_folder_of_studies_is_refused(tmp_path, words):
    (tmp_path / "empty").mkdir()
    assert "there is no image in" in only_error(label(tmp_path / "empty", *words))


def test_an_archive_without_weights_is_refused(studies, words, archive):
    (archive / "models" / "model.pt").unlink()
    assert "has no weights yet (models/model.pt is missing)" in only_error(label(studies, *words))


def test_weights_that_do_not_fit_are_refused_with_the_names_of_keys(studies, words, archive, state):
    name = next(iter(state))
    torch.save({key: value for key, value in state.items() if key != name}, archive / "models" / "model.pt")
    message = only_error(label(studies, *words))
    assert "nothing was loaded" in message
    assert name in message


def test_two_archives_with_other_code_are_refused(studies, words, archive, tmp_path):
    other = tmp_path / "other" / "banet_polyp_segmentation"
    shutil.copytree(archive, other)
    (other / "banet_monai" / "__init__.py").write_text('__version__ = "2.0"\n')
    message = only_error(label(studies, "--bundle", other, *words))
    assert "'banet_polyp_segmentation' (2.0) and 'banet_skin_lesion_segmentation' (1.0) carry different" in message


def test_a_task_and_an_archive_exclude_each_other(studies, words):
    assert "--task and --bundle exclude each other" in only_error(label(studies, "--task", "polyp", *words))


def test_the_first_modality_of_the_task_is_asked_of_a_dicomweb_server(words, archive, execve):
    (archive / "configs" / "inference.json").write_text(
        (archive / "configs" / "inference.json").read_text()[:-1] + ', "modalities": ["XC", "DMS"]}'
    )
    label("http://127.0.0.1:8042/dicom-web", *words)
    label("http://127.0.0.1:8042/dicom-web", "--modality", "CT", *words)
    asked = [variables["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"] for _, variables in execve]
    assert asked == ['{"Modality": "XC"}', '{"Modality": "CT"}']


def test_restoring_brings_the_shipped_weights_back_and_starts_nothing(archive, execve):
    (archive / "models" / "shipped").mkdir()
    (archive / "models" / "shipped" / "model.pt").write_bytes(b"shipped")
    result = label("--restore", "--bundle", archive)
    assert result.exit_code == 0, result.output
    assert "has the weights again that it shipped with" in result.stdout
    assert (archive / "models" / "model.pt").read_bytes() == b"shipped"
    assert "has the weights that it shipped with" in label("--restore", "--bundle", archive).stdout
    assert execve == []
