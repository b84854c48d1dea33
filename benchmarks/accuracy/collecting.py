"""The result of a run as one JSON file: table of cases, learning curve, time, memory, versions, machine, settings."""

from __future__ import annotations

import csv
import hashlib
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.checking import learning_settings, network_facts
from benchmarks.accuracy.definitions import ROOT, Run
from benchmarks.accuracy.execution import Places, Workplace, overrides
from benchmarks.accuracy.sources import machine_of

__all__ = ["FORMAT", "collect", "definition", "learning_curve"]

FORMAT = 1
JUDGED = "averaged weights of the last epoch: no epoch was selected; threshold 0.5; no test-time augmentation"
JA_TAG, LOSS_TAG = "val_ja", "train_loss"
DIGITS = 4
TEXT_COLUMNS = ("case", "class", "unit")
WHOLE_COLUMNS = ("true_pixels", "predicted_pixels", "missed")


def definition(run: Run) -> dict[str, Any]:
    """What makes a run the run it is, free of this machine's paths: two results with equal ones are repeats."""
    what = {"dataset": run.dataset, "held_back": run.data.get("val_ids"), "overrides": overrides(run)}
    return {**what, "evaluation": run.evaluation} if run.evaluation else what


def collect(run: Run, places: Places, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about a finished run.

    Args:
        run: the run, trained and evaluated.
        places: where it lies.
        evaluation: seconds and peak memory of the evaluation.
    """
    place = Workplace(run, places)
    segments = json.loads(place.segments.read_text(encoding="utf-8"))
    progress = torch.load(place.state, map_location="cpu", weights_only=True)["progress"]
    curve = learning_curve(place.training, progress["iteration"] // progress["epoch"])
    best = max(range(len(curve["epoch"])), key=lambda index: curve["val_ja"][index])
    summary = json.loads((place.evaluation / "summary.json").read_text(encoding="utf-8"))
    times = [seconds for seconds in curve["seconds"] if seconds is not None]
    return {
        "format": FORMAT,
        "name": run.name,
        "budget": run.budget,
        "experiment": run.experiment,
        "title": run.title,
        "group": run.group,
        "seed": run.seed,
        "judged": JUDGED,
        "definition": definition(run),
        "learning": learning_settings(run, places),
        "network": asdict(network_facts(run, places)),
        "training": {
            "seconds": round(sum(segment["seconds"] for segment in segments), 1),
            "seconds_per_epoch": round(statistics.median(times), 1) if times else None,
            "steps": progress["iteration"],
            "best_epoch_of_curve": curve["epoch"][best],
            "seconds_to_best": _seconds_to(best, curve),
            "starts": len(segments),
            "sources": _different(segment.get("sources") for segment in segments),
            "machines": _different(segment["machine"] for segment in segments if "machine" in segment),
            "cpu_seconds": _sum_or_none([segment.get("cpu_seconds") for segment in segments]),
            "peak_memory_mib": max((m for s in segments if (m := s["peak_memory_mib"]) is not None), default=None),
            "peak_gpu_memory_mib": _gpu_peak(place.gpu_peak),
        },
        "curve_of": "all held-back cases" if run.curve_cases is None else f"first {run.curve_cases} held-back cases",
        "curve": curve,
        "evaluation": dict(evaluation),
        "machine": machine_of(run),
        "configuration": {
            str(file.relative_to(ROOT)): hashlib.sha256(file.read_bytes()).hexdigest()[:12]
            for file in (*run.training_files(), *run.evaluation_files())
        },
        "summary": summary,
        "cases": _read_cases(place.evaluation / "cases.csv"),
    }


def _sum_or_none(values: list[float | None]) -> float | None:
    """Sum, or None where a start was killed and its share is not known."""
    return None if None in values else round(sum(value for value in values if value is not None), 1)


def _different(values: Iterable[Any]) -> list[Any]:
    """Each value once, in the order of the starts."""
    kept: list[Any] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept


def _gpu_peak(path: Path) -> float | None:
    """What :func:`benchmarks.accuracy.memory.write_gpu_peak` left; None where every start was killed before."""
    peak: float | None = json.loads(path.read_text(encoding="utf-8"))["peak_gpu_memory_mib"] if path.is_file() else None
    return peak


def _seconds_to(best: int, curve: Mapping[str, Sequence[float | None]]) -> float | None:
    """Seconds until the epoch at index ``best`` of the curve; None where no epoch was timed.

    The first epoch after a start was not timed from its beginning: it counts as the median one.
    """
    epochs = zip(curve["epoch"], curve["seconds"], strict=True)
    known = [seconds for seconds in curve["seconds"] if seconds is not None]
    wanted = [seconds for epoch, seconds in list(epochs)[: best + 1] if epoch]  # 0 is before training
    if None in wanted and not known:
        return None
    return round(sum(statistics.median(known) if seconds is None else seconds for seconds in wanted), 1)


def learning_curve(folder: Path, epoch_length: int) -> dict[str, list[float | None]]:
    """Loss, JA on the working grid and seconds of every epoch, from the event files of all starts of a run.

    Args:
        folder: of the event files.
        epoch_length: steps of an epoch.

    Returns:
        ``epoch`` from 0 (before training), ``train_loss`` (mean over the epoch's steps), ``val_ja``, and ``seconds``
        from the end of the epoch before to its own, validation included; None where no event tells.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    losses: dict[int, float] = {}
    values: dict[int, float] = {}
    seconds: dict[int, float] = {}
    for file in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0, "images": 1})
        events.Reload()
        tags = events.Tags()["scalars"]
        before = None
        for number, event in enumerate(events.Scalars(JA_TAG) if JA_TAG in tags else []):
            # The bundle validates before the first step too, and calls that epoch 1 as well.
            epoch = 0 if number == 0 and event.step == 1 else event.step
            values[epoch] = event.value
            if before is not None:
                seconds[epoch] = round(event.wall_time - before, 1)
            before = event.wall_time
        losses |= {event.step: event.value for event in events.Scalars(LOSS_TAG)} if LOSS_TAG in tags else {}

    def mean_loss(epoch: int) -> float | None:
        steps = range((epoch - 1) * epoch_length + 1, epoch * epoch_length + 1)
        known = [losses[step] for step in steps if step in losses]
        return round(statistics.fmean(known), DIGITS) if known else None

    epochs = sorted(values)
    return {
        "epoch": list(epochs),
        "train_loss": [mean_loss(epoch) for epoch in epochs],
        "val_ja": [round(values[epoch], DIGITS) for epoch in epochs],
        "seconds": [seconds.get(epoch) for epoch in epochs],
    }


def _read_cases(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8", newline="") as file:
        columns, *rows = list(csv.reader(file))
    values = [[_value(column, text) for column, text in zip(columns, row, strict=True)] for row in rows]
    return {"columns": columns, "rows": values}


def _value(column: str, text: str) -> str | int | float:
    if column in TEXT_COLUMNS:
        return text
    return int(text) if column in WHOLE_COLUMNS else round(float(text), DIGITS)
