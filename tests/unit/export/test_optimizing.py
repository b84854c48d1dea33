import copy
import gc

import pytest
import torch
from torch import nn

from banet_monai.export import OptimizedBANet, fused_copy, optimize, optimized_form
from banet_monai.export.fusing import FusedConvolution, fuse_chain
from banet_monai.networks import BANet, on_device
from banet_monai.networks.blocks import InteractiveAttention, MiniMultiTaskLearning
from banet_monai.networks.encoders import ResNetEncoder

SWITCHES = [
    {},
    {"encoder": "mobilenet_v2"},
    {"encoder": "mobilenet_v3_large"},
    {"encoder": "resnet50", "output_stride": 8},
    {"output_stride": 16, "separable": True},
    {"spatial_dims": 3},
    {"spatial_dims": 3, "encoder": "mobilenet_v2"},
    {"use_pee": False},
    {"use_mtl": False},
    {"use_ia": False},
    {"use_cff": False},
    {"use_aspp": False},
    {"attention": "forward"},
    {"pee_kernel_sizes": ((3, 5, 7),) * 4},
    {"stem_stride": 1},
    {"strides": (2, 1)},
    {"norm": "group"},
    {"norm": "instance"},
    {"act": "leakyrelu"},
    {"act": "prelu"},
    {"dropout": 0.2},
]


def label(options):
    return "-".join(f"{key}={value}" for key, value in options.items()) or "defaults"


def tiny(**options):
    """A narrow network whose batch norms have statistics and factors that change something."""
    torch.manual_seed(0)
    options = {"encoder": "resnet18", "output_stride": 16, "width": 8, "aspp_channels": 8, "out_channels": 2, **options}
    network = BANet(**options).eval()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def image(network, *sizes, batch=2):
    return torch.rand(batch, network.in_channels, *(sizes or (33, 47, 32)[: network.spatial_dims]))


def close(actual, expected):
    """Within 1e-4 of the largest logit: these networks are not trained, their logits have any size."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * max(1.0, expected.abs().max().item()))


# --- the same mathematics


@pytest.mark.parametrize("options", SWITCHES, ids=label)
@torch.no_grad()
def test_optimized_network_computes_the_same_function_for_every_switch(options):
    """In float64 nothing but rounding of the sixteenth digit remains."""
    network = tiny(**options).double()
    x = image(network).double()
    torch.testing.assert_close(optimize(network, dtype=torch.float64)(x), network(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", SWITCHES, ids=label)
@torch.no_grad()
def test_logits_in_float32_differ_by_rounding_alone(options):
    network = on_device(tiny(**options), "cpu")
    fast = optimize(network)
    for x in (image(network), image(network, *(48, 32, 40)[: network.spatial_dims], batch=1)):
        close(fast(x), network(x))


@pytest.mark.parametrize("options", [{}, {"output_stride": 16, "separable": True}], ids=["paper", "separable"])
@torch.no_grad()
def test_resnet50_of_full_width_gives_the_same_logits(options):
    torch.manual_seed(0)
    network = BANet(**options).eval()
    x = image(network, 64, 48, batch=1)
    close(optimize(network)(x), network(x))


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, torch.bfloat16),
        ({}, torch.float16),
        ({"encoder": "mobilenet_v2", "separable": True}, torch.bfloat16),
        ({"spatial_dims": 3, "encoder": "mobilenet_v2"}, torch.bfloat16),
    ],
)
@torch.no_grad()
def test_half_precision_is_as_near_as_autocast(options, dtype):
    network = tiny(**options)
    x = image(network)
    expected = network(x)
    logits = optimize(network, dtype=dtype)(x)
    with torch.autocast("cpu", dtype=dtype):
        autocast = network(x).float()
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().mean() <= 2 * (autocast - expected).abs().mean() + 1e-6


@torch.no_grad()
def test_autocast_around_it_changes_nothing():
    network = tiny()
    fast, x = optimize(network), image(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(fast(x), fast(x.double()), rtol=0, atol=0)


@torch.no_grad()
def test_boundary_map_is_that_of_the_network():
    network = tiny(edge_channels=1)
    x = image(network)
    torch.testing.assert_close(optimize(network).boundary_map(x), network.boundary_map(x), rtol=0, atol=1e-4)


@torch.no_grad()
def test_fused_copy_can_be_traced():
    network = tiny(encoder="mobilenet_v2", separable=True)
    traced = torch.jit.trace(fused_copy(network), image(network))
    x = image(network, 40, 64, batch=1)
    close(traced(x), network(x))


@torch.no_grad()
def test_copy_of_an_optimized_network_gives_the_same_logits():
    network = tiny()
    fast, x = optimize(network), image(network)
    expected = fast(x)
    torch.testing.assert_close(copy.deepcopy(fast)(x), expected, rtol=0, atol=0)


@torch.no_grad()
def test_compiled_network_gives_the_same_logits(monkeypatch):
    network = tiny()
    modes = []
    monkeypatch.setattr(torch, "compile", lambda module, *, mode: modes.append(mode) or module)
    x = image(network)
    close(optimize(network, compile_mode="reduce-overhead")(x), network(x))
    assert modes == ["reduce-overhead"]


# --- less work


@torch.no_grad()
def test_nothing_of_a_batch_norm_or_an_auxiliary_head_is_left_to_compute():
    network, heads = tiny(), []
    fast = optimize(network)
    for name, module in fast.named_modules():
        if "mask_head" in name or "edge_head" in name:
            module.register_forward_hook(lambda *_: heads.append(1))
    fast(image(network))
    assert not [m for m in fast.modules() if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm3d))]
    assert heads == []


@torch.no_grad()
def test_maps_are_resized_once_per_size(monkeypatch):
    """Sizes 1/4, 1/8, 1/8, 1/8: the fusion needs one map up and one down, the decoder one up, the logits one."""
    from banet_monai.export import modules
    from banet_monai.networks import banet

    network = tiny(output_stride=8)
    fast, calls = optimize(network), []
    for module in (modules, banet):
        plain = module.resize_linear
        monkeypatch.setattr(module, "resize_linear", lambda x, size, f=plain: calls.append(tuple(size)) or f(x, size))
    fast(torch.rand(1, 3, 64, 64))
    assert sorted(calls) == [(8, 8), (16, 16), (16, 16), (64, 64)]


# --- the given network stays as it is


@torch.no_grad()
def test_given_network_is_not_changed():
    network = tiny(norm="instance", dropout=0.5).train()
    before, names = copy.deepcopy(network.state_dict()), [name for name, _ in network.named_modules()]
    fast = optimize(network)
    for tensor in fast.state_dict().values():
        tensor.zero_()
    assert [name for name, _ in network.named_modules()] == names
    assert all(module.training for module in network.modules())
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    network.load_state_dict(before)


def test_gradients_still_reach_the_given_network():
    network = tiny().train()
    optimize(network)
    network(image(network))["mask"].sum().backward()
    assert all(parameter.grad is not None for name, parameter in network.named_parameters() if "head" not in name)


# --- refusals


def test_training_is_refused():
    fast = optimize(tiny())
    assert fast.eval() is fast
    assert not fast.training
    with pytest.raises(RuntimeError, match=r"cannot be trained.*Train the network that was given to optimize"):
        fast.train()


def test_weights_are_refused():
    network = tiny()
    with pytest.raises(RuntimeError, match="takes no weights: load them into the network that was given"):
        optimize(network).load_state_dict(network.state_dict())


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Conv2d(3, 1, 1), "knows the modules of a BANet, got Conv2d"),
        (nn.DataParallel(tiny()), "got DataParallel; give the BANet inside it"),
    ],
)
def test_other_networks_are_refused(network, message):
    with pytest.raises(TypeError, match=message):
        optimize(network)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": torch.int8}, "dtype must be one of torch.float32, .* got torch.int8"),
        ({"compile_mode": "fast"}, "compile_mode must be None or one of default, .* got 'fast'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        optimize(tiny(), **options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3, 64, 64), "needs 4 axes"), ((1, 4, 64, 64), "got 4 channels"), ((1, 3, 8, 64), "too small")],
)
def test_images_that_do_not_fit_are_refused_as_by_the_network(shape, message):
    with pytest.raises(ValueError, match=message):
        optimize(tiny())(torch.zeros(shape))


# --- one convolution


@pytest.mark.parametrize("act", [None, nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.LeakyReLU(0.2), nn.Sigmoid()])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_packed_convolution_equals_its_layers(act, added, bias):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(8, 16, 3, stride=2, padding=2, dilation=2, bias=bias), nn.BatchNorm2d(16).eval()
    nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.randn(2, 8, 20, 24).to(memory_format=torch.channels_last)
    expected = norm(conv(x))
    add = torch.randn_like(expected) if added else None
    expected = expected if add is None else expected + add
    expected = expected if act is None else act(expected)
    fused = FusedConvolution(conv, norm, act)
    torch.testing.assert_close(fused(x, add), expected, rtol=1e-4, atol=1e-5)
    fused.pack()
    torch.testing.assert_close(fused(x, add), expected, rtol=1e-4, atol=1e-5)


def test_a_chain_is_one_operation_per_convolution():
    chain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.Conv2d(4, 2, 1))
    assert [type(layer) for layer in fuse_chain(chain)] == [FusedConvolution, FusedConvolution]


# --- parts that are not this package's


class Doubled(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        outputs = self.module(*inputs)
        return [2 * x for x in outputs] if isinstance(outputs, list | tuple) else 2 * outputs


class OwnTask(MiniMultiTaskLearning):
    def forward(self, x):
        stage, mask, edge = super().forward(x)
        return 3 * stage, mask, edge


class OwnAttention(InteractiveAttention):
    def forward(self, mask, edge):
        return mask - edge, edge


class OwnChain(nn.Sequential):
    def forward(self, x):
        return -super().forward(x)


class OwnConvolution(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).square()


def own_class(module, kind):
    module.__class__ = kind
    return module


PARTS = {
    "encoder": lambda network: setattr(network, "encoder", own_class(network.encoder, OwnEncoder)),
    "context": lambda network: setattr(network, "context", Doubled(network.context)),
    "edges": lambda network: network.edges.__setitem__(1, Doubled(network.edges[1])),
    "tasks": lambda network: network.tasks.__setitem__(0, own_class(network.tasks[0], OwnTask)),
    "attention": lambda network: setattr(network.tasks[2], "attention", OwnAttention()),
    "chain": lambda network: setattr(network.tasks[3], "mask_in", OwnChain(*network.tasks[3].mask_in)),
    "convolution": lambda network: setattr(network.edges[0].fuse, "conv", own_convolution(network.edges[0].fuse.conv)),
    "cross": lambda network: setattr(network, "cross", Doubled(network.cross)),
    "decoder": lambda network: setattr(network, "decoder", Doubled(network.decoder)),
    "head": lambda network: setattr(network.head, "conv", own_convolution(network.head.conv)),
}


class OwnEncoder(ResNetEncoder):
    def forward(self, x):
        return super().forward(x.flip(1))


def own_convolution(conv):
    own = OwnConvolution(conv.in_channels, conv.out_channels, conv.kernel_size, bias=conv.bias is not None)
    own.load_state_dict(conv.state_dict())
    return own.eval()


@torch.no_grad()
@pytest.mark.parametrize("part", PARTS)
def test_a_part_in_place_of_one_of_ours_computes_what_it_computes(part):
    network = tiny()
    x = image(network)
    plain = optimized_form(network, torch.float32)(x)
    PARTS[part](network)
    network.eval()
    expected = network(x)
    assert not torch.allclose(expected, plain, rtol=1e-2)
    close(optimized_form(network, torch.float32)(x), expected)


# --- the form that inferers use


@torch.no_grad()
def test_form_is_made_once_and_again_for_other_weights_or_types():
    network = tiny()
    first = optimized_form(network, torch.float32)
    assert isinstance(first, OptimizedBANet)
    assert optimized_form(network, torch.float32) is first
    assert optimized_form(network, torch.bfloat16).dtype is torch.bfloat16

    x, before = image(network), optimized_form(network, torch.float32)
    network.load_state_dict({name: value * 1.01 for name, value in network.state_dict().items()})
    after = optimized_form(network, torch.float32)
    assert after is not before
    close(after(x), network(x))


@pytest.mark.parametrize("change", ["training", "dropout", "gradients", "forward", "hook", "hook before", "other"])
def test_network_that_cannot_be_replaced_is_used_itself(change):
    network = tiny(dropout=0.5)
    if change == "training":
        network.train()
    elif change == "dropout":
        network.dropout.train()
    elif change == "forward":
        network.forward = network.forward
    elif change == "hook":
        network.edges[0].register_forward_hook(lambda *_: None)
    elif change == "hook before":
        network.register_forward_pre_hook(lambda *_: None)
    elif change == "other":
        network = nn.Identity()
    with torch.set_grad_enabled(change == "gradients"):
        assert optimized_form(network, torch.float32) is network


@torch.no_grad()
def test_form_goes_with_its_network():
    from banet_monai.export import optimizing

    network = tiny()
    gc.collect()
    count = len(optimizing._FORMS)
    optimized_form(network, torch.float32)
    assert len(optimizing._FORMS) == count + 1
    del network
    gc.collect()
    assert len(optimizing._FORMS) == count


@pytest.mark.parametrize("kind", ["instance", "frozen"])
def test_weights_that_a_fused_optimizer_wrote_are_seen(kind):
    """PyTorch does not count its writes, and here no batch norm counts its batches either."""
    network = tiny(norm="instance" if kind == "instance" else "batch")
    optimizer, x = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True), image(network)
    with torch.no_grad():
        before = optimized_form(network, torch.float32)(x)
    for module in network.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    network(x)["mask"].sum().backward()
    optimizer.step()
    network.eval()
    with torch.no_grad():
        after = optimized_form(network, torch.float32)(x)
        close(after, network(x))
    assert (after - before).abs().max() > 0.1


def test_an_optimizer_of_other_weights_lets_the_form_be():
    network, other = tiny(), nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(other.parameters(), fused=True)
    with torch.no_grad():
        first = optimized_form(network, torch.float32)
    other(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        assert optimized_form(network, torch.float32) is first
