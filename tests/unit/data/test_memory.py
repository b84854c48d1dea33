from __future__ import annotations

import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from banet_monai.data.memory import MemoryBudget, decoded_bytes

MIB = 2**20


def test_sizes_come_from_headers(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(tmp_path / "a.png")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "v.nii.gz")
    assert decoded_bytes(tmp_path / "a.png") == 5 * 7 * 3 * 4  # as RGB in float32
    assert decoded_bytes(str(tmp_path / "v.nii.gz")) == 4 * 5 * 6 * 4


def test_a_picture_above_pillows_own_limit_is_taken_at_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decoded_bytes(tmp_path / "a.png") == 5 * 7 * 3 * 4


def test_files_of_a_series_are_taken_at_four_times_their_size(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.dcm" for number in range(3)]
    for file in files:
        file.write_bytes(bytes(10))
    assert decoded_bytes([str(file) for file in files]) == decoded_bytes(tmp_path) == 120


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert decoded_bytes(tmp_path / "gone.png") == 0


def test_cases_enter_while_there_is_room() -> None:
    budget = MemoryBudget(1)
    assert budget.enter("a", MIB // 2)
    assert budget.enter("b", MIB // 2)
    assert not budget.enter("c", 1)
    budget.leave("a")
    assert budget.enter("c", 1)
    assert budget.held == MIB // 2 + 1


def test_a_case_above_the_whole_budget_enters_alone() -> None:
    budget = MemoryBudget(1)
    assert budget.enter("large", 5 * MIB)
    assert not budget.enter("small", 1)


def test_waiting_ends_when_a_case_leaves() -> None:
    budget = MemoryBudget(1)
    budget.enter("a", MIB)
    threading.Timer(0.05, budget.leave, ["a"]).start()
    assert budget.enter("b", MIB, wait=True)


def test_a_claimed_case_stays_when_the_reader_passes_it_on() -> None:
    budget = MemoryBudget(1)
    for case in ("a", "b"):
        budget.enter(case, 10)
    budget.claim("a")
    budget.passed_on("a")
    budget.passed_on("b")
    assert budget.held == 10
    budget.leave("a")
    assert budget.held == 0


def test_a_budget_must_be_positive() -> None:
    with pytest.raises(ValueError, match="a positive number of MiB, got 0"):
        MemoryBudget(0)
