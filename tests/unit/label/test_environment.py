from __future__ import annotations

import sys
from pathlib import Path

import pytest

from banet_monai.label import find_environment
from tests.label_fakes import WHOLE, fake_environment


def test_an_environment_that_works_is_found_with_its_versions(tmp_path):
    found = find_environment(fake_environment(tmp_path / "label"))
    assert found.folder == tmp_path / "label"
    assert found.versions == WHOLE
    assert found.python == tmp_path / "label" / "bin" / "python"


def test_a_relative_folder_becomes_absolute_because_the_server_runs_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake_environment(tmp_path / "label")
    assert find_environment(Path("label")).python == tmp_path / "label" / "bin" / "python"


def test_without_a_name_the_working_directory_is_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake_environment(tmp_path / ".venv-label")
    assert find_environment().folder == tmp_path / ".venv-label"


def test_the_environment_of_this_process_comes_first_where_monai_label_is_in_it(tmp_path, monkeypatch):
    fake_environment(tmp_path / ".venv-label")
    own = fake_environment(tmp_path / "own")
    (own / "bin" / "monailabel").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(own))
    assert find_environment().folder == own


def test_a_missing_environment_is_answered_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no environment of MONAI Label at '.*none'.*label_environment\.py"):
        find_environment(tmp_path / "none")


def test_an_environment_without_monai_label_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match=r"MONAI Label is not installed in '.*other'\. Make an environment that has"):
        find_environment(fake_environment(tmp_path / "other", monailabel=""))


def test_a_torchvision_that_does_not_import_is_named_with_both_remedies(tmp_path):
    broken = fake_environment(
        tmp_path / "broken", torch="2.13.0+cpu", problem="RuntimeError: operator torchvision::nms does not exist"
    )
    words = (
        r"torchvision 0\.28\.0 does not import beside torch 2\.13\.0\+cpu in '.*broken' \(RuntimeError: operator "
        r"torchvision::nms does not exist\).*pytorch\.org.*label_environment\.py .*broken --patch-torchvision$"
    )
    with pytest.raises(RuntimeError, match=words):
        find_environment(broken)


def test_a_python_that_does_not_run_is_refused(tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"the Python of '.*' does not work \(CalledProcessError\)\. Make it anew"):
        find_environment(tmp_path)
