"""From a file to a channel-first tensor: pictures, NIfTI and DICOM, each with one reader and never a second guess.

Spatial axes are MONAI's: a picture is ``(W, H)`` or ``(W, H, C)`` when the reader returns it (x before y, as
``monai.data.PILReader`` gives it), and ``(C, W, H)`` after :class:`LoadCased`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection, PathLike
from monai.data import ImageReader, MetaTensor, get_track_meta
from monai.transforms import LoadImage, LoadImaged, MapTransform
from monai.utils import MetaKeys, PostFix, SpaceKeys, ensure_tuple
from numpy.typing import NDArray

from banet_monai.dicom import SeriesReader
from banet_monai.dicom.parsing import looks_like_dicom
from banet_monai.transforms.pictures import (
    MAX_PIXELS,
    PICTURE_SUFFIXES,
    UNKNOWN_RANGE,
    PictureReader,
    require_content,
)

__all__ = ["LoadCased", "NiftiReader", "kind_of_file"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
PICTURE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")  # PNG, JPEG, TIFF, TIFF, BMP
NIFTI_MAGIC = (b"n+1", b"ni1")  # at byte 344 of the header


@dataclass(frozen=True)
class _Volume:
    """A decoded NIfTI: ``values`` as stored, scaled, ``(x, y[, z[, channel]])``; colour is a last axis of three."""

    values: NDArray[Any]
    header: Any
    scaled: bool
    affine: NDArray[np.float64]


class NiftiReader(ImageReader):
    """NIfTI through nibabel, in stored orientation, with the value range that the stored type implies.

    Args:
        in_channels: channels of the network. A fourth axis must have this many entries or one; None takes any.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: naming the file, when it is empty, truncated, no NIfTI, holds NaN, or has a fourth axis that is not
            the network's channels.

    Meta:
        ``affine`` and ``original_affine`` voxel to RAS; ``has_place`` whether the header says where that is;
        ``spacing_unit`` ``"mm"`` unless the header says otherwise;
        ``bits`` and ``value_range``: 8 and ``(0, 255)`` for uint8 and RGB, 16 and ``(0, 65535)`` for uint16, where they
        are unscaled; else the range is two nan (unknown). The header's free text is left out: it may name a patient.
    """

    def __init__(self, *, in_channels: int | None = None) -> None:
        super().__init__()
        self.in_channels = in_channels

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return all(str(name).lower().endswith(NIFTI_SUFFIXES) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> _Volume:
        names = ensure_tuple(data)
        if len(names) != 1:
            raise ValueError(f"NIfTI volumes are read one at a time, got {len(names)} files; give one record each.")
        path = Path(str(names[0]))
        require_content(path)
        try:
            image: Any = _open_nifti(path)
            values = np.asanyarray(image.dataobj)
        except Exception as error:  # nibabel raises many kinds: ImageFileError, EOFError, zlib.error, OSError, ...
            raise ValueError(
                f"'{path.name}' is truncated, corrupt or no NIfTI ({type(error).__name__}); copy it anew or convert "
                "it again."
            ) from error
        if values.dtype.names:  # RGB24 and RGBA32: one structured value per voxel
            values = np.stack([values[name] for name in ("R", "G", "B")], axis=-1)
            values = values[:, :, None] if values.ndim == 3 else values  # (x, y, 3) would pass for a volume
        if values.ndim == 5 and values.shape[3] == 1:  # a vector image: (x, y, z, 1, channel)
            values = values[:, :, :, 0]
        self._check(values, path.name)
        if not np.isfinite(image.affine).all():
            raise ValueError(f"'{path.name}' states a place or spacing that is NaN or infinite; repair its header.")
        slope, intercept = getattr(image.dataobj, "slope", 1.0), getattr(image.dataobj, "inter", 0.0)
        scaled = (float(slope), float(intercept)) != (1.0, 0.0)
        return _Volume(values, image.header, scaled, np.asarray(image.affine, dtype=np.float64))

    def get_data(self, img: _Volume) -> tuple[NDArray[Any], dict[str, Any]]:
        header = img.header
        stored = header.get_data_dtype()
        bits, value_range = stored.itemsize * 8, UNKNOWN_RANGE
        if not img.scaled:
            if stored == np.uint8 or stored.names:
                bits, value_range = 8, (0.0, 255.0)
            elif stored == np.uint16:
                bits, value_range = 16, (0.0, 65535.0)
        unit = header.get_xyzt_units()[0]
        meta = {
            "bits": bits,
            "value_range": value_range,
            "spacing_unit": "mm" if unit == "unknown" else unit,
            "has_place": bool(header["sform_code"] or header["qform_code"]),
            "affine": img.affine.copy(),
            "original_affine": img.affine.copy(),
            "space": SpaceKeys.RAS,
            "spatial_shape": np.asarray(img.values.shape[:3]),
            "original_channel_dim": -1 if img.values.ndim > 3 else float("nan"),
            "sform_code": int(header["sform_code"]),
            "qform_code": int(header["qform_code"]),
        }
        return img.values, meta

    def _check(self, values: NDArray[Any], name: str) -> None:
        if sum(size > 1 for size in values.shape[:3]) < 2:
            raise ValueError(f"'{name}' has the shape {values.shape}; at least two axes with two pixels are needed.")
        if values.dtype.kind not in "biuf":
            raise ValueError(f"'{name}' holds values of type {values.dtype}; integers, floats or RGB are needed.")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"'{name}' holds NaN or infinite values; replace them (for example by 0) before use.")
        if values.ndim > 4:
            raise ValueError(f"'{name}' has the shape {values.shape}; (x, y, z) or (x, y, z, channel) is needed.")
        if values.ndim == 4 and self.in_channels is not None and values.shape[3] not in (1, self.in_channels):
            raise ValueError(
                f"'{name}' has the shape {values.shape}: its last axis has {values.shape[3]} entries, but the network "
                f"takes {self.in_channels} channels; give one 3D volume per file, or {self.in_channels} channels."
            )


def _open_nifti(path: Path) -> Any:
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return nibabel.load(path)
    return nibabel.Nifti1Image.from_bytes(path.read_bytes())  # nibabel goes by the suffix alone


class _LoadCase(LoadImage):
    """``LoadImage`` with exactly one reader per kind of file; returns channel-first float32."""

    def __init__(
        self,
        *,
        in_channels: int | None,
        dicom_reader: SeriesReader | None = None,
        max_pixels: float | str | None = MAX_PIXELS,
        image_only: bool,
        dtype: DtypeLike,
    ) -> None:
        # LoadImage.__init__ would build every reader that MONAI knows; here none may step in.
        self.readers: list[ImageReader] = []
        self.auto_select = False
        self.image_only = image_only
        self.dtype = dtype
        self.in_channels = in_channels
        self.dicom_reader = dicom_reader or SeriesReader()
        self.picture_reader = PictureReader(max_pixels=max_pixels)
        self.mask_reader = PictureReader(keep_palette=True, max_pixels=max_pixels)

    def __call__(self, filename: Sequence[PathLike] | PathLike, reader: ImageReader | None = None) -> Any:
        return self.load(filename, reader, is_label=False)

    def load(
        self, filename: Sequence[PathLike] | PathLike, reader: ImageReader | None, *, is_label: bool
    ) -> MetaTensor | tuple[MetaTensor, dict[str, Any]]:
        names = tuple(str(Path(str(name)).expanduser()) for name in ensure_tuple(filename))
        kind = "dicom" if len(names) > 1 or Path(names[0]).is_dir() else kind_of_file(Path(names[0]))
        chosen = reader or self._reader_of(kind, is_label=is_label)
        array, meta = chosen.get_data(chosen.read(names if len(names) > 1 else names[0]))
        channel = meta.get("original_channel_dim", float("nan"))
        array = array[None] if np.isnan(channel) else np.moveaxis(array, int(channel), 0)
        array = _converted(array, np.dtype(self.dtype))
        if is_label:
            array = _single_channel_mask(array)
        meta["original_channel_dim"] = 0  # channel-first already: EnsureChannelFirstd leaves it alone
        meta["filename_or_obj"] = names[0]
        meta["kind"] = kind
        image = MetaTensor(torch.from_numpy(array), meta=meta if get_track_meta() else None)
        return image if self.image_only else (image, image.meta)

    def _reader_of(self, kind: str, *, is_label: bool) -> ImageReader:
        if kind == "picture":
            return self.mask_reader if is_label else self.picture_reader
        if kind == "nifti":
            return NiftiReader(in_channels=None if is_label else self.in_channels)
        return SeriesReader() if is_label else self.dicom_reader


class LoadCased(LoadImaged):
    """Load pictures, NIfTI and DICOM as channel-first float32, each through its own reader.

    The kind follows from the record: a list of files or a folder is a DICOM series; else the suffix decides, and the
    first bytes where the suffix says nothing. No second reader is tried when the first one fails. It is a
    ``LoadImaged``, because MONAI Label looks for that type. An image that is in memory already, as MONAI Deploy hands
    it over, is made channel-first float32 by what its meta data say.

    Args:
        keys: keys of paths, or of images in memory; each becomes a ``MetaTensor`` ``(C, *spatial)``.
        in_channels: channels of the network, to refuse a 4D NIfTI whose last axis is something else. None: any.
        irregular: what to do with DICOM slices that form no regular volume, as :class:`SeriesReader` takes it.
        window: VOI window of DICOM images, None, ``"voi"`` or (centre, width), as :class:`SeriesReader` takes it.
        max_pixels: pictures with more are refused before they are decoded, as :class:`PictureReader` takes it.
        label_keys: keys that hold masks: palette indices and 1-bit values are kept, equal colour channels become one.
        image_only: ``False`` also stores ``{key}_meta_dict``.
        allow_missing_keys: pass over keys that a record lacks.

    Meta:
        ``filename_or_obj`` (the first file), ``kind`` (``"picture"``, ``"nifti"``, ``"dicom"`` or ``"memory"``),
        ``bits``, ``value_range``, ``spacing_unit``, ``affine`` and what the reader adds. An image in memory keeps its
        own, with ``value_range`` (0, 255) where it lacks one and holds 8-bit values.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: naming the file, when it cannot be read as what it is or its kind is unknown; for an image in memory
            whose meta data do not say where its channels are.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        in_channels: int | None = None,
        irregular: str = "refuse",
        window: str | Sequence[float] | None = None,
        max_pixels: float | str | None = MAX_PIXELS,
        label_keys: KeysCollection = ("label",),
        image_only: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)  # not LoadImaged's: see _LoadCase
        self._loader: _LoadCase = _LoadCase(
            in_channels=in_channels,
            dicom_reader=SeriesReader(irregular=irregular, window=window),
            max_pixels=max_pixels,
            image_only=image_only,
            dtype=np.float32,
        )
        self.meta_keys = (None,) * len(self.keys)
        self.meta_key_postfix = (PostFix.meta(),) * len(self.keys)
        self.overwriting = True
        self.label_keys = ensure_tuple(label_keys)

    def __call__(self, data: Any, reader: ImageReader | None = None) -> dict[Any, Any]:
        d = dict(data)
        for key, meta_key, postfix in self.key_iterator(d, self.meta_keys, self.meta_key_postfix):
            if isinstance(d[key], torch.Tensor | np.ndarray):
                d[key] = _from_memory(d[key])
                continue
            loaded = self._loader.load(d[key], reader, is_label=key in self.label_keys)
            if isinstance(loaded, tuple):
                d[key], d[meta_key or f"{key}_{postfix}"] = loaded
            else:
                d[key] = loaded
        return d


def kind_of_file(path: Path) -> str:
    """``"picture"``, ``"nifti"`` or ``"dicom"``: by suffix, and by the first bytes where the suffix says nothing.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is empty or of no known kind.
    """
    name = path.name.lower()
    if name.endswith(PICTURE_SUFFIXES):
        return "picture"
    if name.endswith(NIFTI_SUFFIXES):
        return "nifti"
    require_content(path)
    if looks_like_dicom(path):
        return "dicom"
    with path.open("rb") as file:
        head = file.read(348)
    if head[344:347] in NIFTI_MAGIC:
        return "nifti"
    if head.startswith(PICTURE_MAGIC):
        return "picture"
    raise ValueError(f"'{path.name}' is of no known kind; PNG, JPEG, TIFF, BMP, NIfTI (.nii, .nii.gz) and DICOM work.")


def _from_memory(image: torch.Tensor | NDArray[Any]) -> MetaTensor:
    """An image with ``original_channel_dim`` in its meta data (an axis, ``"no_channel"`` or nan), channel first.

    Four axes are three in space and a channel, whatever the meta data say (MONAI Deploy says ``"no_channel"`` of colour
    DICOM); it is the last one then.
    """
    meta = dict(image.meta) if isinstance(image, MetaTensor) else {}
    values = image.as_tensor() if isinstance(image, MetaTensor) else torch.as_tensor(image)
    channel = meta.get(MetaKeys.ORIGINAL_CHANNEL_DIM)
    if channel is None or not 2 <= values.ndim <= 4:
        raise ValueError(
            f"an image in memory of shape {tuple(values.shape)} says {channel!r} of its channels; needed is a "
            "MetaTensor of 2 to 4 axes whose 'original_channel_dim' is the axis of its channels or 'no_channel'."
        )
    if channel == "no_channel" or channel != channel:  # nan, as MONAI's readers have it
        values = values.movedim(-1, 0) if values.ndim == 4 else values[None]
    else:
        values = values.movedim(int(channel), 0)
    if values.dtype == torch.uint8:
        meta.setdefault("value_range", (0.0, 255.0))
    meta.setdefault("value_range", UNKNOWN_RANGE)
    meta |= {"kind": "memory", MetaKeys.ORIGINAL_CHANNEL_DIM: 0}
    return MetaTensor(values.float().contiguous(), affine=meta.pop("affine", None), meta=meta)


def _converted(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """``(C, *spatial)`` as ``dtype`` in native bytes, channel after channel in memory, in the order that a file has.

    That is x fastest for pictures. Turned every value would be a miss of the cache, and of a volume twice, since who
    works slice by slice turns it back.
    """
    dtype = dtype.newbyteorder("=")
    if array.ndim == 3:
        return array.transpose(0, 2, 1).astype(dtype, order="C").transpose(0, 2, 1)
    is_file = isinstance(array, np.memmap)  # of NIfTI: read now, since nobody knows how long the file will be there
    return np.asarray(array.astype(dtype, order="K", copy=is_file))


def _single_channel_mask(array: NDArray[Any]) -> NDArray[Any]:
    """A mask saved as colour, with channels equal within JPEG noise, is a mask of one channel. ``(C, ...)``."""
    jpeg_noise = 10
    if array.shape[0] == 3 and np.abs(array - array[:1]).max() <= jpeg_noise:
        return array[:1]
    return array
