"""Loading weights: whole, checked before anything is written, and never by running code from the file.

ImageNet weights are torchvision's (BSD-3-Clause, https://github.com/pytorch/vision), in its key layout; torchvision
itself is not needed. They were trained on ImageNet, whose terms of access allow non-commercial research and education;
whether that reaches the weights is not settled, so read both before you ship a product.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn

from banet_monai.machine import one_core

__all__ = ["IMAGENET_URLS", "initialize_weights", "load_encoder_weights", "load_weights", "read_state"]

IMAGENET_URLS = {
    name: f"https://download.pytorch.org/models/{file}.pth"
    for name, file in {
        "resnet18": "resnet18-f37072fd",
        "resnet34": "resnet34-b627a593",
        "resnet50": "resnet50-0676ba61",
        "resnet101": "resnet101-63fe2227",
        "mobilenet_v2": "mobilenet_v2-b0353104",
        "mobilenet_v3_large": "mobilenet_v3_large-8738ca79",
    }.items()
}
"""torchvision's ``IMAGENET1K_V1`` weights of each encoder; the end of the name is the file's SHA-256 hash."""

ENCODER_WEIGHTS_VARIABLE = "BANET_ENCODER_WEIGHTS"
"""Environment variable that may name a local file for ``init="imagenet"``."""

_RGB = 3
_SHOWN = 3  # keys of each kind that an error message names
# entries of torchvision's files that belong to the classifier, which no encoder has
_CLASSIFIER = {
    "resnet": ("fc.",),
    "mobilenet_v2": ("features.18.", "classifier."),
    "mobilenet_v3": ("features.16.", "classifier."),
}
_STEMS = ("conv1.weight", "features.0.0.weight")
# blocks of stage 3 and whether they are bottlenecks, which together tell a ResNet's name from its keys
_RESNETS = {(2, False): "resnet18", (6, False): "resnet34", (6, True): "resnet50", (23, True): "resnet101"}

_logger = logging.getLogger(__name__)

State = Mapping[str, torch.Tensor]


def load_encoder_weights(network: nn.Module, source: str | Path) -> str:
    """Load classification weights in torchvision's layout into an encoder, in place.

    The classifier's entries are left out. A first convolution for other than 3 channels gets the RGB kernels in turn,
    scaled by 3 / channels (one channel: their sum), so that its response keeps its size. A 3D encoder gets each 2D
    kernel repeated along the third axis and divided by its length there (Carreira & Zisserman,
    https://arxiv.org/abs/1705.07750). What was adapted is logged.

    Args:
        network: an encoder of :func:`build_encoder`, or a network that holds one as ``encoder``.
        source: a local file, or ``"imagenet"`` to download torchvision's file (its hash is checked; kept in the cache
            of ``torch.hub``).

    Returns:
        The line that was logged.

    Raises:
        ConnectionError: when the download fails.
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged, could run code, or belongs to another architecture; then nothing is
            loaded.
    """
    inner = getattr(network, "encoder", None)
    encoder = inner if isinstance(inner, nn.Module) else network
    name = str(getattr(encoder, "name", type(encoder).__name__))
    if name not in IMAGENET_URLS:
        raise ValueError(
            f"{name} is no encoder of build_encoder() and holds none; known are {', '.join(IMAGENET_URLS)}."
        )
    state, origin = (
        (_download(name), IMAGENET_URLS[name]) if source == "imagenet" else (read_state(source), str(source))
    )

    unused = next(prefixes for family, prefixes in _CLASSIFIER.items() if name.startswith(family))
    kept = {key: value for key, value in state.items() if not key.startswith(unused)}
    dropped = [f"{prefix}*" for prefix in unused if any(key.startswith(prefix) for key in state)]
    notes = [f"without the classifier's {', '.join(dropped)}"] if dropped else []
    target = encoder.state_dict()
    kept = _adapt_channels(kept, target, notes)
    kept = _inflate(kept, target, notes)

    hint = _describe_encoder(state)
    if not any(key.endswith("running_mean") for key in target):
        hint += " ImageNet weights need norm='batch'."
    _require_fit(kept, target, origin=origin, what=f"the {name} encoder", hint=hint)
    encoder.load_state_dict(kept)
    line = f"weights: encoder {name} from {origin}" + (f" ({'; '.join(notes)})" if notes else "")
    _logger.info(line)
    return line


@one_core()
def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load all weights of a network, strictly and in place.

    Args:
        network: the network; its every parameter and buffer must be in the file, with the same shape, and nothing else.
        path: file with a flat state dictionary, or with one below the key ``"model"``.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged, could run code, or belongs to another architecture; then nothing is
            loaded.
    """
    state = read_state(path)
    _require_fit(
        state, network.state_dict(), origin=str(path), what=type(network).__name__, hint=_describe_network(state)
    )
    network.load_state_dict(dict(state))


def initialize_weights(
    network: nn.Module,
    init: str | Path,
    *,
    encoder_weights: str | Path | None = None,
    shipped: str | Path | None = None,
    present: str | Path | None = None,
) -> str:
    """Give a network the weights that training starts from.

    Args:
        network: a :class:`BANet` or another network with an ``encoder``.
        init: ``"shipped"``: the file ``shipped``; ``"imagenet"``: the encoder's ImageNet weights from
            ``encoder_weights``, or else the file that the environment variable ``BANET_ENCODER_WEIGHTS`` names, or else
            torchvision's server; ``"present"``: the file ``present`` where it is there, else as ``"imagenet"``;
            ``"none"``: random weights stay; anything else is the path of a file for the whole network or, in
            torchvision's key layout, for its encoder.
        encoder_weights: local file for ``"imagenet"``.
        shipped: file of the weights that ship with the bundle.
        present: file of the best weights of an earlier training, which need not be there.

    Returns:
        The one line that was logged: which weights the network now has.

    Raises:
        ConnectionError: when the download fails.
        FileNotFoundError: when there is no such file.
        ValueError: when the weights do not fit the network or ``shipped`` is needed and not given.
    """
    if init == "present":
        init = str(present) if present is not None and Path(present).is_file() else "imagenet"
    if init == "imagenet":
        local = encoder_weights or os.environ.get(ENCODER_WEIGHTS_VARIABLE)
        return load_encoder_weights(network, local or "imagenet")
    if init == "shipped" and shipped is None:
        raise ValueError("init='shipped' needs the path of the shipped file; or use init='imagenet', 'none' or a path.")
    if init not in ("none", "shipped") and _is_encoder_state(read_state(init)):
        return load_encoder_weights(network, init)

    if init == "none":
        line = "weights: random (init=none)"
    else:
        path = shipped if init == "shipped" and shipped is not None else init
        load_weights(network, path)
        line = f"weights: whole network from {path}"
    _logger.info(line)
    return line


def read_state(path: str | Path) -> State:
    """State dictionary of a file, flat or below the key ``"model"``; only tensors are unpickled.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged, could run code, or holds anything but names and tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"no weights file {file}; give the path of a .pt file, or init='shipped', 'imagenet' or 'none'."
        )
    if file.stat().st_size == 0:
        raise ValueError(f"{file} is empty (0 bytes): copy or download it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of TorchScript archives, which are refused below
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search(r"\bglobal\b|Unsupported class|unsafe", str(error), flags=re.IGNORECASE):
            raise ValueError(
                f"{file} holds Python objects that could run code when loaded, and was refused: only tensors are "
                "accepted. Whoever made it can save torch.save(network.state_dict(), path) instead."
            ) from error
        raise ValueError(f"{file} is damaged or no weights file of PyTorch: copy or download it again.") from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{file} cannot be read as weights of PyTorch ({reason}): it is damaged, cut short or of another format. "
            "Copy or download it again."
        ) from error

    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{file} holds a {type(content).__name__} and no state dictionary (names and tensors).")
    if strange := [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]:
        raise ValueError(
            f"{file} is no flat state dictionary: {_some(strange)} hold no tensor. A flat one, or one below the key "
            "'model', is accepted."
        )
    return content


def _download(name: str) -> State:
    url = IMAGENET_URLS[name]
    try:
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True, progress=False
        )
    except (URLError, TimeoutError, ConnectionError) as error:
        raise ConnectionError(
            f"could not download {url} ({error}): give a local copy as encoder_weights or in the environment variable "
            f"{ENCODER_WEIGHTS_VARIABLE}, or start from init='none'."
        ) from error


def _adapt_channels(state: State, target: State, notes: list[str]) -> dict[str, torch.Tensor]:
    """Repeat the RGB kernels of the first convolution over the channels of the network."""
    adapted = dict(state)
    for key in _STEMS:
        if key not in state or key not in target or state[key].ndim < 4:
            continue
        channels = target[key].shape[1]
        if channels == state[key].shape[1] or state[key].shape[1] != _RGB:
            continue
        if channels == 1:
            adapted[key] = state[key].sum(dim=1, keepdim=True)
        else:
            turn = torch.arange(channels) % _RGB
            adapted[key] = state[key][:, turn] * (_RGB / channels)
        notes.append(f"first convolution adapted from {_RGB} to {channels} channels")
    return adapted


def _inflate(state: State, target: State, notes: list[str]) -> dict[str, torch.Tensor]:
    """Repeat 2D kernels along the third axis where the network has 3D ones."""
    inflated, count = dict(state), 0
    for key, value in state.items():
        if value.ndim == 4 and key in target and target[key].ndim == 5:
            depth = target[key].shape[-1]
            inflated[key] = value.unsqueeze(-1).expand(*value.shape, depth) / depth
            count += 1
    if count:
        notes.append(f"{count} 2D kernels inflated to 3D")
    return inflated


def _require_fit(state: State, target: State, *, origin: str, what: str, hint: str) -> None:
    """Compare names and shapes. Counters of batch norm may be absent, old files have none."""
    missing = [key for key in target if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in target]
    mismatched = [
        f"{key} ({tuple(state[key].shape)} in the file, {tuple(target[key].shape)} in the network)"
        for key in target
        if key in state and state[key].shape != target[key].shape
    ]
    problems = [
        f"{len(keys)} {kind} ({_some(keys)})"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched))
        if keys
    ]
    if problems:
        raise ValueError(f"{origin} does not fit {what}, nothing was loaded: {'; '.join(problems)}. {hint}")


def _some(keys: Iterable[str]) -> str:
    listed = list(keys)
    return ", ".join(listed[:_SHOWN]) + (", …" if len(listed) > _SHOWN else "")


def _is_encoder_state(state: State) -> bool:
    return any(stem in state for stem in _STEMS)


def _encoder_name(state: State) -> str | None:
    """Name of the encoder that a state dictionary in torchvision's layout belongs to, by its keys."""
    if "features.1.block.0.0.weight" in state:
        return "mobilenet_v3_large" if "features.15.block.0.0.weight" in state else None
    if "features.1.conv.0.0.weight" in state:
        return "mobilenet_v2"
    blocks = {key.split(".")[1] for key in state if key.startswith("layer3.")}
    return _RESNETS.get((len(blocks), "layer1.0.conv3.weight" in state))


def _describe_encoder(state: State) -> str:
    name = _encoder_name(state)
    return f"The file holds the weights of {name}." if name else "The file holds none of the known encoders."


def _describe_network(state: State) -> str:
    """Which arguments of BANet a file would fit, as far as its tensors tell."""
    prefix, head = "encoder.", state.get("head.conv.weight")
    encoder = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if head is None or not encoder:
        if _is_encoder_state(state):
            return f"{_describe_encoder(state)} It is for the encoder alone: load_encoder_weights() takes it."
        return "The file does not hold a BANet."
    stem = next((encoder[key] for key in _STEMS if key in encoder), None)
    arguments = {
        "spatial_dims": head.ndim - 2,
        "in_channels": "?" if stem is None else stem.shape[1],
        "out_channels": head.shape[0],
        "encoder": repr(_encoder_name(encoder)),
        "width": head.shape[1],
        "separable": "decoder.refine.0.conv.weight" in state,
    }
    return f"The file fits BANet({', '.join(f'{key}={value}' for key, value in arguments.items())}, …)."
