from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from banet_monai.inferers import SegmentationInferer
from banet_monai.networks import BANet
from banet_monai.uncertainty import UncertaintyInferer
from banet_monai.uncertainty.dropout import ActiveDropout, SampledNetwork, has_dropout
from banet_monai.uncertainty.statistics import Moments

WINDOW = 32


class Switch(nn.Module):
    """Logit ``high`` where its one channel is kept, 0 where it is dropped; the dropout scales a kept channel."""

    def __init__(self, *, p: float, high: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(p)
        self.high = high

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.dropout(torch.ones_like(x[:, :1])) > 0).float() * self.high


class WithNorm(nn.Module):
    """Batch norm, then dropout of every element."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm2d(3), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.norm(x))[:, :1]


class Split(nn.Module):
    """Counts passes of its halves; ``early`` puts a dropout layer into the first half."""

    def __init__(self, *, early: bool = False) -> None:
        super().__init__()
        self.early, self.late = nn.Dropout2d(0.5 if early else 0.0), nn.Dropout2d(0.5)
        self.passes = {"encode": 0, "decode": 0}

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        self.passes["encode"] += 1
        return (self.early(x),)

    def decode(self, features: torch.Tensor, size: list[int]) -> torch.Tensor:
        self.passes["decode"] += 1
        return self.late(features).sum(dim=1, keepdim=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(*self.encode(x), list(x.shape[2:]))


def banet(**options: Any) -> BANet:
    torch.manual_seed(0)
    return BANet(encoder="mobilenet_v2", output_stride=16, width=8, aspp_channels=8, separable=True, **options).eval()


def sampled(network: nn.Module, x: torch.Tensor, *, samples: int = 8, seed: int = 0, optimize: bool = False) -> Moments:
    with torch.no_grad(), ActiveDropout(network, seed=seed) as dropout:
        return Moments.unstacked(SampledNetwork(dropout, samples=samples, optimize=optimize)(x), "sigmoid")


def test_mean_and_variance_are_those_of_the_coin_that_drops() -> None:
    p, samples = 0.25, 600
    found = sampled(Switch(p=p, high=200.0), torch.zeros(1, 3, 1, 1), samples=samples)
    # the probability is 1 with chance 1 - p, else one half: mean 0.875, variance 0.25 * p * (1 - p)
    deviation = (0.25 * p * (1 - p) / samples) ** 0.5
    assert found.mean.item() == pytest.approx(1 - p / 2, abs=4 * deviation)
    assert found.variance.item() == pytest.approx(0.25 * p * (1 - p), abs=0.005)


def test_what_is_kept_is_scaled_so_that_the_mean_stays() -> None:
    network = nn.Sequential(nn.Dropout2d(0.2))
    with torch.no_grad(), ActiveDropout(network) as dropout:
        dropout.start(0)
        values = network(torch.ones(1, 500, 2, 2))
    assert set(values.unique().tolist()) == {0.0, 1.25}
    assert torch.equal(values, values[..., :1, :1].expand_as(values))  # whole channels
    assert values.mean().item() == pytest.approx(1.0, abs=0.1)


def test_batch_norm_keeps_its_statistics_and_only_dropout_is_active() -> None:
    network = WithNorm().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = sampled(network, torch.randn(4, 3, 8, 8) * 9 + 5)
    assert found.variance.max() > 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("training", [False, True])
def test_modes_and_hooks_are_as_before_even_after_an_error(training: bool) -> None:
    network = WithNorm().train(training)
    network.norm.eval()  # a mode of its own
    modes = [module.training for module in network.modules()]

    def fail(images: torch.Tensor, sampled_network: Any) -> torch.Tensor:
        sampled_network(images)
        raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match=r"^the disk is on fire$"):
        UncertaintyInferer(fail, method="mc_dropout")(torch.zeros(1, 3, 4, 4), network)
    assert [module.training for module in network.modules()] == modes
    assert all(not module._forward_hooks for module in network.modules())


def test_the_same_channels_are_missing_in_every_window_and_slice() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Dropout2d(0.5)).eval()
    nn.init.ones_(network[0].weight)
    plain = SegmentationInferer(roi_size=16, sw_batch_size=2, amp="none")
    inferer = UncertaintyInferer(plain, method="mc_dropout", samples=3)
    for shape in ((1, 3, 40, 25), (1, 3, 16, 20, 5)):
        variance = inferer(torch.ones(shape), network)[:, 1]
        assert variance.max() > 0
        torch.testing.assert_close(variance, torch.full_like(variance, variance.flatten()[0].item()))


def test_neither_batch_nor_order_nor_global_seed_changes_a_sample() -> None:
    network, x = banet(dropout=0.5), torch.rand(3, 3, WINDOW, WINDOW)
    together = sampled(network, x).variance
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    alone = torch.cat([sampled(network, x[index : index + 1]).variance for index in (2, 1, 0)]).flip(0)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's random numbers are used up
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=1e-4)
    assert not torch.equal(sampled(network, x, seed=1).variance, together)


def test_the_encoder_runs_once_for_all_samples() -> None:
    network = Split()
    sampled(network, torch.ones(1, 4, 2, 2), samples=8)
    assert network.passes == {"encode": 1, "decode": 8}


def test_an_encoder_with_dropout_runs_for_every_sample() -> None:
    network = Split(early=True)
    found = sampled(network, torch.ones(1, 400, 2, 2) / 400, samples=8)
    assert network.passes == {"encode": 9, "decode": 8}  # the first pass found the dropout
    assert found.variance.max() > 0


def test_sharing_the_encoder_changes_no_sample() -> None:
    network, x = banet(dropout=0.3), torch.rand(1, 3, WINDOW, 40)
    whole = nn.Sequential(network)  # has no encode() and decode()
    torch.testing.assert_close(sampled(network, x).stacked(), sampled(whole, x).stacked())


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_fast_form_gives_the_same_samples(spatial_dims: int) -> None:
    network = banet(dropout=0.3, spatial_dims=spatial_dims)
    with torch.no_grad():
        network.head.conv.weight.mul_(300)  # probabilities far from one half, where samples differ visibly
    x = torch.rand(1, 3, *[WINDOW] * spatial_dims)
    fast = sampled(network, x, optimize=True, samples=3)
    torch.testing.assert_close(fast.stacked(), sampled(network, x, samples=3).stacked(), atol=1e-4, rtol=1e-3)
    assert fast.variance.max() > 1e-3


def test_the_fast_form_drops_nothing_afterwards() -> None:
    network, x = banet(dropout=0.5), torch.rand(1, 3, WINDOW, WINDOW)
    plain = SegmentationInferer(roi_size=WINDOW, amp="none")
    with torch.no_grad():
        before = plain(x, network)
        UncertaintyInferer(plain, method="mc_dropout")(x, network)
        assert torch.equal(plain(x, network), before)


class Compiled(nn.Module):
    """As ``torch.compile`` wraps a network: its own pass runs code in which no hook is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._orig_mod = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("compiled code has no hooks")


def test_the_network_inside_wrappers_is_sampled() -> None:
    network, x = Split(), torch.ones(1, 4, 2, 2)
    for wrapped in (Compiled(network), nn.DataParallel(network), nn.DataParallel(Compiled(network))):
        assert torch.equal(sampled(wrapped, x).stacked(), sampled(network, x).stacked())


def test_networks_that_cannot_be_sampled_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no dropout layer with a probability above 0.*choose tta or ensemble"):
        ActiveDropout(banet(dropout=0.0))
    with pytest.raises(ValueError, match=r"the network has \['AlphaDropout'\]"):
        ActiveDropout(nn.Sequential(nn.AlphaDropout(0.5)))
    with pytest.raises(TypeError, match=r"needs a torch.nn.Module, got function"):
        ActiveDropout(banet)  # type: ignore[arg-type]


def test_dropout_is_seen_where_it_drops_something() -> None:
    assert has_dropout(banet(dropout=0.1))
    assert not has_dropout(nn.Sequential(nn.Dropout(0.0), nn.Conv2d(1, 1, 1)))
