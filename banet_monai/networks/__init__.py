"""Network definitions and their weights; only the names listed in ``__all__`` are public."""

from __future__ import annotations

from banet_monai.networks.banet import BANet
from banet_monai.networks.checkpointing import checkpoint_activations
from banet_monai.networks.encoders import ENCODERS, build_encoder
from banet_monai.networks.layers import on_device
from banet_monai.networks.weights import initialize_weights, load_encoder_weights, load_weights

__all__ = [
    "ENCODERS",
    "BANet",
    "build_encoder",
    "checkpoint_activations",
    "initialize_weights",
    "load_encoder_weights",
    "load_weights",
    "on_device",
]
