"""BA-Net: the wiring of encoder, edge extraction, multi-task stages, cross fusion and decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers import get_dropout_layer
from torch import nn

from banet_monai.networks.blocks import (
    ASPP,
    CrossFeatureFusion,
    Decoder,
    MiniMultiTaskLearning,
    PyramidEdgeExtraction,
)
from banet_monai.networks.encoders import build_encoder
from banet_monai.networks.layers import LayerSpec, conv_norm_act, modules_of, resize_linear

__all__ = ["BANet"]

_STAGES = 4
_MIN_SIZE = 32  # pixels along an axis that the stem reduces by 4: two pixels in the deepest map at output stride 16
_PAPER_RATES = (6, 12, 18)  # of the ASPP at output stride 8


class BANet(nn.Module):
    """Boundary-aware context network: segmentation with edge features at every stage.

    Args:
        spatial_dims: number of spatial dimensions, 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of the logits: 1 for one structure (sigmoid), more for several classes.
        encoder: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``, ``mobilenet_v2`` or ``mobilenet_v3_large``.
        output_stride: pixels of the image per pixel of the deepest map: 8 (the paper's) or 16 (faster).
        width: channels of all stages and of the decoder.
        norm: MONAI norm: ``"batch"``, ``"instance"``, ``"group"``, or a name with its arguments.
        act: MONAI activation. MobileNet encoders keep their own.
        dropout: probability of dropping a channel of the context and of the decoder's output, 0 to 1.
        stem_stride: 2, or 1 to keep small images at full resolution (see :func:`build_encoder`).
        strides: stem stride per spatial axis instead of ``stem_stride``, such as ``(2, 2, 1)`` for thick slices.
        pee_kernel_sizes: odd pooling windows of the edge extraction, one sequence per stage, finest stage first.
        attention: gate of the interactive attention, ``"reverse"`` or ``"forward"``.
        use_pee: pyramid edge extraction, else ``F' = phi_1(f)``.
        use_mtl: mini multi-task learning, else the stage's output is ``phi_1(F')`` and there are no stage maps.
        use_ia: interactive attention, else the branches of the mini-MTL do not see each other.
        use_cff: cross feature fusion, else each stage goes to the decoder as it is.
        use_aspp: atrous spatial pyramid pooling, else a 1x1 convolution.
        separable: depthwise-separable convolutions in ASPP, branches and decoder.
        edge_channels: edge maps of each stage; by default ``out_channels``. Softmax over C classes has C - 1.
        aspp_channels: channels of the context.

    Raises:
        ValueError: for an option out of range; in a forward pass, for an image with other channels or below 32 pixels
            along an axis (along an axis of stem stride 1: 8 pixels for ResNets, 16 for MobileNets).

    Shapes:
        - input: ``(batch, in_channels, *spatial)``
        - output in evaluation: logits ``(batch, out_channels, *spatial)``
        - output in training: dictionary with ``mask``, logits as in evaluation, ``stage_masks`` and ``stage_edges``,
          lists of four logits ``(batch, out_channels, *spatial)`` and ``(batch, edge_channels, *spatial)``, finest
          stage first

    Reference:
        Wang et al., "Boundary-aware context neural network for medical image segmentation",
        Medical Image Analysis 78 (2022) 102395, https://arxiv.org/abs/2005.00966
    """

    __constants__ = ("use_mtl", "use_cff")

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        *,
        encoder: str = "resnet50",
        output_stride: int = 8,
        width: int = 128,
        norm: LayerSpec = "batch",
        act: LayerSpec = "relu",
        dropout: float = 0.0,
        stem_stride: int = 2,
        strides: Sequence[int] | None = None,
        pee_kernel_sizes: Sequence[Sequence[int]] = ((5, 7), (5, 7), (3, 5), (3, 5)),
        attention: str = "reverse",
        use_pee: bool = True,
        use_mtl: bool = True,
        use_ia: bool = True,
        use_cff: bool = True,
        use_aspp: bool = True,
        separable: bool = False,
        edge_channels: int | None = None,
        aspp_channels: int = 256,
    ) -> None:
        super().__init__()
        if len(pee_kernel_sizes) != _STAGES:
            raise ValueError(
                f"pee_kernel_sizes needs one sequence for each of the {_STAGES} stages, got {len(pee_kernel_sizes)}: "
                f"{tuple(pee_kernel_sizes)}; for example ((5, 7), (5, 7), (3, 5), (3, 5))."
            )
        self.spatial_dims, self.in_channels, self.out_channels = spatial_dims, in_channels, out_channels
        self.use_mtl, self.use_cff = use_mtl, use_cff

        self.encoder = build_encoder(
            encoder,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            output_stride=output_stride,
            norm=norm,
            act=act,
            stem_stride=stem_stride,
            strides=strides,
        )
        self.min_size = tuple(_MIN_SIZE * stride // 4 for stride in self.encoder.strides)
        channels = self.encoder.channels
        if use_aspp:
            self.context: nn.Module = ASPP(
                spatial_dims,
                channels[-1],
                out_channels=aspp_channels,
                rates=[rate * 8 // output_stride for rate in _PAPER_RATES],
                norm=norm,
                act=act,
                separable=separable,
            )
        else:
            self.context = conv_norm_act(spatial_dims, channels[-1], aspp_channels, norm=norm, act=act)

        self.edges = nn.ModuleList(
            PyramidEdgeExtraction(
                spatial_dims,
                channels[stage],
                out_channels=width,
                kernel_sizes=pee_kernel_sizes[stage] if use_pee else (),
                norm=norm,
                act=act,
            )
            for stage in range(_STAGES)
        )
        self.tasks = nn.ModuleList(
            MiniMultiTaskLearning(
                spatial_dims,
                width,
                mask_channels=out_channels,
                edge_channels=out_channels if edge_channels is None else edge_channels,
                attention=attention if use_ia else None,
                norm=norm,
                act=act,
                separable=separable,
            )
            if use_mtl
            else conv_norm_act(spatial_dims, width, width, norm=norm, act=act)
            for _ in range(_STAGES)
        )
        self.cross = CrossFeatureFusion()
        self.decoder = Decoder(
            spatial_dims, width, context_channels=aspp_channels, stages=_STAGES, norm=norm, act=act, separable=separable
        )
        self.dropout = get_dropout_layer(dropout, spatial_dims) if dropout else nn.Identity()
        self.head = Convolution(spatial_dims, width, out_channels, kernel_size=1, conv_only=True)
        for module in (self.context, self.edges, self.tasks, self.decoder, self.head):
            module.apply(_initialize_convolution)

    def train(self, mode: bool = True) -> BANet:
        """As of every module, but at once where all of it is in that mode: evaluators ask for theirs at each batch."""
        return self if all(module.training == mode for module in modules_of(self)) else super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            self._check_input(x)
        stages, masks, edges, context = self._encode(x)
        if self.use_cff:
            stages = self.cross(stages)
        logits = self.decode(stages, context, list(x.shape[2:]))
        if torch.jit.is_scripting() or not self.training:  # type: ignore[attr-defined]
            return logits

        stage_masks, stage_edges = self._stage_logits(masks, edges, list(x.shape[2:]))
        return {"mask": logits, "stage_masks": stage_masks, "stage_edges": stage_edges}  # type: ignore[return-value]

    def encode(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Everything that lies before the first dropout: the four stages' fused features and the context."""
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            self._check_input(x)
        stages, _, _, context = self._encode(x)
        return self.cross(stages) if self.use_cff else stages, context

    def decode(self, stages: list[torch.Tensor], context: torch.Tensor, size: list[int]) -> torch.Tensor:
        """Logits of the spatial ``size`` from what :meth:`encode` gives; the only part with dropout.

        Many samples of MC dropout so need one pass of the encoder. In evaluation
        ``decode(*encode(x), list(x.shape[2:]))`` is ``forward(x)``.
        """
        x = self.decoder(stages, self.dropout(context))
        return resize_linear(self.head(self.dropout(x)), size)

    def _encode(
        self, x: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
        """Outputs of the four stages, their mask and edge features (empty without mini-MTL), and the context."""
        features = self.encoder(x)
        stages: list[torch.Tensor] = []
        masks: list[torch.Tensor] = []
        edges: list[torch.Tensor] = []
        for index, extract in enumerate(self.edges):
            stages.append(extract(features[index]))
        for index, task in enumerate(self.tasks):
            if self.use_mtl:
                stages[index], mask, edge = task(stages[index])
                masks.append(mask)
                edges.append(edge)
            else:
                stages[index] = task(stages[index])
        return stages, masks, edges, self.context(features[-1])

    @torch.jit.unused
    def _stage_logits(
        self, masks: list[torch.Tensor], edges: list[torch.Tensor], size: list[int]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Mask and edge logits of every stage at the image's size."""
        tasks = [task for task in self.tasks if isinstance(task, MiniMultiTaskLearning)]
        maps = [task.logits(mask, edge) for task, mask, edge in zip(tasks, masks, edges, strict=True)]
        return [resize_linear(mask, size) for mask, _ in maps], [resize_linear(edge, size) for _, edge in maps]

    @torch.jit.unused
    def boundary_map(self, x: torch.Tensor) -> torch.Tensor:
        """Probability of an edge, the mean over the four stages' edge maps.

        Args:
            x: image as for :meth:`forward`.

        Returns:
            Tensor ``(batch, edge_channels, *spatial)``, values 0 to 1.

        Raises:
            ValueError: when the network was built with ``use_mtl=False`` and so has no edge branch.
        """
        if not self.use_mtl:
            raise ValueError("the network has no edge branch, build it with use_mtl=True for a boundary map.")
        self._check_input(x)
        _, masks, edges, _ = self._encode(x)
        _, stage_edges = self._stage_logits(masks, edges, list(x.shape[2:]))
        return torch.stack([torch.sigmoid(edge) for edge in stage_edges]).mean(dim=0)

    @torch.jit.unused
    def _check_input(self, x: torch.Tensor) -> None:
        """Refuse a shape that the network cannot take; nothing is checked while a graph is recorded."""
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # type: ignore[attr-defined, no-untyped-call]
            return
        if x.ndim != self.spatial_dims + 2:
            raise ValueError(
                f"the network needs {self.spatial_dims + 2} axes (batch, channel, {self.spatial_dims} spatial), "
                f"got shape {tuple(x.shape)}."
            )
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"the network was built for in_channels={self.in_channels}, got {x.shape[1]} channels in shape "
                f"{tuple(x.shape)}."
            )
        if any(size < least for size, least in zip(x.shape[2:], self.min_size, strict=True)):
            raise ValueError(
                f"the image is too small: the network needs at least {self.min_size} pixels per axis, got "
                f"{tuple(x.shape[2:])}; pad or enlarge it, or build the network with stem_stride=1."
            )


def _initialize_convolution(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Conv3d)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
