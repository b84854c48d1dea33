from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from torch import nn

from banet_monai.explain import BoundaryInferer
from banet_monai.inferers import FlipInferer, SegmentationInferer
from banet_monai.networks import BANet
from banet_monai.uncertainty import SplitUncertaintyd, UncertaintyInferer


def directly(image: torch.Tensor, network: Callable[..., Any]) -> torch.Tensor:
    return network(image)


@pytest.fixture(scope="module")
def network() -> BANet:
    torch.manual_seed(0)
    return BANet(encoder="mobilenet_v2", output_stride=16, width=8, aspp_channels=8, separable=True, dropout=0.2).eval()


def test_the_boundary_map_follows_the_logits(network: BANet) -> None:
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        result = BoundaryInferer(directly)(image, network)
        torch.testing.assert_close(result[:, :1], network(image))
        torch.testing.assert_close(result[:, 1:], network.boundary_map(image))


@pytest.mark.parametrize("shape", [(1, 3, 40, 33), (1, 3, 33, 40, 3)])
def test_windows_and_slices_have_it_too(shape: tuple[int, ...], network: BANet) -> None:
    windows = SegmentationInferer(roi_size=32, amp="none")
    image = MetaTensor(torch.rand(shape), meta={"filename_or_obj": "a.png"})
    with torch.no_grad():
        result = BoundaryInferer(windows)(image, network)
    assert isinstance(result, MetaTensor)
    assert result.shape == (1, 2, *shape[2:])
    assert 0 <= result[:, 1].min() <= result[:, 1].max() <= 1


def test_pictures_that_share_a_batch_have_it_each(network: BANet) -> None:
    meta = {"original_channel_dim": float("nan"), "filename_or_obj": "a.png"}  # as readers leave it for grey pictures
    records = [{"image": MetaTensor(torch.rand(3, 32, 32), meta=dict(meta))} for _ in range(3)]
    images = list_data_collate(records)["image"]
    with torch.no_grad():
        result = BoundaryInferer(SegmentationInferer(roi_size=32, amp="none"))(images, network)
        torch.testing.assert_close(result[:, 1:].as_tensor(), network.boundary_map(images.as_tensor()))


def test_it_follows_the_channels_of_uncertainty_inside_flips(network: BANet) -> None:
    windows = SegmentationInferer(roi_size=32, amp="none")
    chain = FlipInferer(BoundaryInferer(UncertaintyInferer(windows, method="mc_dropout", samples=2), windows=windows))
    with torch.no_grad():
        record = SplitUncertaintyd()({"pred": chain(torch.rand(1, 3, 32, 32), network)[0]})
    assert record["pred"].shape == (1, 32, 32)
    assert record["uncertainty"].shape == (3, 32, 32)
    assert record["boundary"].shape == (1, 32, 32)


def test_switched_off_it_hands_everything_on(network: BANet) -> None:
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(BoundaryInferer(directly, enabled="false")(image, network), network(image))


def test_a_network_without_a_boundary_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs a network with boundary_map\(\), Conv2d has none"):
        BoundaryInferer(directly)(torch.zeros(1, 3, 8, 8), nn.Conv2d(3, 1, 1))
    with pytest.raises(ValueError, match=r"boundary must be true or false, got 'perhaps'"):
        BoundaryInferer(directly, enabled="perhaps")


def test_a_network_in_training_mode_is_left_as_it_came_and_normalises_with_what_it_learned() -> None:
    torch.manual_seed(0)
    network = BANet(encoder="mobilenet_v2", output_stride=16, width=8, aspp_channels=8, separable=True, dropout=0.2)
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = network.eval().boundary_map(image)
        network.train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        for given in (network, nn.DataParallel(network)):
            result = BoundaryInferer(SegmentationInferer(roi_size=32, amp="none"))(image, given)
            torch.testing.assert_close(result[:, 1:], expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
