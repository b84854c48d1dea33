"""Reading, geometry and intensity: what MONAI's transforms lack for pictures, volumes and DICOM alike."""

from __future__ import annotations

from banet_monai.transforms.artefacts import RandGeld, RandHaird, RandInkd, RandRulerd, RandVignetted
from banet_monai.transforms.augmentation import RandColorJitterd
from banet_monai.transforms.background import InBackground
from banet_monai.transforms.contrast import RandHistogramEqualized
from banet_monai.transforms.crops import RandBackgroundCropd, RandLesionCropd
from banet_monai.transforms.deformation import RandElasticd
from banet_monai.transforms.formats import probability_key
from banet_monai.transforms.grid import RestoreGridd, ToWorkingGridd
from banet_monai.transforms.intensity import MaskToIdsd, NormalizeImaged
from banet_monai.transforms.pictures import PictureReader
from banet_monai.transforms.reading import LoadCased, NiftiReader
from banet_monai.transforms.saving import DiscretizeLabelsd, DropChannel2Dd, SaveResultd

__all__ = [
    "DiscretizeLabelsd",
    "DropChannel2Dd",
    "InBackground",
    "LoadCased",
    "MaskToIdsd",
    "NiftiReader",
    "NormalizeImaged",
    "PictureReader",
    "RandBackgroundCropd",
    "RandColorJitterd",
    "RandElasticd",
    "RandGeld",
    "RandHaird",
    "RandHistogramEqualized",
    "RandInkd",
    "RandLesionCropd",
    "RandRulerd",
    "RandVignetted",
    "RestoreGridd",
    "SaveResultd",
    "ToWorkingGridd",
    "probability_key",
]
