"""The documented commands, run as a user types them, in a small copy of a clone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from banet_monai.data import make_demonstration_data
from banet_monai.networks import BANet

ROOT = Path(__file__).resolve().parents[1]
PICTURES = {"num_train": 6, "num_val": 2, "size": 64}
SMALL = {"image_size": 64, "batch_size": 2, "num_workers": 0}
SECONDS = 600  # a command that takes longer hangs
SEVERAL = "['bundle/configs/train.json','bundle/configs/multi_gpu_train.json']"
EVALUATION = "['bundle/configs/inference.json','bundle/configs/evaluate.json']"


def make_clone(folder: Path) -> Path:
    """A folder with ``bundle/`` (random weights in ``models/``) and ``demo/``, as a clone has after a first run."""
    shutil.copytree(ROOT / "bundle", folder / "bundle", ignore=shutil.ignore_patterns("models", "docs", "tasks"))
    (folder / "bundle" / "models").mkdir()
    torch.save(random_network().state_dict(), folder / "bundle" / "models" / "model.pt")
    make_demonstration_data(folder / "demo", **PICTURES)
    return folder


def random_network(**changes: object) -> BANet:
    """The network of the configuration with random weights, in eval mode."""
    definition = json.loads((ROOT / "bundle" / "configs" / "inference.json").read_text())["network_def"]
    arguments = {key: value for key, value in definition.items() if key != "_target_"}
    torch.manual_seed(0)
    return BANet(**{**arguments, "encoder": "mobilenet_v2", **changes}).eval()


def constant_network(logit: float) -> BANet:
    """A network that gives ``logit`` everywhere."""
    network = random_network()
    with torch.no_grad():
        network.head.conv.weight.zero_()
        network.head.conv.bias.fill_(logit)
    return network


class Payload:
    """In a pickle, it makes the folder ``pwned`` when it is loaded."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("pwned",)


def command(clone: Path, words: Sequence[str], **options: object) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of ``python -m <words> --<option> <value> ...``."""
    flags = [text for name, value in options.items() for text in (f"--{name.replace('__', '::')}", _as_text(value))]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(clone), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("BANET_ENCODER_WEIGHTS", None)
    return [sys.executable, "-m", *words, *flags], environment


def run(
    clone: Path, *words: str, expect: int | None = 0, prepare: Callable[[], None] | None = None, **options: object
) -> str:
    """Run ``python -m <words>`` in ``clone`` and return what it printed.

    Args:
        clone: working directory.
        words: module and its arguments.
        expect: exit code; None for any that is not 0.
        prepare: called in the child before it starts.
        options: as ``--name value``; two underscores stand for ``::``.
    """
    line, environment = command(clone, words, **options)
    done = subprocess.run(
        line,
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        preexec_fn=prepare,
    )
    good = done.returncode != 0 if expect is None else done.returncode == expect
    assert good, f"exit code {done.returncode} of {' '.join(line)}\n{done.stdout[-6000:]}"
    return done.stdout


def train(clone: Path, **options: object) -> str:
    """The training command with a small setting."""
    return run(clone, *TRAINING, **{**SMALL, **options})


def infer(clone: Path, **options: object) -> str:
    """The inference command with a small setting."""
    return run(clone, *INFERENCE, image_size=64, **options)


TRAINING = ("monai.bundle", "run", "training", "--config_file", "bundle/configs/train.json")
INFERENCE = ("monai.bundle", "run", "--config_file", "bundle/configs/inference.json")


def train_and_kill(clone: Path, state_file: Path, **options: object) -> None:
    """Start the training command and kill it with its workers (SIGKILL) when ``state_file`` appears."""
    line, environment = command(clone, TRAINING, **{**SMALL, **options})
    with (state_file.parent.parent / "killed.log").open("w") as log:
        process = subprocess.Popen(
            line, cwd=clone, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            end = time.monotonic() + SECONDS
            while not state_file.is_file():
                if process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"training wrote no state:\n{Path(log.name).read_text()[-6000:]}")
                time.sleep(0.005)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == -signal.SIGKILL, "training had ended before it could be killed"


def equal_states(first: Path, second: Path, part: str = "") -> bool:
    """Whether two files of tensors hold the same names with bit-equal values; ``part`` of both, where given."""
    one, two = (torch.load(path, map_location="cpu", weights_only=True) for path in (first, second))
    one, two = (one[part], two[part]) if part else (one, two)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
