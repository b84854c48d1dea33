import copy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from banet_monai.networks import BANet, checkpoint_activations
from banet_monai.networks.gradients import quick_gradients


def tiny(**options):
    torch.manual_seed(0)
    options = {"encoder": "resnet18", "output_stride": 16, "width": 8, "aspp_channels": 8, **options}
    return BANet(**options)


def step(network, x):
    """Gradients of one training step; dropout drops the same in every call."""
    torch.manual_seed(1)
    output = network.train()(x)
    sum(map(torch.mean, [output["mask"], *output["stage_masks"], *output["stage_edges"]])).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def kept(network, x):
    """Bytes that the forward pass keeps for the backward pass, weights left out."""
    own = {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    seen = {}

    def pack(tensor):
        if tensor.data_ptr() not in own:
            seen[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        network.train()(x)
    return sum(seen.values())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoder": "mobilenet_v2", "separable": True},
        {"dropout": 0.5},
        {"use_mtl": False},
        {"norm": "instance", "use_cff": False},
        {"spatial_dims": 3},
    ],
    ids=str,
)
def test_gradients_and_statistics_are_the_same(options):
    plain = tiny(**options)
    checkpointed = checkpoint_activations(copy.deepcopy(plain))
    x = torch.rand(2, 3, *(40, 33, 32)[: plain.spatial_dims])
    expected, gradients = step(plain, x), step(checkpointed, x)
    assert list(gradients) == list(expected)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected[name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    for (name, buffer), other in zip(checkpointed.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(buffer, other), name


def test_gradients_are_the_same_in_bfloat16_with_the_quick_forms_of_depthwise_convolutions():
    plain = tiny(encoder="mobilenet_v2", separable=True)
    saving, x = checkpoint_activations(copy.deepcopy(plain)), torch.rand(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16), quick_gradients(torch.device("cpu"), torch.bfloat16):
        outputs = [network.train()(x)["mask"] for network in (plain, saving)]
    for output in outputs:
        output.float().mean().backward()  # outside, as a trainer does it
    for name, parameter in plain.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(dict(saving.named_parameters())[name].grad, parameter.grad, msg=name)


def test_less_is_kept_for_the_backward_pass():
    x = torch.rand(1, 3, 64, 64)
    assert kept(checkpoint_activations(tiny(width=32)), x) < 0.5 * kept(tiny(width=32), x)


def test_evaluation_and_names_of_weights_stay():
    plain = tiny().eval()
    checkpointed = checkpoint_activations(copy.deepcopy(plain))
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(checkpointed(x), plain(x))
    assert list(checkpointed.state_dict()) == list(plain.state_dict())


def test_a_copy_computes_with_its_own_weights():
    """As weight averaging needs it."""
    network = checkpoint_activations(tiny())
    copied = copy.deepcopy(network)
    for parameter in copied.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(copied.train()(torch.rand(1, 3, 32, 32))["mask"], torch.zeros(1, 1, 32, 32))


def test_the_switch_can_be_off():
    network = checkpoint_activations(tiny(), enabled="false")
    assert all("forward" not in vars(module) for module in network.modules())
