from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from banet_monai.robustness import Condition, conditions, robustness, running
from banet_monai.robustness.measuring import CaseRow
from banet_monai.robustness.running import PARTIAL, forget_partial

WANTED = conditions(["blur"], (1, 5))
CASES = [{"name": name, "image": f"{name}.png", "label": f"{name}_mask.png"} for name in "abc"]


class Measurer:
    """Counts what it is asked for; breaks at the cases it is told to."""

    def __init__(self, *, broken: Mapping[str, BaseException] | None = None, seed: int = 0) -> None:
        self.broken = dict(broken or {})
        self.seed = seed
        self.asked: list[tuple[str, Condition]] = []

    def load(self, case: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": case["name"]}

    def __call__(self, loaded: Mapping[str, Any], condition: Condition) -> CaseRow:
        self.asked.append((loaded["name"], condition))
        if condition.strength == 5 and loaded["name"] in self.broken:
            raise self.broken[loaded["name"]]
        bins = [[1.0], [0.5], [1.0]]
        return CaseRow(
            loaded["name"], condition.corruption, condition.strength, condition.amount, 0.5, 0.4, 0.3, False, bins
        )


def package(folder: Path, code: str = "a = 1") -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "module.py").write_text(code)
    return folder


def test_code_is_told_apart_by_its_text_and_not_by_its_place(tmp_path: Path) -> None:
    one, same, other = (package(tmp_path / name, code) for name, code in (("1", "a"), ("2", "a"), ("3", "b")))
    (same / "notes.txt").write_text("no code")
    digests = [running._code_digest(folder) for folder in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_every_case_meets_every_condition_and_progress_is_told() -> None:
    told: list[int] = []
    rows, failures = robustness(Measurer(), CASES, WANTED, progress=told.append)
    assert [(row.case, row.condition) for row in rows] == [(name, c) for name in "abc" for c in WANTED]
    assert failures == {}
    assert told == [3, 3, 3]


def test_a_case_that_fails_in_one_condition_is_named_and_in_none_of_them() -> None:
    rows, failures = robustness(Measurer(broken={"b": MemoryError()}), CASES, WANTED)
    assert {row.case for row in rows} == {"a", "c"}
    assert failures == {"b": "b.png: does not fit into memory"} or "b.png" in failures["b"]


def test_an_interrupted_run_goes_on_where_it_was_and_gives_the_same(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        robustness(Measurer(broken={"c": KeyboardInterrupt()}), CASES, WANTED, folder=tmp_path)
    assert len(list((tmp_path / PARTIAL).iterdir())) == 2
    second = Measurer()
    rows, failures = robustness(second, CASES, WANTED, folder=tmp_path)
    assert {name for name, _ in second.asked} == {"c"}
    assert (rows, failures) == robustness(Measurer(), CASES, WANTED)
    forget_partial(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["facts", "seed", "conditions", "file", "code"])
def test_what_was_measured_otherwise_is_measured_anew(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"one")
    cases = [{"name": "a", "image": str(image), "label": "a_mask.png"}]
    robustness(Measurer(), cases, WANTED, folder=tmp_path, facts={"weights_sha256": "1"})
    facts = {"weights_sha256": "2" if change == "facts" else "1"}
    if change == "file":
        image.write_bytes(b"another")
    if change == "code":  # of the same version
        monkeypatch.setattr(running, "PACKAGE", package(tmp_path / "older"))
    again = Measurer(seed=int(change == "seed"))
    robustness(again, cases, WANTED[: 2 if change == "conditions" else 3], folder=tmp_path, facts=facts)
    assert len(again.asked) == (2 if change == "conditions" else 3)


def test_a_damaged_file_of_a_finished_case_is_measured_anew(tmp_path: Path) -> None:
    robustness(Measurer(), CASES[:1], WANTED, folder=tmp_path)
    (file,) = (tmp_path / PARTIAL).iterdir()
    file.write_text('[{"case": ')
    again = Measurer()
    robustness(again, CASES[:1], WANTED, folder=tmp_path)
    assert len(again.asked) == 3
