"""A MONAI Deploy application: DICOM in, DICOM SEG out by the SDK's own operators; or PNG and JPEG in, PNG masks out.

    python deploy_app.py -i INPUT_FOLDER -o OUTPUT_FOLDER -m model.ts

model.ts is the TorchScript file of an archive (docs/deploy.md). A folder that holds pictures takes the way of pictures,
any other that of DICOM. For research use, not a medical device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Fragment, Image, IOType, Operator, OperatorSpec
from monai.deploy.operators import (
    DICOMDataLoaderOperator,
    DICOMSegmentationWriterOperator,
    DICOMSeriesSelectorOperator,
    DICOMSeriesToVolumeOperator,
    IOMapping,
    MonaiBundleInferenceOperator,
)
from monai.deploy.operators.dicom_seg_writer_operator import SegmentDescription
from pydicom.sr.coding import Code

import banet_monai
from banet_monai.dicom.segments import segments_of

TASK = "skin_lesion"
PICTURES = (".png", ".jpg", ".jpeg")
SERIES = '{"selections": [{"name": "images", "conditions": {"Modality": "(?i)^(XC|DMS|OT|MR|CT|CR|DX)$"}}]}'


class LoadPicture(Operator):
    """Reads one picture after the other, as the network's preprocessing wants it: (x, y, channel)."""

    def __init__(self, fragment: Fragment, *conditions: Any, files: list[Path], name: str) -> None:
        self.files = iter(files)
        super().__init__(fragment, *conditions, name=name)

    def setup(self, spec: OperatorSpec) -> None:
        """Two ports: the picture, and what its result is called."""
        spec.output("image")
        spec.output("name")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Sends the next picture."""
        file = next(self.files)
        with PIL.Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB")).swapaxes(0, 1)
        op_output.emit(Image(pixels, {"original_channel_dim": -1}), "image")
        op_output.emit(file.stem, "name")


class SaveMask(Operator):
    """Writes each mask as PNG: 0 and 255."""

    def __init__(self, fragment: Fragment, *, folder: Path, name: str) -> None:
        self.folder = folder
        super().__init__(fragment, name=name)

    def setup(self, spec: OperatorSpec) -> None:
        """Two ports: the mask, and what it is called."""
        spec.input("pred")
        spec.input("name")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Writes one mask; the SDK gives it as (slice, row, column)."""
        mask = op_input.receive("pred").asnumpy()[0]
        self.folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray((mask > 0).astype(np.uint8) * 255).save(
            self.folder / f"{op_input.receive('name')}_mask.png"
        )


class BANetApp(Application):
    """Loading, inference with what the archive says, writing."""

    def compose(self) -> None:
        """Connects the operators."""
        context = Application.init_app_context(self.argv)
        source, output = Path(context.input_path), Path(context.output_path)
        inference = MonaiBundleInferenceOperator(
            self,
            app_context=context,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=context.model_path,
            name="inference",
        )
        pictures = sorted(file for file in source.iterdir() if file.suffix.lower() in PICTURES)
        if pictures:
            load = LoadPicture(self, CountCondition(self, len(pictures)), files=pictures, name="load")
            save = SaveMask(self, folder=output, name="save")
            self.add_flow(load, inference, {("image", "image")})
            self.add_flow(load, save, {("name", "name")})
            self.add_flow(inference, save, {("pred", "pred")})
            return

        study = DICOMDataLoaderOperator(self, CountCondition(self, 1), input_folder=source, name="study")
        series = DICOMSeriesSelectorOperator(self, rules=SERIES, name="series")
        volume = DICOMSeriesToVolumeOperator(self, name="volume")
        writer = DICOMSegmentationWriterOperator(
            self,
            segment_descriptions=segment_descriptions(),
            custom_tags={"SeriesDescription": "BA-Net (research)"},
            output_folder=output,
            name="writer",
        )
        self.add_flow(study, series, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(series, volume, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(volume, inference, {("image", "image")})
        self.add_flow(series, writer, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(inference, writer, {("pred", "seg_image")})


def segment_descriptions() -> list[SegmentDescription]:
    """The segments of the task, with the codes that `banet segment` writes."""
    return [
        SegmentDescription(
            segment_label=segment.label,
            segmented_property_category=Code(*segment.category),
            segmented_property_type=Code(*segment.type),
            algorithm_name="BA-Net",
            algorithm_version=banet_monai.__version__,
        )
        for segment in segments_of(TASK)
    ]


if __name__ == "__main__":
    BANetApp().run()
