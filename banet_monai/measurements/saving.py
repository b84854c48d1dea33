"""Measurements as a step of inference: measured on the result's own grid, written beside it."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from banet_monai.data.failures import explanation
from banet_monai.dicom import meta_list
from banet_monai.dicom.segments import segments_of
from banet_monai.dicom.sr import write_measurement_report
from banet_monai.flags import as_flag
from banet_monai.measurements.measuring import measure
from banet_monai.measurements.records import Measurement
from banet_monai.measurements.writing import MeasurementTable, write_measurements
from banet_monai.transforms.reading import LoadCased

__all__ = ["MeasurementReport", "SaveMeasurementsd"]

logger = logging.getLogger(__name__)

SINGLE_PICTURES = ("frames", "slices")  # layouts whose third axis is no direction in space


class MeasurementReport(Protocol):
    """What the step tells about each case; :class:`banet_monai.report.RunReport` is one."""

    def also(self, name: str, *results: str | Path) -> None:
        """More files of a case that has a result."""

    def warned(self, name: str, text: str) -> None:
        """There is a result, and something that people should know about it."""


class SaveMeasurementsd(MapTransform):
    """Measure label ids, and write ``OUTPUT_DIR/<name>_measurements.json`` beside the mask.

    It stands behind ``SaveResultd``: ``name`` is the record's entry ``"name"``, as there. Video frames and slices that
    form no volume are measured one by one. A record with a non-empty entry ``"failure"`` is passed over. Where
    measuring or writing fails, the case keeps its mask and the report a warning.

    Args:
        keys: key of label ids ``(1, *spatial)`` on the image's own grid, with the metadata of the image.
        output_dir: folder of the results.
        enabled: whether to do anything; "true" and "false" work too.
        segments: what the label ids stand for: a task that the package knows, or a list of descriptions
            (:func:`banet_monai.dicom.segments.segments_of`). None: the ids that occur, named by their numbers.
        intensity: whether to read the image's file again for the intensities inside, in the file's own values (CT:
            Hounsfield units); "true" and "false" work too.
        components: whether to measure each part of a label too; "true" and "false" work too.
        structured_report: whether to write ``<name>_measurements.dcm``, a DICOM Structured Report that refers to the
            segmentation ``<name>_mask.dcm``, where a case is DICOM and has one; "true" and "false" work too.
        table: collects the measurements of all cases; its ``write()`` belongs into the steps after the run.
        report: told about files and warnings. None: warnings are logged.
        measurement_key: key under which the list of measurements stays in the record.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        output_dir: str | Path = "./",
        *,
        enabled: bool | str = True,
        segments: str | Sequence[Mapping[str, Any]] | None = None,
        intensity: bool | str = True,
        components: bool | str = False,
        structured_report: bool | str = False,
        table: MeasurementTable | None = None,
        report: MeasurementReport | None = None,
        measurement_key: str = "measurements",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_dir = Path(output_dir)
        self.enabled = as_flag(enabled, "enabled")
        self.labels = None if segments is None else tuple(segment.label for segment in segments_of(segments))
        self.intensity = as_flag(intensity, "intensity")
        self.components = as_flag(components, "components")
        self.structured_report = as_flag(structured_report, "structured_report")
        self.table = table
        self.report = report
        self.measurement_key = measurement_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        if not self.enabled or d.get("failure"):
            return d
        for key in self.key_iterator(d):
            name = _name(d, key)
            try:
                found = self.measured(d[key], name)
                paths = [write_measurements(self._path(name, ".json"), found, case=name)]
            except Exception as error:  # other libraries raise what they like; the mask is there, and the batch goes on
                self._warned(name, f"the mask is written, but not its measurements: {explanation(error, {})}")
                continue
            d[self.measurement_key] = found
            if self.table is not None:
                self.table.add(name, found)
            if self.structured_report:
                paths += self._write_report(found, d[key], name)
            if self.report is not None:
                self.report.also(name, *paths)
        return d

    def measured(self, labels: Any, name: str) -> list[Measurement]:
        """Measurements of one case."""
        image = None
        meta = labels.meta if isinstance(labels, MetaTensor) else {}
        if self.intensity and "filename_or_obj" in meta:
            image = stored_image(meta)
        return measure(
            labels if isinstance(labels, MetaTensor) else labels[0],
            labels=self.labels,
            image=image,
            components=self.components,
            by_slice=meta.get("layout") in SINGLE_PICTURES and labels.ndim == 4,
        )

    def _write_report(self, found: list[Measurement], labels: Any, name: str) -> list[Path]:
        meta = labels.meta if isinstance(labels, MetaTensor) else {}
        seg = self._path(name, ".dcm", end="mask")
        if meta.get("kind") != "dicom":
            self._warned(name, "a Structured Report refers to DICOM images and this is none: none is written")
            return []
        if not seg.is_file():
            self._warned(name, "a Structured Report refers to a DICOM SEG: add dicom-seg to the formats")
            return []
        try:
            return [write_measurement_report(found, seg, meta, self._path(name, ".dcm"))]
        except Exception as error:  # as above; the JSON is there
            self._warned(
                name, f"the measurements are written, but not their Structured Report: {explanation(error, {})}"
            )
            return []

    def _path(self, name: str, suffix: str, *, end: str = "measurements") -> Path:
        stem = self.output_dir / name
        return stem.with_name(f"{stem.name}_{end}{suffix}")

    def _warned(self, name: str, text: str) -> None:
        if self.report is not None:
            self.report.warned(name, text)
        else:
            logger.warning("'%s': %s", name, text)


def stored_image(meta: Mapping[str, Any]) -> Any:
    """The image of a result in the values of its file, ``(C, *spatial)``: before the network's intensity scaling.

    Args:
        meta: of the result, as :class:`banet_monai.transforms.LoadCased` gave it.
    """
    files = meta_list(str(meta.get("series_files", "")))
    source: str | list[str] = files if len(files) > 1 else str(meta["filename_or_obj"])
    irregular = "slices" if meta.get("layout") == "slices" else "refuse"
    image = LoadCased("image", irregular=irregular, max_pixels=None)({"image": source})["image"]
    return image.as_tensor()


def _name(data: Mapping[Hashable, Any], key: Hashable) -> str:
    if data.get("name"):
        return str(data["name"])
    meta = data[key].meta if isinstance(data[key], MetaTensor) else {}
    file = Path(str(meta.get("filename_or_obj", "result"))).name
    return file[: -len(".nii.gz")] if file.lower().endswith(".nii.gz") else Path(file).stem
