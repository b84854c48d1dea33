import math

import pytest
import torch
from torch import nn

from banet_monai.networks.blocks import (
    ASPP,
    CrossFeatureFusion,
    Decoder,
    InteractiveAttention,
    MiniMultiTaskLearning,
    PyramidEdgeExtraction,
)


class Scale(nn.Module):
    """Stand-in for a convolution whose result is easy to follow."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def maps(*values: float, size: tuple[int, ...] = (2, 2)) -> torch.Tensor:
    """One channel of a constant per value."""
    return torch.stack([torch.full(size, value) for value in values]).unsqueeze(0)


# --- ASPP


def test_aspp_joins_all_branches_and_the_mean_of_the_map():
    aspp = ASPP(2, 1, out_channels=1, rates=(1, 2))
    aspp.branches = nn.ModuleList([Scale(1.0), Scale(2.0), Scale(3.0)])
    nn.init.constant_(aspp.pooled[1].conv.weight, 10.0)
    nn.init.constant_(aspp.pooled[1].conv.bias, 1.0)
    aspp.project = nn.Identity()
    x = torch.tensor([[0.0, 1.0], [2.0, 5.0]]).reshape(1, 1, 2, 2)
    expected = torch.cat([x, 2 * x, 3 * x, torch.full_like(x, 21.0)], dim=1)  # mean 2, times 10, plus 1
    torch.testing.assert_close(aspp(x), expected)


def test_aspp_dilates_its_branches_by_the_rates():
    aspp = ASPP(2, 4, out_channels=2, rates=(6, 12, 18))
    assert [branch.conv.dilation for branch in aspp.branches] == [(1, 1), (6, 6), (12, 12), (18, 18)]


def test_aspp_pools_without_normalisation():
    norms = [module for module in ASPP(2, 4, out_channels=2).pooled.modules() if "Norm" in type(module).__name__]
    assert norms == []


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("separable", [False, True])
def test_aspp_trains_with_a_batch_of_one(spatial_dims, separable):
    aspp = ASPP(spatial_dims, 4, out_channels=6, rates=(1, 2), separable=separable)
    assert aspp(torch.rand(1, 4, *(3, 2, 2)[:spatial_dims])).shape == (1, 6, *(3, 2, 2)[:spatial_dims])


# --- PEE


def test_pee_joins_the_features_with_their_differences_from_local_means():
    pee = PyramidEdgeExtraction(2, 1, out_channels=1, kernel_sizes=(3, 5))
    pee.reduce, pee.fuse = nn.Identity(), nn.Identity()
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = 36.0
    out = pee(x)[0]
    torch.testing.assert_close(out[0], x[0, 0])
    torch.testing.assert_close(out[1], torch.tensor([[-9.0, -6.0, -9.0], [-6.0, 32.0, -6.0], [-9.0, -6.0, -9.0]]))
    torch.testing.assert_close(out[2], x[0, 0] - 4.0)  # the window of 5 sees all nine pixels everywhere


def test_pee_finds_no_edge_in_a_constant_map():
    pee = PyramidEdgeExtraction(2, 1, out_channels=1, kernel_sizes=(3, 5, 7))
    pee.reduce, pee.fuse = nn.Identity(), nn.Identity()
    torch.testing.assert_close(pee(maps(3.0, size=(9, 9)))[0, 1:], torch.zeros(3, 9, 9))


def test_pee_without_kernels_is_the_reduction_alone():
    pee = PyramidEdgeExtraction(2, 4, out_channels=6, kernel_sizes=()).eval()
    x = torch.rand(1, 4, 5, 5)
    torch.testing.assert_close(pee(x), pee.reduce(x))
    assert sum(p.numel() for p in pee.parameters()) == 4 * 6 + 12


def test_pee_refuses_even_kernels():
    with pytest.raises(ValueError, match=r"must be odd, got even sizes \[4\] in \(3, 4\)"):
        PyramidEdgeExtraction(2, 1, kernel_sizes=(3, 4))


# --- IA and mini-MTL


@pytest.mark.parametrize(
    ("mode", "mask", "edge"),
    [
        ("reverse", 1.0 + (1 - sigmoid(1.0)) * 2.0, 2.0 + (1 - sigmoid(2.0)) * 1.0),
        ("forward", 1.0 + sigmoid(2.0) * 2.0, 2.0 + sigmoid(1.0) * 1.0),
    ],
)
def test_interactive_attention_follows_its_formula(mode, mask, edge):
    new_mask, new_edge = InteractiveAttention(mode)(maps(1.0), maps(2.0))
    torch.testing.assert_close(new_mask, maps(mask))
    torch.testing.assert_close(new_edge, maps(edge))


def test_reverse_attention_leaves_a_sure_receiver_alone():
    mask, _ = InteractiveAttention("reverse")(maps(50.0), maps(7.0))
    torch.testing.assert_close(mask, maps(50.0))


def test_interactive_attention_has_no_parameters():
    assert list(InteractiveAttention().parameters()) == []


def test_interactive_attention_refuses_unknown_modes():
    with pytest.raises(ValueError, match='attention must be "reverse" or "forward", got \'backward\''):
        InteractiveAttention("backward")


def traceable_mtl(attention: str | None) -> MiniMultiTaskLearning:
    mtl = MiniMultiTaskLearning(2, 1, attention=attention)
    mtl.mask_in, mtl.edge_in = Scale(1.0), Scale(2.0)
    mtl.mask_out, mtl.edge_out = Scale(3.0), Scale(5.0)
    mtl.aggregate = nn.Identity()
    return mtl


def test_mini_mtl_exchanges_between_its_convolutions_and_joins_both_tasks():
    joined, mask, edge = traceable_mtl("reverse")(maps(1.0))
    expected_mask = 3 * (1.0 + (1 - sigmoid(1.0)) * 2.0)
    expected_edge = 5 * (2.0 + (1 - sigmoid(2.0)) * 1.0)
    torch.testing.assert_close(mask, maps(expected_mask))
    torch.testing.assert_close(edge, maps(expected_edge))
    torch.testing.assert_close(joined, maps(expected_mask, expected_edge))


def test_mini_mtl_without_attention_keeps_the_tasks_apart():
    joined, _, _ = traceable_mtl(None)(maps(1.0))
    torch.testing.assert_close(joined, maps(3.0, 10.0))


def test_mini_mtl_has_one_head_per_task():
    mtl = MiniMultiTaskLearning(3, 4, mask_channels=3, edge_channels=2)
    mask, edge = mtl.logits(torch.rand(1, 4, 2, 3, 4), torch.rand(1, 4, 2, 3, 4))
    assert (mask.shape, edge.shape) == ((1, 3, 2, 3, 4), (1, 2, 2, 3, 4))


# --- CFF


def test_cff_adds_the_gated_maps_of_the_other_stages_where_a_stage_is_unsure():
    first, second, third = CrossFeatureFusion()([maps(1.0, size=(4, 4)), maps(2.0, size=(2, 2)), maps(-1.0)])
    sent = [sigmoid(v) * v for v in (1.0, 2.0, -1.0)]
    torch.testing.assert_close(first, maps(1.0 + (1 - sigmoid(1.0)) * (sent[1] + sent[2]), size=(4, 4)))
    torch.testing.assert_close(second, maps(2.0 + (1 - sigmoid(2.0)) * (sent[0] + sent[2])))
    torch.testing.assert_close(third, maps(-1.0 + (1 - sigmoid(-1.0)) * (sent[0] + sent[1])))


def test_cff_gates_before_it_resizes():
    receiver = torch.zeros(1, 1, 1, 4)
    sender = torch.tensor([0.0, 4.0]).reshape(1, 1, 1, 2)
    received, _ = CrossFeatureFusion()([receiver, sender])
    gated = 4 * sigmoid(4.0)  # gate first: interpolated between 0 and this; the receiver's own gate is one half
    torch.testing.assert_close(received.flatten(), 0.5 * gated * torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_cff_computes_each_gate_once(monkeypatch):
    calls = []
    compute = torch.sigmoid
    monkeypatch.setattr(torch, "sigmoid", lambda x: calls.append(x) or compute(x))
    CrossFeatureFusion()([maps(1.0), maps(2.0), maps(3.0), maps(4.0)])
    assert len(calls) == 4


def test_cff_has_no_parameters():
    assert list(CrossFeatureFusion().parameters()) == []


# --- decoder


def test_decoder_merges_from_the_deepest_stage_to_the_finest():
    decoder = Decoder(2, 1, context_channels=1, stages=3)
    decoder.merges = nn.ModuleList(nn.Identity() for _ in range(3))
    decoder.refine = nn.Identity()
    stages = [maps(1.0, size=(8, 8)), maps(2.0, size=(4, 4)), maps(3.0)]
    torch.testing.assert_close(decoder(stages, maps(9.0)), maps(1.0, 2.0, 3.0, 9.0, size=(8, 8)))


def test_decoder_takes_odd_sizes():
    decoder = Decoder(3, 2, context_channels=4, stages=2, separable=True).eval()
    stages = [torch.rand(1, 2, 5, 7, 9), torch.rand(1, 2, 3, 4, 5)]
    assert decoder(stages, torch.rand(1, 4, 3, 4, 5)).shape == (1, 2, 5, 7, 9)
