"""Grad-CAM of the encoder's stages: where features stand that raise the logits of what was outlined.

Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391, for segmentation as in Vinogradova et al., AAAI 2020,
https://arxiv.org/abs/2002.11434: the score of an image is the mean logit over the predicted region. Computed by MONAI.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from monai.visualize import GradCAM
from torch import nn

from banet_monai.networks.layers import resize_linear
from banet_monai.uncertainty.statistics import check_activation

__all__ = ["RegionScore", "grad_cam"]


class RegionScore(nn.Module):
    """A segmentation network with one number per image as its output, as classifiers have: ``(B, 1)``.

    The number is the mean over a region of the logit of foreground. One channel holds this logit, whatever the
    activation. Of several it is:

    ===============  ==============================================  ================================================
    activation       logit of foreground                             outlined where
    ===============  ==============================================  ================================================
    ``"softmax"``    log odds of all classes against the first,      the largest logit is that of another class than
                     which is background                             the first
    ``"sigmoid"``    the largest: each channel is a structure        it is above 0
    ===============  ==============================================  ================================================

    Args:
        network: returns logits ``(B, C, *spatial)``.
        region: ``(B, 1, *spatial)`` boolean. None: what the network outlines, and in an image without it all pixels.
        activation: what turns several logits into probabilities.

    Raises:
        ValueError: for another activation.
    """

    def __init__(self, network: nn.Module, *, region: torch.Tensor | None = None, activation: str = "softmax") -> None:
        super().__init__()
        check_activation(activation)
        self.network = network
        self.region = region
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits, outlined = self._foreground(self.network(x))
        region = outlined if self.region is None else self.region.to(logits.device)
        weights = region.flatten(1).float()
        weights = torch.where(weights.sum(dim=1, keepdim=True) > 0, weights, torch.ones_like(weights))
        return (logits.flatten(1) * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)

    def _foreground(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logit of foreground and what is outlined, both ``(B, 1, *spatial)``."""
        if self.activation == "softmax" and logits.shape[1] > 1:
            odds = torch.logsumexp(logits[:, 1:], dim=1, keepdim=True) - logits[:, :1]
            return odds, logits.argmax(dim=1, keepdim=True) > 0
        largest = logits.amax(dim=1, keepdim=True)
        return largest, largest > 0


def grad_cam(
    network: nn.Module,
    image: torch.Tensor,
    *,
    stages: Sequence[int] = (1, 2, 3, 4),
    region: torch.Tensor | None = None,
    activation: str = "softmax",
) -> list[torch.Tensor]:
    """Grad-CAM of encoder stages, one forward and backward pass for each.

    The passes run on a copy of the network, because MONAI's hooks stay on what they are given; weights, gradients and
    mode of the network itself are untouched.

    Args:
        network: with an ``encoder`` that has ``stages()``, such as :class:`banet_monai.networks.BANet`.
        image: ``(B, C, *spatial)``, as the network takes it.
        stages: numbers from 1, the finest.
        region: whose logits count, see :class:`RegionScore`.
        activation: ``"sigmoid"`` or ``"softmax"``, see :class:`RegionScore`.

    Returns:
        One map per stage, ``(B, 1, *spatial)`` at the size of the image, 0 to 1, the largest value of each image being
        1; 0 everywhere if no feature of the stage raises the logits.

    Raises:
        ValueError: when the network has no such encoder or stage, or for another activation.
    """
    encoder = getattr(network, "encoder", None)
    if encoder is None or not hasattr(encoder, "stages"):
        raise ValueError(f"Grad-CAM needs a network whose encoder has stages(), {type(network).__name__} has none.")
    count = len(encoder.stages())
    if not set(stages) <= set(range(1, count + 1)):
        raise ValueError(f"the encoder has the stages 1 to {count}, got {tuple(stages)}.")

    with torch.inference_mode(False), torch.enable_grad():
        scored = RegionScore(copy.deepcopy(network).eval().requires_grad_(True), region=region, activation=activation)
        names = {id(module): name for name, module in scored.named_modules()}
        layers = [names[id(layers[-1])] for layers in scored.network.encoder.stages()]  # type: ignore[union-attr,operator]
        cam = GradCAM(nn_module=scored, target_layers=layers)  # type: ignore[arg-type]
        # a tensor that was made in inference mode takes no part in a backward pass, its copy does
        picture = (image.as_tensor() if hasattr(image, "as_tensor") else image).detach().clone().requires_grad_(True)
        maps: list[torch.Tensor] = [
            cam.compute_map(picture, class_idx=0, layer_idx=stage - 1).detach()  # type: ignore[no-untyped-call]
            for stage in stages
        ]
    return [_scaled(resize_linear(found.float(), [int(size) for size in image.shape[2:]])) for found in maps]


def _scaled(values: torch.Tensor) -> torch.Tensor:
    largest = values.flatten(1).amax(dim=1).reshape(-1, *[1] * (values.ndim - 1))
    return torch.where(largest > 0, values / largest.clamp_min(1e-12), torch.zeros_like(values))
