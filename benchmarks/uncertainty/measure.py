"""Every validation picture under every method: outline, maps, numbers and time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch.utils.flop_counter import FlopCounterMode

from banet_monai.inferers import SegmentationInferer
from banet_monai.metrics import boundary_iou, jaccard
from banet_monai.metrics.boundary import inner_band
from banet_monai.segmenter import Segmenter
from banet_monai.transforms import LoadCased, MaskToIdsd, RestoreGridd
from banet_monai.uncertainty import SplitUncertaintyd, UncertaintyInferer, near_entropy
from banet_monai.uncertainty.maps import MAPS

__all__ = ["Measured", "measure", "relative_flops"]

NEAR = 0.02  # of the image diagonal: what counts as on the outline, and as far from the true one
SHARE_EPS = 1e-6


@dataclass(frozen=True)
class Measured:
    """One picture under one method, in its own pixels.

    Attributes:
        name: of the picture.
        figures: JA, Boundary IoU, numbers of the case, where the entropy lies, seconds.
        logits: of the probability on the picture's own pixels, float16 ``(x, y)``.
        truth: boolean ``(x, y)``.
    """

    name: str
    figures: dict[str, float]
    logits: NDArray[np.float16]
    truth: NDArray[np.bool_]


def measure(
    segmenter: Segmenter, cases: Sequence[Mapping[str, Any]], methods: Sequence[str], *, samples: int
) -> Iterator[tuple[str, Measured]]:
    """Method and result of every picture; all methods of one picture follow each other, so a slow minute hits all."""
    inferers = {method: UncertaintyInferer(segmenter.inferer, method=method, samples=samples) for method in methods}
    read_truth = LoadCased(keys="label")
    ids = MaskToIdsd(keys="label")
    for case in cases:
        image: MetaTensor = segmenter.preprocessing({"image": case["image"]})["image"]
        truth = ids(read_truth({"label": case["label"]}))["label"].as_tensor()[0] > 0
        plain_seconds = _seconds_of_one_pass(segmenter, image)
        for method, inferer in inferers.items():
            start = time.perf_counter()
            with torch.inference_mode():
                output = inferer(image[None].as_tensor().to(segmenter.device), segmenter.network)[0].cpu()
            seconds = time.perf_counter() - start
            record = SplitUncertaintyd()({"pred": output, "image": image})
            record["pred"] = record["pred"].sigmoid()
            inside = record["pred"][0] >= 0.5
            scores = dict(record["scores"])
            for name, values in zip(MAPS[1:], record["uncertainty"][1:], strict=True):
                scores[f"near_{name}"] = float(near_entropy(values, inside))
            restored = RestoreGridd(keys=["pred", "uncertainty"])(record)
            probability, entropy = restored["pred"].as_tensor()[0], restored["uncertainty"].as_tensor()[0]
            figures = {
                **_quality(probability >= 0.5, truth),
                **scores,
                **_places(entropy, probability >= 0.5, truth),
                "seconds": seconds,
                "seconds_of_one_pass": plain_seconds,
            }
            logits = torch.logit(probability, eps=SHARE_EPS).numpy().astype(np.float16)
            yield method, Measured(str(case["name"]), figures, logits, truth.numpy())


def relative_flops(segmenter: Segmenter, methods: Sequence[str], *, samples: int, side: int) -> dict[str, float]:
    """Convolutions and matrix products of a method on one window, divided by those of one plain pass."""
    image = torch.zeros(1, 3, side, side, device=segmenter.device)
    plain = SegmentationInferer(roi_size=side, amp="none", optimize=False)  # fused operations are not counted
    counts = {}
    for method in ("none", *methods):
        inferer = UncertaintyInferer(plain, method=method, samples=samples)
        with FlopCounterMode(display=False) as counter:
            inferer(image, segmenter.network)
        counts[method] = counter.get_total_flops()
    return {method: round(counts[method] / counts["none"], 3) for method in methods}


def _seconds_of_one_pass(segmenter: Segmenter, image: MetaTensor) -> float:
    """Until the result lies on the CPU, as the methods are timed: a GPU is still at work when the call returns."""
    start = time.perf_counter()
    with torch.inference_mode():
        segmenter.inferer(image[None].as_tensor().to(segmenter.device), segmenter.network).cpu()
    return time.perf_counter() - start


def _quality(inside: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    pred, true = inside[None, None], truth[None, None]
    return {"ja": float(jaccard(pred, true)), "boundary_iou": float(boundary_iou(pred, true))}


def _places(entropy: torch.Tensor, inside: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Where the entropy lies: near the outline or not, and near right or wrong parts of the outline.

    Near is within 2 % of the image diagonal of the predicted outline. A pixel of the outline is wrong where the true
    outline is farther away than that, and a pixel near it belongs to the nearest one of the outline: on the very line
    the entropy is 1 by definition, so it is the width of the uncertain band that can tell right from wrong. NaN where
    there is no outline, or none of that kind.
    """
    width = NEAR * float(np.hypot(*inside.shape))
    predicted, true = (_outline(mask) for mask in (inside, truth))
    values = entropy.numpy().astype(np.float64)
    none = float("nan")
    if not predicted.any():
        return dict.fromkeys(("entropy_near", "area_near", "near_right", "near_wrong", "wrong_share"), none)
    distance, (rows, columns) = distance_transform_edt(~predicted, return_indices=True)
    near = distance <= width
    wrong = distance_transform_edt(~true) > width if true.any() else np.ones_like(true)
    near_wrong = near & wrong[rows, columns]
    near_right = near & ~near_wrong
    return {
        "entropy_near": float(values[near].sum() / max(values.sum(), 1e-9)),
        "area_near": float(near.mean()),
        "near_right": float(values[near_right].mean()) if near_right.any() else none,
        "near_wrong": float(values[near_wrong].mean()) if near_wrong.any() else none,
        "wrong_share": float(wrong[predicted].mean()),
    }


def _outline(mask: torch.Tensor) -> NDArray[np.bool_]:
    """Foreground pixels with a background neighbour; the frame of the picture is no outline."""
    padded = torch.nn.functional.pad(mask[None].float(), (1, 1, 1, 1), mode="replicate")[0] > 0
    outline: NDArray[np.bool_] = inner_band(padded, 1)[1:-1, 1:-1].numpy()
    return outline
