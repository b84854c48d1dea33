import copy
import io
import runpy
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from banet_monai.networks import ENCODERS, BANet

GOLDEN = Path(__file__).parents[2] / "golden"
# networks that are computed, with a narrow decoder; resnet18 unless said otherwise
SCRIPTED = [
    {"encoder": "resnet18"},
    {"encoder": "mobilenet_v2"},
    {"encoder": "mobilenet_v3_large"},
    {"encoder": "resnet18", "spatial_dims": 3},
    {"use_pee": False},
    {"use_mtl": False},
    {"use_ia": False},
    {"use_cff": False},
    {"use_aspp": False},
    {"separable": True},
    {"attention": "forward"},
    {"stem_stride": 1},
    {"norm": "group"},
]
SMALL = [
    *SCRIPTED,
    {"encoder": "mobilenet_v2", "spatial_dims": 3},
    {"encoder": "mobilenet_v3_large", "spatial_dims": 3},
    {"pee_kernel_sizes": ((3, 5, 7),) * 4},
    {"norm": "instance"},
    {"act": "leakyrelu"},
    {"dropout": 0.2},
    {"strides": (2, 1)},
    {"output_stride": 8},
    {"edge_channels": 1},
    {"in_channels": 1},
]
# networks of the paper's width and output stride, of which shapes and gradients are checked without the arithmetic
FULL = [
    {"encoder": encoder, "spatial_dims": spatial_dims, "width": 128} for encoder in ENCODERS for spatial_dims in (2, 3)
]


def tiny(spatial_dims=2, in_channels=3, out_channels=2, **options):
    """Narrow decoder, so that a test costs little more than the encoder."""
    torch.manual_seed(0)
    options = {"encoder": "resnet18", "output_stride": 16, "width": 8, "aspp_channels": 8, **options}
    return BANet(spatial_dims, in_channels, out_channels, **options)


def on_meta(**options):
    with torch.device("meta"):
        return BANet(**options)


def calibrated(network, x):
    """Evaluation with statistics of ``x``: untrained ones let the signal die away."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(x)
    return network.eval()


def tensors_of(output):
    return [output["mask"], *output["stage_masks"], *output["stage_edges"]]


@dataclass
class Case:
    """One BA-Net, an image and what a training step made of it."""

    options: dict
    image: torch.Tensor
    network: BANet
    output: dict


def label(options):
    return "-".join(str(value) if key == "encoder" else f"{key}={value}" for key, value in options.items())


def prepare(options):
    """Build a network and do the forward and backward pass over a batch of one."""
    torch.manual_seed(1)
    volume, channels = options.get("spatial_dims", 2) == 3, options.get("in_channels", 3)
    if options in FULL:
        network = on_meta(out_channels=2, **options)
        image = torch.empty(1, channels, *((33, 47, 32) if volume else (33, 47)), device="meta")
    else:
        network = tiny(**options)
        image = torch.rand(1, channels, *((33, 32, 35) if volume else (33, 47)))
    output = network.train()(image)
    sum(tensor.sum() for tensor in tensors_of(output)).backward()
    return Case(options, image, network, output)


@pytest.fixture(scope="module")
def case(request):
    return prepare(request.param)


class TestContract:
    """What every BA-Net promises, whatever its encoder and switches."""

    every = pytest.mark.parametrize("case", [*SMALL, *FULL], ids=label, indirect=True)
    computed = pytest.mark.parametrize("case", SMALL, ids=label, indirect=True)
    scripted = pytest.mark.parametrize("case", SCRIPTED, ids=label, indirect=True)

    @every
    def test_training_returns_all_maps_at_the_size_of_one_odd_image(self, case):
        spatial, stages = case.image.shape[2:], 4 if case.options.get("use_mtl", True) else 0
        edges = case.options.get("edge_channels", 2)
        assert list(case.output) == ["mask", "stage_masks", "stage_edges"]
        assert case.output["mask"].shape == (1, 2, *spatial)
        assert [t.shape for t in case.output["stage_masks"]] == [(1, 2, *spatial)] * stages
        assert [t.shape for t in case.output["stage_edges"]] == [(1, edges, *spatial)] * stages

    @every
    def test_every_parameter_gets_a_gradient(self, case):
        assert [name for name, parameter in case.network.named_parameters() if parameter.grad is None] == []

    @every
    @torch.no_grad()
    def test_evaluation_returns_logits_alone(self, case):
        logits = case.network.eval()(case.image)
        assert isinstance(logits, torch.Tensor)
        assert logits.shape == (1, 2, *case.image.shape[2:])

    @computed
    @torch.no_grad()
    def test_saved_weights_give_the_same_logits(self, case):
        network = case.network.eval()
        file, other = io.BytesIO(), copy.deepcopy(network)
        for parameter in other.parameters():
            parameter.zero_()
        torch.save(network.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        torch.testing.assert_close(other(case.image), network(case.image), rtol=0, atol=0)

    @scripted
    @torch.no_grad()
    def test_scripted_network_gives_the_same_logits(self, case):
        network = calibrated(case.network, case.image)
        torch.testing.assert_close(torch.jit.script(network)(case.image), network(case.image))


# --- evaluation


def test_evaluation_computes_no_auxiliary_head():
    network, called = tiny().eval(), []
    for name, module in network.named_modules():
        if "mask_head" in name or "edge_head" in name:
            module.register_forward_hook(lambda *_: called.append(1))
    network(torch.rand(1, 3, 32, 32))
    assert called == []


@pytest.mark.parametrize("training", [False, True])
def test_boundary_map_is_the_mean_probability_of_the_stages_edges(training):
    network, x = tiny(edge_channels=1, norm="instance"), torch.rand(2, 3, 33, 40)
    expected = torch.stack([edge.sigmoid() for edge in network.train()(x)["stage_edges"]]).mean(dim=0)
    boundary = network.train(training).boundary_map(x)
    assert boundary.shape == (2, 1, 33, 40)
    torch.testing.assert_close(boundary, expected)


def test_boundary_map_needs_an_edge_branch():
    with pytest.raises(ValueError, match="no edge branch, build it with use_mtl=True"):
        tiny(use_mtl=False).boundary_map(torch.rand(1, 3, 32, 32))


def test_dropout_changes_training_but_neither_evaluation_nor_the_weights_names():
    plain, dropping = tiny(norm="instance"), tiny(norm="instance", dropout=0.5)
    dropping.load_state_dict(plain.state_dict())
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(dropping.eval()(x), plain.eval()(x))
    assert not torch.equal(dropping.train()(x)["mask"], dropping(x)["mask"])


def test_one_part_in_another_mode_follows_the_network():
    network = tiny().eval()
    network.head.train()
    assert network.eval() is network
    assert not any(module.training for module in network.modules())
    network.decoder.eval()
    assert all(module.training for module in network.train().modules() if module is not network)
    assert network.training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_finite_logits_and_gradients(dtype):
    network = tiny()
    with torch.autocast("cpu", dtype=dtype):
        output = network(torch.rand(2, 3, 32, 32))
    sum(tensor.float().mean() for tensor in tensors_of(output)).backward()
    assert all(torch.isfinite(tensor).all() for tensor in tensors_of(output))
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def test_construction_is_reproducible_under_a_seed():
    first, second = tiny().state_dict(), tiny().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


# --- bad input


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (1, 3, 31, 64), r"at least \(32, 32\) pixels per axis, got \(31, 64\)"),
        ({}, (1, 3, 1, 1), r"got \(1, 1\); pad or enlarge it"),
        ({}, (1, 4, 64, 64), r"built for in_channels=3, got 4 channels in shape \(1, 4, 64, 64\)"),
        ({}, (3, 64, 64), r"needs 4 axes \(batch, channel, 2 spatial\), got shape \(3, 64, 64\)"),
        ({}, (1, 3, 64, 64, 64), r"needs 4 axes .* got shape \(1, 3, 64, 64, 64\)"),
        ({"spatial_dims": 3, "strides": (2, 2, 1)}, (1, 3, 32, 32, 7), r"at least \(32, 32, 8\) pixels per axis"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_an_image_that_does_not_fit_is_refused(options, shape, message, training):
    network = on_meta(encoder="resnet18", **options).train(training)
    with pytest.raises(ValueError, match=message):
        network(torch.empty(shape, device="meta"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pee_kernel_sizes": ((3, 5),)}, "one sequence for each of the 4 stages, got 1"),
        ({"pee_kernel_sizes": ((4,), (3,), (3,), (3,))}, r"must be odd, got even sizes \[4\]"),
        ({"attention": "both"}, "attention must be .* got 'both'"),
        ({"encoder": "vgg"}, "encoder 'vgg' is unknown, choose one of"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        on_meta(**options)


# --- cost, which the paper's form must keep


@pytest.mark.parametrize(
    ("separable", "flop", "parameters"), [(False, (95e9, 102e9), (43e6, 46e6)), (True, (0, 62e9), (0, 33e6))]
)
def test_paper_form_costs_what_it_should(separable, flop, parameters):
    """Multiplication and addition count as two operations; evaluation of one image of 256 x 256."""
    network = on_meta(separable=separable).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, 256, 256, device="meta"))
    assert flop[0] <= counter.get_total_flops() <= flop[1]
    assert parameters[0] <= sum(parameter.numel() for parameter in network.parameters()) <= parameters[1]


def test_defaults_are_those_of_the_paper():
    network = on_meta()
    assert network.encoder.name == "resnet50"
    assert network.head.conv.weight.shape == (1, 128, 1, 1)
    assert [branch.conv.dilation[0] for branch in network.context.branches] == [1, 6, 12, 18]
    assert [edges.kernel_sizes for edges in network.edges] == [(5, 7), (5, 7), (3, 5), (3, 5)]


def test_context_rates_are_halved_at_output_stride_16():
    network = on_meta(output_stride=16)
    assert [branch.conv.dilation[0] for branch in network.context.branches] == [1, 3, 6, 9]


# --- export of the evaluation network, with dynamic batch and size

EXPORTED = [(2, "resnet18"), (2, "mobilenet_v2"), (3, "resnet18")]


def exported(spatial_dims, encoder):
    """Network in evaluation, the image it is exported with and one of another batch and size."""
    torch.manual_seed(2)
    example = torch.rand(2, 3, *(64, 48, 40)[:spatial_dims])
    other = torch.rand(3, 3, *(35, 41, 32)[:spatial_dims])
    typical = torch.rand(4, 3, *(96, 96, 32)[:spatial_dims])
    return calibrated(tiny(spatial_dims, encoder=encoder), typical), example, other


def dynamic_shapes(spatial_dims):
    names = ("height", "width", "depth")[:spatial_dims]
    batch = torch.export.Dim("batch", min=1, max=64)
    return {0: batch, **{2 + axis: torch.export.Dim(name, min=32, max=1024) for axis, name in enumerate(names)}}


def run_onnx(file, x):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


@pytest.mark.parametrize(("spatial_dims", "encoder"), EXPORTED)
@torch.no_grad()
def test_traced_network_takes_other_batches_and_sizes(spatial_dims, encoder):
    network, example, other = exported(spatial_dims, encoder)
    traced = torch.jit.trace(network, example)
    torch.testing.assert_close(traced(other), network(other), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("spatial_dims", "encoder"), [(2, "resnet18"), (3, "resnet18")])
@torch.no_grad()
def test_exported_program_takes_other_batches_and_sizes(spatial_dims, encoder):
    network, example, other = exported(spatial_dims, encoder)
    program = torch.export.export(network, (example,), dynamic_shapes=(dynamic_shapes(spatial_dims),)).module()
    torch.testing.assert_close(program(other), network(other), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(program(other[:1]), network(other[:1]), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX:DeprecationWarning")
@pytest.mark.parametrize(("spatial_dims", "encoder"), EXPORTED)
@torch.no_grad()
def test_onnx_of_the_traced_network_takes_other_batches_and_sizes(spatial_dims, encoder, tmp_path):
    network, example, other = exported(spatial_dims, encoder)
    axes = {0: "batch", **{2 + axis: f"size_{axis}" for axis in range(spatial_dims)}}
    torch.onnx.export(
        network,
        (example,),
        tmp_path / "network.onnx",
        dynamo=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": axes, "logits": axes},
        opset_version=17,
    )
    torch.testing.assert_close(run_onnx(tmp_path / "network.onnx", other), network(other), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # inside PyTorch
@torch.no_grad()
def test_onnx_of_the_exported_program_takes_other_batches_and_sizes(tmp_path):
    network, example, other = exported(2, "resnet18")
    torch.onnx.export(
        network,
        (example,),
        tmp_path / "network.onnx",
        dynamo=True,
        dynamic_shapes=(dynamic_shapes(2),),
        verbose=False,
    )
    torch.testing.assert_close(run_onnx(tmp_path / "network.onnx", other), network(other), rtol=1e-4, atol=1e-4)


# --- golden tensors


@pytest.mark.golden
@pytest.mark.parametrize("variant", ["light_2d", "paper_2d", "volume_3d"])
def test_outputs_of_tiny_variants_stay_as_they_were(variant):
    make = runpy.run_path(str(GOLDEN / "make.py"))
    stored = torch.load(GOLDEN / f"{variant}.pt", weights_only=True)
    computed = make["outputs"](variant)
    assert computed.keys() == stored.keys()
    for name, tensor in computed.items():
        torch.testing.assert_close(tensor, stored[name], rtol=1e-3, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


@torch.no_grad()
def test_a_volume_may_be_in_bfloat16_on_a_cpu():
    torch.manual_seed(0)
    network = BANet(spatial_dims=3, encoder="mobilenet_v2", output_stride=16, width=8, aspp_channels=8, separable=True)
    logits = network.eval().to(torch.bfloat16)(torch.rand(1, 3, 32, 32, 32, dtype=torch.bfloat16))
    assert logits.shape == (1, 1, 32, 32, 32)
    assert torch.isfinite(logits).all()
