"""One image through a bundle's chain, with everything that can be shown about the result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from monai.data import MetaTensor
from monai.transforms import Activationsd, Compose

from banet_monai.explain.features import Explanation, explain
from banet_monai.explain.gradcam import grad_cam
from banet_monai.explain.pictures import Rgb, Tile, heat_tile, outline_tile
from banet_monai.report.overlays import to_grey_levels
from banet_monai.segmenter import Segmenter
from banet_monai.transforms import DiscretizeLabelsd, NormalizeImaged
from banet_monai.uncertainty import SplitUncertaintyd, UncertaintyInferer
from banet_monai.uncertainty.scores import SCORES
from banet_monai.windows import Grid, pad_to_window

__all__ = ["CaseExplainer", "ExplainedCase"]

LARGEST_SIDE = {2: 768, 3: 96}  # pixels; of a larger image the part around the outline is explained
WHOLE = 1.0  # the scale of a share
EDGE = 0.5  # a line one pixel wide is spread over several pixels of a coarse stage

Step = TypeVar("Step")


@dataclass(frozen=True)
class ExplainedCase:
    """What is to be seen of one image; maps and label ids are ``(x, y)`` planes of one size.

    Attributes:
        picture: ``(rows, columns, 3)`` uint8, the image or the slice of a volume with the largest outline.
        mask: label ids, uint8.
        maps: ``"boundary"``, ``"uncertainty"``, ``"edge1"`` to ``"edge4"``, ``"gradcam1"`` to ``"gradcam4"``, and the
            names of :class:`banet_monai.explain.features.Explanation`; those that the network has.
        scores: numbers of the whole case (:mod:`banet_monai.uncertainty.scores`).
        notes: what a reader should know, in words.
    """

    picture: Rgb
    mask: torch.Tensor
    maps: Mapping[str, torch.Tensor]
    scores: Mapping[str, float]
    notes: tuple[str, ...] = field(default=())

    @property
    def score(self) -> float:
        """The number that counts: 0 (sure) to 1."""
        return self.scores[SCORES[0]]

    def rows(self) -> list[list[Tile]]:
        """All tiles of the gallery; rows that the network has nothing for are left out."""
        first = [Tile(self.picture, "image"), outline_tile(self.picture, self.mask, "outline")]
        first += [
            heat_tile(self.maps[key], caption, largest=largest)
            for key, caption, largest in (
                ("boundary", "boundary map (fused)", EDGE),
                ("uncertainty", "uncertainty", WHOLE),
            )
            if key in self.maps
        ]
        kinds = (
            ("edge{}", "edge map, stage {}", EDGE),
            ("ia{}_mask", "IA, edges to mask, stage {}", None),
            ("ia{}_edge", "IA, mask to edges, stage {}", None),
            ("cff{}", "CFF, stage {}", None),
            ("gradcam{}", "Grad-CAM, stage {}", WHOLE),
        )
        rows = [first]
        for key, caption, largest in kinds:
            stages = [stage for stage in range(1, 5) if key.format(stage) in self.maps]
            tiles = [heat_tile(self.maps[key.format(n)], caption.format(n), largest=largest) for n in stages]
            rows += [tiles] if tiles else []
        return rows

    def strip(self) -> list[Tile]:
        """Picture, four edge maps, attention and outline in one row."""
        tiles = [Tile(self.picture, "image")]
        tiles += [
            heat_tile(self.maps[f"edge{n}"], f"edges, stage {n}", largest=EDGE)
            for n in range(1, 5)
            if f"edge{n}" in self.maps
        ]
        sent = [self.maps[f"ia{n}_mask"] for n in range(1, 5) if f"ia{n}_mask" in self.maps]
        if sent:
            shares = [values / values.max().clamp_min(1e-12) for values in sent]
            tiles.append(heat_tile(torch.stack(shares).mean(dim=0), "attention (IA)"))
        return [*tiles, outline_tile(self.picture, self.mask, "outline")]


class CaseExplainer:
    """Explains images by the network, preprocessing and inferer of a :class:`banet_monai.segmenter.Segmenter`.

    Outline, uncertainty and numbers are those of the configuration: its threshold, method of uncertainty, temperature,
    views. A network explains an image that is smaller than a window as it segments it: padded to the window.

    Args:
        segmenter: loaded once, with a method of uncertainty, such as ``Segmenter(options={"uncertainty": "tta"})``.

    Raises:
        ValueError: when the segmenter's configuration has no method of uncertainty, or lacks a step.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        steps = segmenter.preprocessing.transforms
        inferers = list(_nested(segmenter.inferer))
        uncertain = next((found for found in inferers if isinstance(found, UncertaintyInferer)), None)
        if uncertain is None or uncertain.method == "none":
            raise ValueError(
                "the uncertainty is shown, and the configuration's is 'none'; options={'uncertainty': 'mc_dropout'} "
                "works for a network with dropout, 'tta' for every one."
            )
        self.segmenter = segmenter
        self.raw = Compose([step for step in steps if not isinstance(step, NormalizeImaged)])
        self.normalize = Compose([step for step in steps if isinstance(step, NormalizeImaged)])
        self.spatial_dims = int(getattr(segmenter.network, "spatial_dims", 2))
        self.activation = uncertain.activation
        self.grid: Grid | None = getattr(inferers[-1], "grid", None)
        chain = segmenter.to_probability.transforms
        self.split = _first(chain, SplitUncertaintyd)
        self.to_probability = _first(chain, Activationsd)
        self.to_labels = _first(segmenter.to_labels.transforms, DiscretizeLabelsd)

    def __call__(self, source: str | list[str]) -> ExplainedCase:
        """Explain one image.

        Args:
            source: what a data dictionary has under ``image``.

        Raises:
            ValueError: naming the file, when it cannot be read or does not fit the network.
        """
        record = self.raw({"image": source})
        raw: MetaTensor = record["image"]
        image: torch.Tensor = self.normalize(record)["image"].as_tensor().to(self.segmenter.device)
        output = self.segmenter.inferer(image[None], self.segmenter.network)
        split = self.split({"pred": output[0]})
        if failure := split.get("failure"):
            raise ValueError(str(failure))
        entropy: torch.Tensor = split["uncertainty"][0]
        labels: torch.Tensor = self.to_labels(self.to_probability({"pred": split["pred"]}))["pred"][0]

        shown = raw.as_tensor()
        notes: list[str] = []
        if image.ndim - 1 > self.spatial_dims:  # slices of a volume through a 2D network
            number = _fullest_slice(labels)
            image, shown, labels, entropy = (part[..., number] for part in (image, shown, labels, entropy))
            notes.append(f"slice {number + 1} of {raw.shape[-1]}, the one with the largest outline")
        cut = _part(labels, LARGEST_SIDE[self.spatial_dims])
        if any(piece.stop - piece.start < size for piece, size in zip(cut, labels.shape, strict=True)):
            notes.append("the part around the outline, because the image is large")
        whole = (slice(None), *cut)
        image, shown = image[whole], shown[whole]
        labels, entropy = labels[cut], entropy[cut]
        maps = self._maps(image[None]) | {"uncertainty": entropy}
        if labels.ndim == 3:
            number = _fullest_slice(labels)
            labels, shown = labels[..., number], shown[..., number]
            maps = {name: values[..., number] for name, values in maps.items()}
            notes.append(f"slice {number + 1} of the volume on the network's grid, the one with the largest outline")
        return ExplainedCase(_as_picture(shown, raw), labels.cpu(), maps, split["scores"], tuple(notes))

    def _maps(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Maps ``(*spatial)`` of an image ``(1, C, *spatial)``."""
        network = self.segmenter.network
        inside: tuple[slice, ...] = ()
        if self.grid is not None:
            image, inside = pad_to_window(image, self.grid)
        found: Explanation = explain(network, image)
        maps = {f"edge{stage}": values for stage, values in enumerate(found.edges, start=1)} | found.added
        if found.boundary is not None:
            maps["boundary"] = found.boundary
        if hasattr(getattr(network, "encoder", None), "stages"):
            cams = grad_cam(network, image, activation=self.activation)
            maps |= {f"gradcam{stage}": values for stage, values in enumerate(cams, start=1)}
        return {name: values[inside][0, 0] for name, values in maps.items()}


def _nested(inferer: Any) -> Iterator[Any]:
    """An inferer, the one that it calls, and so on to the innermost."""
    while inferer is not None:
        yield inferer
        inferer = getattr(inferer, "inferer", None)


def _first(steps: Iterable[Any], kind: type[Step]) -> Step:
    for step in steps:
        if isinstance(step, kind):
            return step
    raise ValueError(f"the configuration's postprocessing has no {kind.__name__}, by which the outline is drawn.")


def _fullest_slice(labels: torch.Tensor) -> int:
    """The slice along the last axis with the most foreground, the middle one where there is none."""
    counts = (labels > 0).flatten(0, -2).sum(dim=0)
    return int(counts.argmax()) if bool(counts.any()) else labels.shape[-1] // 2


def _part(labels: torch.Tensor, largest: int) -> tuple[slice, ...]:
    """A box of at most ``largest`` pixels along each axis, as near to the foreground's centre as the image allows."""
    places = torch.nonzero(labels)
    centre = places.float().mean(dim=0).tolist() if len(places) else [size / 2 for size in labels.shape]
    starts = [
        min(max(0, round(at - largest / 2)), max(0, n - largest)) for at, n in zip(centre, labels.shape, strict=True)
    ]
    return tuple(slice(start, min(start + largest, n)) for start, n in zip(starts, labels.shape, strict=True))


def _as_picture(shown: torch.Tensor, raw: MetaTensor) -> Rgb:
    low, high = (float(value) for value in raw.meta.get("value_range", (0.0, 0.0)))
    known = raw.meta.get("kind") == "picture" and high > low
    return to_grey_levels(shown, bounds=(low, high) if known else None)
