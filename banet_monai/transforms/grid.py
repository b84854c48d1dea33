"""From the grid of a file to the grid of the network, and back.

Coordinates are pixel centres with half-pixel resampling (``align_corners=False``): pixel ``i`` of an axis resized from
``n`` to ``m`` lies at ``(i + 0.5) * n / m - 0.5`` of the original axis, and the affine says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaObj, MetaTensor
from monai.data.utils import affine_to_spacing, to_affine_nd
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys, ensure_tuple
from numpy.typing import NDArray

from banet_monai.flags import as_number, as_whole

__all__ = ["GridPlan", "RestoreGridd", "ToWorkingGridd", "resize_labels", "resize_linear"]

SCALES = ("short_side", "stretch", "native", "spacing")
SLICES_AT_ONCE = 16  # of a volume that is resized
SPACING_TIE = 0.01  # spacings within 1 % of the largest count as equal: headers round


def resize_linear(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Linear resampling of ``(C, *spatial)`` to ``size``, antialiased where an axis shrinks; 2 or 3 spatial axes.

    Three axes are done in two separable passes, slices batched. Integers come back as float32. The memory order of a
    volume may differ from that of its axes.
    """
    size = [int(length) for length in size]
    if list(image.shape[1:]) == size:
        return image
    image = image if image.is_floating_point() else image.float()
    if len(size) == 2:
        return _resize_plane(image[None], size)[0]
    if list(image.shape[1:3]) != size[:2]:
        image = _resize_slices(image, size[:2])
    if image.shape[3] != size[2]:
        image = _interpolate(image.contiguous(), [image.shape[2], size[2]])  # (C, H, W, D): H as channels
    return image


def _resize_slices(volume: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """``(C, X, Y, D)`` in its first two axes, a few slices at a time, which is faster than all of them at once.

    In memory the slices of the result lie one after the other and x runs fastest, as NIfTI stores it: whoever computes
    or writes slice by slice then finds each in one piece.
    """
    depth = volume.shape[3]
    result = volume.new_empty((depth, volume.shape[0], size[1], size[0]))
    for start in range(0, depth, SLICES_AT_ONCE):
        part = volume[..., start : start + SLICES_AT_ONCE].permute(3, 0, 2, 1).contiguous()
        result[start : start + SLICES_AT_ONCE] = _interpolate(part, [size[1], size[0]])
    return result.permute(1, 3, 2, 0)


def _resize_plane(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """``(N, C, X, Y)``, always as a file has it, x fastest: in another memory order the last digits would differ."""
    return _interpolate(image.transpose(2, 3).contiguous(), [size[1], size[0]]).transpose(2, 3)


def _interpolate(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    shrinks = any(new < old for new, old in zip(size, image.shape[2:], strict=True))  # else there is nothing to smooth
    return F.interpolate(image, size=list(size), mode="bilinear", align_corners=False, antialias=shrinks)


def resize_labels(labels: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Label ids ``(1, *spatial)`` to ``size``: every id is resampled as a map of its own and the largest share wins.

    For one class this is antialiased resampling with a threshold at one half: outlines move by less than with nearest
    neighbours, which drop or double whole rows. Ties go to the lower id. Keeps the type.
    """
    if list(labels.shape[1:]) == [int(length) for length in size]:
        return labels
    ids = torch.unique(labels)
    result = torch.full((labels.shape[0], *[int(length) for length in size]), ids[0].item(), dtype=labels.dtype)
    result = result.to(labels.device)
    if len(ids) == 1:
        return result
    share = resize_linear((labels == ids[0]).float(), size)
    for label in ids[1:]:
        candidate = resize_linear((labels == label).float(), size)
        wins = candidate > share
        result[wins] = label
        share = torch.where(wins, candidate, share)
    return result


@dataclass(frozen=True)
class GridPlan:
    """How one image gets to its working grid; plain numbers, so that it survives collation and pickling.

    Attributes:
        original_shape: spatial shape of the file.
        squeezed: whether an axis of one, the one that ``order`` lacks, was taken off.
        order: spatial axes of the original, in working order.
        flipped: working axes that run backwards.
        working_shape: spatial shape on the working grid.
    """

    original_shape: tuple[int, ...]
    squeezed: bool
    order: tuple[int, ...]
    flipped: tuple[int, ...]
    working_shape: tuple[int, ...]

    def forward(self, image: torch.Tensor, *, is_label: bool = False) -> torch.Tensor:
        """``(C, *original_shape)`` to ``(C, *working_shape)``."""
        image = image.permute(0, *[axis + 1 for axis in self._all_axes()])
        image = image[..., 0] if self.squeezed else image
        image = image.flip([axis + 1 for axis in self.flipped]) if self.flipped else image
        return (resize_labels if is_label else resize_linear)(image, self.working_shape)

    def backward(self, image: torch.Tensor, *, is_label: bool = False) -> torch.Tensor:
        """``(C, *working_shape)`` to ``(C, *original_shape)``."""
        size = [self.original_shape[axis] for axis in self.order]
        image = (resize_labels if is_label else resize_linear)(image, size)
        image = image.flip([axis + 1 for axis in self.flipped]) if self.flipped else image
        image = image[..., None] if self.squeezed else image
        axes = self._all_axes()
        return image.permute(0, *[axes.index(axis) + 1 for axis in range(len(axes))])

    def working_affine(self, affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Affine (4x4, voxel to world) of the working grid, from that of the original grid."""
        step = np.eye(4)
        axes = self._all_axes()
        step[: len(axes), : len(axes)] = 0.0
        for working, (original, new) in enumerate(zip(axes, (*self.working_shape, 1), strict=False)):
            old = self.original_shape[original]
            factor = old / new
            sign = -1.0 if working in self.flipped else 1.0
            step[original, working] = sign * factor
            step[original, 3] = 0.5 * factor - 0.5 if sign > 0 else old - 0.5 - 0.5 * factor
        return affine @ step

    def _all_axes(self) -> tuple[int, ...]:
        """The axes of the original in working order, one that is taken off last."""
        return (*self.order, *(axis for axis in range(len(self.original_shape)) if axis not in self.order))


class ToWorkingGridd(MapTransform, InvertibleTransform):
    """Bring images and masks to the grid that the network works on; exactly undone by :class:`RestoreGridd`.

    The rank after loading decides, never the file type:

    ==================  ====================================  =======================================
    image               2D network                            3D network
    ==================  ====================================  =======================================
    ``(C, H, W)``       picture, by ``scale``                 ValueError
    ``(C, H, W, 1)``    picture; the axis of one comes back   ValueError
    ``(C, H, W, D>1)``  slice axis last, ``scale`` in plane   volume, ``native`` or ``spacing``
    ==================  ====================================  =======================================

    The axis of one may be any of the three.

    Args:
        keys: the image first; masks that lie on the same grid after it.
        scale: ``"short_side"`` (aspect kept, short side to ``image_size``), ``"stretch"`` (both sides to
            ``image_size``), ``"native"`` (no resize), ``"spacing"`` (to ``spacing`` in mm).
        image_size: side in pixels, for ``"short_side"`` and ``"stretch"`` (there also two numbers, x and y).
        spacing: in mm: one number or one per resized axis (two in plane for a 2D network, three for a 3D network).
        spatial_dims: 2 or 3, the network's.
        slice_axis: axis of the file that a 2D network slices a volume along. None: that of the largest spacing; among
            equal ones the axis closest to the third of RAS (feet to head).
        orientation: axis codes such as ``"RAS"`` that volumes are turned to (axes swapped and flipped, never
            interpolated) for a 3D network. None: as stored.
        label_keys: the keys that hold label ids.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: when an image does not fit the table above, has no spacing in mm for ``"spacing"``, or a mask has
            another size than the image.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image",),
        *,
        scale: str = "short_side",
        image_size: int | Sequence[int] = 256,
        spacing: float | Sequence[float] | None = None,
        spatial_dims: int = 2,
        slice_axis: int | None = None,
        orientation: str | None = None,
        label_keys: KeysCollection = ("label",),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {SCALES}, got '{scale}'.")
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        if spatial_dims == 3 and scale not in ("native", "spacing"):
            raise ValueError(f"a 3D network needs scale 'native' or 'spacing', got '{scale}'.")
        if scale == "spacing" and spacing is None:
            raise ValueError("scale 'spacing' needs spacing in mm, one number or one per axis.")
        if slice_axis not in (None, 0, 1, 2):
            raise ValueError(f"slice_axis must be 0, 1, 2 or None, got {slice_axis}.")
        if scale == "short_side" and isinstance(image_size, list | tuple):
            raise ValueError(f"scale 'short_side' needs one image_size, got {tuple(image_size)}.")
        self.scale = scale
        sides = image_size if isinstance(image_size, list | tuple) else (image_size,) * 2
        self.image_size = tuple(as_whole(side, "image_size") for side in sides)
        if len(self.image_size) != 2:
            raise ValueError(f"image_size must be one number of pixels, or 2, got {image_size}.")
        self.spacing = None if spacing is None else _positive(spacing, spatial_dims)
        self.spatial_dims = spatial_dims
        self.slice_axis = slice_axis
        self.orientation = orientation
        self.label_keys = ensure_tuple(label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        plan: GridPlan | None = None
        for key in self.key_iterator(d):
            image = d[key] if isinstance(d[key], MetaTensor) else MetaTensor(d[key])
            plan = plan or self.plan(image)
            if key in self.label_keys:
                image = _as_plane_of(image, plan.original_shape)
            if tuple(image.shape[1:]) != plan.original_shape:
                raise ValueError(
                    f"'{_file_name(image)}' ({key}) is {tuple(image.shape[1:])}, but {self.keys[0]} is "
                    f"{plan.original_shape}; both must lie on the same grid."
                )
            d[key] = self._apply(image, plan, is_label=key in self.label_keys)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            record = self.pop_transform(d[key])[TraceKeys.EXTRA_INFO]
            d[key] = _restore(d[key], record, d[key], is_label=key in self.label_keys)
        return d

    def plan(self, image: MetaTensor) -> GridPlan:
        """The plan for one channel-first image."""
        shape = tuple(int(size) for size in image.shape[1:])
        is_picture = len(shape) == 2 or 1 in shape
        if len(shape) not in (2, 3):
            raise ValueError(f"'{_file_name(image)}' has the shape {tuple(image.shape)}; (C, H, W[, D]) is needed.")
        if is_picture and self.spatial_dims == 3:
            raise ValueError(
                f"'{_file_name(image)}' is a picture of {shape}; spatial_dims=3 needs a volume with more "
                "than one slice."
            )
        affine = _affine(image)
        spacing = affine_to_spacing(affine, r=3)
        order: tuple[int, ...]
        flipped: tuple[int, ...] = ()
        if is_picture:
            single = max(axis for axis in range(len(shape)) if shape[axis] == 1) if len(shape) == 3 else None
            order = tuple(axis for axis in range(len(shape)) if axis != single)
        elif self.spatial_dims == 2:
            last = _slice_axis(affine, spacing, image) if self.slice_axis is None else self.slice_axis
            order = (*[axis for axis in range(3) if axis != last], last)
        else:
            order, flipped = _to_orientation(affine, self.orientation)
        size = [shape[axis] for axis in order]
        resized = self._resized(size[: self.spatial_dims], [float(spacing[axis]) for axis in order], image)
        return GridPlan(shape, is_picture and len(shape) == 3, order, flipped, (*resized, *size[self.spatial_dims :]))

    def _resized(self, size: Sequence[int], spacing: Sequence[float], image: MetaTensor) -> list[int]:
        if self.scale == "native":
            return list(size)
        if self.scale == "stretch":
            return list(self.image_size)
        if self.scale == "short_side":
            short = min(size)
            return [max(1, round(length * self.image_size[0] / short)) for length in size]
        if image.meta.get("spacing_unit", "mm") != "mm":
            raise ValueError(
                f"'{_file_name(image)}' has no pixel spacing in mm, which scale 'spacing' needs; use 'short_side', "
                "'stretch' or 'native'."
            )
        targets = ensure_tuple(self.spacing)
        return [max(1, round(n * old / new)) for n, old, new in zip(size, spacing, targets, strict=False)]

    def _apply(self, image: MetaTensor, plan: GridPlan, *, is_label: bool) -> MetaTensor:
        original = _affine(image)
        record = {"plan": asdict(plan), "affine": original.tolist()}
        result = MetaTensor(
            _in_one_piece(plan.forward(image.as_tensor(), is_label=is_label), self.spatial_dims),
            meta=_copied(image.meta),
            applied_operations=list(image.applied_operations),
        )
        result.affine = torch.from_numpy(plan.working_affine(original))
        self.push_transform(result, extra_info=record, orig_size=plan.original_shape)  # type: ignore[no-untyped-call]
        return result


def _as_plane_of(mask: MetaTensor, shape: tuple[int, ...]) -> MetaTensor:
    """A mask with the last axis of one that its image has, or without it: annotation tools write planes either way."""
    size = tuple(mask.shape[1:])
    if size == (*shape, 1):
        return mask[..., 0]  # type: ignore[return-value]
    return mask[..., None] if (*size, 1) == shape else mask  # type: ignore[return-value]


class RestoreGridd(MapTransform):
    """Put predictions back on the grid of their image: shape, axis order, affine and meta of the file.

    Probabilities are resampled linearly; threshold them afterwards. Reads the record that :class:`ToWorkingGridd` left
    on the image, so it needs neither that transform nor its configuration. A prediction without such a record stays.

    Args:
        keys: keys of predictions ``(C, *working_shape)``.
        reference: key of the image on its working grid.
        is_label: whether the predictions are label ids instead of probabilities.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        *,
        reference: str = "image",
        is_label: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference = reference
        self.is_label = is_label

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        image = d.get(self.reference)
        if not isinstance(image, MetaTensor):
            return d
        records = [op for op in image.applied_operations if op.get(TraceKeys.CLASS_NAME) == ToWorkingGridd.__name__]
        if not records:
            return d
        for key in self.key_iterator(d):
            d[key] = _restore(d[key], records[-1][TraceKeys.EXTRA_INFO], image, is_label=self.is_label)
        return d


def _restore(pred: torch.Tensor, record: Mapping[str, Any], image: MetaTensor, *, is_label: bool) -> MetaTensor:
    plan = GridPlan(**{name: _as_plain(value) for name, value in record["plan"].items()})
    values = pred.as_tensor() if isinstance(pred, MetaTensor) else pred
    if tuple(values.shape[1:]) != plan.working_shape:
        raise ValueError(
            f"the prediction for '{_file_name(image)}' is {tuple(values.shape[1:])}, but its image was resampled to "
            f"{plan.working_shape}; both must lie on the same grid."
        )
    restored = MetaTensor(plan.backward(values, is_label=is_label), meta=_copied(image.meta))
    restored.affine = torch.tensor(np.asarray(record["affine"], dtype=np.float64))
    return restored


def _copied(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Meta data whose entries can be changed without the others knowing; MONAI copies them so from image to image."""
    return {name: MetaObj.copy_items(value) for name, value in meta.items()}  # type: ignore[no-untyped-call]


def _in_one_piece(image: torch.Tensor, spatial_dims: int) -> torch.Tensor:
    """In the order of its axes in memory, but for volumes that are worked on slice by slice, which stay as they lie."""
    return image if spatial_dims == 2 and image.ndim == 4 else image.contiguous()


def _as_plain(value: Any) -> Any:
    return bool(value) if isinstance(value, bool) else tuple(int(item) for item in value)


def _affine(image: MetaTensor) -> NDArray[np.float64]:
    return np.asarray(to_affine_nd(3, image.affine.cpu().numpy().astype(np.float64)), dtype=np.float64)


def _slice_axis(affine: NDArray[np.float64], spacing: NDArray[np.float64], image: MetaTensor) -> int:
    """Axis of the largest spacing; among equal ones the axis closest to the third of RAS, if it is one of them.

    Frames, and slices that form no volume, lie along the last axis whatever the numbers of their affine.
    """
    if image.meta.get("layout") in ("frames", "slices"):
        return 2
    largest = [axis for axis in range(3) if spacing[axis] >= (1 - SPACING_TIE) * max(spacing)]
    directions = np.abs(affine[2, :3] / spacing)
    return max(largest, key=lambda axis: directions[axis])


def _to_orientation(affine: NDArray[np.float64], orientation: str | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axis order and working axes to flip, so that the volume has the axis codes of ``orientation``."""
    if orientation is None:
        return (0, 1, 2), ()
    stored = nibabel.orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    wanted = nibabel.orientations.axcodes2ornt(tuple(orientation))  # type: ignore[no-untyped-call]
    turn = nibabel.orientations.ornt_transform(stored, wanted)  # type: ignore[no-untyped-call]
    order = tuple(int(np.flatnonzero(turn[:, 0] == working)[0]) for working in range(3))
    return order, tuple(working for working in range(3) if turn[order[working], 1] < 0)


def _positive(spacing: float | Sequence[float], count: int) -> tuple[float, ...]:
    steps: Sequence[Any] = spacing if isinstance(spacing, list | tuple) else [spacing] * count
    numbers = tuple(as_number(step, "spacing") for step in steps)
    if len(numbers) != count or min(numbers) <= 0:
        raise ValueError(f"spacing must be one positive number of mm, or {count}, got {spacing}.")
    return numbers


def _file_name(image: torch.Tensor) -> str:
    return Path(str(image.meta.get("filename_or_obj", "image"))).name if isinstance(image, MetaTensor) else "image"
