"""What the network outlines where there is no lesion: ``python -m benchmarks.accuracy background --help``.

Every picture of the data holds a lesion, so the largest square beside it is cut out and segmented as a picture of its
own, with the bundle's own configuration. Whatever is outlined there is a false alarm, unless the reference left out
a second lesion. Does the uncertainty number tell these squares from the pictures with their lesions?
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.ndimage import maximum_filter

from banet_monai.data import validation_cases
from banet_monai.metrics import bootstrap_interval
from banet_monai.segmenter import Segmentation, Segmenter
from banet_monai.transforms.crops import places_without
from banet_monai.uncertainty.scores import expected_error
from benchmarks.accuracy.execution import write_json
from benchmarks.machine import describe_machine

__all__ = ["free_square", "main", "summary"]

SHARES = (0.6, 0.5, 0.4, 0.3, 0.2)  # sides of the square that are tried, of the picture's short side
MARGIN = 0.05  # of the short side: the rim of a lesion often reaches beyond its mask
NOTICEABLE = 0.01  # of the square's pixels
ORDINARY = 95  # percent of the pictures, whose number is at most the limit that squares are held against
DIGITS = 4


def free_square(mask: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], int] | None:
    """The largest square without a lesion, among sides of 0.6 to 0.2 of the short side.

    Args:
        mask: ``(rows, columns)``, where the lesion is.

    Returns:
        First row and column, and the side in pixels; of several places the middle one in rising order. None where
        not even the smallest square has a place.
    """
    short = min(mask.shape)
    kept_free = maximum_filter(mask, 2 * round(MARGIN * short) + 1, mode="constant", cval=0)
    for share in SHARES:
        side = round(share * short)
        if len(places := places_without(kept_free, side)):
            row, column = (int(place) for place in places[len(places) // 2])
            return (row, column), side
    return None


def summary(squares: Sequence[Mapping[str, Any]], pictures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How often and how much is outlined, and whether the uncertainty notices.

    Args:
        squares: ``outlined``, the outlined share of the square's pixels, and ``number``, its uncertainty; at least two.
        pictures: ``number`` of the pictures with their lesions.

    Returns:
        ``squares``; ``alarms``, those with more than a hundredth outlined, ``alarm_rate`` with its 95 % bootstrap
        interval ``alarm_interval``; ``any``, those with any pixel outlined; ``mean_share`` of the pixels;
        ``limit``, the number that 95 % of the pictures do not exceed; ``alarms_above_limit``; ``auc``, the share of
        pairs of an alarm and a picture in which the alarm has the higher number, ties half, None without an alarm.
    """
    shares, numbers = (np.array([square[name] for square in squares]) for name in ("outlined", "number"))
    ordinary = np.array([picture["number"] for picture in pictures])
    is_alarm = shares > NOTICEABLE
    low, high = bootstrap_interval(is_alarm.astype(np.float64))
    limit = float(np.quantile(ordinary, ORDINARY / 100, method="higher"))
    rises = numbers[is_alarm, None] - ordinary
    return {
        "squares": len(shares),
        "alarms": int(is_alarm.sum()),
        "alarm_rate": round(float(is_alarm.mean()), DIGITS),
        "alarm_interval": [round(float(low), DIGITS), round(float(high), DIGITS)],
        "any": int((shares > 0).sum()),
        "mean_share": round(float(shares.mean()), DIGITS),
        "limit": limit,
        "alarms_above_limit": int((numbers[is_alarm] > limit).sum()),
        "auc": round(float((np.sign(rises).mean() + 1) / 2), DIGITS) if is_alarm.any() else None,
    }


def measure(
    cases: Sequence[Mapping[str, str]], segmenter: Segmenter
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Segment each picture, and the square beside its lesion.

    Args:
        cases: records with ``name``, ``image`` and ``label`` (paths of pictures).
        segmenter: the bundle's network and configuration.

    Returns:
        For each picture that has a square its ``name``, ``side`` in pixels, ``outlined`` share of the square and
        ``number``, the uncertainty there; and for each picture its ``name`` and ``number``.
    """
    squares, pictures = [], []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            pictures.append({"name": case["name"], "number": _number(segmenter(case["image"]))})
            with Image.open(case["label"]) as mask, Image.open(case["image"]) as picture:
                square = free_square(np.asarray(mask.convert("L")) > 0)
                if square is None:
                    continue
                (row, column), side = square
                picture.convert("RGB").crop((column, row, column + side, row + side)).save(f"{folder}/square.png")
            found = segmenter(f"{folder}/square.png")
            outlined = round(float((found.mask > 0).mean()), DIGITS)
            squares.append({"name": case["name"], "side": side, "outlined": outlined, "number": _number(found)})
    return squares, pictures


def _number(found: Segmentation) -> float:
    probability, inside = (torch.from_numpy(np.asarray(part)) for part in (found.probability[0], found.mask > 0))
    return round(float(expected_error(probability, inside)), DIGITS)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy background", description=__doc__)
    parser.add_argument("--data", required=True, help="the data set, as for `banet evaluate`")
    parser.add_argument("--val-ids", default=None, help="list of held-back names")
    parser.add_argument("--bundle", type=Path, default=None, help="folder of the bundle; default: this project's")
    parser.add_argument("--checkpoint", type=Path, default=None, help="other weights than the bundle's")
    parser.add_argument("--write", type=Path, default=None, help="file of the result, JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write: 0, or 2 for what is missing or wrong."""
    options = parse_arguments(arguments)
    try:
        cases = validation_cases(options.data, val_ids=options.val_ids)
        segmenter = Segmenter(options.bundle, weights=options.checkpoint)
        squares, pictures = measure(cases, segmenter)
        if len(squares) < 2:
            raise ValueError(f"{len(squares)} of {len(cases)} pictures have room beside their lesion; two are needed.")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = summary(squares, pictures)
    print(f"{found['alarms']} of {found['squares']} squares without a lesion have more than a hundredth outlined,")
    print(f"{found['alarms_above_limit']} of them with a number above {found['limit']}, as 1 picture in 20 has it")
    if options.write is not None:
        weights = options.checkpoint or segmenter.bundle / "models" / "model.pt"
        about = {"weights": hashlib.sha256(weights.read_bytes()).hexdigest()[:12]}
        every = {"of_squares": squares, "of_pictures": pictures}
        write_json(options.write, {**about, **found, **every, "machine": describe_machine()})
        print(f"written: {options.write}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
