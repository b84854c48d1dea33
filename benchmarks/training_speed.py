"""Where a training epoch's time goes: ``python -m benchmarks.training_speed --help``.

The training configuration of the bundle as it is, timed from outside: loading, step, validation and peak memory.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Dataset

from benchmarks.machine import describe_machine
from benchmarks.reporting import RESULTS, ROOT, write_report

EPOCH_BATCHES = 100  # at least: with them no command line of ours times a step that begins an epoch


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_speed", description=__doc__)
    parser.add_argument("--dataset-dir", default=None, help="folder or data list; by default the demonstration data")
    parser.add_argument("--quick", action="store_true", help="16 pictures, batches of 4, 4 steps: half a minute")
    parser.add_argument("--image-size", type=int, default=256, help="pixels of the short side")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument(
        "--limit", type=int, default=None, help="at most so many cases for training, and for validation"
    )
    parser.add_argument("--steps", type=int, default=20, help="timed training steps, after two that are not")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and Markdown")
    options = parser.parse_args(arguments)
    if options.quick:
        options.limit, options.batch_size, options.steps = 16, 4, 4
    return options


def load_parser(options: argparse.Namespace) -> Any:
    """The training configuration with the options laid over it: sizes, numbers and data of the same names."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_file(str(ROOT / "bundle" / "configs" / "train.json")))
    changes = {
        "bundle_root": str(ROOT / "bundle"),
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "num_workers": options.num_workers,
        "limit": options.limit,
        "init": "none",
    }
    if options.dataset_dir:
        changes["dataset_dir"] = options.dataset_dir
    for name, value in changes.items():
        parser[name] = value
    parser["train::dataloader::dataset"] = {
        "_target_": "benchmarks.training_speed.repeated",
        "dataset": "@train::dataset",
        "batch_size": "@batch_size",
    }
    parser.get_parsed_content("memory")  # as a run does it
    return parser


def repeated(dataset: Dataset[Any], batch_size: int) -> Dataset[Any]:
    """The pictures so often that an epoch has at least 100 batches, as of a large data set; augmentation differs.

    An epoch begins with loading processes that start. With one batch an epoch, as 48 pictures make at a batch of 64,
    nothing but that would be timed.
    """
    pictures = len(dataset)  # type: ignore[arg-type]
    return ConcatDataset([dataset] * max(1, -(-EPOCH_BATCHES * batch_size // pictures)))


def endless(loader: Any) -> Any:
    """Batches of one epoch after the other."""
    while True:
        yield from loader


def time_training(parser: Any, steps: int, *, warmup: int = 2) -> dict[str, float]:
    """Seconds of waiting for data and of computing, medians over the steps, and the share of waiting."""
    network, loss = parser.get_parsed_content("network"), parser.get_parsed_content("loss")
    optimizer = parser.get_parsed_content("optimizer")
    inferer, batches = (
        parser.get_parsed_content("train::inferer"),
        endless(parser.get_parsed_content("train::dataloader")),
    )
    network.train()
    device = torch.device(parser.get_parsed_content("device"))
    waiting, computing, pictures = [], [], 0
    for step in range(steps + warmup):
        start = time.perf_counter()
        batch = next(batches)
        loaded = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss(inferer(batch["image"].to(device), network), batch["label"].to(device)).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if step >= warmup:
            waiting.append(loaded - start)
            computing.append(time.perf_counter() - loaded)
            pictures += len(batch["image"])
    return {
        "waiting_s": statistics.median(waiting),
        "computing_s": statistics.median(computing),
        "waiting_share": sum(waiting) / (sum(waiting) + sum(computing)),
        "pictures_per_s": pictures / (sum(waiting) + sum(computing)),
    }


def time_loading(parser: Any) -> float:
    """Seconds of one core to load and augment a picture, without workers."""
    dataset = parser.get_parsed_content("train::dataset")
    start = time.perf_counter()
    count = min(64, len(dataset))
    for index in range(count):
        dataset[index]
    return (time.perf_counter() - start) / count


def time_validation(parser: Any) -> dict[str, float]:
    """Seconds of two validation epochs, the first of which fills the cache, and the number of pictures."""
    evaluator = parser.get_parsed_content("validate::evaluator")
    times = []
    for _ in range(2):
        start = time.perf_counter()
        evaluator.run(1)
        times.append(time.perf_counter() - start)
    return {"pictures": len(evaluator.data_loader.dataset), "first_s": times[0], "second_s": times[1]}


def main(arguments: list[str] | None = None) -> None:
    """Measure and write ``training_speed.json`` and ``training_speed.md``, on CUDA ``training_speed_cuda``."""
    options = parse_arguments(arguments)
    parser = load_parser(options)
    parser["validate::handlers"] = []
    result: dict[str, Any] = {
        "machine": describe_machine(),
        "options": {name: value for name, value in vars(options).items() if name not in ("out", "dataset_dir")},
        "loading_s_per_picture": time_loading(parser),
        "training": time_training(parser, options.steps),
        "validation": time_validation(parser),
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    result["peak_memory_gib"] = peak / 2**20  # Linux counts in KiB; the process and its largest worker
    stem = stem_of(torch.device(parser.get_parsed_content("device")), quick=options.quick)
    write_report(options.out, stem, result, table(result))


def stem_of(device: torch.device, *, quick: bool = False) -> str:
    """Name of the result, without ending: the configuration takes CUDA by itself where there is one."""
    return "training_speed" + ("" if device.type == "cpu" else f"_{device.type}") + ("_quick" if quick else "")


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    training, validation, options = result["training"], result["validation"], result["options"]
    core_share = result["loading_s_per_picture"] * options["batch_size"] / training["computing_s"]
    rows = [
        ("pictures per second in training", f"{training['pictures_per_s']:.1f}"),
        (f"step of {options['batch_size']} pictures of {options['image_size']} px", f"{training['computing_s']:.3f} s"),
        ("share of a step spent waiting for data", f"{100 * training['waiting_share']:.1f} %"),
        ("loading and augmenting one picture (one core)", f"{1000 * result['loading_s_per_picture']:.1f} ms"),
        ("the same for a batch, over a step", f"{100 * core_share:.1f} % of one core"),
        (f"validation of {validation['pictures']} pictures, cached", f"{validation['second_s']:.1f} s"),
        ("peak memory, with the largest worker", f"{result['peak_memory_gib']:.2f} GiB"),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    machine = result["machine"]
    note = f"{machine['processor']}, {machine['cores']} cores, {machine['packages']}, commit {machine['commit']}"
    return "\n".join([*lines, "", note, ""])


if __name__ == "__main__":
    main()
