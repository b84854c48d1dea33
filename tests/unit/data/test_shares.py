"""Cases divided among processes."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from banet_monai.data import CaseShares


def share(monkeypatch, cases: int, processes: int, rank: int) -> list[int]:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda *_: processes)
    monkeypatch.setattr(dist, "get_rank", lambda *_: rank)
    return list(CaseShares(range(cases)))


@pytest.mark.parametrize(
    ("cases", "processes", "shares"),
    [
        (5, 2, [[0, 2, 4], [1, 3]]),
        (4, 2, [[0, 2], [1, 3]]),
        (3, 3, [[0], [1], [2]]),
        (7, 4, [[0, 4], [1, 5], [2, 6], [3]]),
        (1, 1, [[0]]),
    ],
)
def test_every_case_goes_to_one_process(monkeypatch, cases, processes, shares):
    assert [share(monkeypatch, cases, processes, rank) for rank in range(processes)] == shares


@pytest.mark.parametrize("rank", range(3))
def test_more_processes_than_cases_are_refused_in_every_process(monkeypatch, rank):
    with pytest.raises(ValueError, match=r"3 processes cannot share 2 cases.*start 2 at most"):
        share(monkeypatch, 2, 3, rank)


def test_no_case_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"2 processes cannot share 0 cases.*start fewer at most.*give more cases"):
        share(monkeypatch, 0, 2, 0)
