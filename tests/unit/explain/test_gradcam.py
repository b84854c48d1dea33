from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from banet_monai.explain import RegionScore, grad_cam
from banet_monai.networks import BANet


class OneStage(nn.Module):
    """An encoder of one layer that copies the image into two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 1, bias=False)
        nn.init.ones_(self.layer.weight)

    def stages(self) -> list[list[nn.Module]]:
        return [[self.layer]]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Known(nn.Module):
    """Logit: ``up`` times the first feature plus ``down`` times the second."""

    def __init__(self, up: float, down: float) -> None:
        super().__init__()
        self.encoder = OneStage()
        self.head = nn.Conv2d(2, 1, 1, bias=False)
        self.head.weight.data = torch.tensor([up, down]).reshape(1, 2, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))


def banet(**options: Any) -> BANet:
    torch.manual_seed(0)
    small = {"output_stride": 16, "width": 8, "aspp_channels": 8, "separable": True}
    return BANet(**{**small, **options}).eval()


def test_the_map_is_the_feature_weighted_by_its_gradient() -> None:
    image = torch.tensor([[1.0, 3.0], [2.0, 4.0]]).reshape(1, 1, 2, 2)
    (found,) = grad_cam(Known(2.0, -1.0), image, stages=(1,))
    torch.testing.assert_close(found, image / 4)  # both features are the image, their weights 2 and -1: positive


def test_features_that_lower_the_logits_give_nothing() -> None:
    image = torch.tensor([[1.0, 3.0], [2.0, 4.0]]).reshape(1, 1, 2, 2)
    (found,) = grad_cam(Known(-2.0, 1.0), image, stages=(1,))
    assert torch.count_nonzero(found) == 0


def test_the_score_is_the_mean_logit_inside() -> None:
    logits = torch.tensor([[3.0, 1.0], [-5.0, -7.0]]).reshape(1, 1, 2, 2)
    assert RegionScore(nn.Identity())(logits).tolist() == [[2.0]]
    assert RegionScore(nn.Identity())(-logits).tolist() == [[6.0]]
    assert RegionScore(nn.Identity())(-logits.abs()).tolist() == [[-4.0]]  # nothing is inside: all pixels
    corner = torch.tensor([[False, False], [False, True]]).reshape(1, 1, 2, 2)
    assert RegionScore(nn.Identity(), region=corner)(logits).tolist() == [[-7.0]]


def test_of_several_classes_all_but_the_background_count() -> None:
    logits = torch.tensor([0.0, 2.0, 2.0]).reshape(1, 3, 1, 1)
    assert RegionScore(nn.Identity())(logits).item() == pytest.approx(2 + torch.log(torch.tensor(2.0)).item())


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "mobilenet_v3_large", "resnet18"])
def test_every_stage_of_every_encoder_has_a_map(encoder: str) -> None:
    maps = grad_cam(banet(encoder=encoder), torch.rand(2, 3, 40, 33))
    assert [tuple(found.shape) for found in maps] == [(2, 1, 40, 33)] * 4
    for found in maps:
        assert found.min() >= 0
        assert found.max() <= 1


def test_volumes_have_maps_too() -> None:
    (found,) = grad_cam(banet(encoder="mobilenet_v2", spatial_dims=3), torch.rand(1, 3, 32, 33, 32), stages=(4,))
    assert found.shape == (1, 1, 32, 33, 32)


def test_the_network_is_left_without_hooks_and_gradients() -> None:
    network = banet(encoder="mobilenet_v2").requires_grad_(False)
    with torch.inference_mode():
        grad_cam(network, torch.rand(1, 3, 32, 32), stages=(4,))
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())


def test_what_has_no_stages_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs a network whose encoder has stages\(\), Conv2d has none"):
        grad_cam(nn.Conv2d(3, 1, 1), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"the encoder has the stages 1 to 4, got \(0, 5\)"):
        grad_cam(banet(encoder="mobilenet_v2"), torch.zeros(1, 3, 32, 32), stages=(0, 5))


def test_of_overlapping_structures_the_likeliest_counts() -> None:
    logits = torch.tensor([[5.0, -1.0], [-5.0, -2.0]]).reshape(1, 2, 2, 1)  # one pixel inside the first structure
    assert RegionScore(nn.Identity(), activation="sigmoid")(logits).item() == 5.0
    assert RegionScore(nn.Identity(), activation="sigmoid")(-logits).item() == 3.5  # 5 and 2, both inside the second


def test_a_pixel_that_is_likeliest_background_is_outside_although_the_classes_together_are_likelier() -> None:
    outside, inside = [1.0, 0.9, 0.9], [0.0, 3.0, 3.0]
    logits = torch.tensor([outside, inside]).T.reshape(1, 3, 2, 1)
    assert RegionScore(nn.Identity())(logits).item() == pytest.approx(3 + math.log(2))


class Structures(nn.Module):
    """Two channels that overlap: the image, and its negative."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = OneStage()
        self.head = nn.Conv2d(2, 2, 1, bias=False)
        self.head.weight.data = torch.tensor([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))


def test_the_map_of_overlapping_structures_shows_what_raises_the_outlined_one() -> None:
    image = torch.tensor([[1.0, 3.0], [2.0, 4.0]]).reshape(1, 1, 2, 2)
    (found,) = grad_cam(Structures(), image, stages=(1,), activation="sigmoid")
    torch.testing.assert_close(found, image / 4)  # the first channel is outlined, and the image raises it
    with pytest.raises(ValueError, match=r"activation must be one of .*'tanh'"):
        grad_cam(Structures(), image, stages=(1,), activation="tanh")
