"""Words that people choose from, on the command line and in configurations; light, so that asking for help is quick."""

from __future__ import annotations

__all__ = [
    "BACKENDS",
    "CORRUPTIONS",
    "EXPORTS",
    "EXPORT_PACKAGES",
    "FORMATS",
    "INT8_PACKAGES",
    "IRREGULAR",
    "SEG_KINDS",
    "UNCERTAINTY",
]

FORMATS = ("auto", "png", "nifti", "dicom-seg", "contours")  # of results
SEG_KINDS = ("binary", "fractional", "labelmap")  # of DICOM SEG, its SegmentationType
IRREGULAR = ("refuse", "slices")  # what to do with DICOM slices that form no volume
UNCERTAINTY = ("none", "entropy", "mc_dropout", "tta", "ensemble")  # where several predictions come from
# formats of networks for use elsewhere, and the ending of their files; OpenVINO keeps weights beside it, in .bin
EXPORTS = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2", "torchscript": ".ts"}
EXPORT_PACKAGES = {"onnx": ("onnx", "onnxscript"), "openvino": ("openvino", "onnx", "onnxscript")}  # needed to write
INT8_PACKAGES = ("nncf", "openvino", "onnx", "onnxscript")  # needed to write 8-bit integers; OpenVINO alone runs them
BACKENDS = ("torch", "onnx", "openvino", "trt")  # what computes the network
# kinds of worse images, see banet_monai.robustness.catalogue
CORRUPTIONS = (
    "noise",
    "blur",
    "contrast",
    "dark",
    "bright",
    "jpeg",
    "resolution",
    "rotation",
    "hair",
    "ruler",
    "ink",
    "thickness",
)
