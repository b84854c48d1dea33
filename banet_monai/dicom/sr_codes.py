"""What each measurement is called in a Structured Report: concepts and units, written out as PS3.16 prints them.

Concepts come from SNOMED CT (``SCT``), DICOM (``DCM``) and the Image Biomarker Standardisation Initiative (``IBSI``),
CID 7470 to 7477; what none of them names is of our own scheme ``99BANET``, explained in ``docs/measurements.md``. Units
are UCUM (CID 7181). One cubic centimetre is one millilitre.
"""

from __future__ import annotations

from banet_monai.dicom.segments import Code

__all__ = [
    "CUT_OFF",
    "DEVICE",
    "DIAMETERS",
    "INTENSITIES",
    "NO",
    "OWN_SCHEME",
    "PROCEDURES",
    "QUANTITIES",
    "UNITS",
    "YES",
    "intensity_concept",
    "procedure_of",
]

OWN_SCHEME = "99BANET"

UNITS = {
    "mm": Code("mm", "UCUM", "millimeter"),
    "mm2": Code("mm2", "UCUM", "square millimeter"),
    "ml": Code("cm3", "UCUM", "cubic centimeter"),
    "px": Code("{pixels}", "UCUM", "pixels"),
    "px2": Code("{pixels}", "UCUM", "pixels"),  # so many pixels large: UCUM has no power of an annotation
    "px3": Code("{voxels}", "UCUM", "voxels"),
    "": Code("1", "UCUM", "no units"),
    "HU": Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
}

AREA = Code("42798000", "SCT", "Area")
VOLUME = Code("118565006", "SCT", "Volume")
PERIMETER = Code("131191004", "SCT", "Perimeter")
SURFACE = Code("C0JK", "IBSI", "Surface Area of Mesh")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
SHORT_AXIS = Code("103340004", "SCT", "Short axis")
LONGEST_3D = Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh")
PERPENDICULAR_3D = Code("131189007", "SCT", "Perpendicular Axis")
SPHERICITY = Code("QCFX", "IBSI", "Sphericity")
VOLUME_DENSITY = Code("R3ER", "IBSI", "Volume Density in Convex Hull")
EQUIVALENT_DIAMETER = Code("EQUIVDIAMETER", OWN_SCHEME, "Diameter of equal circle or ball")
CIRCULARITY = Code("CIRCULARITY", OWN_SCHEME, "Circularity")
AREA_DENSITY = Code("SOLIDITY", OWN_SCHEME, "Area share of convex hull")
IRREGULARITY = Code("IRREGULARITY", OWN_SCHEME, "Border irregularity")
ASYMMETRY = Code("ASYMMETRY", OWN_SCHEME, "Asymmetry about principal axes")
BORDER_DISTANCE = Code("BORDERDISTANCE", OWN_SCHEME, "Distance to the border of the image")
COMPONENTS = Code("COMPONENTS", OWN_SCHEME, "Number of components")
CUT_OFF = Code("CUTOFF", OWN_SCHEME, "Cut off at the border of the image")

# Field of a measurement -> its concept in 2D and in 3D, and the field or kind that its unit follows from
QUANTITIES: dict[str, tuple[Code | None, Code | None, str]] = {
    "area": (AREA, None, "area_unit"),
    "volume": (None, VOLUME, "volume_unit"),
    "perimeter": (PERIMETER, None, "unit"),
    "surface": (None, SURFACE, "area_unit"),
    "equivalent_diameter": (EQUIVALENT_DIAMETER, EQUIVALENT_DIAMETER, "unit"),
    "circularity": (CIRCULARITY, None, ""),
    "sphericity": (None, SPHERICITY, ""),
    "solidity": (AREA_DENSITY, VOLUME_DENSITY, ""),
    "border_irregularity": (IRREGULARITY, None, ""),
    "asymmetry": (ASYMMETRY, ASYMMETRY, ""),
    "border_distance": (BORDER_DISTANCE, BORDER_DISTANCE, "unit"),
    "components": (COMPONENTS, COMPONENTS, ""),
}

DIAMETERS = {
    "longest_diameter": (LONG_AXIS, LONGEST_3D),
    "perpendicular_diameter": (SHORT_AXIS, PERPENDICULAR_3D),
}

# Field of the intensities -> derivation (CID 7464)
INTENSITIES = {
    "mean": Code("373098007", "SCT", "Mean"),
    "standard_deviation": Code("386136009", "SCT", "Standard Deviation"),
    "minimum": Code("255605001", "SCT", "Minimum"),
    "median": Code("373099004", "SCT", "Median"),
    "maximum": Code("56851009", "SCT", "Maximum"),
}
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
PIXEL_VALUE = Code("PIXELVALUE", OWN_SCHEME, "Pixel value after modality transformation")

YES, NO = Code("373066001", "SCT", "Yes"), Code("373067005", "SCT", "No")
DEVICE = Code("121007", "DCM", "Device")

PROCEDURES = {
    "CT": Code("77477000", "SCT", "Computed tomography"),
    "MR": Code("113091000", "SCT", "Magnetic resonance imaging"),
    "US": Code("16310003", "SCT", "Diagnostic ultrasonography"),
    "CR": Code("168537006", "SCT", "Plain radiography"),
    "DX": Code("168537006", "SCT", "Plain radiography"),
}
ANY_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")


def procedure_of(modality: str) -> Code:
    """Procedure reported, from the modality of the source; imaging where no closer word is known."""
    return PROCEDURES.get(modality, ANY_PROCEDURE)


def intensity_concept(*, is_hounsfield: bool) -> tuple[Code, Code]:
    """Concept and unit of intensities: attenuation in Hounsfield units, or pixel values."""
    return (ATTENUATION, UNITS["HU"]) if is_hounsfield else (PIXEL_VALUE, UNITS[""])
