"""Every network of the comparison takes the same pictures and loss, and starts from the same encoder weights."""

import pytest
import torch
from monai.bundle import ConfigParser

from banet_monai.export import optimized_form
from banet_monai.losses import BANetLoss
from banet_monai.networks import BANet, initialize_weights
from benchmarks.accuracy.definitions import load_definitions
from benchmarks.accuracy.peers import FCN, CENet, DeepLabV3, FinalMap, UNet
from benchmarks.accuracy.variants import (
    AddedLoss,
    BoundaryLoss,
    MatchedSampler,
    MixedSizeInferer,
    StrideTwo,
    gentle_encoder,
    with_learned_gates,
    with_mask_output,
    with_pooled_maps,
)

PEERS = [UNet, FCN, DeepLabV3, CENet]
VARIANTS = [with_pooled_maps, with_mask_output, with_learned_gates, StrideTwo]


def light(**changes):
    torch.manual_seed(0)
    return BANet(encoder="mobilenet_v2", output_stride=16, width=16, separable=True, **changes)


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_returns_logits_of_the_size_of_the_picture_in_both_modes(peer):
    network = peer(width=16)
    for network_in_mode in (network.train(), network.eval()):
        assert network_in_mode(torch.rand(2, 3, 64, 48)).shape == (2, 1, 64, 48)


@pytest.mark.parametrize("peer", PEERS)
def test_every_parameter_of_a_peer_learns_from_the_loss(peer):
    network = peer(width=16).train()
    BANetLoss(dice_weight=1.0)(network(torch.rand(2, 3, 64, 64)), torch.ones(2, 1, 64, 64)).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_starts_from_the_same_encoder_file_as_ba_net(peer, tmp_path):
    reference = light()
    torch.save(reference.encoder.state_dict(), tmp_path / "encoder.pt")
    network = peer(width=16)
    initialize_weights(network, "imagenet", encoder_weights=tmp_path / "encoder.pt")
    expected = reference.encoder.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.encoder.state_dict().items())


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_takes_a_resnet_at_output_stride_8(peer):
    network = peer(encoder="resnet18", output_stride=8, width=16, separable=False).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_the_last_of_several_maps_is_taken():
    class Two(torch.nn.Module):
        def forward(self, x):
            return [x, x + 1]

    assert FinalMap(Two())(torch.zeros(1)).item() == 1


@pytest.mark.parametrize("vary", VARIANTS)
def test_a_variant_keeps_the_interface_of_ba_net_and_its_encoder(vary):
    network = vary(light())
    picture = torch.rand(2, 3, 64, 64)
    maps = network.train()(picture)
    assert [len(maps[key]) for key in ("stage_masks", "stage_edges")] == [4, 4]
    assert BANetLoss()(maps, torch.ones(2, 1, 64, 64)).item() > 0
    logits = network.eval()(picture)
    assert logits.shape == (2, 1, 64, 64)
    assert network.encoder.name == "mobilenet_v2"
    with torch.no_grad():  # as validation in training computes it
        torch.testing.assert_close(optimized_form(network, torch.float32)(picture), logits, rtol=1e-3, atol=1e-4)


def test_pooled_maps_of_a_constant_map_are_that_map_where_differences_are_zero():
    extraction = light().edges[0]
    seen = []
    extraction.reduce, extraction.fuse = torch.nn.Identity(), torch.nn.Identity()
    constant = torch.full((1, 16, 8, 8), 3.0)
    seen.append(extraction(constant))
    network = light()
    network.edges[0].reduce, network.edges[0].fuse = torch.nn.Identity(), torch.nn.Identity()
    seen.append(with_pooled_maps(network).edges[0](constant))
    assert seen[0][:, 16:].abs().max() < 1e-6
    assert torch.allclose(seen[1], torch.full((1, 48, 8, 8), 3.0))


def test_the_stage_output_of_the_mask_alone_does_not_see_the_last_edge_features():
    network = with_mask_output(light(use_ia=False)).eval()
    task, features = network.tasks[0], torch.rand(1, 16, 8, 8)
    before = task(features)[0]
    for parameter in (*task.edge_in.parameters(), *task.edge_out.parameters()):
        torch.nn.init.normal_(parameter)
    assert torch.equal(task(features)[0], before)


def test_learned_gates_of_zero_weights_let_half_of_the_other_task_pass():
    network = with_learned_gates(light())
    gates = network.tasks[0].attention
    for parameter in gates.parameters():
        torch.nn.init.zeros_(parameter)
    mask, edge = gates(torch.full((1, 16, 2, 2), 1.0), torch.full((1, 16, 2, 2), 4.0))
    assert mask.unique().tolist() == [3.0]  # 1 + 0.5 * 4
    assert edge.unique().tolist() == [4.5]


def test_logits_at_stride_2_need_the_light_encoder():
    with pytest.raises(ValueError, match="encoder='mobilenet_v2'"):
        StrideTwo(BANet(encoder="resnet18", width=16))


def test_boundary_loss_is_lowest_for_the_true_mask_and_zero_without_an_outline():
    label = torch.zeros(1, 1, 8, 8)
    label[..., 2:6, 2:6] = 1
    loss = BoundaryLoss()
    sure = 50.0
    true, all_of_it = loss((2 * label - 1) * sure, label), loss(torch.full_like(label, sure), label)
    assert float(true) < 0 < float(all_of_it)
    assert float(loss(torch.full_like(label, sure), torch.zeros_like(label))) == 0.0


def test_boundary_loss_of_one_pixel_weighs_by_its_distance():
    label = torch.zeros(1, 1, 4, 4)
    label[0, 0, 0, 0] = 1
    logits = torch.full((1, 1, 4, 4), -50.0)
    logits[0, 0, 0, 3] = 50.0  # three pixels from the mask
    assert float(BoundaryLoss()(logits, label)) == pytest.approx(3 / 4 / 16)


class MeanOfMask(torch.nn.Module):
    """Mean of the final mask, of a dictionary or a tensor."""

    def forward(self, predictions, label):
        return (predictions["mask"] if isinstance(predictions, dict) else predictions).mean()


def test_an_added_loss_is_weighted_and_sees_the_final_mask_alone():
    predictions = {"mask": torch.full((1, 1, 2, 2), 4.0), "stage_masks": [], "stage_edges": []}
    loss = AddedLoss(MeanOfMask(), MeanOfMask(), 0.5)
    assert loss(predictions, torch.zeros(1, 1, 2, 2)).item() == 6.0  # 4 + 0.5 * 4


@pytest.mark.parametrize(
    "name", ["monai_basicunet", "monai_resunet", "monai_attentionunet", "monai_basicunetplusplus", "monai_dynunet"]
)
def test_a_network_of_monai_returns_one_tensor_of_logits_in_training(name):
    parser = ConfigParser({"network": load_definitions()["experiments"][name]["network"]})
    network = parser.get_parsed_content("network").train()
    with torch.no_grad():
        assert network(torch.rand(2, 3, 32, 32)).shape == (2, 1, 32, 32)


def test_a_gentle_encoder_learns_at_its_share_of_the_rate_and_no_parameter_is_left_out():
    network = light()
    fast, slow = gentle_encoder(network, learning_rate=0.001, share=0.2)
    assert (fast["lr"], slow["lr"]) == (0.001, 0.0002)
    assert {id(p) for p in slow["params"]} == {id(p) for p in network.encoder.parameters()}
    assert len(fast["params"]) + len(slow["params"]) == len(list(network.parameters()))


class Watching(torch.nn.Module):
    """Notes the sizes that it was given and returns constant maps: 1 for the mask, 2 and 3 for a stage's pair."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, x):
        self.sizes.append(tuple(x.shape[2:]))
        one = torch.ones_like(x[:, :1])
        return {"mask": one, "stage_masks": [2 * one], "stage_edges": [3 * one]} if self.training else one


def test_mixed_sizes_reach_the_network_and_every_map_returns_at_the_size_of_the_batch():
    network, inferer = Watching(), MixedSizeInferer([8, 16])
    torch.manual_seed(0)
    for _ in range(20):
        maps = inferer(torch.rand(2, 3, 32, 24), network)
        assert maps["mask"].shape == (2, 1, 32, 24)
        assert [maps["stage_masks"][0].unique().item(), maps["stage_edges"][0].unique().item()] == [2, 3]
        assert maps["stage_masks"][0].shape == maps["stage_edges"][0].shape == (2, 1, 32, 24)
    assert set(network.sizes) == {(8, 6), (16, 12)}
    assert inferer(torch.rand(1, 3, 32, 32), network.eval()).shape == (1, 1, 32, 32)


def test_mixed_sizes_repeat_with_the_seed_of_pytorch():
    drawn = []
    for _ in range(2):
        network = Watching()
        torch.manual_seed(7)
        for _ in range(6):
            MixedSizeInferer([8, 16, 24])(torch.rand(1, 3, 32, 32), network)
        drawn.append(network.sizes)
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 1


@pytest.mark.parametrize("sizes", [[], [64, 0]])
def test_mixed_sizes_need_a_side_of_at_least_one_pixel(sizes):
    with pytest.raises(ValueError, match="at least 1 pixel"):
        MixedSizeInferer(sizes)


def numbered(*numbers):
    return [{"name": f"ISIC_{number:07d}"} for number in numbers]


def test_a_matched_epoch_draws_ranges_of_numbers_as_often_as_they_stand_among_the_other_pictures():
    cases = numbered(*range(30), *range(1000, 1010))  # 3 : 1 here, 1 : 3 there
    torch.manual_seed(0)
    drawn = list(MatchedSampler(cases, bounds=[1000], counts=[25, 75], limit=10))
    high = [index for index in drawn if index >= 30]
    assert (len(drawn), len(high)) == (40, 30)
    assert [high.count(index) for index in range(30, 40)] == [3] * 10
    assert max(drawn.count(index) for index in range(30)) == 1  # a third of a draw, rounded down or up


def test_a_matched_epoch_keeps_to_the_limit():
    cases = numbered(*range(90), *range(1000, 1010))  # weights 1/9 and 9 without a limit
    low, high = MatchedSampler(cases, bounds=[1000], counts=[10, 90], limit=2).weights[[0, 99]].tolist()
    assert high / low == pytest.approx(4)  # 2 over 1/2


def test_matched_epochs_differ_and_follow_the_seed():
    sampler = MatchedSampler(numbered(*range(50)), bounds=[25], counts=[1, 3], limit=4)
    torch.manual_seed(3)
    first, second = list(sampler), list(sampler)
    torch.manual_seed(3)
    assert first == list(sampler) != second


@pytest.mark.parametrize("wrong", [{"counts": [1]}, {"limit": 0.5}])
def test_matched_draws_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="counts"):
        MatchedSampler(numbered(1, 2), **{"bounds": [2], "counts": [1, 1], "limit": 2} | wrong)
