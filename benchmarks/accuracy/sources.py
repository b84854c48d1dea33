"""What a start of a run computed with: a digest of the code that trains, and the machine.

A run that is taken up goes on under the code and on the machine that are there then. Each start keeps both, so that
tables can say where they changed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from banet_monai.inferers import autocast_dtype
from benchmarks.accuracy.definitions import ROOT, Run
from benchmarks.machine import describe_machine

__all__ = ["machine_of", "training_digest"]

CODE = ("banet_monai/**/*.py", "benchmarks/accuracy/peers.py", "benchmarks/accuracy/variants.py")


def training_digest(run: Run, root: Path = ROOT) -> str:
    """Digest of the code and configuration that the run's training executes.

    The overlay is not in it: a state that another overlay made is never taken up.

    Args:
        run: the run, whose configuration may be that of another task.
        root: of the clone.
    """
    code = sorted({file for pattern in CODE for file in root.glob(pattern)})
    named = [(file.relative_to(root).as_posix(), file) for file in code]
    digest = hashlib.sha256()
    for name, file in (*named, *((file.name, file) for file in run.training_files())):
        digest.update(f"{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def machine_of(run: Run) -> dict[str, object]:
    """This machine, its versions and commit, and the type that the run's network computes in here."""
    dtype = autocast_dtype(
        str(run.settings.get("amp", "auto")), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )
    return {**describe_machine(), "autocast": str(dtype or torch.float32).removeprefix("torch.")}
