"""Boundary-aware loss of BA-Net and the edge targets it is computed from.

Reference:
    Wang et al., "Boundary-aware context neural network for medical image segmentation",
    Medical Image Analysis 78 (2022) 102395, https://arxiv.org/abs/2005.00966

The focal factor and the boundary term are options beside the paper's form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.losses import DiceLoss
from monai.networks.layers import Pool
from scipy.ndimage import distance_transform_edt
from torch import nn

__all__ = ["BANetLoss", "Predictions", "boundary_term", "edge_target", "focal", "mask_target", "signed_distance"]

Mode: TypeAlias = Literal["binary", "multiclass", "multilabel"]
Predictions: TypeAlias = torch.Tensor | Mapping[str, torch.Tensor | Sequence[torch.Tensor]]

MODES = ("binary", "multiclass", "multilabel")
N_STAGES = 4  # encoder stages with a mask and an edge map of their own
DICE_SMOOTH = 1.0  # pixels, in numerator and denominator: an empty mask predicted empty costs 0, never less


class _Logits(NamedTuple):
    """What the network returned, as plain floating point tensors: the final mask and the maps of each stage."""

    mask: torch.Tensor
    stage_masks: list[torch.Tensor]
    stage_edges: list[torch.Tensor]


def edge_target(mask: torch.Tensor, width: int = 1) -> torch.Tensor:
    """Morphological gradient ``dilate(mask) - erode(mask)`` with a square (cube) of ``2 * width + 1`` pixels.

    The result is 1 within ``width`` pixels (Chebyshev distance) of a pixel of the other value, so the line lies on both
    sides of the outline and is ``2 * width`` pixels thick. The frame of the image is no outline: a mask that runs out
    of the image has no edge along the frame.

    Args:
        mask: binary masks, ``(batch, channel, *spatial)`` with 2 or 3 spatial axes, any dtype, values 0 or 1. Each
            channel is treated on its own.
        width: reach of the edge on either side of the outline, in pixels of the mask, at least 1.

    Returns:
        Tensor of the shape of ``mask`` with values 0 or 1; ``float32`` unless ``mask`` is ``float64``.

    Raises:
        ValueError: when ``width`` is below 1 or ``mask`` has not 4 or 5 axes.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1 pixel, got {width}.")
    if mask.ndim not in (4, 5):
        raise ValueError(f"mask must be (batch, channel, *spatial) with 4 or 5 axes, got shape {tuple(mask.shape)}.")
    mask = mask if mask.dtype == torch.float64 else mask.float()
    # Max pooling pads with -inf, so what lies outside the image joins neither the dilation nor the erosion.
    pool = Pool["MAX", mask.ndim - 2](2 * width + 1, stride=1, padding=width)
    return pool(mask) + pool(-mask)


def mask_target(label: torch.Tensor, mode: Mode, channels: int) -> torch.Tensor:
    """Binary target masks, one per output channel of the network.

    Args:
        label: ``binary``: ``(batch, 1, *spatial)`` of 0 and 1; ``multiclass``: ``(batch, 1, *spatial)`` of label ids
            0 (background) to ``channels - 1``; ``multilabel``: ``(batch, channels, *spatial)`` of 0 and 1. Any dtype.
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        channels: output channels of the network; 1 for ``binary``, background included for ``multiclass``.

    Returns:
        ``float32`` tensor ``(batch, channels, *spatial)`` of 0 and 1; one-hot with the background first for
        ``multiclass``.

    Raises:
        ValueError: when the label has another number of channels or values out of range.
    """
    needed = channels if mode == "multilabel" else 1
    if label.ndim < 4 or label.shape[1] != needed:
        raise ValueError(
            f"label of mode '{mode}' must be (batch, {needed}, *spatial) for {channels} output channels, got shape "
            f"{tuple(label.shape)}; label ids have one channel, binary masks of overlapping classes one per class."
        )
    n_values = channels if mode == "multiclass" else 2
    ids = torch.arange(n_values, device=label.device)
    matches = label == ids.view(1, -1, *(1,) * (label.ndim - 2)) if mode == "multiclass" else label == 1
    in_range = matches.any(dim=1, keepdim=True) if mode == "multiclass" else matches | (label == 0)
    if not bool(in_range.all()):
        found = sorted(set(label[~in_range].tolist()))
        raise ValueError(
            f"label of mode '{mode}' must hold whole numbers from 0 to {n_values - 1}, got also {found[:8]}; "
            "map the mask's values to label ids when reading it, and resample labels with mode='nearest'."
        )
    return matches.float()


def focal(cross_entropy: torch.Tensor, gamma: float) -> torch.Tensor:
    """Cross-entropy times ``(1 - p) ** gamma``, where ``p = exp(-cross_entropy)`` is what the true class was given.

    Args:
        cross_entropy: of each pixel, at least 0, any shape.
        gamma: at least 0; 0 changes nothing, 2 is usual.

    Returns:
        Tensor of the same shape.

    Source:
        Lin et al., "Focal loss for dense object detection", https://arxiv.org/abs/1708.02002, without its ``alpha``.
    """
    if gamma == 0:
        return cross_entropy
    # A pixel that is surely right has an exact 0 here, where powers below 1 have no slope.
    missing = (-torch.expm1(-cross_entropy)).clamp_min(torch.finfo(cross_entropy.dtype).eps)
    return missing**gamma * cross_entropy


def signed_distance(mask: torch.Tensor) -> torch.Tensor:
    """Distance of every pixel from the outline of a mask, negative inside, in shares of the longest side.

    The outline runs between pixels: its two neighbours are half a pixel away. A mask that is empty or full has no
    outline and gives zeros. Computed on the CPU.

    Args:
        mask: binary masks ``(batch, channel, *spatial)``, each channel on its own.

    Returns:
        float32 tensor of the shape and device of ``mask``.
    """
    inside = mask.detach().cpu().numpy() > 0
    distance = np.zeros(inside.shape, dtype=np.float32)
    for place in np.ndindex(*inside.shape[:2]):
        one = inside[place]
        if one.any() and not one.all():
            outside = distance_transform_edt(~one)
            distance[place] = np.where(one, 0.5 - distance_transform_edt(one), outside - 0.5)
    return torch.from_numpy(distance / max(inside.shape[2:])).to(mask.device)


def boundary_term(probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over pixels of ``(probability - target) * signed distance``: 0 for the target itself, never less.

    Args:
        probabilities: ``(batch, channel, *spatial)`` in [0, 1].
        target: binary masks of the same shape.

    Returns:
        Scalar; an error costs as much as it is far from the outline.

    Source:
        Kervadec et al., "Boundary loss for highly unbalanced segmentation", https://arxiv.org/abs/1812.07032, equation
        5, with the constant that makes it 0 for the target.
    """
    return ((probabilities - target) * signed_distance(target).to(probabilities)).mean()


class BANetLoss(nn.Module):
    """``L = L_mask + sum_i w_i (L_mask,i + edge_weight * L_edge,i)`` over the maps that BA-Net returns in training.

    The paper's form is the default: binary cross-entropy for every map. With ``mode="multiclass"`` the masks take the
    softmax cross-entropy, and the edge maps binary cross-entropy, one map per foreground class. ``dice_weight`` adds
    MONAI's Dice loss to every mask term (not to the edges; not over the background of ``multiclass``).

    Everything is computed in ``float32`` (``float64`` if the predictions are), outside autocast.

    Args:
        mode: ``"binary"`` (one sigmoid channel), ``"multiclass"`` (softmax over mutually exclusive classes, background
            first) or ``"multilabel"`` (one sigmoid channel per class, classes may overlap).
        stage_weights: ``w_i``, one number for all stages or one per stage, in the order of the encoder's stages.
        edge_weight: weight of the edge terms beside the stage masks.
        edge_width: reach of the edge targets on either side of the outline, in pixels of the label.
        dice_weight: weight of the Dice loss beside the cross-entropy of each mask; 0 leaves it out.
        focal_gamma: exponent of the focal factor on the cross-entropy of each mask (not of the edges), see
            :func:`focal`; 0 leaves it out.
        boundary_weight: weight of :func:`boundary_term` of the final mask (not over the background of ``multiclass``);
            0 leaves it out.

    Raises:
        ValueError: for an unknown ``mode``, a negative weight or exponent, an ``edge_width`` below 1, a number of
            ``stage_weights`` that is neither 1 nor 4; in ``forward`` for predictions and labels that do not fit.

    Shapes:
        - predictions: a tensor of logits ``(batch, channels, *spatial)`` (only ``L_mask`` is computed), or the training
          dictionary: ``mask`` ``(batch, channels, *spatial)``, ``stage_masks`` and ``stage_edges`` lists of 4 logits
          maps of the same batch and size (empty without the stage heads). Masks have ``channels`` channels, edge maps
          one per foreground class.
        - label: ``(batch, 1, *spatial)`` label ids; ``(batch, channels, *spatial)`` for ``multilabel``
        - output: scalar, at least 0
    """

    def __init__(
        self,
        *,
        mode: Mode = "binary",
        stage_weights: float | Sequence[float] = 1.0,
        edge_weight: float = 1.0,
        edge_width: int = 1,
        dice_weight: float = 0.0,
        focal_gamma: float = 0.0,
        boundary_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got '{mode}'.")
        weights = (stage_weights,) * N_STAGES if isinstance(stage_weights, int | float) else tuple(stage_weights)
        if len(weights) != N_STAGES:
            raise ValueError(f"stage_weights must be one number or {N_STAGES}, got {weights}.")
        if min(*weights, edge_weight, dice_weight, focal_gamma, boundary_weight) < 0:
            raise ValueError(
                f"weights must not be negative, got stage_weights={weights}, edge_weight={edge_weight}, "
                f"dice_weight={dice_weight}, focal_gamma={focal_gamma}, boundary_weight={boundary_weight}."
            )
        if edge_width < 1:
            raise ValueError(f"edge_width must be at least 1 pixel, got {edge_width}.")
        self.mode: Mode = mode
        self.stage_weights = tuple(float(weight) for weight in weights)
        self.edge_weight = edge_weight
        self.edge_width = edge_width
        self.dice_weight = dice_weight
        self.focal_gamma = focal_gamma
        self.boundary_weight = boundary_weight
        self.dice = DiceLoss(
            include_background=mode != "multiclass",
            softmax=mode == "multiclass",
            sigmoid=mode != "multiclass",
            smooth_nr=DICE_SMOOTH,
            smooth_dr=DICE_SMOOTH,
        )

    def forward(self, predictions: Predictions, label: torch.Tensor) -> torch.Tensor:
        logits = _as_logits(predictions)
        with torch.autocast(logits.mask.device.type, enabled=False):
            return self._total(logits, _plain(label))

    def _total(self, logits: _Logits, label: torch.Tensor) -> torch.Tensor:
        if self.mode == "binary" and logits.mask.shape[1] != 1:
            raise ValueError(
                f"mode 'binary' needs one output channel, got mask logits of shape {tuple(logits.mask.shape)}; "
                "use mode 'multiclass' (softmax) or 'multilabel' (sigmoid)."
            )
        target = mask_target(label, self.mode, logits.mask.shape[1]).to(logits.mask)
        total = self._mask_term(logits.mask, target, "mask")
        if self.boundary_weight > 0:
            total = total + self.boundary_weight * self._boundary(logits.mask, target)
        for weight, stage_mask in zip(self.stage_weights, logits.stage_masks, strict=False):
            total = total + weight * self._mask_term(stage_mask, target, "stage_masks")

        if self.edge_weight > 0 and logits.stage_edges:
            edges = edge_target(target[:, 1:] if self.mode == "multiclass" else target, self.edge_width)
            for weight, stage_edge in zip(self.stage_weights, logits.stage_edges, strict=True):
                _check_shape(stage_edge, edges, "stage_edges")
                total = total + weight * self.edge_weight * F.binary_cross_entropy_with_logits(stage_edge, edges)
        return total

    def _mask_term(self, logits: torch.Tensor, target: torch.Tensor, name: str) -> torch.Tensor:
        _check_shape(logits, target, name)
        if self.mode == "multiclass":
            entropy = F.cross_entropy(logits, target.argmax(dim=1), reduction="none")
        else:
            entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        term = focal(entropy, self.focal_gamma).mean()
        if self.dice_weight > 0:
            # Rounding may put a perfect prediction 1e-7 below zero.
            term = term + self.dice_weight * self.dice(logits, target).clamp_min(0.0)
        return term

    def _boundary(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if self.mode == "multiclass":
            return boundary_term(logits.softmax(dim=1)[:, 1:], target[:, 1:])
        return boundary_term(logits.sigmoid(), target)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without meta data, which would slow every operation down."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def _full_precision(tensor: torch.Tensor) -> torch.Tensor:
    tensor = _plain(tensor)
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _as_logits(predictions: Predictions) -> _Logits:
    if isinstance(predictions, torch.Tensor):
        return _Logits(_full_precision(predictions), [], [])
    names = _Logits._fields
    if missing := [name for name in names if name not in predictions]:
        raise ValueError(
            f"predictions must be a tensor of logits or a dictionary with the keys {names}; missing are {missing}."
        )
    mask, *stages = (predictions[name] for name in names)
    if not isinstance(mask, torch.Tensor):
        raise ValueError(f"'mask' of the predictions must be a tensor of logits, got {type(mask).__name__}.")
    maps = [[_full_precision(stage) for stage in of_kind] for of_kind in stages]
    if [len(of_kind) for of_kind in maps] not in ([0, 0], [N_STAGES, N_STAGES]):
        raise ValueError(
            f"'stage_masks' and 'stage_edges' must both hold {N_STAGES} maps or none, "
            f"got {len(maps[0])} and {len(maps[1])}."
        )
    return _Logits(_full_precision(mask), *maps)


def _check_shape(logits: torch.Tensor, target: torch.Tensor, name: str) -> None:
    if logits.shape == target.shape:
        return
    hint = ""
    if name == "stage_edges" and logits.shape[1] != target.shape[1]:
        hint = f"; one edge map per foreground class is needed: build the network with edge_channels={target.shape[1]}"
    raise ValueError(
        f"'{name}' has shape {tuple(logits.shape)}, but its target has {tuple(target.shape)}: "
        f"batch, channels and size must be equal{hint}."
    )
