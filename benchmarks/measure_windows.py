"""An input in windows, all ways in turn, in its own process: ``python -m benchmarks.measure_windows '<job as JSON>'``.

The ways run the same fast form of the network over the same windows in the same batches:

* ``network``: the network alone, on windows that lie ready,
* ``banet``: :class:`~banet_monai.inferers.SegmentationInferer`,
* ``stock``: MONAI's ``SlidingWindowInferer`` or, for slices, ``SliceInferer``,
* ``banet_free`` and ``stock_free``: the two with a network that costs nothing, which leaves the work around it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import SliceInferer, SlidingWindowInferer

from banet_monai.export import optimize
from banet_monai.inferers import SegmentationInferer
from banet_monai.networks import on_device
from benchmarks.measure import machine_on, peak_mib

__all__ = ["WAYS", "measure"]

WAYS = ("network", "banet", "stock", "banet_free", "stock_free")
READY = 4  # batches of windows that the network alone is given in turn: more than the caches hold

Network = Callable[[torch.Tensor], torch.Tensor]


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of every way in every round, the number of windows, and how far the two inferers differ."""
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    device, roi_size, batch = torch.device(job["device"]), tuple(job["roi_size"]), job["batch_size"]
    plain = on_device(ConfigParser({"network": job["definition"]}).get_parsed_content("network"), device)
    network: Network = optimize(plain.eval(), dtype=getattr(torch, job["dtype"]))
    image = torch.rand(1, job["definition"]["in_channels"], *job["shape"], device=device)

    ours = SegmentationInferer(
        spatial_dims=len(roi_size), roi_size=roi_size, sw_batch_size=batch, overlap=job["overlap"], amp="none"
    )
    stock = _stock(roi_size, len(job["shape"]), batch, job["overlap"])
    with torch.inference_mode():
        sizes = _batches(ours, image)
        free = _FreeNetwork(network, roi_size, image, batch)
        calls: dict[str, Callable[[], object]] = {
            "network": lambda: _alone(network, image, roi_size, sizes),
            "banet": lambda: ours(image, network),
            "stock": lambda: stock(image, network),
            "banet_free": lambda: ours(image, free),
            "stock_free": lambda: stock(image, free),
        }
        warm_up = min(max(sizes), len(sizes))
        _alone(network, image, roi_size, [*sizes[:warm_up], sizes[-1]])
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for turn in range(job["rounds"]):
            for way in (*WAYS[turn % 3 : 3], *WAYS[: turn % 3], *WAYS[3:]):
                seconds[way].append(_time(calls[way], device))
        difference = _difference(ours(image, network), stock(image, network))
    return {
        "seconds": seconds,
        "windows": sum(sizes),
        "relative_difference": difference,
        "peak_memory_mib": peak_mib(device),
        "machine": machine_on(device),
    }


def _stock(roi_size: tuple[int, ...], rank: int, batch: int, overlap: float) -> Any:
    options: dict[str, Any] = {"sw_batch_size": batch, "overlap": overlap, "mode": "gaussian"}
    if rank > len(roi_size):
        return SliceInferer(roi_size=roi_size, spatial_dim=2, **options)
    return SlidingWindowInferer(roi_size, **options)


class _FreeNetwork:
    """Hands out logits that were made before, as many as there are windows."""

    def __init__(self, network: Network, roi_size: tuple[int, ...], image: torch.Tensor, batch: int) -> None:
        self.logits = network(image.new_zeros((batch, image.shape[1], *roi_size))).float()

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(windows)].clone()  # an inferer may write into what it gets


def _batches(ours: SegmentationInferer, image: torch.Tensor) -> list[int]:
    """Windows in each call of the network."""
    sizes: list[int] = []

    def count(windows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(windows))
        return windows[:, :1]

    ours(image, count)
    return sizes


def _alone(network: Network, image: torch.Tensor, roi_size: tuple[int, ...], sizes: list[int]) -> None:
    order = torch.channels_last if len(roi_size) == 2 else torch.channels_last_3d
    key = (max(sizes), *roi_size)
    if key not in _READY:
        shape = (max(sizes), image.shape[1], *roi_size)
        _READY[key] = [torch.rand(shape, device=image.device).to(memory_format=order) for _ in range(READY)]
    for number, size in enumerate(sizes):
        network(_READY[key][number % READY][:size])


_READY: dict[tuple[int, ...], list[torch.Tensor]] = {}


def _difference(ours: torch.Tensor, stock: torch.Tensor) -> float:
    return float((ours - stock).abs().max() / stock.abs().max())


def _time(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
