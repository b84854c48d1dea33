import functools

import pytest
import torch
from torch import nn

from banet_monai.networks.encoders import (
    ENCODERS,
    ResNetEncoder,
    build_encoder,
    replace_stride_with_dilation,
)
from banet_monai.networks.mobilenet import MobileNetV2, MobileNetV3Large

# torchvision's published counts less the classifier, and for the MobileNets less the widening layer before it
PARAMETERS = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "mobilenet_v2": 3_504_872 - 1_281_000 - 412_160,
    "mobilenet_v3_large": 5_483_032 - 2_511_080 - 155_520,
}
# entries of torchvision's files
KEYS = {
    "resnet18": {"conv1.weight": (64, 3, 7, 7), "layer2.0.downsample.0.weight": (128, 64, 1, 1)},
    "resnet34": {"layer3.5.bn2.running_var": (256,), "layer4.2.conv2.weight": (512, 512, 3, 3)},
    "resnet50": {"layer1.0.downsample.1.bias": (256,), "layer4.2.conv3.weight": (2048, 512, 1, 1)},
    "resnet101": {"bn1.weight": (64,), "layer3.22.conv2.weight": (256, 256, 3, 3)},
    "mobilenet_v2": {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.17.conv.3.running_mean": (320,),
    },
    "mobilenet_v3_large": {
        "features.0.0.weight": (16, 3, 3, 3),
        "features.1.block.1.0.weight": (16, 16, 1, 1),
        "features.4.block.2.fc1.weight": (24, 72, 1, 1),
        "features.4.block.3.0.weight": (40, 72, 1, 1),
        "features.13.block.1.0.weight": (672, 1, 5, 5),
        "features.15.block.2.fc2.bias": (960,),
    },
}
CHANNELS = {
    "resnet18": (64, 128, 256, 512),
    "resnet34": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "resnet101": (256, 512, 1024, 2048),
    "mobilenet_v2": (24, 32, 96, 320),
    "mobilenet_v3_large": (24, 40, 112, 160),
}


@functools.cache
def on_meta(name, spatial_dims=2, **options):
    """Shapes alone, at no cost."""
    with torch.device("meta"):
        return build_encoder(name, spatial_dims=spatial_dims, **options)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_has_the_parameters_and_names_of_torchvision(name):
    encoder = on_meta(name, 2, output_stride=8)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == PARAMETERS[name]
    state = encoder.state_dict()
    assert {key: tuple(state[key].shape) for key in KEYS[name]} == KEYS[name]


@pytest.mark.parametrize(("spatial_dims", "output_stride"), [(2, 8), (2, 16), (3, 16)])
@pytest.mark.parametrize("name", ENCODERS)
def test_maps_have_stride_4_8_and_the_output_stride(name, spatial_dims, output_stride):
    encoder = on_meta(name, spatial_dims, output_stride=output_stride)
    maps = encoder(torch.empty(1, 3, *(64,) * spatial_dims, device="meta"))
    sides = (16, 8, 8, 8) if output_stride == 8 else (16, 8, 4, 4)
    assert [tuple(f.shape[2:]) for f in maps] == [(side,) * spatial_dims for side in sides]
    assert tuple(f.shape[1] for f in maps) == encoder.channels == CHANNELS[name]


@pytest.mark.parametrize(
    ("name", "side", "stride"), [("resnet18", 32, 1), ("mobilenet_v2", 16, 2), ("mobilenet_v3_large", 16, 2)]
)
def test_stem_stride_of_one_keeps_small_images_fine(name, side, stride):
    encoder = on_meta(name, 3, stem_stride=1, output_stride=16)
    maps = encoder(torch.empty(1, 3, 32, 32, 32, device="meta"))
    assert maps[0].shape[2:] == (side,) * 3
    assert encoder.strides == (stride,) * 3


@pytest.mark.parametrize(("name", "strides"), [("resnet18", (4, 4, 1)), ("mobilenet_v2", (4, 4, 2))])
def test_strides_along_thick_slices_keep_them(name, strides):
    encoder = on_meta(name, 3, strides=(2, 2, 1), output_stride=16)
    finest = encoder(torch.empty(1, 3, 64, 64, 16, device="meta"))[0]
    assert finest.shape[2:] == tuple(size // stride for size, stride in zip((64, 64, 16), strides, strict=True))
    assert encoder.strides == strides


STRIDED = {
    "resnet18": lambda: ResNetEncoder("resnet18", 2, in_channels=1, stem_strides=(2, 2)),
    "resnet50": lambda: ResNetEncoder("resnet50", 2, in_channels=1, stem_strides=(2, 2)),
    "mobilenet_v2": lambda: MobileNetV2(2, 1, stem_strides=(2, 2)),
    "mobilenet_v3_large": lambda: MobileNetV3Large(2, 1, stem_strides=(2, 2)),
}


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", STRIDED)
def test_dilated_encoder_sampled_at_the_old_stride_is_the_strided_one(name, output_stride):
    torch.manual_seed(0)
    strided, dilated = (
        STRIDED[name]().double(),
        build_encoder(name, in_channels=1, output_stride=output_stride).double(),
    )
    for module in strided.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    x = torch.randn(2, 1, 64, 50, dtype=torch.float64)
    with torch.no_grad():
        strided.train()(x)  # statistics that keep the signal at unit variance
        if name == "mobilenet_v3_large":  # its gates average over all positions, sampled or not
            for encoder in (strided, dilated):
                for module in encoder.modules():
                    if type(module).__name__ == "_SqueezeExcitation":
                        module.gate = nn.Threshold(float("inf"), 1.0)  # always 1
        dilated.load_state_dict(strided.state_dict())
        plain, fine = strided.eval()(x), dilated.eval()(x)
    for index, step in enumerate((1, 1, 16 // output_stride, 32 // output_stride)):
        torch.testing.assert_close(fine[index][..., ::step, ::step], plain[index])


def test_strided_convolution_keeps_the_dilation_of_the_stage_before():
    stage = [nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.Conv2d(1, 1, 5, padding=2), nn.Conv2d(1, 1, 1)]
    replace_stride_with_dilation(stage, previous=2, dilation=4)
    assert [(c.stride, c.dilation, c.padding) for c in stage] == [
        ((1, 1), (2, 2), (2, 2)),
        ((1, 1), (4, 4), (8, 8)),
        ((1, 1), (1, 1), (0, 0)),
    ]


@pytest.mark.parametrize("norm", ["group", "instance"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large"])
def test_other_norms_replace_every_batch_norm(name, norm):
    encoder = on_meta(name, norm=norm)
    kinds = {type(module).__name__ for module in encoder.modules() if "Norm" in type(module).__name__}
    assert kinds == ({"InstanceNorm2d"} if norm == "instance" else {"GroupNorm"})


def test_activation_of_resnets_is_an_argument():
    kinds = {type(module).__name__ for module in on_meta("resnet18", act="leakyrelu").modules()}
    assert "LeakyReLU" in kinds
    assert "ReLU" not in kinds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet19"}, "encoder 'resnet19' is unknown, choose one of resnet18, .*mobilenet_v3_large"),
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"output_stride": 32}, "output_stride must be 8 or 16, got 32"),
        ({"stem_stride": 4}, r"must be 1 or 2 along each of 2 axes, got \(4, 4\)"),
        ({"strides": (2, 2, 1)}, r"must be 1 or 2 along each of 2 axes, got \(2, 2, 1\); for example strides=\(2, 1\)"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(**{"name": "resnet18", **options})


@pytest.mark.parametrize(
    ("norm", "eps", "momentum"),
    [
        ("batch", 1e-3, 0.01),
        ("BATCH", 1e-3, 0.01),
        (("batch", {}), 1e-3, 0.01),
        (("Batch", {"momentum": 0.2}), 1e-3, 0.2),
        (("batch", {"eps": 1e-4}), 1e-4, 0.01),
    ],
)
def test_batch_norms_of_mobilenet_v3_keep_what_is_not_named(norm, eps, momentum):
    with torch.device("meta"):
        encoder = build_encoder("mobilenet_v3_large", norm=norm)
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert {(module.eps, module.momentum) for module in norms} == {(eps, momentum)}
