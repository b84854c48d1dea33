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
from pydicom.dataset import Dataset

from banet_monai.dicom.finding import DicomHeader, files_below, group_headers, header_of
from banet_monai.dicom.geometry import DicomGeometryError, Plane, Stack, picture_affine, plane_affine, stack_planes
from banet_monai.dicom.parsing import (
    DicomReadError,
    in_threads,
    integer,
    looks_like_dicom,
    numbers,
    open_dataset,
    quiet_pydicom,
    text,
    uid,
)
from banet_monai.dicom.pixels import PixelFormat, decode_frames, pixel_format, write_values

__all__ = ["META_SEPARATOR", "DicomFiles", "SeriesReader", "meta_list"]

META_SEPARATOR = "\n"  # lists stand in the metadata as one string: default_collate refuses lists of differing length
MATCHING_UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def meta_list(value: str) -> list[str]:
    """The entries of ``meta["series_files"]``, ``meta["frame_numbers"]`` or ``meta["repairs"]``."""
    return value.split(META_SEPARATOR) if value else []


@dataclasses.dataclass(frozen=True)
class DicomFiles:
    """Files that :meth:`SeriesReader.get_data` will open."""

    paths: tuple[Path, ...]


@dataclasses.dataclass
class _Object:
    """One opened file; ``dataset`` is let go once its pixels are written."""

    path: Path
    header: DicomHeader
    dataset: Dataset
    form: PixelFormat
    planes: list[Plane]
    repairs: list[str]


class SeriesReader(ImageReader):
    """Read a DICOM file, the files of one series, or a folder that holds exactly one image series.

    Slices are sorted by position along their normal, never by file name or instance number. Values are after modality
    LUT or rescale (of each slice), MONOCHROME1 is inverted, palettes and YBR become RGB.

    The array has MONAI's axis order: ``(column, row)`` for a picture, ``(column, row, slice)`` for a volume or for
    frames without a place in the patient (as stored), with a last axis of 3 for colour. ``uint8`` where the values fit
    as stored, else ``float32``.

    Metadata, free of patient data and collatable:

    - ``affine``, ``original_affine``: (4, 4), array indices to RAS mm; for pictures without a place in the patient
      pixel sizes on the diagonal, or the identity where these are unknown.
    - ``spacing_unit``: ``"mm"``, or ``"px"`` where no pixel size is stated.
    - ``layout``: ``"picture"``, ``"volume"`` or ``"frames"``; ``spatial_shape``, ``original_channel_dim``, ``space``.
    - ``bits``, ``value_range`` [lowest, highest]: what the stored values can be, after rescale.
    - ``window`` [centre, width]: the first VOI window; no such key where there is none.
    - ``modality``, ``photometric``: codes as stored.
    - ``series_files``, ``frame_numbers`` (from 1), in slice order, and ``repairs`` (what was wrong in the files and
      how it was read): one string each, to be taken apart by :func:`meta_list`.

    ``read`` only looks whether it is given DICOM, and ``get_data`` does the work: :class:`monai.transforms.LoadImage`
    tries its other readers, with other ideas of geometry, when ``read`` fails, but not when ``get_data`` does.

    Args:
        workers: threads that read and decode, by default one per core, eight at most.

    Raises:
        DicomGeometryError: the images do not form one regular volume.
        DicomReadError: no image, damaged, or compressed in a way for which no decoder is installed.
        FileNotFoundError: no such file, or a folder without a DICOM image.
    """

    def __init__(self, *, workers: int | None = None) -> None:
        super().__init__()
        self.workers = workers

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
            _check_one_series(objects)
            stack, layout = _arrange(objects)
            ends = min(o.form.low for o in objects), max(o.form.high for o in objects)
            meta = _metadata(objects, stack, layout, ends)
            values = self._decode(objects, stack, ends)

        axes = (2, 1, 0, 3)[: values.ndim]  # (slice, row, column) -> (column, row, slice), colour stays last
        array = values.transpose(axes)
        if layout == "picture":
            array = array[:, :, 0]
        meta[MetaKeys.SPATIAL_SHAPE] = np.array(array.shape[: 2 if layout == "picture" else 3])
        return array, meta

    def _open(self, paths: Sequence[Path]) -> list[_Object]:
        if any(path.is_dir() for path in paths):
            if len(paths) > 1:
                raise DicomReadError(f"give one folder or the files of one series, got {len(paths)} paths.")
            return self._open_folder(paths[0])
        objects: list[_Object] = []
        for item in in_threads(_open_object, paths, self.workers):
            if not isinstance(item, _Object):
                raise DicomReadError(f"'{item.path.name}' is no image to segment: {item.not_an_image}.")
            objects.append(item)
        return objects

    def _open_folder(self, folder: Path) -> list[_Object]:
        paths = [path for path in files_below(folder) if not path.name.startswith(".") and looks_like_dicom(path)]
        opened = in_threads(_open_object, paths, self.workers)
        headers = [item.header if isinstance(item, _Object) else item for item in opened]
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
        return [item for item in opened if isinstance(item, _Object) and item.path in wanted]

    def _decode(self, objects: list[_Object], stack: Stack, ends: tuple[float, float]) -> NDArray[Any]:
        """``(slices, rows, columns[, 3])``: every frame decoded straight into its place."""
        form = objects[0].form
        is_byte = all(o.form.is_byte for o in objects)
        shape = (len(stack.order), *form.shape, *([3] if form.channels == 3 else []))
        values = np.empty(shape, dtype=np.uint8 if is_byte else np.float32)
        place = np.argsort(stack.order)  # of each frame, counted over all objects
        firsts = np.cumsum([0, *(o.form.frames for o in objects)])

        def write(k: int) -> None:
            item, slices = objects[k], place[firsts[k] : firsts[k + 1]].tolist()
            frames = decode_frames(item.dataset, item.path.name)
            write_values(frames, item.dataset, item.form, out=values, slices=slices, ends=ends)
            item.dataset = Dataset()  # lets go of the compressed and the decoded bytes

        in_threads(write, range(len(objects)), self.workers)
        return values


def _open_object(path: Path) -> _Object | DicomHeader:
    """Parse one file; a header alone is returned for what is no image."""
    dataset, repairs = open_dataset(path)
    header = header_of(dataset, path)
    if header.not_an_image:
        return header
    if "SpecificCharacterSet" in dataset and not text(dataset, "SpecificCharacterSet"):
        repairs.append("SpecificCharacterSet is empty: ignored")
    repairs += [
        f"{keyword} is empty: no PACS can match the result" for keyword in MATCHING_UIDS if not uid(dataset, keyword)
    ]
    form = pixel_format(dataset, path.name)
    planes = [_plane(dataset, k, path.name, form.shape) for k in range(form.frames)]
    return _Object(path, header, dataset, form, planes, repairs)


def _plane(dataset: Dataset, frame: int, name: str, shape: tuple[int, int]) -> Plane:
    """Place of a frame: from its functional groups (enhanced objects), else from the object if it has one frame."""

    def stated(keyword: str, sequence: str, count: int) -> tuple[float, ...]:
        for group in _functional_groups(dataset, frame):
            if group.get(sequence):
                return numbers(group[sequence].value[0], keyword, name, count)
        is_single = integer(dataset, "NumberOfFrames", name, 1) <= 1
        return numbers(dataset, keyword, name, count) if is_single or keyword == "PixelSpacing" else ()

    return Plane(
        name=name,
        shape=shape,
        position=stated("ImagePositionPatient", "PlanePositionSequence", 3),
        orientation=stated("ImageOrientationPatient", "PlaneOrientationSequence", 6),
        spacing=stated("PixelSpacing", "PixelMeasuresSequence", 2),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
    )


def _functional_groups(dataset: Dataset, frame: int) -> list[Dataset]:
    """Where a multi-frame object may state something of a frame, the frame's own group first (PS3.3 C.7.6.16)."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    return [*([own[frame]] if frame < len(own) else []), *shared[:1]]


def _check_one_series(objects: Sequence[_Object]) -> None:
    if not objects:
        raise FileNotFoundError("no DICOM file was given; give a file, the files of one series, or a folder.")
    series: dict[tuple[str, str], list[_Object]] = {}
    for item in objects:
        series.setdefault((item.header.study, item.header.series), []).append(item)
    if len(series) > 1:
        kinds = [f"{members[0].header.modality or 'unknown modality'} ({len(members)})" for members in series.values()]
        raise DicomReadError(
            f"the {len(objects)} files, first '{objects[0].path.name}', belong to {len(series)} series: "
            f"{', '.join(kinds[:6])}; give the files of one series."
        )
    if len({item.form.channels for item in objects}) > 1:
        raise DicomGeometryError("the series mixes grey and colour images; give the files of one kind only.")


def _arrange(objects: Sequence[_Object]) -> tuple[Stack, str]:
    """Order and affine of all frames, and their layout."""
    planes = [plane for item in objects for plane in item.planes]
    dataset, name = objects[0].dataset, objects[0].path.name
    if len(planes) == 1:
        if planes[0].missing:
            return Stack([0], picture_affine(_pixel_size(dataset, planes[0])), []), "picture"
        return Stack([0], plane_affine(planes[0], _thickness(dataset, name)), []), "picture"

    if len(objects) == 1 and not any(plane.position for plane in planes):
        return Stack(list(range(len(planes))), picture_affine(_pixel_size(dataset, planes[0])), []), "frames"
    try:
        stack = stack_planes(planes)
    except DicomGeometryError as error:
        what = f"'{name}'" if len(objects) == 1 else f"series of {len(objects)} files, first '{name}'"
        raise DicomGeometryError(f"{what}: {error}") from None
    instances = [integer(item.dataset, "InstanceNumber", item.path.name, 0) for item in objects]
    if len(objects) == len(planes):
        steps = np.diff([instances[k] for k in stack.order])
        if any(instances) and not ((steps > 0).all() or (steps < 0).all()):
            stack.repairs.append("InstanceNumber does not follow the positions: sorted by position")
    return stack, "volume"


def _pixel_size(dataset: Dataset, plane: Plane) -> tuple[float, ...]:
    """Distance between rows and columns in mm of a picture without a place: in the patient, else at the detector."""
    keywords = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")
    sizes = [plane.spacing, *(numbers(dataset, keyword, plane.name, 2) for keyword in keywords)]
    return next((size for size in sizes if size and min(size) > 0), ())


def _thickness(dataset: Dataset, name: str) -> float:
    """Length of the normal of a single slice, mm; 1 where no thickness is stated."""
    places = [
        *(
            group["PixelMeasuresSequence"].value[0]
            for group in _functional_groups(dataset, 0)
            if group.get("PixelMeasuresSequence")
        ),
        dataset,
    ]
    stated = [
        numbers(place, keyword, name) for place in places for keyword in ("SliceThickness", "SpacingBetweenSlices")
    ]
    return next((value[0] for value in stated if value and value[0] > 0), 1.0)


def _window(item: _Object, ends: tuple[float, float]) -> list[float]:
    """Centre and width of the first VOI window, inverted with the values it belongs to; [] where there is none."""
    groups = [
        group["FrameVOILUTSequence"].value[0]
        for group in _functional_groups(item.dataset, 0)
        if group.get("FrameVOILUTSequence")
    ]
    for place in [*groups, item.dataset]:
        centre, width = (numbers(place, keyword, item.path.name) for keyword in ("WindowCenter", "WindowWidth"))
        if centre and width and width[0] > 0:
            return [ends[0] + ends[1] - centre[0] if item.form.inverted else centre[0], width[0]]
    return []


def _metadata(objects: Sequence[_Object], stack: Stack, layout: str, ends: tuple[float, float]) -> dict[str, Any]:
    places = [(item, number) for item in objects for number in range(1, item.form.frames + 1)]
    in_order = [places[k] for k in stack.order]
    first = in_order[0][0]
    has_size = bool(first.planes[0].spacing or _pixel_size(first.dataset, first.planes[0]))
    repairs = dict.fromkeys([*(repair for item in objects for repair in item.repairs), *stack.repairs])
    window = _window(first, ends)
    files = [str(item.path) for item, _ in in_order] if len(objects) > 1 else [str(first.path)]
    return {
        MetaKeys.AFFINE: stack.affine,
        MetaKeys.ORIGINAL_AFFINE: stack.affine.copy(),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if first.form.channels == 3 else float("nan"),
        "layout": layout,
        "spacing_unit": "mm" if has_size else "px",
        "bits": first.form.bits,
        "value_range": [float(ends[0]), float(ends[1])],
        **({"window": window} if window else {}),
        "modality": first.header.modality,
        "photometric": first.form.photometric,
        "series_files": META_SEPARATOR.join(files),
        "frame_numbers": META_SEPARATOR.join(str(number) for _, number in in_order),
        "repairs": META_SEPARATOR.join(repairs),
    }
