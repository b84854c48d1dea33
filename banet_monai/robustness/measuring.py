"""One case under every condition: its outline against the truth, its calibration, and how sure the network is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.utils import TraceKeys

from banet_monai.metrics import boundary_iou, jaccard
from banet_monai.metrics.masks import foreground_masks
from banet_monai.robustness.catalogue import Condition
from banet_monai.robustness.corruptions import Corruptiond
from banet_monai.segmenter import Segmenter
from banet_monai.transforms import LoadCased, MaskToIdsd, NormalizeImaged, RestoreGridd, ToWorkingGridd
from banet_monai.transforms.alignment import in_order_of
from banet_monai.transforms.grid import GridPlan, resize_labels
from banet_monai.uncertainty import CalibrationBins, SplitUncertaintyd
from banet_monai.uncertainty.scores import SCORES

__all__ = ["BINS", "LARGEST_SIDE", "CaseMeasurer", "CaseRow"]

BINS = 20  # of probabilities
LARGEST_SIDE = 512  # of the short side of a picture that is scored: the cost of Boundary IoU grows with its cube
SEEN = 0.5


@dataclass(frozen=True)
class CaseRow:
    """One case under one condition.

    Attributes:
        case: name of the case.
        corruption: key of the catalogue, or ``"clean"``.
        strength: 1 to 5; 0 for clean.
        amount: the strength in physical terms.
        ja: Jaccard index, mean over the classes.
        boundary_iou: mean over the classes.
        expected_error: the number that says how sure the network is.
        missed: whether a class that is there was not touched.
        bins: ``(3, bins)`` sums of :meth:`banet_monai.uncertainty.CalibrationBins.sums`, of foreground.
    """

    case: str
    corruption: str
    strength: int
    amount: float
    ja: float
    boundary_iou: float
    expected_error: float
    missed: bool
    bins: list[list[float]]

    @property
    def condition(self) -> Condition:
        """Corruption and strength."""
        return Condition(self.corruption, self.strength)


class CaseMeasurer:
    """Measures cases by the very chain of a bundle's inference, with a corruption between grid and normalisation.

    Outlines are compared on the grid of the truth; a picture whose short side is above 512 pixels, on 512.

    Args:
        segmenter: with the option ``uncertainty`` other than ``"none"``; it is loaded once for all cases.
        seed: of what the corruptions draw.

    Raises:
        ValueError: when the segmenter gives no uncertainty, or its preprocessing does not normalise.
    """

    def __init__(self, segmenter: Segmenter, *, seed: int = 0) -> None:
        self.segmenter = segmenter
        self.seed = seed
        steps = list(segmenter.preprocessing.transforms)
        place = next((n for n, step in enumerate(steps) if isinstance(step, NormalizeImaged)), None)
        split = next((s for s in segmenter.to_probability.transforms if isinstance(s, SplitUncertaintyd)), None)
        if place is None or split is None:
            raise ValueError("robustness needs NormalizeImaged in the preprocessing and SplitUncertaintyd after it.")
        read = next((n for n, step in enumerate(steps[:place]) if isinstance(step, LoadCased)), -1) + 1
        self.read, self.to_grid = Compose(steps[:read]), Compose(steps[read:place])
        self.normalise = Compose(steps[place:])
        self.classes = max(1, split.out_channels - 1) if split.activation == "softmax" else split.out_channels
        self.softmax = split.activation == "softmax"
        self.read_truth = LoadCased(keys="label")
        self.ids = MaskToIdsd(keys="label", num_classes=self.classes)

    def load(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Image on the network's grid, in stored values, and truth.

        Args:
            case: data dictionary with ``name``, ``image`` and ``label``.

        Raises:
            ValueError: naming the file, when one cannot be read or the two do not fit.
        """
        as_stored: MetaTensor = self.read({"image": case["image"]})["image"]
        label = in_order_of(self.read_truth({"label": case["label"]})["label"], as_stored)
        truth: torch.Tensor = self.ids({"label": label})["label"].as_tensor()
        image: MetaTensor = self.to_grid({"image": as_stored})["image"]
        plan, place = _plan_of(image)
        truth = _as_plane(truth, plan)
        if tuple(truth.shape[1:]) != plan.original_shape:
            raise ValueError(
                f"the truth of '{case['name']}' is {tuple(truth.shape[1:])}, its image {plan.original_shape}; both "
                "need the same size in pixels."
            )
        scored = _scored_shape(plan)
        if scored != plan.original_shape:
            _recorded(image.applied_operations[place])["original_shape"] = scored
            truth = resize_labels(truth, scored)
        on_grid = replace(plan, original_shape=scored).forward(truth, is_label=True)
        return {"name": str(case["name"]), "image": image, "truth": truth, "label": on_grid}

    def __call__(self, loaded: Mapping[str, Any], condition: Condition) -> CaseRow:
        """Measure a case that :meth:`load` gave under one condition.

        Raises:
            ValueError: when the corruption does not fit the image, or the network gives values that are no numbers.
        """
        image: MetaTensor = loaded["image"]
        size = tuple(image.shape[1:])
        corruption = condition.transform(seed=self.seed)
        record: dict[Hashable, Any] = {"name": loaded["name"], "image": image, "label": loaded["label"]}
        shown = self.normalise({"image": (corruption(record) if corruption else record)["image"]})["image"]
        with torch.inference_mode():
            batch = shown[None].as_tensor().to(self.segmenter.device)
            pred = self.segmenter.inferer(batch, self.segmenter.network)[0].cpu()
        pred = pred if corruption is None else corruption.undo(pred, size)
        result = self.segmenter.to_probability({"image": image, "pred": pred})
        if result.get("failure"):
            raise ValueError(result["failure"])
        if "scores" not in result:
            raise ValueError("the network's uncertainty is needed: give the segmenter uncertainty='entropy'.")
        result = self.segmenter.to_labels({"probability": result["pred"], **result})
        return self._row(loaded, condition, result, _seen(corruption, image, size))

    def _row(
        self, loaded: Mapping[str, Any], condition: Condition, result: Mapping[str, Any], seen: torch.Tensor | None
    ) -> CaseRow:
        ids, truth = torch.as_tensor(result["pred"]), loaded["truth"]
        probability = torch.as_tensor(result["probability"])
        foreground = 1 - probability[0] if self.softmax else probability.amax(dim=0)
        inside = truth[0] > 0
        if seen is not None:
            ids, truth = ids * seen, truth * seen
            foreground, inside = foreground[seen], inside[seen]
        pred, true = (foreground_masks(mask, self.classes)[None] for mask in (ids, truth))
        bins = CalibrationBins(BINS)
        bins.add(foreground.clamp(0, 1), inside)  # a probability that was resampled may pass 1 by rounding
        return CaseRow(
            case=loaded["name"],
            corruption=condition.corruption,
            strength=condition.strength,
            amount=condition.amount,
            ja=float(jaccard(pred, true).mean()),
            boundary_iou=float(boundary_iou(pred, true).mean()),
            expected_error=float(result["scores"][SCORES[0]]),
            missed=any(bool(t.any()) and not bool((t & p).any()) for p, t in zip(pred[0], true[0], strict=True)),
            bins=np.round(bins.sums(), 3).tolist(),
        )


def is_volume(loaded: Mapping[str, Any]) -> bool:
    """Whether a case of :meth:`CaseMeasurer.load` is a volume, of more than one slice."""
    return len(loaded["image"].shape) == 4 and loaded["image"].shape[-1] > 1


def _seen(corruption: Corruptiond | None, image: MetaTensor, size: tuple[int, ...]) -> torch.Tensor | None:
    """Pixels of the truth's grid that the network was shown."""
    seen = None if corruption is None else corruption.seen(size)
    if seen is None:
        return None
    restored = RestoreGridd("seen")({"image": image, "seen": seen[None].float()})["seen"]
    return torch.as_tensor(restored)[0] > SEEN


def _plan_of(image: MetaTensor) -> tuple[GridPlan, int]:
    """How the image got to the network's grid, and where its operations say so."""
    for place, operation in reversed(list(enumerate(image.applied_operations))):
        if operation.get(TraceKeys.CLASS_NAME) == ToWorkingGridd.__name__:
            return GridPlan(**{name: _as_plain(value) for name, value in _recorded(operation).items()}), place
    raise ValueError(
        "robustness needs ToWorkingGridd in the preprocessing, to put predictions on the grid of the truth."
    )


def _recorded(operation: Mapping[str, Any]) -> dict[str, Any]:
    plan: dict[str, Any] = operation[TraceKeys.EXTRA_INFO]["plan"]
    return plan


def _as_plain(value: Any) -> Any:
    return value if isinstance(value, bool) else tuple(int(number) for number in value)


def _as_plane(truth: torch.Tensor, plan: GridPlan) -> torch.Tensor:
    """A mask with the last axis of one that its image has, or without it: annotation tools write planes either way."""
    size = tuple(truth.shape[1:])
    if size == (*plan.original_shape, 1):
        return truth[..., 0]
    return truth[..., None] if (*size, 1) == plan.original_shape else truth


def _scored_shape(plan: GridPlan) -> tuple[int, ...]:
    shape = plan.original_shape
    is_picture = len(shape) == 2 or plan.squeezed
    short = min(shape[:2])
    if not is_picture or short <= LARGEST_SIDE:
        return shape
    return (*(max(1, round(length * LARGEST_SIDE / short)) for length in shape[:2]), *shape[2:])


def rows_as_json(rows: Sequence[CaseRow]) -> list[dict[str, Any]]:
    """Rows as JSON values; ``CaseRow(**value)`` is the way back."""
    return [dict(vars(row)) for row in rows]
