"""tools/label_environment.py, without installing anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools import label_environment
from tools.label_environment import CONSTRAINTS, LabelEnvironmentError, is_ready, main, make, patch_torchvision

REGISTRATIONS = """import torchvision.extension  # noqa: F401


@register_meta("roi_align")
def meta_roi_align():
    pass


@torch.library.register_fake("torchvision::nms")
def meta_nms(dets):
    return dets


@torch.library.register_fake("torchvision::qnms")
def meta_qnms(dets):
    return dets
"""


@pytest.fixture
def environment(tmp_path):
    """What an environment looks like after its installation, on any Python."""
    folder = tmp_path / "environment"
    for name in ("bin/python", "bin/monailabel", "pyvenv.cfg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    file = folder / "lib" / "python3.11" / "site-packages" / "torchvision" / "_meta_registrations.py"
    file.parent.mkdir(parents=True)
    file.write_text(REGISTRATIONS)
    return folder


def test_the_patch_guards_both_operators_once(environment):
    file = next(environment.rglob("_meta_registrations.py"))
    assert patch_torchvision(environment) == ["nms", "qnms"]
    once = file.read_text()
    assert once.count("if torchvision.extension._has_ops()") == 2
    compile(once, "patched", "exec")
    assert patch_torchvision(environment) == []
    assert file.read_text() == once


def test_the_patched_functions_stay_as_they_are_where_the_operators_are_missing(environment):
    patch_torchvision(environment)
    code = next(environment.rglob("_meta_registrations.py")).read_text()
    code = code.split("\n", 1)[1].replace("@register_meta", "#")

    class Extension:
        _has_ops = staticmethod(lambda: False)

    names = {"torchvision": type("T", (), {"extension": Extension}), "torch": None}
    exec(code, names)
    assert names["meta_nms"](5) == 5


def test_an_environment_is_ready_when_it_was_made_with_these_constraints(environment):
    assert not is_ready(environment)
    (environment / label_environment.STAMP).write_text(label_environment._stamp(with_patch=False))
    assert is_ready(environment)
    assert not is_ready(environment, with_patch=True)
    assert make(environment) is False
    assert make(environment, with_patch=True) is False  # patched, nothing installed
    assert is_ready(environment, with_patch=True)
    assert is_ready(environment)


@pytest.mark.parametrize("name", ["letter.txt", "pyvenv.cfg"])  # the second: an environment of something else
def test_another_folder_is_not_overwritten(tmp_path, monkeypatch, name):
    monkeypatch.setattr(label_environment, "_interpreter", lambda wanted: sys.executable)
    (tmp_path / name).touch()
    with pytest.raises(LabelEnvironmentError, match="was not made by this program; name a folder that is empty"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_environment_that_was_not_finished_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(label_environment, "_interpreter", lambda wanted: sys.executable)
    commands = []

    def interrupted(command, environment=None):
        commands.append(command[1:4])
        if "pip" in command:
            raise LabelEnvironmentError("no space left on device")

    monkeypatch.setattr(label_environment, "_run", interrupted)
    for _ in range(2):
        with pytest.raises(LabelEnvironmentError, match="no space left"):
            make(tmp_path)
        assert not is_ready(tmp_path)
    assert commands == [["-m", "venv", "--clear"], ["-m", "pip", "install"]] * 2


def test_a_python_of_another_version_is_refused(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(LabelEnvironmentError, match=r"together on Python 3\.11, and .*python is not that; install"):
        make(tmp_path / "new", python=str(python))
    assert not (tmp_path / "new").exists()


def test_what_pip_says_when_it_fails_reaches_the_person(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(label_environment, "_interpreter", lambda wanted: "python3.11")

    def failing(command, **kwargs):
        return subprocess.CompletedProcess(command, 1, "", "no space left on device\n")

    monkeypatch.setattr(subprocess, "run", failing)
    assert main([str(tmp_path / "new")]) == 1
    said = capsys.readouterr()
    assert "Installing MONAI Label into" in said.out
    assert "no space left on device" in said.err


def test_the_constraints_pin_what_monai_label_needs_exactly():
    pins = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    assert pins["monailabel"] == "0.8.5"
    assert pins["torch"] == "2.13.0"
    assert pins["numpy"].startswith("1.26.")
    assert pins["pydicom"].startswith("2.4.")
    assert not [line for line in CONSTRAINTS.read_text().splitlines() if line and line[0] != "#" and "==" not in line]
