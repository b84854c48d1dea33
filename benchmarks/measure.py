"""One measurement of one network in a process of its own, so that its peak memory is its own.

``python -m benchmarks.measure '<job as JSON>'`` prints one line of JSON. :mod:`benchmarks.network_speed` starts it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

from banet_monai.losses import BANetLoss
from banet_monai.networks import on_device
from benchmarks.machine import describe_machine, resident_mib

__all__ = ["Job", "Result", "machine_on", "measure", "peak_mib"]

Step = Callable[[], object]


@dataclass(frozen=True)
class Job:
    """What to measure: a network definition, ``mode`` "forward" or "train", and the conditions."""

    definition: dict[str, Any]
    mode: str
    image_size: int
    batch_size: int
    device: str
    dtype: str
    threads: int
    warmup: int
    steps: int


@dataclass(frozen=True)
class Result:
    """Seconds of each step; memory in MiB; FLOPs of one forward pass of one image, a multiply-add counting as two."""

    seconds: list[float]
    parameters: int
    flops: int
    peak_memory_mib: float
    machine: dict[str, object]


def measure(job: Job) -> Result:
    """Build the network, warm up, time the steps.

    The time covers forward pass (and loss, backward pass, AdamW step); images lie on the device before.
    Peak memory is that of the process above what Python and its libraries took; on CUDA what PyTorch's allocator held.
    """
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # one size of picture: the fastest kernel is found in the warm-up
    device = torch.device(job.device)
    before = resident_mib("VmRSS")

    network = on_device(ConfigParser({"network": job.definition}).get_parsed_content("network"), device)
    images = torch.rand(job.batch_size, 3, job.image_size, job.image_size, device=device)
    images = images.to(memory_format=torch.channels_last)  # as the bundle runs; all networks alike
    flops = _count_flops(network, images[:1])
    step = _forward_step(network, images, job) if job.mode == "forward" else _training_step(network, images, job)

    for _ in range(job.warmup):
        step()
    seconds = [_time(step, device) for _ in range(job.steps)]
    parameters = sum(p.numel() for p in network.parameters())
    return Result(seconds, parameters, flops, peak_mib(device, above=before), machine_on(device))


def peak_mib(device: torch.device, *, above: float = 0.0) -> float:
    """Peak memory in MiB: of this process above what it held before; on CUDA what PyTorch's allocator held."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(resident_mib("VmHWM") - above, 1)


def machine_on(device: torch.device) -> dict[str, object]:
    """The machine; on CUDA also whether float32 convolutions round their factors to TF32, as PyTorch lets them."""
    machine = describe_machine()
    return machine | {"tf32_convolutions": torch.backends.cudnn.allow_tf32} if device.type == "cuda" else machine


def _autocast(job: Job) -> torch.autocast:
    dtype = getattr(torch, job.dtype)
    return torch.autocast(torch.device(job.device).type, dtype=dtype, enabled=dtype is not torch.float32)


def _forward_step(network: torch.nn.Module, images: torch.Tensor, job: Job) -> Step:
    network.eval()

    def step() -> object:
        with torch.inference_mode(), _autocast(job):
            return network(images)

    return step


def _training_step(network: torch.nn.Module, images: torch.Tensor, job: Job) -> Step:
    """Every network with the same loss class: the mask alone for MONAI's, all nine maps for BA-Net."""
    network.train()
    loss_function = BANetLoss()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    labels = torch.zeros(images.shape[0], 1, *images.shape[2:], device=images.device)
    quarter = images.shape[-1] // 4
    labels[..., quarter : 3 * quarter, quarter : 3 * quarter] = 1

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        with _autocast(job):
            prediction = network(images)
            loss = loss_function(prediction, labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _count_flops(network: torch.nn.Module, image: torch.Tensor) -> int:
    network.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(image)
    return counter.get_total_flops()


def _time(step: Step, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Job(**json.loads(sys.argv[1]))))))
