"""The modules of BA-Net, one class per box of the paper's figures, in the order in which a forward pass meets them.

Notation in the formulas: ``sigma`` is the logistic function, ``*`` the element-wise product, ``phi_k`` a convolution
with kernel size ``k``, normalisation and activation, ``up`` a linear interpolation (``align_corners=False``) to the
size asked for, and ``avg_k`` an average pooling with window ``k``, stride 1 and the border not counted.

Reference:
    Wang et al., "Boundary-aware context neural network for medical image segmentation",
    Medical Image Analysis 78 (2022) 102395, https://arxiv.org/abs/2005.00966
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers import Pool, get_act_layer
from torch import nn

from banet_monai.networks.layers import LayerSpec, box_average, conv_norm_act, fit_act, resize_linear

__all__ = [
    "ASPP",
    "CrossFeatureFusion",
    "Decoder",
    "InteractiveAttention",
    "MiniMultiTaskLearning",
    "PyramidEdgeExtraction",
]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: context around every pixel at several distances and over the whole image.

    ``phi_1(concat(phi_1(x), phi_3,r1(x), phi_3,r2(x), …, act(conv_1(mean(x)))))``. The pooled branch has no
    normalisation: it holds one value per channel, which in a training batch of one has no variance.

    Args:
        spatial_dims: number of spatial dimensions, 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of each branch and of the output.
        rates: dilations of the 3x3 branches, in pixels of this map.
        norm: MONAI norm.
        act: MONAI activation.
        separable: depthwise-separable convolutions in the dilated branches.

    Shapes:
        - input: ``(batch, in_channels, *spatial)``
        - output: ``(batch, out_channels, *spatial)``

    Reference:
        Chen et al., "Rethinking atrous convolution for semantic image segmentation", https://arxiv.org/abs/1706.05587
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        out_channels: int = 256,
        rates: Sequence[int] = (6, 12, 18),
        norm: LayerSpec = "batch",
        act: LayerSpec = "relu",
        separable: bool = False,
    ) -> None:
        super().__init__()
        branches = [conv_norm_act(spatial_dims, in_channels, out_channels, norm=norm, act=act)]
        branches += [
            conv_norm_act(
                spatial_dims,
                in_channels,
                out_channels,
                kernel_size=3,
                dilation=rate,
                norm=norm,
                act=act,
                separable=separable,
            )
            for rate in rates
        ]
        self.branches = nn.ModuleList(branches)
        self.pooled = nn.Sequential(
            Pool["ADAPTIVEAVG", spatial_dims](1),
            Convolution(spatial_dims, in_channels, out_channels, kernel_size=1, conv_only=True),
            get_act_layer(fit_act(act)),
        )
        self.project = conv_norm_act(spatial_dims, out_channels * (len(branches) + 1), out_channels, norm=norm, act=act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        contexts = [branch(x) for branch in self.branches]
        contexts.append(self.pooled(x).expand_as(contexts[0]))
        return self.project(torch.cat(contexts, dim=1))


class PyramidEdgeExtraction(nn.Module):
    """Pyramid edge extraction (PEE): what changes at several granularities, beside the features themselves.

    ``F = phi_1(f)``, ``E_k = F - avg_k(F)`` for each kernel size ``k``, ``F' = phi_1(concat(F, E_k1, E_k2, …))``.

    Args:
        spatial_dims: number of spatial dimensions, 2 or 3.
        in_channels: channels of the encoder's feature map ``f``.
        out_channels: channels of ``F`` and of the output ``F'``.
        kernel_sizes: odd pooling windows, in pixels of this feature map (not of the image). Empty: without edge
            extraction, the module is ``phi_1(f)``.
        norm: MONAI norm.
        act: MONAI activation.

    Raises:
        ValueError: when a kernel size is even, because the pooled map would be shifted by half a pixel.

    Shapes:
        - input: ``(batch, in_channels, *spatial)``
        - output: ``(batch, out_channels, *spatial)``
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        out_channels: int = 128,
        kernel_sizes: Sequence[int] = (3, 5),
        norm: LayerSpec = "batch",
        act: LayerSpec = "relu",
    ) -> None:
        super().__init__()
        if even := [k for k in kernel_sizes if k % 2 == 0]:
            raise ValueError(f"kernel_sizes must be odd, got even sizes {even} in {tuple(kernel_sizes)}.")

        self.reduce = conv_norm_act(spatial_dims, in_channels, out_channels, norm=norm, act=act)
        self.kernel_sizes = tuple(kernel_sizes)
        self.fuse: nn.Module = nn.Identity()
        if kernel_sizes:
            stacked = out_channels * (len(kernel_sizes) + 1)
            self.fuse = conv_norm_act(spatial_dims, stacked, out_channels, norm=norm, act=act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.reduce(x)
        maps = [x]
        for kernel_size in self.kernel_sizes:
            maps.append(x - box_average(x, kernel_size))
        return self.fuse(torch.cat(maps, dim=1) if len(maps) > 1 else x)


class InteractiveAttention(nn.Module):
    """Interactive attention (IA): each task sends the other its features, gated; no parameters of its own.

    * ``"reverse"``: ``E' = E + (1 - sigma(E)) * S``, ``S' = S + (1 - sigma(S)) * E``: help arrives where the receiver
      is unsure.
    * ``"forward"``: ``E' = E + sigma(S) * S``, ``S' = S + sigma(E) * E``: the sender's sure features pass.

    Args:
        mode: ``"reverse"`` or ``"forward"``.

    Raises:
        ValueError: for any other mode.

    Shapes:
        - inputs: mask features ``S`` and edge features ``E``, both ``(batch, channels, *spatial)``
        - outputs: ``S'`` and ``E'``, same shape
    """

    __constants__ = ("reverse",)

    def __init__(self, mode: str = "reverse") -> None:
        super().__init__()
        if mode not in ("reverse", "forward"):
            raise ValueError(f'attention must be "reverse" or "forward", got {mode!r}.')
        self.reverse = mode == "reverse"

    def forward(self, mask: torch.Tensor, edge: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask_gate, edge_gate = torch.sigmoid(mask), torch.sigmoid(edge)
        if self.reverse:
            return torch.addcmul(mask, 1 - mask_gate, edge), torch.addcmul(edge, 1 - edge_gate, mask)
        return torch.addcmul(mask, edge_gate, edge), torch.addcmul(edge, mask_gate, mask)


class MiniMultiTaskLearning(nn.Module):
    """Mini multi-task learning (mini-MTL): a mask branch and an edge branch that help each other, then are joined.

    ``S = phi_3(F')``, ``E = phi_3(F')``; ``S', E' =`` interactive attention; ``S2 = phi_3(S')``, ``E2 = phi_3(E')``;
    the output ``F_M = phi_1(concat(S2, E2))`` aggregates both tasks. The two 1x1 heads belong to the module but are
    computed only by :meth:`logits`, which a forward pass in evaluation never calls.

    Args:
        spatial_dims: number of spatial dimensions, 2 or 3.
        channels: channels of input, branches and output.
        mask_channels: mask maps of the stage head.
        edge_channels: edge maps of the stage head.
        attention: mode of :class:`InteractiveAttention`, or ``None`` for none (``S' = S``, ``E' = E``).
        norm: MONAI norm.
        act: MONAI activation.
        separable: depthwise-separable 3x3 convolutions.

    Shapes:
        - input ``F'``: ``(batch, channels, *spatial)``
        - output: ``F_M``, ``S2`` and ``E2``, each ``(batch, channels, *spatial)``
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        *,
        mask_channels: int = 1,
        edge_channels: int = 1,
        attention: str | None = "reverse",
        norm: LayerSpec = "batch",
        act: LayerSpec = "relu",
        separable: bool = False,
    ) -> None:
        super().__init__()

        def phi_3() -> nn.Module:
            return conv_norm_act(
                spatial_dims, channels, channels, kernel_size=3, norm=norm, act=act, separable=separable
            )

        self.mask_in, self.edge_in = phi_3(), phi_3()
        self.attention = None if attention is None else InteractiveAttention(attention)
        self.mask_out, self.edge_out = phi_3(), phi_3()
        self.aggregate = conv_norm_act(spatial_dims, 2 * channels, channels, norm=norm, act=act)
        self.mask_head = Convolution(spatial_dims, channels, mask_channels, kernel_size=1, conv_only=True)
        self.edge_head = Convolution(spatial_dims, channels, edge_channels, kernel_size=1, conv_only=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mask, edge = self.mask_in(x), self.edge_in(x)
        if self.attention is not None:
            mask, edge = self.attention(mask, edge)
        mask, edge = self.mask_out(mask), self.edge_out(edge)
        return self.aggregate(torch.cat([mask, edge], dim=1)), mask, edge

    def logits(self, mask: torch.Tensor, edge: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask and edge logits of the stage, at its resolution, from ``S2`` and ``E2``."""
        return self.mask_head(mask), self.edge_head(edge)


class CrossFeatureFusion(nn.Module):
    """Cross feature fusion (CFF): every stage receives from all others what it is not sure of itself; no parameters.

    ``F_C,i = F_i + (1 - sigma(F_i)) * sum_{k != i} up(sigma(F_k) * F_k)``. The gate is applied **before** the resizing,
    at the sender's own resolution, and each gated map is computed once.

    Shapes:
        - input: list of maps ``(batch, channels, *spatial_i)``, one per stage, each stage with its own spatial size
        - output: list of the same shapes
    """

    def forward(self, stages: list[torch.Tensor]) -> list[torch.Tensor]:
        gates = [torch.sigmoid(x) for x in stages]
        sent = [gates[k] * stages[k] for k in range(len(stages))]

        fused: list[torch.Tensor] = []
        for i in range(len(stages)):
            received: list[torch.Tensor] = []
            for k in range(len(stages)):
                if k != i:
                    received.append(resize_linear(sent[k], list(stages[i].shape[2:])))
            total = received[0]
            for other in received[1:]:
                total = total + other
            fused.append(torch.addcmul(stages[i], 1 - gates[i], total))
        return fused


class Decoder(nn.Module):
    """Top-down decoder: ``D_n = phi_3(concat(F_n, F_A))``, ``D_i = phi_3(concat(F_i, up(D_i+1)))``, then ``phi_3``.

    Args:
        spatial_dims: number of spatial dimensions, 2 or 3.
        channels: channels of each stage's map and of the output.
        context_channels: channels of the context ``F_A``, which has the resolution of the deepest stage.
        stages: number of stages.
        norm: MONAI norm.
        act: MONAI activation.
        separable: depthwise-separable 3x3 convolutions.

    Shapes:
        - input: list of maps ``(batch, channels, *spatial_i)``, finest first; context ``(batch, context_channels,
          *spatial_n)``
        - output: ``(batch, channels, *spatial_1)``
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        *,
        context_channels: int = 256,
        stages: int = 4,
        norm: LayerSpec = "batch",
        act: LayerSpec = "relu",
        separable: bool = False,
    ) -> None:
        super().__init__()

        def phi_3(in_channels: int) -> nn.Module:
            return conv_norm_act(
                spatial_dims, in_channels, channels, kernel_size=3, norm=norm, act=act, separable=separable
            )

        # from the deepest stage to the finest
        self.merges = nn.ModuleList(
            [phi_3(channels + context_channels), *(phi_3(2 * channels) for _ in range(stages - 1))]
        )
        self.refine = phi_3(channels)

    def forward(self, stages: list[torch.Tensor], context: torch.Tensor) -> torch.Tensor:
        x = context
        for depth, merge in enumerate(self.merges):
            stage = stages[len(stages) - 1 - depth]
            if depth > 0:
                x = resize_linear(x, list(stage.shape[2:]))
            x = merge(torch.cat([stage, x], dim=1))
        return self.refine(x)
