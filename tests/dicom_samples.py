"""DICOM objects with the complete attribute set of their information objects, made by code, for pydicom 2.4 to 3.

Every type 1 and type 2 attribute of the mandatory modules is there, so dciodvfy finds no error in them. Contents are
asymmetric in every axis and nothing lies in the axial identity orientation. Patient and study are the same for one
``seed``, the series differ.

``size`` counts (slices or frames, rows, columns); ``spacing`` is between rows, then between columns, and ``step``
between slices, in mm; ``origin`` is the centre of the first voxel in DICOM's patient axes (LPS) in mm.
"""

import io

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

from tests.dicom_functional_groups import CT_SHARED, MR_PULSE_SEQUENCE, MR_SHARED, add_groups
from tests.dicom_objects import decimal, item, turned, write

CLASSES = {
    "ct": "1.2.840.10008.5.1.4.1.1.2",
    "enhanced_ct": "1.2.840.10008.5.1.4.1.1.2.1",
    "mr": "1.2.840.10008.5.1.4.1.1.4",
    "enhanced_mr": "1.2.840.10008.5.1.4.1.1.4.1",
    "xray": "1.2.840.10008.5.1.4.1.1.1.1",
    "ultrasound": "1.2.840.10008.5.1.4.1.1.3.1",
    "dermoscopy": "1.2.840.10008.5.1.4.1.1.77.1.4",
    "endoscopy": "1.2.840.10008.5.1.4.1.1.77.1.1",
    "endoscopy_video": "1.2.840.10008.5.1.4.1.1.77.1.1.1",
    "capture": "1.2.840.10008.5.1.4.1.1.7",
}
OBLIQUE = turned(12, -8, 20)
SAGITTAL_TILTED = turned(83, 7, 95)
CORONAL_TILTED = turned(-84, 5, 9)
DATE, TIME = "20240131", "101500"
PATIENT = {"PatientName": "Doe^Secret", "PatientID": "ID-SECRET", "PatientBirthDate": "19700102", "PatientSex": "O"}


# ---- contents --------------------------------------------------------------------------------------------------------


def content(size, seed=0, top=1000):
    """A volume (slice, row, column) of 0..``top`` without symmetry: a ramp along each axis, a box at a corner."""
    slices, rows, columns = size
    k, r, c = np.meshgrid(np.arange(slices), np.arange(rows), np.arange(columns), indexing="ij")
    ramps = 0.15 * k / slices + 0.3 * r / rows + 0.2 * c / columns
    box = (r < rows // 3) & (c < columns // 4) & (k <= slices // 2)
    noise = np.random.default_rng(seed).random(size)
    return np.rint(top * (ramps + 0.3 * box + 0.05 * noise)).astype(np.uint16)


def colours(size, seed=0):
    """A stack (frame, row, column, RGB) of 8-bit colours; smooth, so that JPEG changes it little."""
    frames, rows, columns = size
    k, r, c = np.meshgrid(np.arange(frames), np.arange(rows), np.arange(columns), indexing="ij")
    red = 60 + 150 * r / rows + 5 * k
    green = 180 - 120 * c / columns
    blue = 90 + 40 * ((r < rows // 3) & (c < columns // 4)) + np.random.default_rng(seed).integers(0, 3)
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 255).astype(np.uint8)


# ---- modules ---------------------------------------------------------------------------------------------------------


def code(value, scheme, meaning):
    """A sequence of one coded entry."""
    return Sequence([item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def common(kind, *, modality, seed, number=1):
    """Patient, General Study, General Series, General Equipment, General Image and SOP Common."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    fill(ds, PATIENT)
    fill(
        ds,
        {
            "SOPClassUID": CLASSES[kind],
            "SOPInstanceUID": uid("instance", kind, seed, number),
            "StudyInstanceUID": uid("study", seed),
            "SeriesInstanceUID": uid("series", kind, seed),
            "StudyDate": DATE,
            "StudyTime": TIME,
            "ReferringPhysicianName": "",
            "StudyID": "S1",
            "AccessionNumber": "ACC-SECRET",
            "Modality": modality,
            "SeriesNumber": str(1 + list(CLASSES).index(kind)),
            "SeriesDescription": f"made by code: {kind}",
            "Manufacturer": "Made by code",
            "ManufacturerModelName": "Sample",
            "DeviceSerialNumber": "1",
            "SoftwareVersions": "1",
            "InstanceNumber": str(number),
            "ContentDate": DATE,
            "ContentTime": TIME,
        },
    )
    return ds


def uid(*words):
    """The same identifier for the same words."""
    return generate_uid(entropy_srcs=[str(word) for word in words])


def fill(ds, attributes):
    """Set attributes by keyword."""
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)


def add_pixels(ds, pixels, *, photometric="MONOCHROME2", bits=None):
    """Image Pixel module: ``pixels`` is (rows, columns), with frames in front and colours behind if there are any."""
    colour = photometric == "RGB"
    shape = pixels.shape[:-1] if colour else pixels.shape
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = photometric
    if colour:
        ds.PlanarConfiguration = 0
    if len(shape) == 3:
        ds.NumberOfFrames = str(shape[0])
    ds.Rows, ds.Columns = shape[-2:]
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"


def place(orientation, origin, step, k):
    """Image Position (Patient) of slice ``k``, along the normal of the plane."""
    normal = np.cross(orientation[:3], orientation[3:])
    return decimal(np.array(origin) + k * step * normal)


def plane(ds, *, orientation, origin, spacing, step, k, seed):
    """Frame of Reference and Image Plane modules of slice ``k``."""
    ds.FrameOfReferenceUID = uid("frame of reference", seed)
    ds.PositionReferenceIndicator = ""
    ds.ImageOrientationPatient = decimal(orientation)
    ds.ImagePositionPatient = place(orientation, origin, step, k)
    ds.PixelSpacing = decimal(spacing)
    ds.SliceThickness = decimal(step)


# ---- radiology -------------------------------------------------------------------------------------------------------


def ct_series(
    *, size=(5, 23, 18), seed=0, orientation=OBLIQUE, origin=(-71.5, 33.25, 412.0), spacing=(0.9, 0.7), step=2.5
):
    """CT Image Storage, 12 bits stored, Hounsfield units by rescale (intercept -1024)."""
    objects = []
    for k, pixels in enumerate(content(size, seed, top=2000)):
        ds = common("ct", modality="CT", seed=seed, number=k + 1)
        plane(ds, orientation=orientation, origin=origin, spacing=spacing, step=step, k=k, seed=seed)
        fill(ds, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "PatientPosition": "HFS", "KVP": "120"})
        fill(ds, {"AcquisitionNumber": "1", "RescaleIntercept": "-1024", "RescaleSlope": "1", "RescaleType": "HU"})
        fill(ds, {"WindowCenter": "40", "WindowWidth": "400", "BodyPartExamined": "ABDOMEN"})
        add_pixels(ds, pixels, bits=12)
        objects.append(ds)
    return objects


def mr_series(
    *, size=(7, 19, 26), seed=0, orientation=SAGITTAL_TILTED, origin=(12.0, -80.5, 61.0), spacing=(0.8, 1.1), step=3.0
):
    """MR Image Storage (T1 spin echo) without a rescale."""
    objects = []
    for k, pixels in enumerate(content(size, seed, top=900)):
        ds = common("mr", modality="MR", seed=seed, number=k + 1)
        plane(ds, orientation=orientation, origin=origin, spacing=spacing, step=step, k=k, seed=seed)
        fill(ds, {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "PatientPosition": "HFS", "BodyPartExamined": "BRAIN"})
        fill(ds, {"ScanningSequence": "SE", "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": "2D"})
        fill(ds, {"RepetitionTime": "500", "EchoTime": "15", "EchoTrainLength": "1", "AcquisitionNumber": "1"})
        fill(ds, {"MagneticFieldStrength": "1.5", "WindowCenter": "450", "WindowWidth": "900"})
        add_pixels(ds, pixels, bits=12)
        objects.append(ds)
    return objects


def xray(*, size=(1, 31, 26), seed=0, spacing=(0.2, 0.15), photometric="MONOCHROME1", orientation=("L", "F")):
    """Digital X-Ray Image Storage for presentation, one frame of 12 bits, with a spacing at the detector.

    ``orientation`` is Patient Orientation: the direction of rows, then of columns.
    """
    ds = common("xray", modality="DX", seed=seed)
    dark_first = photometric == "MONOCHROME2"
    fill(ds, {"ImageType": ["ORIGINAL", "PRIMARY"], "PresentationIntentType": "FOR PRESENTATION"})
    fill(ds, {"PatientOrientation": list(orientation), "ImageLaterality": "U", "BodyPartExamined": "CHEST"})
    fill(ds, {"AnatomicRegionSequence": code("51185008", "SCT", "Thorax"), "AcquisitionContextSequence": Sequence()})
    fill(ds, {"PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": -1 if dark_first else 1})
    fill(ds, {"RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "US", "BurnedInAnnotation": "NO"})
    fill(ds, {"PresentationLUTShape": "IDENTITY" if dark_first else "INVERSE", "LossyImageCompression": "00"})
    fill(ds, {"WindowCenter": "2048", "WindowWidth": "4096", "DetectorType": "DIRECT", "KVP": "110"})
    fill(ds, {"ImagerPixelSpacing": decimal(spacing), "PositionerType": "NONE", "ViewPosition": "PA"})
    ds.ViewCodeSequence = code("399348003", "SCT", "postero-anterior")
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence()
    add_pixels(ds, content(size, seed, top=3000)[0], photometric=photometric, bits=12)
    return ds


def ultrasound(*, size=(4, 25, 34), seed=0, spacing=(0.3, 0.4), photometric="PALETTE COLOR", jpeg=False):
    """Ultrasound Multi-frame Image Storage with one calibrated region: PALETTE COLOR, MONOCHROME2 or RGB."""
    ds = common("ultrasound", modality="US", seed=seed)
    fill(ds, {"ImageType": ["ORIGINAL", "PRIMARY"], "PatientOrientation": "", "LossyImageCompression": "00"})
    fill(ds, {"FrameIncrementPointer": pydicom.tag.Tag("FrameTime"), "FrameTime": "40", "AcquisitionNumber": "1"})
    fill(ds, {"BodyPartExamined": "ABDOMEN", "BurnedInAnnotation": "NO"})
    region = {"RegionSpatialFormat": 1, "RegionDataType": 1, "RegionFlags": 0, "RegionLocationMinX0": 0}
    region |= {"RegionLocationMinY0": 0, "RegionLocationMaxX1": size[2] - 1, "RegionLocationMaxY1": size[1] - 1}
    region |= {"PhysicalUnitsXDirection": 3, "PhysicalUnitsYDirection": 3}
    region |= {"PhysicalDeltaX": spacing[1] / 10, "PhysicalDeltaY": spacing[0] / 10}  # centimetres
    ds.SequenceOfUltrasoundRegions = Sequence([item(**region)])
    colour = photometric == "RGB"
    pixels = colours(size, seed) if colour else content(size, seed, top=255).astype(np.uint8)
    if colour:
        ds.UltrasoundColorDataPresent = 1
    if photometric == "PALETTE COLOR":
        ramp = np.arange(256)
        tables = {"Red": ramp, "Green": ramp * 7 % 256, "Blue": 255 - ramp}
        for name, table in tables.items():
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(ds, f"{name}PaletteColorLookupTableData", (table * 257).astype("<u2").tobytes())
    add_pixels(ds, pixels, photometric=photometric)
    if jpeg:
        pack_jpeg(ds, pixels)
    return ds


def capture_series(
    *, size=(4, 21, 17), seed=0, orientation=CORONAL_TILTED, origin=(5.0, 40.0, -7.5), spacing=(1.2, 0.6), step=2.0
):
    """Secondary Capture Image Storage whose slices have a place in the patient, as converters write it."""
    objects = []
    for k, pixels in enumerate(content(size, seed, top=4000)):
        ds = common("capture", modality="OT", seed=seed, number=k + 1)
        plane(ds, orientation=orientation, origin=origin, spacing=spacing, step=step, k=k, seed=seed)
        fill(ds, {"ConversionType": "WSD", "ImageType": ["DERIVED", "SECONDARY"], "BurnedInAnnotation": "NO"})
        fill(ds, {"BodyPartExamined": "HEAD", "PatientOrientation": ""})
        add_pixels(ds, pixels)
        objects.append(ds)
    return objects


# ---- multi-frame radiology -------------------------------------------------------------------------------------------


def enhanced(kind, *, modality, size, seed, orientation, origin, spacing, step, order, region):
    """What enhanced CT and MR share, and the pixels; frame ``f`` shows slice ``order[f]``, by default slice ``f``."""
    order = range(size[0]) if order is None else order
    ds = common(kind, modality=modality, seed=seed)
    fill(ds, {"FrameOfReferenceUID": uid("frame of reference", seed), "PositionReferenceIndicator": ""})
    fill(ds, {"ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "PixelPresentation": "MONOCHROME"})
    fill(ds, {"VolumetricProperties": "VOLUME", "VolumeBasedCalculationTechnique": "NONE", "PatientPosition": "HFS"})
    fill(ds, {"AcquisitionNumber": "1", "AcquisitionDateTime": DATE + TIME, "AcquisitionDuration": 10.0})
    fill(ds, {"AcquisitionContextSequence": Sequence(), "ContentQualification": "RESEARCH", "BurnedInAnnotation": "NO"})
    fill(ds, {"LossyImageCompression": "00", "PresentationLUTShape": "IDENTITY"})
    dimension = item(
        DimensionOrganizationUID=uid("dimensions", kind, seed),
        DimensionIndexPointer=pydicom.tag.Tag("ImagePositionPatient"),
        FunctionalGroupPointer=pydicom.tag.Tag("PlanePositionSequence"),
    )
    organisation = item(DimensionOrganizationUID=dimension.DimensionOrganizationUID)
    ds.DimensionOrganizationSequence = Sequence([organisation])
    ds.DimensionIndexSequence = Sequence([dimension])
    anatomy = item(FrameLaterality="U", AnatomicRegionSequence=code(*region))
    shared = item(
        PixelMeasuresSequence=Sequence([item(PixelSpacing=decimal(spacing), SliceThickness=decimal(step))]),
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=decimal(orientation))]),
        FrameAnatomySequence=Sequence([anatomy]),
    )
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [frame_groups(place(orientation, origin, step, k), index=k + 1) for k in order]
    )
    return ds, content(size, seed)[list(order)]


def frame_groups(position, *, index):
    """Frame Content and Plane Position of one frame."""
    moment = f"{DATE}{TIME}.{index:03d}"
    frame = item(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=moment,
        FrameAcquisitionDateTime=moment,
        FrameAcquisitionDuration=500.0,
        DimensionIndexValues=[index],
        StackID="1",
        InStackPositionNumber=index,
    )
    return item(
        FrameContentSequence=Sequence([frame]),
        PlanePositionSequence=Sequence([item(ImagePositionPatient=position)]),
    )


def enhanced_ct(
    *,
    size=(6, 22, 17),
    seed=0,
    orientation=OBLIQUE,
    origin=(30.0, -22.5, -310.0),
    spacing=(0.7, 0.9),
    step=1.5,
    order=None,
):
    """Enhanced CT Image Storage, Hounsfield units by rescale (intercept -1024)."""
    region = ("818983003", "SCT", "Abdomen")
    geometry = {"orientation": orientation, "origin": origin, "spacing": spacing, "step": step, "order": order}
    ds, pixels = enhanced("enhanced_ct", modality="CT", size=size, seed=seed, region=region, **geometry)
    add_groups(ds, CT_SHARED)
    add_pixels(ds, pixels, bits=12)
    return ds


def enhanced_mr(
    *,
    size=(5, 18, 24),
    seed=0,
    orientation=SAGITTAL_TILTED,
    origin=(-9.0, 60.0, 44.5),
    spacing=(1.1, 0.8),
    step=4.0,
    order=None,
):
    """Enhanced MR Image Storage with a rescale (slope 2, intercept -10)."""
    region = ("12738006", "SCT", "Brain")
    geometry = {"orientation": orientation, "origin": origin, "spacing": spacing, "step": step, "order": order}
    ds, pixels = enhanced("enhanced_mr", modality="MR", size=size, seed=seed, region=region, **geometry)
    fill(ds, MR_PULSE_SEQUENCE)
    add_groups(ds, MR_SHARED)
    add_pixels(ds, pixels, bits=12)
    return ds


# ---- visible light ---------------------------------------------------------------------------------------------------


def dermoscopy(*, size=(1, 32, 44), seed=0, jpeg=False):
    """VL Photographic Image Storage, RGB; ``jpeg`` packs it as a camera does (baseline, YBR_FULL_422)."""
    ds = visible_light("dermoscopy", colours(size, seed)[0], modality="XC", region="Skin", seed=seed, jpeg=jpeg)
    ds.Laterality = "L"
    return ds


def endoscopy(*, size=(1, 30, 40), seed=0, jpeg=False):
    """VL Endoscopic Image Storage (one frame) or Video Endoscopic Image Storage (several), RGB."""
    pixels = colours(size, seed)
    if size[0] == 1:
        return visible_light("endoscopy", pixels[0], modality="ES", region="Colon", seed=seed, jpeg=jpeg)
    ds = visible_light("endoscopy_video", pixels, modality="ES", region="Colon", seed=seed, jpeg=jpeg)
    fill(ds, {"FrameIncrementPointer": pydicom.tag.Tag("FrameTime"), "FrameTime": "40"})
    return ds


def visible_light(kind, pixels, *, modality, region, seed, jpeg):
    """VL Image, Acquisition Context and Image Pixel modules of ``pixels`` ([frames,] rows, columns, 3)."""
    ds = common(kind, modality=modality, seed=seed)
    value = {"Skin": "39937001", "Colon": "71854001"}[region]
    fill(ds, {"ImageType": ["ORIGINAL", "PRIMARY"], "PatientOrientation": "", "LossyImageCompression": "00"})
    fill(ds, {"AcquisitionContextSequence": Sequence(), "AnatomicRegionSequence": code(value, "SCT", region)})
    fill(ds, {"BurnedInAnnotation": "NO", "AcquisitionDateTime": DATE + TIME})
    add_pixels(ds, pixels, photometric="RGB")
    if jpeg:
        pack_jpeg(ds, pixels.reshape(-1, *pixels.shape[-3:]))
    return ds


def pack_jpeg(ds, frames):
    """Replace the pixel data by baseline JPEG of ``frames`` (frame, row, column, 3)."""
    packed = []
    for frame in frames:
        stream = io.BytesIO()
        Image.fromarray(frame).save(stream, format="JPEG", quality=95, subsampling="4:2:2")
        packed.append(stream.getvalue())
    fill(ds, {"PhotometricInterpretation": "YBR_FULL_422", "LossyImageCompression": "01"})
    ratio = frames.nbytes / sum(len(stream) for stream in packed)
    fill(ds, {"LossyImageCompressionRatio": f"{ratio:.2f}", "LossyImageCompressionMethod": "ISO_10918_1"})
    ds.PixelData = encapsulate(packed)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit


# ---- files -----------------------------------------------------------------------------------------------------------


def write_samples(objects, folder):
    """Write one object or a list, each in its own transfer syntax, and return the paths."""
    objects = [objects] if isinstance(objects, Dataset) else objects
    names = (f"{number:04d}.dcm" for number in range(len(objects)))
    return [write(ds, folder / name, ds.file_meta.TransferSyntaxUID) for ds, name in zip(objects, names, strict=False)]
