"""Acquisition parameters of enhanced CT and MR in dicom_samples.py, grouped as in PS3.3 C.8.13 and C.8.15."""

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

FRAME_TYPE = {
    "FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
}
CT_SHARED = {
    "CTImageFrameTypeSequence": FRAME_TYPE,
    "PixelValueTransformationSequence": {"RescaleIntercept": "-1024", "RescaleSlope": "1", "RescaleType": "HU"},
    "IrradiationEventIdentificationSequence": {"IrradiationEventUID": "1.2.826.0.1.3680043.10.5"},
    "CTAcquisitionTypeSequence": {
        "AcquisitionType": "SEQUENCED",
        "ConstantVolumeFlag": "NO",
        "FluoroscopyFlag": "NO",
    },
    "CTAcquisitionDetailsSequence": {
        "RotationDirection": "CW",
        "RevolutionTime": 0.5,
        "SingleCollimationWidth": 0.6,
        "TotalCollimationWidth": 19.2,
        "TableHeight": 120.0,
        "GantryDetectorTilt": 0.0,
        "DataCollectionDiameter": 500.0,
    },
    "CTTableDynamicsSequence": {"TableSpeed": 20.0, "TableFeedPerRotation": 10.0, "SpiralPitchFactor": 0.5},
    "CTPositionSequence": {
        "TablePosition": 0.0,
        "DataCollectionCenterPatient": [0.0, 0.0, 0.0],
        "ReconstructionTargetCenterPatient": [0.0, 0.0, 0.0],
    },
    "CTGeometrySequence": {"DistanceSourceToDetector": 1000.0, "DistanceSourceToDataCollectionCenter": 550.0},
    "CTReconstructionSequence": {
        "ReconstructionAlgorithm": "FILTER_BACK_PROJ",
        "ConvolutionKernel": "B30",
        "ConvolutionKernelGroup": "SOFT_TISSUE",
        "ReconstructionDiameter": 250.0,
        "ReconstructionPixelSpacing": [0.7, 0.9],
        "ReconstructionAngle": 360.0,
        "ImageFilter": "NONE",
    },
    "CTExposureSequence": {
        "ExposureTimeInms": 500.0,
        "XRayTubeCurrentInmA": 200.0,
        "ExposureInmAs": 100.0,
        "ExposureModulationType": ["NONE"],
    },
    "CTXRayDetailsSequence": {
        "KVP": "120",
        "FocalSpots": "1.2",
        "FilterType": "NONE",
        "FilterMaterial": "ALUMINUM",
    },
}
MR_SHARED = {
    "MRImageFrameTypeSequence": FRAME_TYPE | {"ComplexImageComponent": "MAGNITUDE", "AcquisitionContrast": "T1"},
    "PixelValueTransformationSequence": {"RescaleIntercept": "-10", "RescaleSlope": "2", "RescaleType": "US"},
    "FrameVOILUTSequence": {"WindowCenter": "450", "WindowWidth": "900"},
    "MRTimingAndRelatedParametersSequence": {
        "RepetitionTime": "500",
        "FlipAngle": "90",
        "EchoTrainLength": "1",
        "RFEchoTrainLength": 1,
        "GradientEchoTrainLength": 0,
        "SpecificAbsorptionRateSequence": {
            "SpecificAbsorptionRateDefinition": "IEC_WHOLE_BODY",
            "SpecificAbsorptionRateValue": 0.5,
        },
        "GradientOutputType": "DB_DT",
        "GradientOutput": 10.0,
        "OperatingModeSequence": {"OperatingModeType": "STATIC FIELD", "OperatingMode": "IEC_NORMAL"},
    },
    "MREchoSequence": {"EffectiveEchoTime": 15.0},
    "MRFOVGeometrySequence": {
        "InPlanePhaseEncodingDirection": "ROW",
        "MRAcquisitionFrequencyEncodingSteps": 24,
        "MRAcquisitionPhaseEncodingStepsInPlane": 18,
        "MRAcquisitionPhaseEncodingStepsOutOfPlane": 1,
        "PercentSampling": "100",
        "PercentPhaseFieldOfView": "100",
    },
    "MRModifierSequence": {
        "InversionRecovery": "NO",
        "FlowCompensation": "NONE",
        "Spoiling": "NONE",
        "T2Preparation": "NO",
        "SpectrallySelectedExcitation": "NONE",
        "SpatialPresaturation": "NONE",
        "PartialFourier": "NO",
        "ParallelAcquisition": "NO",
    },
    "MRImagingModifierSequence": {
        "MagnetizationTransfer": "NONE",
        "BloodSignalNulling": "NO",
        "Tagging": "NONE",
        "TransmitterFrequency": 63.87,
        "PixelBandwidth": "200",
    },
    "MRReceiveCoilSequence": {
        "ReceiveCoilName": "HEAD",
        "ReceiveCoilManufacturerName": "",
        "ReceiveCoilType": "VOLUME",
        "QuadratureReceiveCoil": "YES",
    },
    "MRTransmitCoilSequence": {
        "TransmitCoilName": "BODY",
        "TransmitCoilManufacturerName": "",
        "TransmitCoilType": "BODY",
    },
    "MRAveragesSequence": {"NumberOfAverages": "1"},
}
MR_PULSE_SEQUENCE = {
    "ComplexImageComponent": "MAGNITUDE",
    "AcquisitionContrast": "T1",
    "ResonantNucleus": "1H",
    "KSpaceFiltering": "NONE",
    "MagneticFieldStrength": "1.5",
    "ApplicableSafetyStandardAgency": "IEC",
    "PulseSequenceName": "SE",
    "MRAcquisitionType": "2D",
    "EchoPulseSequence": "SPIN",
    "MultipleSpinEcho": "NO",
    "MultiPlanarExcitation": "NO",
    "PhaseContrast": "NO",
    "TimeOfFlightContrast": "NO",
    "SteadyStatePulseSequence": "NONE",
    "EchoPlanarPulseSequence": "NO",
    "SaturationRecovery": "NO",
    "SpectrallySelectedSuppression": "NONE",
    "OversamplingPhase": "NONE",
    "GeometryOfKSpaceTraversal": "RECTILINEAR",
    "RectilinearPhaseEncodeReordering": "LINEAR",
    "SegmentedKSpaceTraversal": "SINGLE",
    "NumberOfKSpaceTrajectories": 1,
}


def add_groups(ds, groups):
    """Put each group (keyword of its sequence -> attributes) into the shared functional groups of ``ds``."""
    for keyword, attributes in groups.items():
        setattr(ds.SharedFunctionalGroupsSequence[0], keyword, Sequence([nested(attributes)]))


def nested(attributes):
    """One item of a sequence; a mapping as a value becomes a sequence of one item."""
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, Sequence([nested(value)]) if isinstance(value, dict) else value)
    return ds
