"""Exported networks that are called like a network of PyTorch, so that every inferer runs them."""

from __future__ import annotations

import functools
import importlib.util
import io
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from banet_monai.choices import EXPORTS
from banet_monai.export.checking import check_program_file, text_in_archive
from banet_monai.export.description import KEY, Description
from banet_monai.export.formats import DESCRIPTION_FILE

__all__ = [
    "ExportedNetwork",
    "OnnxNetwork",
    "OpenVinoNetwork",
    "TorchExportNetwork",
    "TorchScriptNetwork",
    "load_exported",
]

PRECISIONS = {"auto": None, "none": "f32", "bf16": "bf16", "fp16": "f16"}  # an inferer's amp in OpenVINO's words
CUDA_PROVIDER = "CUDAExecutionProvider"  # ONNX Runtime's word
OFTEN = 64  # calls with one shape, after which OpenVINO gets a program for it, in a third of a second
MOST_PROGRAMS = 4


class ExportedNetwork(nn.Module, ABC):
    """A network out of a file of ``banet export``: images in, logits out, in evaluation alone.

    Args:
        path: the file.
        description: what the file says of itself.
        task: refuse a file of another task; None takes any.
        weights: refuse a file made from other weights than these; None, or a file that is not there, asks nothing.

    Attributes:
        description: see :class:`~banet_monai.export.Description`.

    Raises:
        ValueError: when the file is of another task, version or training; in a call, for an image of another shape.

    Shapes:
        - input: ``(batch, in_channels, *spatial)``, any floating type, any device
        - output: float32 ``(batch, out_channels, *spatial)`` on the input's device
    """

    def __init__(self, path: Path, description: Description, *, task: str | None, weights: str | Path | None) -> None:
        super().__init__()
        if weights is not None and _is_same(Path(weights), path):  # as by --weights: nothing to hold it to
            weights = None
        description.require(str(path), task=task, weights=weights)
        self.path, self.description = path, description
        self.spatial_dims = description.spatial_dims
        self.in_channels, self.out_channels = description.in_channels, description.out_channels
        self.training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._check(x)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return self.compute(x.to(torch.float32))

    @abstractmethod
    def compute(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of float32 images whose shape was checked."""

    def train(self, mode: bool = True) -> ExportedNetwork:
        """Refused, unless it is ``eval()``."""
        if mode:
            raise RuntimeError(f"'{self.path}' is an exported network and cannot be trained; train the BANet it is of.")
        return self

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> NoReturn:
        """Refused: the weights are in the file."""
        raise RuntimeError(f"'{self.path}' holds its weights; for other weights export again: banet export.")

    def _check(self, x: torch.Tensor) -> None:
        wanted, least = self.description.spatial_dims + 2, self.description.min_size
        if x.ndim != wanted or x.shape[1] != self.in_channels:
            raise ValueError(
                f"'{self.path}' takes images (batch, {self.in_channels}, {', '.join(self.description.axes[2:])}), got "
                f"shape {tuple(x.shape)}."
            )
        if any(size < small for size, small in zip(x.shape[2:], least, strict=True)):
            raise ValueError(
                f"the image is too small: '{self.path}' needs at least {least} pixels per axis, got "
                f"{tuple(x.shape[2:])}; pad or enlarge it."
            )


class OnnxNetwork(ExportedNetwork):
    """An ``.onnx`` file, run by ONNX Runtime.

    Args:
        path: the file.
        task: see :class:`ExportedNetwork`.
        weights: see :class:`ExportedNetwork`.
        threads: computing threads; 0 leaves the choice to ONNX Runtime.
        device: ``"cpu"`` keeps it off the GPU; for ``"cuda"`` it computes there where this ONNX Runtime can, else on
            the CPU.
        providers: execution providers in the order of preference, instead of those that follow from ``device``.

    Raises:
        ModuleNotFoundError: when ONNX Runtime is not installed.
        FileNotFoundError: when the file is not there.
        ValueError: as for :class:`ExportedNetwork`, and for a damaged file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        task: str | None = None,
        weights: str | Path | None = None,
        threads: int = 0,
        device: str | torch.device = "cuda",
        providers: Sequence[str] | None = None,
    ) -> None:
        file = _existing(path, "onnx", package="onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        chosen = _providers(torch.device(device), onnxruntime.get_available_providers())
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=list(providers or chosen))
        except Exception as error:  # it has no public kinds of errors
            raise _damaged(file, error) from error
        text = session.get_modelmeta().custom_metadata_map.get(KEY, "")
        super().__init__(file, Description.from_json(text, origin=str(file)), task=task, weights=weights)
        self.session = session

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of float32 images."""
        (logits,) = self.session.run(None, {self.session.get_inputs()[0].name: _array(x)})
        return torch.from_numpy(logits).to(x.device)


class OpenVinoNetwork(ExportedNetwork):
    """An ``.xml`` file with its ``.bin``, run by OpenVINO.

    It takes every size. A shape that comes often gets a program of its own: in one whose shapes are all known OpenVINO
    computes more in one pass over memory, which saves a tenth of the time, and a fifth of that of a single window.

    Args:
        path: the ``.xml`` file.
        task: see :class:`ExportedNetwork`.
        weights: see :class:`ExportedNetwork`.
        threads: computing threads; 0 leaves the choice to OpenVINO.
        amp: ``"auto"`` for what OpenVINO prefers on this machine (bfloat16 where the CPU has it), ``"none"`` for
            float32, ``"bf16"`` or ``"fp16"``.
        device: OpenVINO's name of what computes: ``"CPU"``, ``"GPU"`` (Intel's), ``"NPU"``, ``"AUTO"``.

    Raises:
        ModuleNotFoundError: when OpenVINO is not installed.
        FileNotFoundError: when the file, or the ``.bin`` beside it, is not there.
        ValueError: as for :class:`ExportedNetwork`, for a damaged file and for another ``amp``.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        task: str | None = None,
        weights: str | Path | None = None,
        threads: int = 0,
        amp: str = "auto",
        device: str = "CPU",
    ) -> None:
        file = _existing(path, "openvino", package="openvino")
        if not file.with_suffix(".bin").is_file():
            raise FileNotFoundError(
                f"'{file.with_suffix('.bin')}' is missing: OpenVINO keeps the weights of '{file}' there."
            )
        if amp not in PRECISIONS:
            raise ValueError(f"amp must be one of {', '.join(PRECISIONS)}, got '{amp}'.")
        import openvino

        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if (precision := PRECISIONS[amp]) is not None:
            config["INFERENCE_PRECISION_HINT"] = precision
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            model = openvino.Core().read_model(file)
            compiled = openvino.compile_model(model, device, config)
        except RuntimeError as error:
            raise _damaged(file, error) from error
        text = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else ""
        super().__init__(file, Description.from_json(text, origin=str(file)), task=task, weights=weights)
        self.model, self.compiled = model, compiled
        self._compile = functools.partial(openvino.compile_model, device_name=device, config=config)
        self._calls, self._own = Counter[tuple[int, ...]](), dict[tuple[int, ...], Any]()
        self._lock = threading.Lock()

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of float32 images."""
        logits = self._program_for(tuple(x.shape))(_array(x), share_inputs=True)[0]
        return torch.from_numpy(np.asarray(logits, dtype=np.float32)).to(x.device)

    def _program_for(self, shape: tuple[int, ...]) -> Any:
        """What computes inputs of this shape."""
        with self._lock:
            if shape not in self._own and len(self._own) < MOST_PROGRAMS:
                self._calls[shape] += 1
                if self._calls[shape] > OFTEN:
                    model = self.model.clone()
                    model.reshape(list(shape))
                    self._own[shape] = self._compile(model)
            return self._own.get(shape, self.compiled)


class _TorchFile(ExportedNetwork):
    """A file that PyTorch itself runs, on the device of the image. Its description is read before anything else.

    Args:
        path: the file.
        task: see :class:`ExportedNetwork`.
        weights: see :class:`ExportedNetwork`.
        device: where its weights lie, and the images.

    Raises:
        FileNotFoundError: when the file is not there.
        ValueError: as for :class:`ExportedNetwork`, and for a damaged file.
    """

    format_name: str  # what ``banet export --to`` calls the format

    def __init__(
        self,
        path: str | Path,
        *,
        task: str | None = None,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        file = _existing(path, self.format_name)
        try:
            content = file.read_bytes()
            text = text_in_archive(content, DESCRIPTION_FILE)
        except Exception as error:  # of a damaged archive
            raise _damaged(file, error) from error
        super().__init__(file, Description.from_json(text, origin=str(file)), task=task, weights=weights)
        try:
            module = self._load(content)
        except Exception as error:
            raise _damaged(file, error) from error
        self.module = module.to(device)

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of float32 images."""
        logits: torch.Tensor = self.module(x)
        return logits

    @staticmethod
    @abstractmethod
    def _load(content: bytes) -> nn.Module:
        """The network in the content of a file."""


class TorchExportNetwork(_TorchFile):
    """A ``.pt2`` file of ``torch.export``, run by PyTorch on the device of the image; arguments as of its base.

    A file with more in it than tensors and a graph of known operators is refused: PyTorch would run it.
    """

    format_name = "torch-export"

    @staticmethod
    def _load(content: bytes) -> nn.Module:
        check_program_file(content)
        return torch.export.load(io.BytesIO(content)).module()


class TorchScriptNetwork(_TorchFile):
    """A ``.ts`` file of TorchScript, run by PyTorch on the device of the image; arguments as of its base."""

    format_name = "torchscript"

    @staticmethod
    def _load(content: bytes) -> nn.Module:
        return torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]


def load_exported(
    path: str | Path, *, task: str | None = None, weights: str | Path | None = None, amp: str = "auto"
) -> ExportedNetwork:
    """The network of an exported file, by its ending.

    Args:
        path: the file.
        task: see :class:`ExportedNetwork`.
        weights: see :class:`ExportedNetwork`.
        amp: see :class:`OpenVinoNetwork`; the other formats compute in float32.

    Raises:
        ValueError: for an unknown ending.
        ModuleNotFoundError: when what runs the file is not installed.
        FileNotFoundError: when the file is not there.
    """
    suffix = Path(path).suffix
    if suffix == EXPORTS["openvino"]:
        return OpenVinoNetwork(path, task=task, weights=weights, amp=amp)
    classes = {
        EXPORTS["onnx"]: OnnxNetwork,
        EXPORTS["torch-export"]: TorchExportNetwork,
        EXPORTS["torchscript"]: TorchScriptNetwork,
    }
    if suffix not in classes:
        raise ValueError(f"'{path}' ends in none of {', '.join(EXPORTS.values())}.")
    return classes[suffix](path, task=task, weights=weights)


def _existing(path: str | Path, to: str, *, package: str | None = None) -> Path:
    file = Path(path)
    if file.suffix != EXPORTS[to]:
        raise ValueError(f"a file for {to} ends in {EXPORTS[to]}, got '{file}'.")
    if package is not None and importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f'running {to} files needs {package}: pip install "banet-monai[{to}]"')
    if not file.is_file():
        raise FileNotFoundError(f"no file '{file}'; make it: banet export {file} --to {to}")
    return file


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths, however spelled, are one file that exists."""
    return one.is_file() and other.is_file() and one.samefile(other)


def _providers(device: torch.device, here: Sequence[str]) -> list[str | tuple[str, dict[str, int]]]:
    """What ONNX Runtime may compute with for a device, in the order of preference, out of what there is."""
    providers: list[str | tuple[str, dict[str, int]]] = []
    if device.type == "cuda" and CUDA_PROVIDER in here:
        number: int | None = device.index
        providers.append(CUDA_PROVIDER if number is None else (CUDA_PROVIDER, {"device_id": number}))
    return [*providers, "CPUExecutionProvider"]


def _damaged(file: Path, error: Exception) -> ValueError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ValueError(f"'{file}' cannot be read ({reason}): it is damaged or of another format; export it again.")


def _array(x: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(x.detach().cpu().numpy())
