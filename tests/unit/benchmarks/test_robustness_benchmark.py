"""What an interrupted measurement of robustness may take over."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

command = import_module("benchmarks.robustness.__main__")


@pytest.mark.parametrize("change", ["commit", "calibration.json", "model.pt", "settings", "device"])
def test_kept_cases_depend_on_code_weights_temperatures_settings_and_device(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model.pt", "calibration.json"):
        (tmp_path / name).write_bytes(b"first")
    monkeypatch.setattr(command, "current_commit", lambda: "abc1234")
    first = command.dependencies(tmp_path / "model.pt", "cpu")
    assert command.dependencies(tmp_path / "model.pt", "cpu") == first
    if change == "commit":
        monkeypatch.setattr(command, "current_commit", lambda: "fff0000")
    elif change == "settings":
        monkeypatch.setattr(command, "SETTINGS", {"uncertainty": "tta"})
    elif change != "device":
        (tmp_path / change).write_bytes(b"second")
    assert command.dependencies(tmp_path / "model.pt", "cuda" if change == "device" else "cpu") != first
