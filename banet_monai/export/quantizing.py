"""A trained network in 8-bit integers for laptops: an OpenVINO file, quantised by NNCF on images of its task."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from banet_monai.choices import EXPORTS, INT8_PACKAGES
from banet_monai.export.description import Description
from banet_monai.export.formats import fused_on_cpu, quiet, read_as_openvino, save_openvino
from banet_monai.networks.banet import BANet

__all__ = ["LEAST_IMAGES", "PRECISION", "quantize"]

PRECISION = "int8"
LEAST_IMAGES = 8  # fewer do not show how large the values of a layer get


def quantize(
    network: BANet,
    path: str | Path,
    *,
    description: Description,
    images: Sequence[torch.Tensor],
    thorough: bool = True,
) -> Description:
    """Write a network as an OpenVINO file whose convolutions compute in 8-bit integers.

    All but the ordinary convolutions stay as they are: depthwise ones, sums and averages gain nothing by 8 bits, and
    on the way there and back they lose a tenth of the time. Static quantisation after training: weights are symmetric
    and per channel, activations asymmetric, their ranges and the corrections of the biases come from ``images``. The
    file is made with NNCF and runs with OpenVINO alone.

    Args:
        network: a BANet with its weights loaded; it stays as it is.
        path: file to write, ending in ``.xml``; the weights go beside it, into ``.bin``.
        description: kept in the file, with ``precision`` ``"int8"``.
        images: at least 8 float32 ``(1, in_channels, *spatial)`` as the network gets them. 100 of the training data
            are enough; pictures that are unlike them make a worse file.
        thorough: correct the biases of each layer with the layers before it corrected, which takes minutes; else all
            at once, in seconds.

    Returns:
        The description as it stands in the file.

    Raises:
        ValueError: for another ending, or too few images.
        ModuleNotFoundError: when NNCF or OpenVINO is missing, with what to install.
        OSError: when the file cannot be written.
    """
    path = Path(path)
    if path.suffix != EXPORTS["openvino"]:
        raise ValueError(f"a file in 8-bit integers is one for OpenVINO and ends in .xml, got '{path.name}'.")
    if len(images) < LEAST_IMAGES:
        raise ValueError(f"8-bit integers need at least {LEAST_IMAGES} images to calibrate on, got {len(images)}.")
    if missing := [name for name in INT8_PACKAGES if importlib.util.find_spec(name) is None]:
        raise ModuleNotFoundError(f'8-bit integers need the package {missing[0]}: pip install "banet-monai[int8]"')
    os.environ.setdefault("NNCF_CI", "1")  # else importing NNCF reports its use over the internet
    import nncf

    facts = dataclasses.replace(description, precision=PRECISION)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.")
    with torch.no_grad(), quiet(), redirect_stdout(io.StringIO()), temporary as folder:  # NNCF draws progress bars
        model = read_as_openvino(fused_on_cpu(network), Path(folder), facts)
        quantized = nncf.quantize(
            model,
            nncf.Dataset([image.numpy() for image in images]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(types=_all_but_convolutions(model), validate=False),
            fast_bias_correction=not thorough,
        )
        save_openvino(quantized, path, Path(folder), facts)
    return facts


def _all_but_convolutions(model: Any) -> list[str]:
    """Names of the kinds of operations in a model, without the one that is quantised and those that compute nothing."""
    kinds = {operation.get_type_name() for operation in model.get_ops()}
    return sorted(kinds - {"Convolution", "Constant", "Parameter", "Result"})
