"""Inferers: autocast on every device, sliding windows, 2D networks on volumes, and test-time augmentation.

Autocast lives here and not in the engines, because MONAI Label, exports and the zoo's checks read only the inferer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any, NamedTuple

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import ensure_tuple_rep
from tqdm import tqdm

from banet_monai.export import OptimizedBANet, optimized_form
from banet_monai.flags import as_flag, as_number
from banet_monai.machine import in_parts
from banet_monai.networks.gradients import quick_gradients
from banet_monai.windows import PADDING_MODES, Grid, Predict, blend_windows

__all__ = ["AutocastInferer", "FlipInferer", "SegmentationInferer", "autocast_dtype"]

logger = logging.getLogger(__name__)

AMP_CHOICES = ("auto", "bf16", "fp16", "none")
OUT_OF_MEMORY_WORDS = ("out of memory", "DefaultCPUAllocator", "not enough memory")


def autocast_dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """Autocast type for a device, or None for float32.

    Args:
        amp: ``"bf16"``, ``"fp16"``, ``"none"``, or ``"auto"``: bfloat16 where the device computes it natively (CUDA
            from Ampere on; CPUs with AVX512-BF16 or AMX), else none.
        device: where the input lies.

    Raises:
        ValueError: for another ``amp``.
    """
    if amp not in AMP_CHOICES:
        raise ValueError(f"amp must be one of {AMP_CHOICES}, got '{amp}'.")
    if amp == "auto":
        return torch.bfloat16 if _has_native_bf16(device) else None
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "none": None}[amp]


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public question for this
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


class AutocastInferer(Inferer):
    """One pass of the network under ``torch.autocast``, for training and for validation of whole pictures.

    Args:
        amp: see :func:`autocast_dtype`. ``"fp16"`` is for inference: training with it needs a gradient scaler.
        channels_last: hand the network its input in channels-last memory order, which convolutions prefer.

    Returns:
        In training the network's dict as it is; else float32 logits ``(B, out_channels, *spatial)``.
    """

    def __init__(self, *, amp: str = "auto", channels_last: bool = True) -> None:
        autocast_dtype(amp, torch.device("cpu"))  # refuse a bad name at once
        self.amp = amp
        self.channels_last = channels_last

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | dict[str, Any]:
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        if self.channels_last and image.ndim in (4, 5):
            image = image.to(memory_format=torch.channels_last if image.ndim == 4 else torch.channels_last_3d)
        dtype = autocast_dtype(self.amp, image.device)
        autocast = torch.autocast(image.device.type, dtype=dtype, enabled=dtype is not None)
        with autocast, quick_gradients(image.device, dtype):
            output = network(image, *args, **kwargs)
        return output.float() if isinstance(output, torch.Tensor) else output


class SegmentationInferer(Inferer):
    """Logits for pictures and volumes of any size, with a 2D or a 3D network.

    =====================  ==================================  ==========================
    input                  2D network                          3D network
    =====================  ==================================  ==========================
    ``(B, C, H, W)``       square windows                      ValueError
    ``(B, C, H, W, 1)``    as a picture; the last axis stays   ValueError
    ``(B, C, H, W, D)``    slices along D, batched             windows in all three axes
    =====================  ==================================  ==========================

    Windows overlap and are blended as in MONAI's ``SlidingWindowInferer`` and ``SliceInferer``, with less work around
    the network (:mod:`banet_monai.windows`); an input of exactly ``roi_size`` is one plain pass; a smaller one is
    padded. When memory runs out, the batch is halved, with a warning, and the work goes on from there.

    A network in training mode keeps its dropout, as MONAI Label's epistemic scoring wants it, and nothing else of that
    mode: it normalises with what it learned, not with the windows at hand, and is left as it came.

    Args:
        spatial_dims: 2 or 3, the network's.
        roi_size: window in pixels or voxels, one number or one per axis.
        sw_batch_size: windows, or slices, per pass of the network; images of exactly a window go through as they were
            batched.
        overlap: share of a window that the next one covers, 0 <= overlap < 1.
        mode: ``"gaussian"`` or ``"constant"`` blending.
        padding_mode: what lies beside an input that is smaller than a window: ``"constant"`` (zeros), ``"reflect"``,
            ``"replicate"`` or ``"circular"``.
        amp: see :func:`autocast_dtype`.
        sw_device: where the network runs. None: where the input lies.
        device: where windows are stitched and the result lies, for example ``"cpu"`` for large volumes. None: where the
            input lies.
        channels_last: hand the network its input in channels-last memory order.
        optimize: compute with the fast form of a BA-Net in evaluation (:func:`banet_monai.export.optimized_form`), made
            at the first call. In float32 the logits differ by rounding alone.
        progress: show a progress bar.

    Returns:
        float32 logits ``(B, out_channels, *spatial)`` of the input's size; a ``MetaTensor`` if the input is one.

    Raises:
        ValueError: when the input's rank does not fit the network, or an option is out of range.
        RuntimeError: when memory does not suffice for a single window.
    """

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        roi_size: int | Sequence[int],
        sw_batch_size: int = 8,
        overlap: float = 0.5,
        mode: str = "gaussian",
        padding_mode: str = "constant",
        amp: str = "auto",
        sw_device: str | torch.device | None = None,
        device: str | torch.device | None = None,
        channels_last: bool = True,
        optimize: bool | str = True,
        progress: bool = False,
    ) -> None:
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        overlap, sw_batch_size = as_number(overlap, "overlap"), int(as_number(sw_batch_size, "sw_batch_size"))
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be at least 0 and below 1, got {overlap}.")
        if sw_batch_size < 1:
            raise ValueError(f"sw_batch_size must be at least 1, got {sw_batch_size}.")
        if mode not in ("gaussian", "constant"):
            raise ValueError(f"mode must be 'gaussian' or 'constant', got '{mode}'.")
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, got '{padding_mode}'.")
        self.spatial_dims = spatial_dims
        self.roi_size = ensure_tuple_rep(roi_size, spatial_dims)
        self.sw_batch_size = sw_batch_size
        self.grid = Grid(self.roi_size, overlap, mode, padding_mode)
        self.sw_device = None if sw_device is None else torch.device(sw_device)
        self.device = None if device is None else torch.device(device)
        self.optimize = as_flag(optimize, "optimize")
        self.progress = progress
        self.single_pass = AutocastInferer(amp=amp, channels_last=channels_last)

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        rank = image.ndim - 2
        if rank not in (2, 3) or (self.spatial_dims == 3 and (rank == 2 or image.shape[-1] == 1)):
            raise ValueError(
                f"a network with spatial_dims={self.spatial_dims} cannot take an input of shape {tuple(image.shape)}; "
                "(B, C, H, W, D > 1) works for both, pictures need spatial_dims=2."
            )

        def predict(windows: torch.Tensor) -> torch.Tensor:
            return self._pass(windows, network, *args, **kwargs)

        with _dropout_alone(network):
            if self.optimize:
                dtype = autocast_dtype(self.single_pass.amp, self.sw_device or image.device)
                network = optimized_form(network, dtype or torch.float32)
            if rank == self.spatial_dims:
                single = tuple(image.shape[2:]) == tuple(self.roi_size)
                batch = max(self.sw_batch_size, len(image)) if single else self.sw_batch_size
                logits, _ = self._with_smaller_batches(image, predict, batch)
            elif image.shape[-1] == 1:
                logits, _ = self._with_smaller_batches(image[..., 0], predict, self.sw_batch_size)
                logits = logits[..., None]
            else:
                logits = self._slices(image, predict)
        if isinstance(inputs, MetaTensor):
            return MetaTensor(logits).copy_meta_from(inputs, copy_attr=False)  # type: ignore[no-untyped-call]
        return logits

    def _pass(self, windows: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Logits of one batch; the fast form treats every window alike, so that the cores may share the windows."""

        def logits(part: torch.Tensor) -> torch.Tensor:
            output = self.single_pass(part, network, *args, **kwargs)
            return output["mask"].float() if isinstance(output, dict) else output

        share = isinstance(network, OptimizedBANet) and not network.compiled
        return in_parts(logits, windows) if share else logits(windows)

    def _slices(self, volumes: torch.Tensor, predict: Predict) -> torch.Tensor:
        """``(B, C, H, W, D)`` through a 2D network, a few slices at a time: only these are copied."""
        chunk, result, depth = self.sw_batch_size, None, volumes.shape[-1]
        with tqdm(total=len(volumes) * depth, unit="slice", disable=not self.progress) as bar:
            for number, volume in enumerate(volumes):
                start = 0
                while start < depth:
                    slices = volume[..., start : start + chunk].movedim(-1, 0)  # (chunk, C, H, W)
                    if slices.stride(0) == 1:  # the pixels of a slice lie apart: gathered once, not for every window
                        slices = slices.contiguous()
                    # the chunk that was found to fit is kept for the slices that follow
                    logits, chunk = self._with_smaller_batches(slices, predict, chunk)
                    if result is None:
                        result = logits.new_empty((len(volumes), depth, *logits.shape[1:])).movedim(1, -1)
                    result[number, ..., start : start + len(logits)] = logits.movedim(0, -1)
                    start += len(logits)
                    bar.update(len(logits))
        if result is None:
            raise ValueError(f"the input of shape {tuple(volumes.shape)} holds no slice.")
        return result

    def _with_smaller_batches(self, images: torch.Tensor, predict: Predict, batch: int) -> tuple[torch.Tensor, int]:
        """Logits of ``images`` and the batch that fitted into memory."""
        while True:
            try:
                logits = blend_windows(
                    images,
                    predict,
                    grid=self.grid,
                    batch=batch,
                    sw_device=self.sw_device,
                    device=self.device,
                    progress=self.progress and images.ndim - 2 == self.spatial_dims,
                )
                return logits, batch
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                if batch == 1:
                    raise RuntimeError(
                        f"out of memory with a single window of {self.roi_size} of an input of "
                        f"{tuple(images.shape)}; a smaller roi_size, device='cpu' for stitching, or amp would help."
                    ) from error
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            logger.warning("out of memory with %d windows at a time, going on with %d.", batch, batch // 2)
            batch //= 2


@contextmanager
def _dropout_alone(network: Callable[..., Any]) -> Iterator[None]:
    """Within it, only the dropout of a network in training mode trains; a network in eval mode stays as it is.

    A method of a network, such as ``boundary_map``, counts as the network.
    """
    owner = getattr(network, "__self__", network)
    training = [m for m in owner.modules() if m.training] if isinstance(owner, torch.nn.Module) else []
    for module in training:
        module.training = isinstance(module, torch.nn.modules.dropout._DropoutNd)
    try:
        yield
    finally:
        for module in training:
            module.training = True


class _View(NamedTuple):
    """A mirror image or quarter turn: first and second spatial axis swapped or not, then some spatial axes flipped."""

    swapped: bool
    flipped: tuple[int, ...]

    def apply(self, image: torch.Tensor) -> torch.Tensor:
        image = image.transpose(2, 3) if self.swapped else image
        return image.flip([2 + axis for axis in self.flipped]) if self.flipped else image

    def undo(self, image: torch.Tensor) -> torch.Tensor:
        image = image.flip([2 + axis for axis in self.flipped]) if self.flipped else image
        return image.transpose(2, 3) if self.swapped else image


class FlipInferer(Inferer):
    """Test-time augmentation: the mean of another inferer's logits over exact flips and quarter turns.

    Nothing is interpolated. The mean is a running one, so memory holds one result beside the one being made, however
    many views there are.

    Args:
        inferer: gives logits ``(B, out_channels, *spatial)`` for an image ``(B, C, *spatial)``.
        flip_axes: spatial axes that are flipped, in all combinations: 0 and 1 lie in the plane of a picture or slice, 2
            is the third axis of a volume.
        quarter_turns: also turn by 90, 180 and 270 degrees in the plane of axes 0 and 1. With both of them flipped that
            makes 8 views; without flips 4.
        enabled: False hands every image to ``inferer`` alone, so that a configuration can hold the switch.

    Returns:
        What ``inferer`` returns, averaged; a ``MetaTensor`` if the input is one.

    Raises:
        ValueError: when ``flip_axes`` are not among 0, 1, 2 or the input has fewer axes.
        TypeError: when the inferer returns no tensor.
    """

    def __init__(
        self,
        inferer: Callable[..., Any],
        *,
        flip_axes: Sequence[int] = (0, 1),
        quarter_turns: bool = True,
        enabled: bool | str = True,
    ) -> None:
        if not set(flip_axes) <= {0, 1, 2} or len(set(flip_axes)) < len(flip_axes):
            raise ValueError(f"flip_axes must be different spatial axes out of 0, 1, 2, got {tuple(flip_axes)}.")
        self.inferer = inferer
        self.enabled = as_flag(enabled, "enabled")
        self.views = _distinct_views(flip_axes, quarter_turns)
        self.rank = max(1, *flip_axes, 0) + 1  # spatial axes that an input must have

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        if not self.enabled:
            return self.inferer(inputs, network, *args, **kwargs)
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        mean: torch.Tensor | None = None
        for number, logits in enumerate(self.predictions(image, network, *args, **kwargs), start=1):
            mean = logits.clone() if mean is None else mean.add_((logits - mean).div_(number))
        if isinstance(inputs, MetaTensor):
            return MetaTensor(mean).copy_meta_from(inputs, copy_attr=False)  # type: ignore[no-untyped-call]
        return torch.as_tensor(mean)

    def predictions(
        self, image: torch.Tensor, network: Callable[..., Any], *args: Any, at_most: int | None = None, **kwargs: Any
    ) -> Iterator[torch.Tensor]:
        """The inferer's logits of an image in one view after the other, the plain one first, each turned back.

        The arguments are those of a call, and ``at_most``, the number of views.
        """
        if image.ndim - 2 < self.rank:
            raise ValueError(
                f"an input of shape {tuple(image.shape)} cannot be flipped along spatial axis {self.rank - 1}; "
                "flip_axes=(0, 1) works for pictures and volumes."
            )
        for view in self.views[:at_most]:
            logits = self.inferer(view.apply(image), network, *args, **kwargs)
            if not isinstance(logits, torch.Tensor):
                raise TypeError(f"the inferer must return a tensor of logits, got {type(logits).__name__}.")
            yield view.undo(logits)


def _distinct_views(flip_axes: Sequence[int], quarter_turns: bool) -> tuple[_View, ...]:
    """Every combination of flips with every turn, the plain view first, none twice."""
    turns = [(False, set()), (True, {0}), (False, {0, 1}), (True, {1})] if quarter_turns else [(False, set())]
    flips = [set(axes) for count in range(len(flip_axes) + 1) for axes in combinations(sorted(flip_axes), count)]
    # A flip after a turn: axes that both flip come back.
    views = [_View(swapped, tuple(sorted(turned ^ flipped))) for swapped, turned in turns for flipped in flips]
    return tuple(dict.fromkeys(views))


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
