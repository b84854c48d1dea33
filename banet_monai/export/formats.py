"""Files that run without this package: ONNX, OpenVINO, torch.export and TorchScript."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from banet_monai.choices import EXPORT_PACKAGES, EXPORTS
from banet_monai.export.description import KEY, Description
from banet_monai.export.optimizing import fused_copy
from banet_monai.files import write_beside
from banet_monai.networks.banet import BANet

__all__ = [
    "DESCRIPTION_FILE",
    "INPUT",
    "OUTPUT",
    "export",
    "fused_on_cpu",
    "quiet",
    "read_as_openvino",
    "save_openvino",
]

INPUT, OUTPUT = "image", "logits"
DESCRIPTION_FILE = f"{KEY}.json"  # inside files of PyTorch
_OPSET = 18  # of ONNX: the first with everything that the network needs
_MOST = 2**16  # pixels along an axis, and images in a batch, that the exported shapes allow


def export(network: BANet, path: str | Path, *, to: str, description: Description) -> Path:
    """Write a trained network as a file of another format, whole or not at all.

    The file maps float32 images ``(batch, in_channels, *spatial)`` of any batch and size to logits ``(batch,
    out_channels, *spatial)``, as the network does in evaluation.

    Args:
        network: a BANet with its weights loaded; it stays as it is.
        path: file to write, with the ending of :data:`~banet_monai.choices.EXPORTS`.
        to: ``"onnx"``, ``"openvino"``, ``"torch-export"`` or ``"torchscript"``.
        description: kept in the file.

    Returns:
        ``path``.

    Raises:
        ValueError: for another format or ending.
        ModuleNotFoundError: when an optional package is missing, with what to install.
        OSError: when the file cannot be written.
    """
    path = Path(path)
    if to not in EXPORTS:
        raise ValueError(f"the format must be one of {', '.join(EXPORTS)}, got '{to}'.")
    if path.suffix != EXPORTS[to]:
        raise ValueError(f"a file for {to} ends in {EXPORTS[to]}, got '{path.name}'.")
    if missing := [name for name in EXPORT_PACKAGES.get(to, ()) if importlib.util.find_spec(name) is None]:
        raise ModuleNotFoundError(f'{to} needs the package {missing[0]}: pip install "banet-monai[{to}]"')

    fused = fused_on_cpu(network)
    write: dict[str, Callable[[nn.Module, Path, Description], None]] = {
        "onnx": _write_onnx,
        "openvino": _write_openvino,
        "torch-export": _write_torch_export,
        "torchscript": _write_torchscript,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), quiet():
        write[to](fused, path, description)
    return path


def fused_on_cpu(network: BANet) -> BANet:
    """The form that is exported: fused, float32, on the CPU."""
    fused: BANet = fused_copy(network).to(device="cpu", dtype=torch.float32, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return fused


def _write_onnx(network: nn.Module, path: Path, description: Description) -> None:
    program: Any = torch.onnx.export(
        network,
        (_example(description),),
        dynamo=True,
        dynamic_shapes=_dynamic_shapes(description),
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=_OPSET,
        verbose=False,
    )
    program.model.metadata_props[KEY] = description.to_json()
    write_beside(path, lambda partial: program.save(str(partial)))


def _write_openvino(network: nn.Module, path: Path, description: Description) -> None:
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
        save_openvino(read_as_openvino(network, Path(folder), description), path, Path(folder), description)


def read_as_openvino(network: nn.Module, folder: Path, description: Description) -> Any:
    """OpenVINO's model of a network, by way of ONNX: its own converter would report its use over the internet."""
    import openvino

    onnx = folder / "model.onnx"
    _write_onnx(network, onnx, description)
    return openvino.Core().read_model(onnx)


def save_openvino(model: Any, path: Path, folder: Path, description: Description) -> None:
    """Write OpenVINO's model as ``path`` and the ``.bin`` beside it, each whole or not at all, by way of ``folder``."""
    import openvino

    beside = folder / path.name
    model.set_rt_info(description.to_json(), [KEY])
    openvino.save_model(model, beside, compress_to_fp16=False)
    beside.with_suffix(".bin").replace(path.with_suffix(".bin"))
    beside.replace(path)


def _write_torch_export(network: nn.Module, path: Path, description: Description) -> None:
    exported = torch.export.export(network, (_example(description),), dynamic_shapes=_dynamic_shapes(description))
    extra = {DESCRIPTION_FILE: description.to_json()}
    _save(path, lambda partial: torch.export.save(exported, partial, extra_files=extra))


def _write_torchscript(network: nn.Module, path: Path, description: Description) -> None:
    trace: Callable[..., Any] = torch.jit.trace
    traced = trace(network, _example(description), check_trace=False)
    extra = {DESCRIPTION_FILE: description.to_json()}
    _save(path, lambda partial: torch.jit.save(traced, partial, _extra_files=extra))


def _save(path: Path, write: Callable[[Path], object]) -> None:
    """Let PyTorch write a file; what its writer says of a full disk is an OSError, as everywhere else."""
    try:
        write_beside(path, write)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OSError(f"PyTorch cannot write '{path.name}': {reason}") from error


def _example(description: Description) -> torch.Tensor:
    """An image with different sizes along all axes, so that none is taken for another."""
    sizes = [2 * least + 16 * axis for axis, least in enumerate(description.min_size)]
    return torch.zeros(2, description.in_channels, *sizes)


def _dynamic_shapes(description: Description) -> tuple[dict[int, Any]]:
    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=_MOST)}
    for axis, (name, least) in enumerate(zip(description.axes[2:], description.min_size, strict=True), start=2):
        axes[axis] = torch.export.Dim(name, min=least, max=_MOST)
    return (axes,)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and logs of exporters, which speak of their own affairs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
