"""The forms in which one network is timed, from the plain one to those of other runtimes.

``"plain"`` is what the goals are measured against: the modules of BA-Net as they are, everything computed, the
auxiliary heads and their resizing too, in float32 and channels last.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from banet_monai.backends import load_exported
from banet_monai.choices import EXPORTS
from banet_monai.export import describe, export, optimize
from banet_monai.networks import BANet, on_device

__all__ = ["FORMS", "PRECISIONS", "callable_form", "plain"]

Call = Callable[[torch.Tensor], object]

FORMS = ("plain", "eager", "optimized", "compiled", *EXPORTS)
PRECISIONS = {"float32": "none", "bfloat16": "bf16", "float16": "fp16"}  # in the words of an inferer's amp


def plain(network: BANet) -> BANet:
    """The network in evaluation, in place, but with all nine maps in its output, as in training."""
    network.eval()
    network.training = True  # of the outermost module alone, which asks only whether all maps are wanted
    return network


def callable_form(form: str, network: BANet, *, dtype: str, device: torch.device, folder: Path) -> Call:
    """A network in one form, ready to be called with channels-last images.

    Args:
        form: one of :data:`FORMS`.
        network: a BANet; ``"plain"`` changes it.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``. Of the other runtimes only OpenVINO has all three.
        device: where to compute.
        folder: exported files are kept here and used again.
    """
    network = on_device(network.eval(), device)  # type: ignore[assignment]
    kind = getattr(torch, dtype)
    if form in ("optimized", "compiled"):
        return optimize(network, dtype=kind, compile_mode="reduce-overhead" if form == "compiled" else None)
    if form in EXPORTS:
        file = folder / f"model{EXPORTS[form]}"
        if not file.is_file():
            export(network, file, to=form, description=describe(network, task="benchmark"))
        return load_exported(file, amp=PRECISIONS[dtype])

    network = plain(network) if form == "plain" else network

    def call(images: torch.Tensor) -> object:
        with torch.autocast(device.type, dtype=kind, enabled=kind is not torch.float32):
            return network(images)

    return call
