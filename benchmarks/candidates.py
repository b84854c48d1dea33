"""The networks that are compared, written as a bundle's configuration would write them.

MONAI's networks have the sizes of their own tutorials and defaults; none loads pretrained weights, because weights
change neither time nor memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["ALL", "BANET", "LIGHT_V3", "MONAI", "QUICK", "REFERENCE", "VOLUME_NETWORK"]

Definition = dict[str, Any]


BUNDLE = Path(__file__).resolve().parents[1] / "bundle"


def _shipped(configuration: str = "configs/train.json") -> Definition:
    """The network of the bundle, or of one of its tasks, out of its configuration."""
    config = json.loads((BUNDLE / configuration).read_text(encoding="utf-8"))
    return {**config["network_def"], "encoder": config["encoder"]}


def _banet(encoder: str, output_stride: int, *, separable: bool) -> Definition:
    return {
        "_target_": "banet_monai.networks.BANet",
        "encoder": encoder,
        "output_stride": output_stride,
        "separable": separable,
    }


REFERENCE = "BA-Net light, as shipped"
"""The network whose time is 1 in the column of relative times."""

LIGHT_V3 = "BA-Net light with mobilenet_v3_large"
"""The network of the bundle with the other light encoder."""

BANET: dict[str, Definition] = {
    REFERENCE: _shipped(),
    LIGHT_V3: _shipped() | {"encoder": "mobilenet_v3_large"},
    "BA-Net mobilenet_v2, os 16, separable": _banet("mobilenet_v2", 16, separable=True),
    "BA-Net mobilenet_v3_large, os 16, separable": _banet("mobilenet_v3_large", 16, separable=True),
    "BA-Net resnet18, os 16, separable": _banet("resnet18", 16, separable=True),
    "BA-Net resnet18, os 8": _banet("resnet18", 8, separable=False),
    "BA-Net resnet50, os 16, separable": _banet("resnet50", 16, separable=True),
    "BA-Net resnet50, os 8, separable": _banet("resnet50", 8, separable=True),
    "BA-Net resnet50, os 8 (the paper's)": _banet("resnet50", 8, separable=False),
}

VOLUME_NETWORK: Definition = _shipped("tasks/hippocampus/inference.json")
"""The 3D network of the bundle's hippocampus task."""

_IN_OUT = {"spatial_dims": 2, "in_channels": 3, "out_channels": 1}
_FIVE_LEVELS = {"channels": [32, 64, 128, 256, 512], "strides": [2, 2, 2, 2]}

MONAI: dict[str, Definition] = {
    "UNet 32-512, 2 residual units": {
        "_target_": "monai.networks.nets.UNet",
        **_IN_OUT,
        **_FIVE_LEVELS,
        "num_res_units": 2,
    },
    "BasicUNet": {"_target_": "monai.networks.nets.BasicUNet", **_IN_OUT},
    "FlexibleUNet efficientnet-b0": {
        "_target_": "monai.networks.nets.FlexibleUNet",
        "in_channels": 3,
        "out_channels": 1,
        "backbone": "efficientnet-b0",
        "pretrained": False,
    },
    "FlexibleUNet efficientnet-b2": {
        "_target_": "monai.networks.nets.FlexibleUNet",
        "in_channels": 3,
        "out_channels": 1,
        "backbone": "efficientnet-b2",
        "pretrained": False,
    },
    "AttentionUnet 32-512": {"_target_": "monai.networks.nets.AttentionUnet", **_IN_OUT, **_FIVE_LEVELS},
    "SegResNet 32": {
        "_target_": "monai.networks.nets.SegResNet",
        **_IN_OUT,
        "init_filters": 32,
        "blocks_down": [1, 2, 2, 4],
        "blocks_up": [1, 1, 1],
    },
    "DynUNet 32-512": {
        "_target_": "monai.networks.nets.DynUNet",
        **_IN_OUT,
        "kernel_size": [3, 3, 3, 3, 3],
        "strides": [1, 2, 2, 2, 2],
        "upsample_kernel_size": [2, 2, 2, 2],
        "filters": [32, 64, 128, 256, 512],
    },
}

ALL: dict[str, Definition] = BANET | MONAI

QUICK = (
    REFERENCE,
    "BA-Net resnet50, os 8 (the paper's)",
    "UNet 32-512, 2 residual units",
    "FlexibleUNet efficientnet-b0",
)
