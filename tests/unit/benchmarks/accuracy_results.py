"""Result files made by hand, in the form that the accuracy harness writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from banet_monai.metrics.table import METRICS

COLUMNS = ["case", "class", *METRICS, "unit", "true_pixels", "predicted_pixels", "missed"]


def make_result(
    experiment: str,
    seed: int,
    ja: list[float],
    *,
    classes: tuple[str, ...] = ("lesion",),
    second_class: list[float] | None = None,
    boundary_iou: float = 0.5,
    commit: str = "abc1234",
) -> dict[str, Any]:
    """One result; ``ja`` per case, 0 being a miss, and all other metrics the same for every case."""
    tables = [ja] if second_class is None else [ja, second_class]
    others = {"boundary_iou": boundary_iou, "hd95": 10.0, "assd": 4.0}
    rows = []
    for index in range(len(ja)):
        for name, table in zip(classes, tables, strict=True):
            figures = [table[index] if metric == "ja" else others.get(metric, 0.25) for metric in METRICS]
            rows.append([f"case_{index}", name, *figures, "px", 100, 100, int(table[index] == 0)])
    return {
        "format": 1,
        "name": f"cpu/pictures/{experiment}/seed{seed}",
        "budget": "cpu",
        "experiment": experiment,
        "title": {"banet": "BA-Net", "unet": "U-Net"}[experiment],
        "group": "All",
        "seed": seed,
        "judged": "averaged weights of the last epoch",
        "definition": {
            "dataset": "pictures",
            "held_back": "names.txt",
            "overrides": {"seed": seed, "network_def": {"_target_": experiment, "encoder": "@encoder"}},
        },
        "learning": {
            "learning_rate": 0.0005,
            "batch_size": 16,
            "max_epochs": 2,
            "image_size": 128,
            "encoder": "mobilenet_v2",
            "init": "imagenet",
            "amp": "auto",
        },
        "network": {"parameters": 3_070_000, "flops": 720_000_000, "image_size": [128, 128]},
        "training": {
            "seconds": 600.0,
            "seconds_per_epoch": 50.0 + seed,
            "best_epoch_of_curve": 2,
            "seconds_to_best": 100.0,
            "peak_memory_mib": 1900.4,
            "peak_gpu_memory_mib": None,
        },
        "curve_of": "first 100 held-back cases",
        "curve": {
            "epoch": [0, 1, 2],
            "train_loss": [None, 9.0, 5.0],
            "val_ja": [0.1, 0.5, 0.7],
            "seconds": [None, 50.0, 50.0],
        },
        "machine": {
            "processor": "Processor",
            "cores": 2,
            "gpu": None,
            "packages": {"torch": "2.13.0"},
            "commit": commit,
            "autocast": "bfloat16",
        },
        "configuration": {"bundle/configs/train.json": "0123456789ab"},
        "summary": {"n": len(ja), "unit": "px", "nsd_tolerance": 2.0},
        "cases": {"columns": COLUMNS, "rows": rows},
    }


def write_results(folder: Path, results: list[dict[str, Any]]) -> Path:
    """Put results where the harness does, and return the folder."""
    for result in results:
        path = folder / f"{result['name']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result), encoding="utf-8")
    return folder
