"""What can be found wrong with a run before it starts, and what is known of its network before it is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

from banet_monai.data import training_cases, validation_cases
from benchmarks.accuracy.definitions import ROOT, Run
from benchmarks.accuracy.execution import Places, lay_over

__all__ = ["NetworkFacts", "check", "network_facts", "parse_training"]

LEARNING = ("learning_rate", "batch_size", "max_epochs", "image_size", "encoder", "init")


@dataclass(frozen=True)
class NetworkFacts:
    """Size and cost of a network; ``flops`` of one picture in evaluation, a multiply-add counting as two."""

    parameters: int
    flops: int
    image_size: list[int]


def parse_training(run: Run, places: Places) -> ConfigParser:
    """The bundle's training configuration with the run's overlay, as the training command reads it."""
    overlay = lay_over(run, places)[0]
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in run.training_files()]))
    parser.update(overlay)
    return parser


def check(run: Run, places: Places) -> None:
    """Refuse a run that cannot work: missing data, another number of cases, a network or size that does not fit.

    Raises:
        FileNotFoundError: when data or weights are missing.
        ValueError: for everything else.
    """
    folder = places.dataset(run)
    lay_over(run, places)
    try:
        if folder is not None:
            _count_cases(run, str(folder))
        parser = parse_training(run, places)
        size = _window(parser)
        network = parser.get_parsed_content("network_def")
        image = torch.zeros(2, _channels(parser), *size)
        loss = parser.get_parsed_content("loss")(network.train()(image), torch.zeros(2, 1, *size))
    except (ValueError, TypeError, RuntimeError, KeyError, ImportError) as error:
        raise ValueError(f"its settings do not work: {_reason(error)}") from error
    if not bool(torch.isfinite(loss)):
        raise ValueError(f"its first loss is {float(loss)}.")


def _reason(error: BaseException) -> str:
    """First line of what first went wrong: MONAI wraps it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error) or type(error).__name__).splitlines()[0]


def _count_cases(run: Run, folder: str) -> None:
    ids = _val_ids(run.data)
    counts = {"training": training_cases(folder, val_ids=ids), "held_back": validation_cases(folder, val_ids=ids)}
    for name, cases in counts.items():
        wanted = run.data.get(name)
        if wanted is not None and len(cases) != wanted:
            raise ValueError(f"its data set has {len(cases)} {name.replace('_', ' ')} cases, {wanted} are needed.")


def _val_ids(data: Mapping[str, Any]) -> str | None:
    """Path of the list of held-back names, None where the data bring their own parts."""
    return None if data.get("val_ids") is None else str(ROOT / data["val_ids"])


def network_facts(run: Run, places: Places) -> NetworkFacts:
    """Build the run's network and count."""
    parser = parse_training(run, places)
    size = _window(parser)
    network = parser.get_parsed_content("network_def").eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, _channels(parser), *size))
    return NetworkFacts(sum(p.numel() for p in network.parameters()), counter.get_total_flops(), size)


def learning_settings(run: Run, places: Places) -> dict[str, Any]:
    """The settings of learning that stand beside a result, where the configuration has them."""
    base: dict[str, Any] = {}
    for file in run.training_files():
        base |= json.loads(file.read_text(encoding="utf-8"))
    base |= run.settings
    return {key: base[key] for key in (*LEARNING, "ema_decay", "dice_weight", "weight_decay", "amp") if key in base}


def _window(parser: ConfigParser) -> list[int]:
    """Pixels along each axis of what the network sees in training."""
    config = parser.get()
    return list(config["window"]) if "window" in config else [int(config["image_size"])] * 2


def _channels(parser: ConfigParser) -> int:
    """Channels of the image, which the reader of the task is told."""
    return int(parser.get()["train"]["deterministic_transforms"][0]["in_channels"])
