"""What is lost and gained with the small parts of a mask: ``python -m benchmarks.accuracy parts --help``.

The networks of finished runs segment their held-back cases, and every share of the largest part, below which a part
is dropped, is judged on the same masks, each case in its own pixels. Of the folds of a data set every case is judged by
the network that was trained without it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from banet_monai.metrics import bootstrap_interval, boundary_iou, hd95, jaccard, nsd
from banet_monai.transforms.parts import small_parts
from benchmarks.accuracy.definitions import EXPERIMENTS, ROOT, Run, load_definitions, the_run
from benchmarks.accuracy.execution import Places, write_json
from benchmarks.accuracy.predicting import Predictor
from benchmarks.machine import describe_machine

__all__ = ["METRICS", "SHARES", "judge", "main", "scores", "summary"]

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
THRESHOLD = 0.5
NSD_TOLERANCE = 2.0  # pixels
METRICS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "ja": jaccard,
    "boundary_iou": boundary_iou,
    "hd95": hd95,
    "nsd": lambda y_pred, y: nsd(y_pred, y, tolerance=NSD_TOLERANCE),
}
DIGITS = 5
Floats = npt.NDArray[np.float64]


def judge(mask: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], shares: Sequence[float] = SHARES) -> Floats:
    """The metrics of a case at each share.

    Args:
        mask: what the network outlined.
        truth: of the same shape.
        shares: of the largest part, rising from 0.

    Returns:
        ``(shares, metrics)`` in the order of ``METRICS``.
    """
    rows: list[list[float]] = []
    before: npt.NDArray[np.bool_] | None = None
    for share in shares:
        kept = mask & ~small_parts(mask.astype(np.uint8), share)
        if before is not None and (kept == before).all():
            rows.append(rows[-1])
            continue
        pair = (torch.from_numpy(kept)[None, None], torch.from_numpy(truth)[None, None])
        rows.append([float(metric(*pair)) for metric in METRICS.values()])
        before = kept
    return np.array(rows)


def scores(run: Run, places: Places) -> dict[str, Floats]:
    """:func:`judge` of each held-back case of a finished run, by name.

    Raises:
        FileNotFoundError: when the weights or the data are not there.
        ValueError: when a case cannot be read or the network has several channels.
    """
    predictor = Predictor(run, places)
    found: dict[str, Floats] = {}
    for batch in predictor.batches():
        case = predictor.predict(batch)
        truth = case["label"].as_tensor().cpu().numpy()[0] > 0
        found[str(case["name"])] = judge(case["pred"].numpy()[0] >= THRESHOLD, truth)
    return found


def summary(cases: Floats, shares: Sequence[float] = SHARES) -> list[dict[str, Any]]:
    """Mean differences from keeping everything, with their 95 % bootstrap intervals over cases.

    Args:
        cases: ``(cases, shares, metrics)``, the first share being 0.
        shares: as judged.

    Returns:
        For each share: ``share``; ``changed``, the cases whose JA changes; ``better`` and ``worse``, those whose JA
        rises and falls; ``worst``, the largest fall; and for each metric its ``mean``, ``difference`` and
        ``interval``.
    """
    rows = []
    for index, share in enumerate(shares):
        differences = cases[:, index] - cases[:, 0]
        ja = differences[:, 0]
        row: dict[str, Any] = {
            "share": share,
            "changed": int((ja != 0).sum()),
            "better": int((ja > 0).sum()),
            "worse": int((ja < 0).sum()),
            "worst": round(float(ja.min()), DIGITS),
        }
        for place, name in enumerate(METRICS):
            row[name] = {
                "mean": round(float(cases[:, index, place].mean()), DIGITS),
                "difference": round(float(differences[:, place].mean()), DIGITS),
                "interval": [round(float(bound), DIGITS) for bound in bootstrap_interval(differences[:, place])],
            }
        rows.append(row)
    return rows


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy parts", description=__doc__)
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="names of finished runs, BUDGET/DATASET/EXPERIMENT/seedN"
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("BANET_DATA"), help="folder of the data sets")
    parser.add_argument("--weights", type=Path, default=os.environ.get("BANET_WEIGHTS"), help="as for run")
    parser.add_argument("--states", type=Path, default=ROOT / "runs" / "accuracy", help="folder of the runs' states")
    parser.add_argument("--experiments", type=Path, default=EXPERIMENTS, help="file of experiments")
    parser.add_argument("--write", type=Path, default=None, help="file of the result, JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge, print and write: 0, or 2 for what is missing or wrong."""
    options = parse_arguments(arguments)
    places = Places(options.data, options.weights, options.states, options.states)
    try:
        definitions = load_definitions(options.experiments)
        cases: dict[str, Floats] = {}
        for name in options.runs:
            found = scores(the_run(definitions, name), places)
            if twice := sorted(found.keys() & cases):
                raise ValueError(f"{len(twice)} cases are held back in several of the runs: {twice[:5]}.")
            cases |= found
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = summary(np.stack([cases[name] for name in sorted(cases)]))
    for row in rows:
        words = ", ".join(f"{name} {row[name]['difference']:+.4f}" for name in METRICS)
        print(f"{row['share']:4.2f}  {words}; JA rises in {row['better']}, falls in {row['worse']} of {len(cases)}")
    if options.write is not None:
        write_json(
            options.write,
            {"runs": options.runs, "cases": len(cases), "shares": rows, "machine": describe_machine()},
        )
        print(f"written: {options.write}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
