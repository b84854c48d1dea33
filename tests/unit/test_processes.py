"""One process alone: what several would say is tested with several (tests/integration)."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from banet_monai.handlers import join_processes
from banet_monai.machine import worker_threads
from banet_monai.processes import gather, process_count, process_device, process_rank, processes_here


@pytest.fixture
def machine(monkeypatch):
    """Makes this process one of several on a machine with so many GPUs; what they are joined by, and their GPU."""
    joined = {}
    monkeypatch.setattr(dist, "init_process_group", lambda backend, timeout: joined.update(backend=backend))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: joined.update(device=str(device)))

    def make(processes, local_rank, gpus):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        monkeypatch.setenv("LOCAL_RANK", str(local_rank))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        return joined

    return make


def test_a_process_alone_is_the_first_of_one():
    assert (process_rank(), process_count()) == (0, 1)


def test_gathering_alone_gives_back_what_json_makes_of_it():
    value = {"a": [1, 0.1, None, "tab\there", "\udcff"], "b": (True,)}
    assert gather(value) == [{"a": [1, 0.1, None, "tab\there", "\udcff"], "b": [True]}]


@pytest.mark.parametrize(
    ("processes", "local_rank", "gpus", "device", "backend"),
    [
        (2, 1, 0, "cpu", "gloo"),
        (2, 1, 2, "cuda:1", "nccl"),
        (2, 1, 4, "cuda:1", "nccl"),
        (4, 3, 1, "cuda:0", "gloo"),  # NCCL refuses two processes on one GPU
        (4, 3, 2, "cuda:1", "gloo"),
    ],
)
def test_processes_get_a_gpu_each_or_share_those_there_are(machine, processes, local_rank, gpus, device, backend):
    joined = machine(processes, local_rank, gpus)
    assert str(process_device()) == device
    assert join_processes() == 0  # there is no group here
    assert joined == {"backend": backend} | ({"device": device} if gpus else {})


def test_processes_share_the_cores_of_their_machine(machine, monkeypatch):
    monkeypatch.setattr("banet_monai.machine._cores", lambda: 16)
    assert (processes_here(), worker_threads("auto")) == (1, 8)
    machine(4, 0, 0)
    assert (processes_here(), worker_threads("auto")) == (4, 3)
    machine(16, 0, 0)
    assert worker_threads("auto") == 1
