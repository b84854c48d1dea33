"""Our DICOM reader for MONAI: a file, the files of a series, or a folder, with geometry that is right or refused.

It stands on pydicom (2.4 to 3) and numpy alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from numpy.typing import NDArray

from banet_monai.choices import IRREGULAR
from banet_monai.dicom.finding import DicomHeader, files_below, group_headers
from banet_monai.dicom.parsing import DicomReadError, in_threads, looks_like_dicom, quiet_pydicom
from banet_monai.dicom.series import (
    Arrangement,
    SeriesObject,
    arrange,
    check_one_series,
    open_object,
    pixel_size,
    repeated_uids,
)
from banet_monai.dicom.volumes import read_frames
from banet_monai.dicom.windows import Window, stated_window

__all__ = ["META_SEPARATOR", "DicomFiles", "SeriesReader", "meta_list"]

META_SEPARATOR = "\n"  # lists stand in the metadata as one string: default_collate refuses lists of differing length


def meta_list(value: str) -> list[str]:
    """The entries of ``meta["series_files"]``, ``meta["frame_numbers"]`` or ``meta["repairs"]``."""
    return value.split(META_SEPARATOR) if value else []


@dataclasses.dataclass(frozen=True)
class DicomFiles:
    """Files that :meth:`SeriesReader.get_data` will open."""

    paths: tuple[Path, ...]


class SeriesReader(ImageReader):
    """Read a DICOM file, the files of one series, or a folder that holds exactly one image series.

    Slices are sorted by position along their normal, never by file name or instance number. Values are after modality
    LUT or rescale (of each slice), MONOCHROME1 is inverted, palettes and YBR become RGB.

    The array has MONAI's axis order, contiguous in memory: ``(column, row)`` for a picture, ``(column, row, slice)``
    for a volume or for frames without a place in the patient (as stored), with a last axis of 3 for colour. ``uint8``
    where the values fit as stored, else ``float32`` (32-bit integers beyond 2^24 are rounded).

    Metadata, free of patient data and collatable:

    - ``affine``, ``original_affine``: (4, 4), array indices to RAS mm; for pictures without a place in the patient
      what ITK and viewers assume, columns to the left and rows to the back: ``diag(-sx, -sy, 1, 1)`` with the pixel
      sizes, or 1 where these are unknown.
    - ``has_place``: whether the affine says where the image lies in the patient.
    - ``spacing_unit``: ``"mm"``, or ``"px"`` where no pixel size is stated.
    - ``layout``: ``"picture"``, ``"volume"``, ``"frames"`` or ``"slices"``; with the last, ``irregular`` says why.
    - ``spatial_shape``, ``original_channel_dim``, ``space``: as MONAI has them.
    - ``bits``, ``value_range`` [lowest, highest]: what the stored values can be, after rescale; two nan for
      floating-point pixels.
    - ``window`` [centre, width]: the first VOI window; no such key where there is none or it has been applied.
    - ``modality``, ``photometric``: codes as stored.
    - ``series_files``, ``frame_numbers`` (from 1), in slice order, and ``repairs`` (what was wrong in the files and
      how it was read): one string each, to be taken apart by :func:`meta_list`.

    ``read`` only looks whether it is given DICOM, and ``get_data`` does the work: :class:`monai.transforms.LoadImage`
    tries its other readers, with other ideas of geometry, when ``read`` fails, but not when ``get_data`` does.

    Args:
        workers: threads that read and decode, by default one per core, eight at most.
        irregular: what to do with missing, repeated or uneven slices, gantry tilt, several orientations or frames of
            reference, or slices that do not state where they lie. ``"refuse"`` raises; ``"slices"`` reads them with
            the layout ``"slices"``, for networks that work slice by slice: ordered by position within each
            orientation, the affine that of pictures without a place, and ``meta["irregular"]`` saying why.
        window: values are mapped to [0, 1] in float32 (grey pictures; colour stays as it is): ``"voi"`` by the VOI LUT
            or else the window that each file states (a frame its own; a LUT's lowest and highest entry become 0 and
            1), ``(centre, width)`` by this window, in values after rescale. Functions as in PS3.3 section C.11.2,
            LINEAR for a chosen window. None: values stay as they are.

    Raises:
        DicomGeometryError: the images do not form one regular volume.
        DicomReadError: no image, damaged, or compressed in a way for which no decoder is installed.
        FileNotFoundError: no such file, or a folder without a DICOM image.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        irregular: str = "refuse",
        window: str | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if irregular not in IRREGULAR:
            raise ValueError(f"irregular must be one of {IRREGULAR}, got '{irregular}'.")
        self.workers = workers
        self.irregular = irregular
        self.window = _window_option(window)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether all given paths are folders or DICOM files, by suffix or by the letters at byte 128."""
        paths = [Path(name) for name in ensure_tuple(filename)]
        return bool(paths) and all(path.is_dir() or looks_like_dicom(path) for path in paths)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: object) -> DicomFiles:
        """Note what is to be read.

        Raises:
            DicomReadError: when it is not DICOM, so that another reader may take it.
        """
        if kwargs:
            raise TypeError(f"SeriesReader takes no reading options, got {sorted(kwargs)}.")
        paths = tuple(Path(name) for name in ensure_tuple(data))
        if not self.verify_suffix(paths):
            other = [path.name for path in paths if not (path.is_dir() or looks_like_dicom(path))]
            raise DicomReadError(f"no DICOM: {other[:3]}; give a DICOM file, the files of one series, or a folder.")
        return DicomFiles(paths)

    def get_data(self, img: DicomFiles) -> tuple[NDArray[Any], dict[str, Any]]:
        """Open, check, sort and decode; returns array and metadata as the class describes them."""
        with quiet_pydicom():
            objects = self._open(img.paths)
            check_one_series(objects)
            arrangement = arrange(objects, irregular=self.irregular)
            ends = min(o.form.low for o in objects), max(o.form.high for o in objects)
            if any(o.form.voi for o in objects):
                ends = 0.0, 1.0
            meta = _metadata(objects, arrangement, ends)
            array = read_frames(objects, arrangement.stack.order, ends, self.workers)

        if arrangement.layout == "picture":
            array = array[:, :, 0]
        meta[MetaKeys.SPATIAL_SHAPE] = np.array(array.shape[: 2 if arrangement.layout == "picture" else 3])
        return array, meta

    def _open(self, paths: Sequence[Path]) -> list[SeriesObject]:
        if any(path.is_dir() for path in paths):
            if len(paths) > 1:
                raise DicomReadError(f"give one folder or the files of one series, got {len(paths)} paths.")
            return self._open_folder(paths[0])
        objects: list[SeriesObject] = []
        for item in in_threads(self._open_one, paths, self.workers):
            if not isinstance(item, SeriesObject):
                raise DicomReadError(f"'{item.path.name}' is no image to segment: {item.not_an_image}.")
            objects.append(item)
        return objects

    def _open_folder(self, folder: Path) -> list[SeriesObject]:
        paths = [path for path in files_below(folder) if not path.name.startswith(".") and looks_like_dicom(path)]
        opened = in_threads(self._open_one, paths, self.workers)
        headers = [item.header if isinstance(item, SeriesObject) else item for item in opened]
        cases = group_headers(headers).cases
        if not cases:
            raise FileNotFoundError(
                f"there is no DICOM image in '{folder}' ({len(paths)} DICOM files); give a folder that holds one image "
                "series."
            )
        if len(cases) > 1:
            raise DicomReadError(
                f"'{folder.name}' holds {len(cases)} series or single images: {', '.join(map(str, cases[:6]))}"
                f"{', ...' if len(cases) > 6 else ''}; give the files or the folder of one of them."
            )
        wanted = set(cases[0].paths)
        return [item for item in opened if isinstance(item, SeriesObject) and item.path in wanted]

    def _open_one(self, path: Path) -> SeriesObject | DicomHeader:
        return open_object(path, self.window)


def _window_option(window: str | Sequence[float] | None) -> str | Window | None:
    if window is None or window == "voi":
        return window
    if isinstance(window, str) or len(window) != 2:
        raise ValueError(f"window must be None, 'voi' or (centre, width), got {window!r}.")
    return Window(float(window[0]), float(window[1]))


def _inverted(window: Window, item: SeriesObject, ends: tuple[float, float]) -> list[float]:
    """Centre and width, exchanged with the values they belong to where these are."""
    return [ends[0] + ends[1] - window.centre if item.form.inverted else window.centre, window.width]


def _metadata(objects: Sequence[SeriesObject], arrangement: Arrangement, ends: tuple[float, float]) -> dict[str, Any]:
    stack = arrangement.stack
    places = [(item, number) for item in objects for number in range(1, item.form.frames + 1)]
    in_order = [places[k] for k in stack.order]
    first = in_order[0][0]
    has_place = arrangement.layout == "volume" or (arrangement.layout == "picture" and not first.planes[0].missing)
    has_size = bool(first.planes[0].spacing or pixel_size(first.dataset, first.planes[0]))
    of_files = [repair for item in objects for repair in item.repairs]
    repairs = dict.fromkeys([*of_files, *repeated_uids(objects), *stack.repairs])
    window = None if first.form.voi else stated_window(first.dataset, 0, first.path.name)
    files = [str(item.path) for item, _ in in_order] if len(objects) > 1 else [str(first.path)]
    return {
        MetaKeys.AFFINE: stack.affine,
        MetaKeys.ORIGINAL_AFFINE: stack.affine.copy(),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if first.form.channels == 3 else float("nan"),
        "layout": arrangement.layout,
        **({"irregular": arrangement.irregular} if arrangement.irregular else {}),
        "spacing_unit": "mm" if has_size else "px",
        "has_place": has_place,
        "bits": first.form.bits,
        "value_range": [float(ends[0]), float(ends[1])],
        **({"window": _inverted(window, first, ends)} if window else {}),
        "modality": first.header.modality,
        "photometric": first.form.photometric,
        "series_files": META_SEPARATOR.join(files),
        "frame_numbers": META_SEPARATOR.join(str(number) for _, number in in_order),
        "repairs": META_SEPARATOR.join(repairs),
    }
