from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from monai.data import Dataset, MetaTensor, decollate_batch, list_data_collate

from banet_monai.data import CaseLoader, MemoryBudget
from banet_monai.machine import worker_threads

SHAPES = [(3, 8, 8), (3, 8, 8), (3, 8, 6), (3, 8, 6), (3, 8, 6), (1, 4, 4, 4), (3, 8, 8)]


class Cases(Dataset):
    """Images whose values are their numbers; ``seen`` are the threads that made them."""

    def __init__(self, shapes: list[tuple[int, ...]] = SHAPES) -> None:
        super().__init__([{"name": f"case{number}"} for number in range(len(shapes))])
        self.shapes = shapes
        self.seen: list[str] = []

    def _transform(self, index: int) -> dict[str, Any]:
        self.seen.append(threading.current_thread().name)
        image = MetaTensor(torch.full(self.shapes[index], float(index)), meta={"kind": "picture", "bits": 8})
        return {"image": image, "name": f"case{index}", "failure": ""}


def batches(**options: Any) -> list[list[str]]:
    return [list(batch["name"]) for batch in CaseLoader(Cases(), **options)]


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_neighbours_of_one_shape_share_a_batch_and_volumes_are_alone(num_workers: int) -> None:
    assert batches(batch_size=2, num_workers=num_workers) == [
        ["case0", "case1"], ["case2", "case3"], ["case4"], ["case5"], ["case6"],
    ]  # fmt: skip


@pytest.mark.parametrize(("num_workers", "read_ahead"), [(0, 1), (1, 1), (3, 2), (3, 100)])
def test_cases_come_in_order_with_their_own_values(num_workers: int, read_ahead: int) -> None:
    loader = CaseLoader(Cases(), batch_size=4, num_workers=num_workers, read_ahead=read_ahead)
    cases = [case for batch in loader for case in decollate_batch(batch)]
    assert [case["name"] for case in cases] == [f"case{number}" for number in range(7)]
    for number, case in enumerate(cases):
        assert case["image"].shape == SHAPES[number]
        assert torch.all(case["image"] == number)


def test_a_volume_is_collated_as_by_monai_but_not_copied() -> None:
    volume = MetaTensor(
        torch.rand(1, 4, 5, 6),
        meta={"bits": 8, "kind": "nifti"},
        applied_operations=[{"class": "x", "extra": {"n": 3}}],
    )
    case = {"image": volume, "name": "scan"}

    class One(Dataset):
        def _transform(self, index: int) -> dict[str, Any]:
            return case

    batch, expected = next(iter(CaseLoader(One([{"name": "scan"}])))), list_data_collate([case])
    assert batch["image"].data_ptr() == volume.data_ptr()
    found, known = decollate_batch(batch)[0], decollate_batch(expected)[0]
    assert found["name"] == known["name"] == "scan"
    assert torch.equal(found["image"].as_tensor(), volume.as_tensor())
    assert found["image"].applied_operations == known["image"].applied_operations == volume.applied_operations
    assert {key: str(value) for key, value in found["image"].meta.items()} == {
        key: str(value) for key, value in known["image"].meta.items()
    }


def test_other_meta_data_make_another_batch() -> None:
    class Mixed(Cases):
        def _transform(self, index: int) -> dict[str, Any]:
            case = super()._transform(index)
            if index:
                case["image"].meta["modality"] = "XC"
            return case

    loader = CaseLoader(Mixed([(3, 8, 8)] * 3), batch_size=8)
    assert [list(batch["name"]) for batch in loader] == [["case0"], ["case1", "case2"]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_budget_that_is_too_small_hands_over_what_there_is_instead_of_waiting_for_ever(
    num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CaseLoader, "_size", lambda loader, index: 2**20)
    budget = MemoryBudget(2)
    loader = CaseLoader(Cases([(3, 8, 8)] * 5), batch_size=4, num_workers=num_workers, budget=budget)
    names = []
    for batch in loader:
        names += batch["name"]
        assert budget.held <= 2 * 2**20
    assert names == [f"case{number}" for number in range(5)]
    assert budget.held == 0


def test_reading_is_done_by_threads_unless_there_is_nothing_to_overlap_with() -> None:
    here = threading.current_thread().name
    several, single = Cases(), Cases([(3, 8, 8)])
    list(CaseLoader(several, num_workers=1))
    list(CaseLoader(single, num_workers=1))
    assert here not in several.seen
    assert single.seen == [here]


def test_the_threads_of_pytorch_stay_as_they_are_here() -> None:
    before = torch.get_num_threads()
    list(CaseLoader(Cases(), num_workers=2))
    assert torch.get_num_threads() == before


def test_a_sampler_chooses() -> None:
    loader = CaseLoader(Cases(), sampler=[6, 0, 1])
    assert loader.cases == 3
    assert [batch["name"][0] for batch in loader] == ["case6", "case0", "case1"]


def test_no_case_is_no_batch() -> None:
    assert not list(CaseLoader(Cases([])))


def test_an_error_of_the_dataset_is_raised_in_its_turn() -> None:
    class Broken(Cases):
        def _transform(self, index: int) -> dict[str, Any]:
            if index == 2:
                raise KeyboardInterrupt
            return super()._transform(index)

    loader = iter(CaseLoader(Broken(), num_workers=1))
    assert next(loader)["name"] == ["case0"]
    assert next(loader)["name"] == ["case1"]
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        next(loader)


def test_a_run_that_ends_early_holds_nothing() -> None:
    budget = MemoryBudget(1)
    loader = iter(CaseLoader(Cases(), budget=budget))
    next(loader)
    loader.close()  # type: ignore[attr-defined]
    assert budget.held == 0


def test_automatic_threads_are_one_to_eight() -> None:
    assert 1 <= worker_threads("auto") <= 8
    assert worker_threads("3") == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"read_ahead": 0}, "read_ahead must be at least 1, got 0"),
        ({"num_workers": -1}, "the number of threads must be 'auto', or a whole number from 0 on, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaseLoader(Cases(), **options)
