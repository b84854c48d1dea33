"""What the network outlines where there is no lesion: ``python -m benchmarks.accuracy background --help``.

Every picture of the data holds a lesion, so the largest square beside it is cut out and segmented as a picture of its
own, with the bundle's own configuration. Whatever is outlined there is a false alarm, unless the reference left out
a second lesion.
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
from PIL import Image
from scipy.ndimage import maximum_filter

from banet_monai.data import validation_cases
from banet_monai.metrics import bootstrap_interval
from banet_monai.segmenter import Segmenter
from banet_monai.transforms.crops import places_without
from benchmarks.accuracy.execution import write_json
from benchmarks.machine import describe_machine

__all__ = ["free_square", "main", "summary"]

SHARES = (0.6, 0.5, 0.4, 0.3, 0.2)  # sides of the square that are tried, of the picture's short side
MARGIN = 0.05  # of the short side: the rim of a lesion often reaches beyond its mask
NOTICEABLE = 0.01  # of the square's pixels
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


def summary(outlined: Sequence[float]) -> dict[str, Any]:
    """How often and how much is outlined.

    Args:
        outlined: of each square the outlined share of its pixels, at least two squares.

    Returns:
        ``squares``; ``alarms``, those with more than a hundredth outlined, ``alarm_rate`` with its 95 % bootstrap
        interval ``alarm_interval``; ``any``, those with any pixel outlined; ``mean_share`` of the pixels.
    """
    shares = np.asarray(outlined, dtype=np.float64)
    alarms = (shares > NOTICEABLE).astype(np.float64)
    low, high = bootstrap_interval(alarms)
    return {
        "squares": len(shares),
        "alarms": int(alarms.sum()),
        "alarm_rate": round(float(alarms.mean()), DIGITS),
        "alarm_interval": [round(float(low), DIGITS), round(float(high), DIGITS)],
        "any": int((shares > 0).sum()),
        "mean_share": round(float(shares.mean()), DIGITS),
    }


def measure(cases: Sequence[Mapping[str, str]], segmenter: Segmenter) -> list[dict[str, Any]]:
    """Segment the square beside each lesion.

    Args:
        cases: records with ``name``, ``image`` and ``label`` (paths of pictures).
        segmenter: the bundle's network and configuration.

    Returns:
        A record for each picture that has a square: ``name``, ``side`` in pixels, ``outlined`` share of its pixels.
    """
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            with Image.open(case["label"]) as mask, Image.open(case["image"]) as picture:
                square = free_square(np.asarray(mask.convert("L")) > 0)
                if square is None:
                    continue
                (row, column), side = square
                picture.convert("RGB").crop((column, row, column + side, row + side)).save(f"{folder}/square.png")
            outlined = float((segmenter(f"{folder}/square.png").mask > 0).mean())
            records.append({"name": case["name"], "side": side, "outlined": round(outlined, DIGITS)})
    return records


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
        records = measure(cases, segmenter)
        if len(records) < 2:
            raise ValueError(f"{len(records)} of {len(cases)} pictures have room beside their lesion; two are needed.")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = summary([record["outlined"] for record in records])
    print(f"{found['alarms']} of {found['squares']} squares without a lesion have more than a hundredth outlined")
    if options.write is not None:
        weights = options.checkpoint or segmenter.bundle / "models" / "model.pt"
        about = {"pictures": len(cases), "weights": hashlib.sha256(weights.read_bytes()).hexdigest()[:12]}
        write_json(options.write, {**about, **found, "records": records, "machine": describe_machine()})
        print(f"written: {options.write}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
