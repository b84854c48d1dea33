"""Choose a threshold by mean JA on held-back cases: ``python -m benchmarks.accuracy threshold --help``.

The network of a finished run, or another file of weights for it, segments the run's held-back cases once; every
threshold is judged on the same probabilities, each case in its own pixels. A threshold that is chosen and judged on the
same cases looks better than it is, so the gain is also given cross-fitted: every fifth of the cases is judged at the
threshold that the other four fifths choose.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from banet_monai.data.splits import read_val_ids
from banet_monai.metrics import bootstrap_interval
from benchmarks.accuracy.definitions import EXPERIMENTS, ROOT, Run, load_definitions, the_run
from benchmarks.accuracy.execution import Places, Workplace, write_json
from benchmarks.accuracy.predicting import Predictor
from benchmarks.machine import describe_machine

__all__ = ["THRESHOLDS", "Choice", "choose", "curves_of_run", "ja_curve", "main"]

THRESHOLDS = np.round(np.arange(0.05, 0.951, 0.01), 2)
USUAL = 0.5
FOLDS = 5
SHOWN_EVERY = 5  # of the thresholds, in the printed table
DIGITS = 4
Floats = npt.NDArray[np.floating]


def ja_curve(probability: torch.Tensor, mask: torch.Tensor, thresholds: Floats = THRESHOLDS) -> Floats:
    """JA of one case at every threshold; at or above a threshold is foreground, and two empty masks agree.

    Args:
        probability: any shape, values in [0, 1].
        mask: 0 and 1, of the same shape.
        thresholds: ``(n,)``, rising.

    Returns:
        ``(n,)`` float64.

    Raises:
        ValueError: when the shapes differ.
    """
    if probability.shape != mask.shape:
        raise ValueError(f"the probabilities have shape {tuple(probability.shape)}, their mask {tuple(mask.shape)}.")
    # Each pixel counts for as many thresholds as it reaches; one pass serves all of them.
    reached = torch.bucketize(probability.float().flatten(), torch.as_tensor(thresholds).float(), right=True)
    inside = mask.flatten() > 0
    levels = len(thresholds) + 1
    hits, alarms = (
        torch.bincount(reached[part], minlength=levels).flip(0).cumsum(0).flip(0)[1:].double()
        for part in (inside, ~inside)
    )
    union = inside.sum() + alarms
    return torch.where(union == 0, 1.0, hits / union.clamp_min(1)).numpy()


@dataclass(frozen=True)
class Choice:
    """What the held-back cases say about the threshold.

    Attributes:
        threshold: that of the highest mean JA; among equals the one next to 0.5.
        ja: mean JA there, on the cases that chose it.
        ja_at_half: mean JA at 0.5.
        ja_cross_fitted: mean JA when every fifth of the cases is judged at the threshold that the others choose.
        gain_interval: 95 % bootstrap interval, over cases, of the cross-fitted gain over 0.5.
        fold_thresholds: what each four fifths chose; far apart, the choice is not to be trusted.
    """

    threshold: float
    ja: float
    ja_at_half: float
    ja_cross_fitted: float
    gain_interval: tuple[float, float]
    fold_thresholds: tuple[float, ...]


def choose(curves: Floats, thresholds: Floats = THRESHOLDS) -> Choice:
    """Choose by the mean over cases.

    Args:
        curves: ``(cases, thresholds)`` JA; the cases' order makes the folds.
        thresholds: ``(thresholds,)``, 0.5 among them.

    Raises:
        ValueError: for fewer cases than folds, or without the threshold 0.5.
    """
    if len(curves) < FOLDS or USUAL not in thresholds:
        raise ValueError(f"need at least {FOLDS} cases and the threshold {USUAL}, got {len(curves)} cases.")
    best, half = _best(curves.mean(axis=0), thresholds), int(np.flatnonzero(thresholds == USUAL)[0])
    fold = np.arange(len(curves)) % FOLDS
    of_folds = [_best(curves[fold != number].mean(axis=0), thresholds) for number in range(FOLDS)]
    fitted = curves[np.arange(len(curves)), np.array(of_folds)[fold]]
    low, high = bootstrap_interval(fitted - curves[:, half])
    return Choice(
        float(thresholds[best]),
        float(curves[:, best].mean()),
        float(curves[:, half].mean()),
        float(fitted.mean()),
        (float(low), float(high)),
        tuple(float(thresholds[index]) for index in of_folds),
    )


def _best(means: Floats, thresholds: Floats) -> int:
    highest = np.flatnonzero(means >= means.max() - 1e-9)
    return int(highest[np.argmin(np.abs(thresholds[highest] - USUAL))])


def curves_of_run(
    run: Run, places: Places, *, checkpoint: Path | None = None, tta: bool = False
) -> tuple[list[str], Floats]:
    """Segment the held-back cases of a run with the bundle's evaluation configuration.

    Args:
        run: a run of one foreground class.
        places: where it lies.
        checkpoint: other weights for the run's network than those it ended with.
        tta: average over flips and quarter turns.

    Returns:
        Names of the cases in rising order, and their curves ``(cases, thresholds)``.

    Raises:
        FileNotFoundError: when the weights or the data are not there.
        ValueError: when a case cannot be read or the network has several channels.
    """
    predictor = Predictor(run, places, checkpoint=checkpoint, tta=tta)
    curves: dict[str, Floats] = {}
    for batch in predictor.batches():
        case = predictor.predict(batch)
        curves[str(case["name"])] = ja_curve(case["pred"], case["label"].as_tensor().cpu())
    names = sorted(curves)
    return names, np.stack([curves[name] for name in names])


def report(names: Sequence[str], curves: Floats, chosen_on: Sequence[str] | None = None) -> dict[str, Any]:
    """The choice, the mean curve, and what the choice is worth on the cases that had no part in it.

    Args:
        names: of the cases.
        curves: ``(cases, thresholds)``.
        chosen_on: names of the cases that choose; None for all.

    Raises:
        ValueError: when a name of ``chosen_on`` is none of the cases.
    """
    wanted = set(names if chosen_on is None else chosen_on)
    if missing := sorted(wanted - set(names)):
        raise ValueError(f"{len(missing)} of the cases to choose on are not held back in this run: {missing[:5]}.")
    chooses = np.array([name in wanted for name in names])
    choice = choose(curves[chooses])
    rest, index = curves[~chooses], int(np.flatnonzero(choice.threshold == THRESHOLDS)[0])
    half = int(np.flatnonzero(THRESHOLDS == USUAL)[0])
    others = None
    if len(rest):
        low, high = bootstrap_interval(rest[:, index] - rest[:, half])
        means = {"ja": float(rest[:, index].mean()), "ja_at_half": float(rest[:, half].mean())}
        others = {"cases": len(rest), **means, "gain_interval": [float(low), float(high)]}
    return _rounded(
        {
            "cases": int(chooses.sum()),
            "choice": asdict(choice),
            "other_cases": others,
            "thresholds": THRESHOLDS.tolist(),
            "mean_ja": curves[chooses].mean(axis=0).tolist(),
            "ja_at_half_of_cases": dict(zip(names, curves[:, half].tolist(), strict=True)),
        }
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy threshold", description=__doc__)
    parser.add_argument("run", help="name of a finished run, BUDGET/DATASET/EXPERIMENT/seedN")
    parser.add_argument("--ids", type=Path, default=None, help="file of the names to choose on; the rest only judges")
    parser.add_argument("--checkpoint", type=Path, default=None, help="other weights for the run's network")
    parser.add_argument("--tta", action="store_true", help="with flips and quarter turns averaged")
    parser.add_argument("--data", type=Path, default=os.environ.get("BANET_DATA"), help="folder of the data sets")
    parser.add_argument("--weights", type=Path, default=os.environ.get("BANET_WEIGHTS"), help="as for run")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "accuracy", help="folder of the runs' states")
    parser.add_argument("--experiments", type=Path, default=EXPERIMENTS, help="file of experiments")
    parser.add_argument("--write", type=Path, default=None, help="file of the result; default: in the run's folder")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge, print and write: 0, or 2 for what is missing or wrong."""
    options = parse_arguments(arguments)
    places = Places(options.data, options.weights, options.runs, options.runs)
    try:
        definitions = load_definitions(options.experiments)
        run = the_run(definitions, options.run)
        names, curves = curves_of_run(run, places, checkpoint=options.checkpoint, tta=options.tta)
        result = report(names, curves, None if options.ids is None else read_val_ids(options.ids))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    about = {
        "run": run.name,
        "weights": "those of the run" if options.checkpoint is None else options.checkpoint.name,
        "chosen_on": "all held-back cases" if options.ids is None else options.ids.name,
        "test_time_augmentation": bool(options.tta),
    }
    _print(result)
    default = Workplace(run, places).folder / ("threshold_tta.json" if options.tta else "threshold.json")
    path = options.write or default
    write_json(path, {**about, **result, "machine": describe_machine()})
    print(f"written: {path}")
    return 0


def _print(result: Mapping[str, Any]) -> None:
    for threshold, ja in list(zip(result["thresholds"], result["mean_ja"], strict=True))[::SHOWN_EVERY]:
        print(f"{threshold:.2f}  JA {ja:.4f}")
    choice = result["choice"]
    low, high = choice["gain_interval"]
    print(f"chosen: {choice['threshold']:.2f}, JA {choice['ja']:.4f} on the {result['cases']} cases that chose it")
    print(f"at 0.5: JA {choice['ja_at_half']:.4f}")
    print(f"cross-fitted: JA {choice['ja_cross_fitted']:.4f}, gain between {low:+.4f} and {high:+.4f}")
    if (others := result["other_cases"]) is not None:
        print(f"{others['cases']} other cases: JA {others['ja']:.4f}, at 0.5 {others['ja_at_half']:.4f}")


if __name__ == "__main__":
    sys.exit(main())
