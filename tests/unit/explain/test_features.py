from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from banet_monai.explain import explain
from banet_monai.networks import BANet

ALL = {*(f"ia{n}_{branch}" for n in range(1, 5) for branch in ("mask", "edge")), *(f"cff{n}" for n in range(1, 5))}


def banet(**options: Any) -> BANet:
    torch.manual_seed(0)
    small = {"encoder": "mobilenet_v2", "output_stride": 16, "width": 8, "aspp_channels": 8, "separable": True}
    return BANet(**{**small, **options})


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 3, 40, 33)


def test_logits_are_those_of_the_plain_network_and_edges_those_of_its_boundary_map(image: torch.Tensor) -> None:
    network = banet().eval()
    found = explain(network, image)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, network(image))
        torch.testing.assert_close(found.boundary, network.boundary_map(image))
    assert [tuple(edge.shape) for edge in found.edges] == [(2, 1, 40, 33)] * 4
    assert all(edge.min() >= 0 and edge.max() <= 1 for edge in found.edges)


def test_every_module_has_its_map_by_name(image: torch.Tensor) -> None:
    added = explain(banet().eval(), image).added
    assert set(added) == ALL
    assert all(values.shape == (2, 1, 40, 33) and values.min() >= 0 and values.max() > 0 for values in added.values())


def test_the_map_of_a_module_is_the_mean_change_of_its_channels(image: torch.Tensor) -> None:
    network = banet().eval()
    seen: dict[str, torch.Tensor] = {}

    def keep(module: nn.Module, inputs: Any, outputs: Any) -> None:
        mask, edge = inputs
        gate = 1 - torch.sigmoid(mask)
        seen["sent"] = (gate * edge).abs().mean(dim=1, keepdim=True)  # reverse attention, as the paper has it

    handle = network.tasks[0].attention.register_forward_hook(keep)
    added = explain(network, image).added["ia1_mask"]
    handle.remove()
    expected = nn.functional.interpolate(seen["sent"], size=(40, 33), mode="bilinear")
    torch.testing.assert_close(added, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("switch", "missing"),
    [
        ({"use_ia": False}, {name for name in ALL if name.startswith("ia")}),
        ({"use_cff": False}, {name for name in ALL if name.startswith("cff")}),
    ],
)
def test_a_module_that_is_switched_off_has_no_map(
    switch: dict[str, bool], missing: set[str], image: torch.Tensor
) -> None:
    found = explain(banet(**switch).eval(), image)
    assert set(found.added) == ALL - missing
    assert len(found.edges) == 4


def test_a_network_without_edge_branch_or_of_another_kind_has_its_logits_alone(image: torch.Tensor) -> None:
    found = explain(banet(use_mtl=False).eval(), image)
    assert (found.edges, found.boundary) == ((), None)
    other = explain(nn.Conv2d(3, 1, 1), image)
    assert (other.edges, other.added) == ((), {})
    assert other.logits.shape == (2, 1, 40, 33)


def test_several_edge_maps_count_as_one_edge(image: torch.Tensor) -> None:
    network = banet(out_channels=3, edge_channels=2).eval()
    with torch.no_grad():
        expected = network.boundary_map(image)
    found = explain(network, image)
    assert found.edges[0].shape == (2, 1, 40, 33)
    assert found.boundary is not None
    assert (found.boundary >= expected.amax(dim=1, keepdim=True) - 1e-6).all()


def test_volumes_have_maps_too() -> None:
    found = explain(banet(spatial_dims=3).eval(), torch.rand(1, 3, 32, 32, 33))
    assert found.edges[3].shape == (1, 1, 32, 32, 33)
    assert found.added["cff4"].shape == (1, 1, 32, 32, 33)


@pytest.mark.parametrize("training", [False, True])
def test_the_network_is_left_as_it_was_even_after_an_error(training: bool, image: torch.Tensor) -> None:
    network = banet(dropout=0.3).train(training)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    explain(network, image)
    with pytest.raises(ValueError, match=r"built for in_channels=3, got 4 channels"):
        explain(network, torch.zeros(1, 4, 40, 40))
    assert all(module.training is training for module in network.modules())
    assert all(not module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_network_that_returns_no_tensor_is_refused() -> None:
    class Several(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"mask": x}

    with pytest.raises(TypeError, match=r"must return a tensor of logits in eval mode, got dict"):
        explain(Several(), torch.zeros(1, 3, 8, 8))
