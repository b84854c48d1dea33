"""Encoders: networks made for classification, cut to four feature maps and dilated to an output stride of 8 or 16.

All keep the parameter names of torchvision, so that its ImageNet weights fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from monai.networks.layers import get_act_layer, get_norm_layer
from monai.networks.nets.resnet import ResNet
from torch import nn

from banet_monai.networks.layers import LayerSpec, fit_act, fit_norm
from banet_monai.networks.mobilenet import MobileNet, MobileNetV2, MobileNetV3Large

__all__ = ["ENCODERS", "ResNetEncoder", "build_encoder", "replace_stride_with_dilation"]

_RESNETS = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
}
_MOBILENETS = {"mobilenet_v2": MobileNetV2, "mobilenet_v3_large": MobileNetV3Large}
_RESNET_PLANES = (64, 128, 256, 512)

ENCODERS = (*_RESNETS, *_MOBILENETS)
"""Names that :func:`build_encoder` knows."""


class ResNetEncoder(ResNet):
    """MONAI's ResNet without pooling and classifier; the output is the list of its four stages' maps.

    Args:
        name: ``resnet18``, ``resnet34``, ``resnet50`` or ``resnet101``.
        spatial_dims: number of spatial dimensions, 2 or 3.
        in_channels: channels of the image.
        stem_strides: stride, along each spatial axis, of the first convolution and, where any is 2, of the max-pooling.

    Attributes:
        name: name of the encoder.
        channels: channels of the four maps.
        strides: pixels of the image per pixel of the finest map, per axis.

    Shapes:
        - input: ``(batch, in_channels, *spatial)``
        - output: list of four maps at stride 4, 8, 16 and 32 (with stem stride 2)
    """

    __constants__ = ("channels", "name", "strides")
    name: str
    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(
        self,
        name: str,
        spatial_dims: int,
        *,
        in_channels: int,
        stem_strides: Sequence[int],
    ) -> None:
        block, layers = _RESNETS[name]
        super().__init__(
            block,
            list(layers),
            list(_RESNET_PLANES),
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_size=7,
            conv1_t_stride=tuple(stem_strides),  # type: ignore[arg-type]
            feed_forward=False,
            bias_downsample=False,
        )
        del self.avgpool, self.fc
        if max(stem_strides) == 1:
            self.maxpool = nn.Identity()  # type: ignore[assignment]
        else:
            self.maxpool.stride = tuple(stem_strides)  # type: ignore[assignment]
        expansion = 1 if block == "basic" else 4
        self.name, self.channels = name, tuple(planes * expansion for planes in _RESNET_PLANES)
        self.strides = tuple(stride * stride for stride in stem_strides)  # of the convolution and the pooling

    def stages(self) -> list[list[nn.Module]]:
        """The layers that make each of the four maps from the one before; the stem counts to the first."""
        return [[self.conv1, self.layer1], [self.layer2], [self.layer3], [self.layer4]]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        f_1 = self.layer1(x)
        f_2 = self.layer2(f_1)
        f_3 = self.layer3(f_2)
        return [f_1, f_2, f_3, self.layer4(f_3)]


def replace_stride_with_dilation(layers: Iterable[nn.Module], *, previous: int, dilation: int) -> None:
    """Undo the stride of one stage in place, and widen its kernels so that they still see the same pixels.

    The strided convolution itself keeps the ``previous`` dilation, everything after it gets ``dilation``: the dilated
    stage, sampled at the old stride, then equals the strided one. For bottlenecks this is torchvision's
    ``replace_stride_with_dilation``.

    Args:
        layers: the stage's layers in the order in which they run; a shortcut may follow the layers that it bypasses.
        previous: dilation of the stage before.
        dilation: dilation of this stage, twice ``previous`` where its stride was 2.
    """
    strided = False
    for module in (module for layer in layers for module in layer.modules()):
        if not isinstance(module, (nn.Conv2d, nn.Conv3d)):
            continue
        dims = len(module.kernel_size)
        wanted = dilation if strided else previous
        if max(module.stride) > 1:
            strided, module.stride = True, (1,) * dims
        if max(module.kernel_size) > 1:
            module.dilation = (wanted,) * dims
            module.padding = tuple(wanted * (k // 2) for k in module.kernel_size)


def build_encoder(
    name: str,
    *,
    spatial_dims: int = 2,
    in_channels: int = 3,
    output_stride: int = 8,
    norm: LayerSpec = "batch",
    act: LayerSpec = "relu",
    stem_stride: int = 2,
    strides: Sequence[int] | None = None,
) -> ResNetEncoder | MobileNet:
    """Build an encoder with random weights; nothing is downloaded.

    Args:
        name: one of :data:`ENCODERS`.
        spatial_dims: number of spatial dimensions, 2 or 3.
        in_channels: channels of the image.
        output_stride: pixels of the image per pixel of the deepest map, 8 or 16, for a stem stride of 2.
        norm: MONAI norm; anything but batch norm does not fit ImageNet weights.
        act: MONAI activation of the ResNets. The MobileNets keep the activations of their papers.
        stem_stride: 2, or 1 for small images: the first convolution keeps the resolution and a ResNet drops its
            max-pooling, so that all maps are 4 times (MobileNets: 2 times) finer.
        strides: stem stride per spatial axis instead of ``stem_stride``, such as ``(2, 2, 1)`` for thick slices: along
            an axis of stride 1 neither the first convolution nor the max-pooling reduces the resolution.

    Returns:
        Module that maps ``(batch, in_channels, *spatial)`` to a list of four maps, with the attributes ``name``,
        ``channels`` (of the four maps) and ``strides`` (of the finest map, per axis).

    Raises:
        ValueError: for an unknown name, or an option out of range.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder {name!r} is unknown, choose one of {', '.join(ENCODERS)}.")
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
    if output_stride not in (8, 16):
        raise ValueError(f"output_stride must be 8 or 16, got {output_stride}.")
    stem = (stem_stride,) * spatial_dims if strides is None else tuple(strides)
    if len(stem) != spatial_dims or not set(stem) <= {1, 2}:
        raise ValueError(
            f"the stem stride must be 1 or 2 along each of {spatial_dims} axes, got {stem}; "
            f"for example strides={(2,) * (spatial_dims - 1) + (1,)}."
        )

    if name in _RESNETS:
        encoder: ResNetEncoder | MobileNet = ResNetEncoder(
            name, spatial_dims, in_channels=in_channels, stem_strides=stem
        )
    else:
        encoder = _MOBILENETS[name](spatial_dims, in_channels, stem_strides=stem)
    _, _, third, fourth = encoder.stages()
    if output_stride == 8:
        replace_stride_with_dilation(third, previous=1, dilation=2)
    replace_stride_with_dilation(fourth, previous=16 // output_stride, dilation=32 // output_stride)
    # MONAI's ResNet passes neither norm nor activation on to its blocks
    _replace_layers(encoder, spatial_dims, norm, act if name in _RESNETS else None)
    return encoder


def _replace_layers(module: nn.Module, spatial_dims: int, norm: LayerSpec, act: LayerSpec | None) -> None:
    """Exchange every batch norm below ``module`` for ``norm``, and every ReLU for ``act`` unless that is ``None``.

    A batch norm that is given arguments keeps the encoder's own ``eps`` and ``momentum`` unless these are among them.
    """
    kind, arguments = (norm, {}) if isinstance(norm, str) else (norm[0], dict(norm[1]))
    is_batch = str(kind).lower() == "batch"
    for name, child in module.named_children():
        if isinstance(child, (nn.BatchNorm2d, nn.BatchNorm3d)):
            if not is_batch or arguments:
                features = child.num_features
                wanted = (kind, {"eps": child.eps, "momentum": child.momentum, **arguments}) if is_batch else norm
                layer = get_norm_layer(fit_norm(wanted, features), spatial_dims=spatial_dims, channels=features)
                setattr(module, name, layer)
        elif isinstance(child, nn.ReLU):
            if act is not None:
                setattr(module, name, get_act_layer(fit_act(act)))
        else:
            _replace_layers(child, spatial_dims, norm, act)
