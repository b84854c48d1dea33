"""Masks that finished runs draw together, to train on beside the reference: ``python -m benchmarks.accuracy teach``.

Reference outlines are drawn by several hands and differ where the lesion fades. A student that sees each training
picture twice an epoch, once with its reference and once with the mean opinion of several networks, learns from both in
equal parts. That is distillation with hard targets, and needs nothing of the bundle but a data list.

Only training cases are taught. Held-back cases stand in the list once, with their own reference.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from banet_monai.data import training_cases, validation_cases
from banet_monai.files import write_beside
from benchmarks.accuracy.definitions import EXPERIMENTS, ROOT, Run, load_definitions, plan
from benchmarks.accuracy.execution import Places
from benchmarks.accuracy.predicting import Predictor

__all__ = ["main", "mean_mask", "teach"]

HALF = 0.5
COLUMNS = ("image", "label", "name", "split")


def mean_mask(probabilities: Sequence[torch.Tensor]) -> torch.Tensor:
    """1 where the mean of the networks' probabilities is at least one half, else 0.

    Args:
        probabilities: one tensor per network, all of one shape, in [0, 1].

    Returns:
        ``uint8`` tensor of that shape.

    Raises:
        ValueError: when there is none.
    """
    if not probabilities:
        raise ValueError("at least one network is needed.")
    return (torch.stack(list(probabilities)).mean(dim=0) >= HALF).to(torch.uint8)


def teach(dataset: str, definition: dict[str, Any], teachers: Sequence[Run], places: Places) -> Path:
    """Write masks and the data list ``<runs>/taught/<dataset>.csv``; masks that exist already are kept.

    Args:
        dataset: name of the data set whose training cases are taught.
        definition: that of ``experiments.json``.
        teachers: finished runs.
        places: where they lie; the masks go below its runs.

    Returns:
        The list.

    Raises:
        FileNotFoundError: when data or weights are missing.
        ValueError: when a case cannot be read.
    """
    if places.data is None:
        raise FileNotFoundError("say where the data sets lie by --data or BANET_DATA.")
    folder = str(places.data / definition["folder"])
    ids = None if definition.get("val_ids") is None else str(ROOT / definition["val_ids"])
    training, held_back = training_cases(folder, val_ids=ids), validation_cases(folder, val_ids=ids)
    masks = places.taught(dataset).with_name("masks")
    masks.mkdir(parents=True, exist_ok=True)
    missing = [case for case in training if not (masks / f"{case['name']}.png").is_file()]
    if missing:
        _draw(missing, teachers, places, masks)
    taught = [
        {**case, "label": str(masks / f"{case['name']}.png"), "name": f"{case['name']}_taught"} for case in training
    ]
    path = places.taught(dataset)
    _write_list(path, [("train", case) for case in (*training, *taught)] + [("val", case) for case in held_back])
    return path


def _draw(cases: list[dict[str, str]], teachers: Sequence[Run], places: Places, masks: Path) -> None:
    listed = masks.parent / "waiting.csv"
    _write_list(listed, [("val", case) for case in cases])
    seen = {"dataset_dir": str(listed), "val_ids": None}
    networks = [Predictor(run, places, cases=seen) for run in teachers]
    for batch in tqdm(networks[0].batches(), desc="teaching", total=len(cases)):
        predicted = [network.predict(batch) for network in networks]
        mask = mean_mask([case["pred"] for case in predicted])[0]
        picture = Image.fromarray(mask.numpy().T * 255)  # arrays of pictures are (column, row), PIL's (row, column)
        write_beside(
            masks / f"{predicted[0]['name']}.png", lambda partial, image=picture: image.save(partial, format="png")
        )
    listed.unlink()


def _write_list(path: Path, rows: Sequence[tuple[str, dict[str, str]]]) -> None:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for split, case in rows:
        image, label = (os.fspath(Path(case[key]).resolve()) for key in ("image", "label"))
        writer.writerow((image, label, case["name"], split))
    write_beside(path, lambda partial: partial.write_text(text.getvalue(), encoding="utf-8"))


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy teach", description=__doc__)
    parser.add_argument(
        "runs_of_teachers", nargs="+", metavar="RUN", help="finished runs, or the beginning of their names"
    )
    parser.add_argument("--dataset", required=True, help="data set of experiments.json whose training cases are taught")
    parser.add_argument("--data", type=Path, default=os.environ.get("BANET_DATA"), help="folder of the data sets")
    parser.add_argument("--weights", type=Path, default=os.environ.get("BANET_WEIGHTS"), help="as for run")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "accuracy", help="folder of the runs' states")
    parser.add_argument("--experiments", type=Path, default=EXPERIMENTS, help="file of experiments")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Teach and say where the list lies: 0, or 2 for what is missing or wrong."""
    options = parse_arguments(arguments)
    places = Places(options.data, options.weights, options.runs, options.runs)
    try:
        definitions = load_definitions(options.experiments)
        budgets = {name.split("/")[0] for name in options.runs_of_teachers}
        teachers = [
            run for budget in sorted(budgets) for run in _of_budget(definitions, budget, options.runs_of_teachers)
        ]
        if options.dataset not in definitions["datasets"]:
            known = ", ".join(definitions["datasets"])
            raise ValueError(f"there is no data set '{options.dataset}', there are: {known}.")
        if definitions["datasets"][options.dataset].get("folder") is None:
            raise ValueError(f"'{options.dataset}' is taught itself or the demonstration: name one with a folder.")
        path = teach(options.dataset, definitions["datasets"][options.dataset], teachers, places)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(teachers)} networks taught; list: {path}")
    return 0


def _of_budget(definitions: dict[str, Any], budget: str, names: Sequence[str]) -> list[Run]:
    return plan(definitions, budget, only=[name for name in names if name.split("/")[0] == budget])


if __name__ == "__main__":
    sys.exit(main())
