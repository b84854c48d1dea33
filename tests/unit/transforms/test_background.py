from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from banet_monai.data import MemoryBudget
from banet_monai.report import CasesFailedError, RunReport
from banet_monai.transforms import InBackground


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_every_case_is_done_and_its_name_comes_back(num_workers: int) -> None:
    done = []
    writing = InBackground(lambda case: done.append(case["number"]), num_workers=num_workers)
    writing.begin()
    assert [writing({"name": f"c{n}", "number": n}) for n in range(20)] == [{"name": f"c{n}"} for n in range(20)]
    writing.finish()
    assert sorted(done) == list(range(20))


def test_the_next_case_goes_on_while_one_is_written() -> None:
    may_end = threading.Event()
    writing = InBackground(lambda case: may_end.wait(10), num_workers=1)
    writing.begin()
    writing({"name": "a"})
    writing({"name": "b"})  # would hang, were "a" waited for
    may_end.set()
    writing.finish()


def test_no_more_cases_than_stated_are_unfinished() -> None:
    unfinished, most = [], []
    lock = threading.Lock()

    def write(case: Any) -> None:
        time.sleep(0.002)
        with lock:
            unfinished.remove(case["name"])

    writing = InBackground(write, num_workers=2, waiting=3)
    writing.begin()
    for number in range(20):
        with lock:
            unfinished.append(str(number))
        writing({"name": str(number)})
        with lock:
            most.append(len(unfinished))
    writing.finish()
    assert max(most) <= 3


def test_a_case_leaves_the_budget_when_it_is_written() -> None:
    budget = MemoryBudget(1)
    budget.enter("a", 10)
    writing = InBackground(lambda case: None, num_workers=1, budget=budget)
    writing.begin()
    writing({"name": "a"})
    budget.passed_on("a")
    writing.finish()
    assert budget.held == 0


def test_an_error_is_raised_at_the_end_and_later_cases_are_left() -> None:
    done = []

    def write(case: Any) -> None:
        if case["name"] == "bad":
            raise ValueError("the grid does not fit")
        done.append(case["name"])

    writing = InBackground(write, num_workers=1)
    writing.begin()
    writing({"name": "good"})
    writing({"name": "bad"})
    with pytest.raises(RuntimeError, match="applying transform") as error:
        writing.finish()
    assert str(error.value.__cause__) == "the grid does not fit"
    assert done == ["good"]
    writing.finish()  # it is told once


def test_the_report_waits_for_what_is_being_written_and_leaves_the_rest(tmp_path: Path) -> None:
    report = RunReport(tmp_path, records=[{"image": f"{name}.png", "name": name} for name in "abc"])
    began = threading.Event()

    def write(case: Any) -> None:
        began.set()
        time.sleep(0.1)
        report.done(case["name"], tmp_path / f"{case['name']}_mask.png")

    writing = InBackground(write, num_workers=1, report=report)
    writing.begin()
    for name in "ab":
        writing({"name": name})
    began.wait(10)
    with pytest.raises(CasesFailedError, match="2 of 3 cases failed: b: it was not processed"):
        report.finish()  # as after Ctrl-C: nobody called writing.finish()
    fates = [entry["fate"] for entry in json.loads((tmp_path / "manifest.json").read_text())["files"]]
    assert fates == ["result", "failed", "failed"]


def test_results_stand_in_the_order_of_the_cases_whichever_was_done_first(tmp_path: Path) -> None:
    report = RunReport(tmp_path, records=[{"image": f"{name}.png", "name": name} for name in "abc"])
    waits = {"a": 0.06, "b": 0.03, "c": 0.0}

    def write(case: Any) -> None:
        time.sleep(waits[case["name"]])
        report.done(case["name"], tmp_path / f"{case['name']}_mask.png")

    writing = InBackground(write, num_workers=3)
    writing.begin()
    for name in "abc":
        writing({"name": name})
    writing.finish()
    report.finish()
    assert list(report.results) == ["a", "b", "c"]


def test_at_least_one_case_must_be_allowed_to_wait() -> None:
    with pytest.raises(ValueError, match="waiting must be at least 1, got 0"):
        InBackground(print, waiting=0)


def test_before_it_begins_it_is_a_compose_like_any_other() -> None:
    chain = InBackground([lambda case: {**case, "first": 1}, lambda case: {**case, "second": case["first"] + 1}])
    assert chain({"name": "a"}) == {"name": "a", "first": 1, "second": 2}
    assert len(chain.transforms) == 2


@pytest.mark.parametrize(("pixels", "cores"), [(8, 1), (4 * 2**20, 2)])  # the larger one has 16 MiB
def test_before_it_begins_a_small_case_takes_one_core_and_a_large_one_all(pixels: int, cores: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = InBackground(lambda case: {"cores": torch.get_num_threads()})({"pred": torch.zeros(pixels)})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {"cores": cores}
