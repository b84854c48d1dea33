"""Tools by other people that judge our DICOM: dciodvfy (Debian dicom3tools) and dcmqi (from the test packages)."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Findings:
    """What dciodvfy says of one file; lines that repeat (once per frame) stand once."""

    errors: list[str]
    warnings: list[str]


@dataclasses.dataclass(frozen=True)
class Grid:
    """A picture in space: ``values`` (column, row, slice) and the (4, 4) matrix from indices to LPS mm."""

    values: np.ndarray
    lps: np.ndarray

    def corners(self) -> np.ndarray:
        """(8, 3): the centres of the corner voxels, LPS mm."""
        ends = itertools.product(*((0, size - 1) for size in self.values.shape))
        return np.array([(self.lps @ (*end, 1))[:3] for end in ends])


def dciodvfy(path):
    """Judge one file. The exit status is not used: it is 0 for some errors."""
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    done = subprocess.run([tool, str(path)], capture_output=True, text=True, errors="replace", timeout=SECONDS)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    if not any(lines):
        raise AssertionError(f"dciodvfy said nothing about {path} and ended with {done.returncode}")
    found = {kind: [line for line in dict.fromkeys(lines) if line.startswith(kind)] for kind in ("Error", "Warning")}
    return Findings(found["Error"], found["Warning"])


def dcmqi(tool, *arguments):
    """Run one of dcmqi's tools from the environment of this Python."""
    program = Path(sys.executable).with_name(tool)
    if not program.exists():
        pytest.skip(f"{tool} is not installed: pip install dcmqi")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise AssertionError(f"{tool} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def segments_by_dcmqi(seg, folder, kind="nrrd"):
    """What dcmqi reads from a SEG: segment number -> Grid."""
    folder.mkdir(parents=True, exist_ok=True)
    dcmqi("segimage2itkimage", "--inputDICOM", seg, "--outputDirectory", folder, "--outputType", kind, "-p", "s")
    suffix = {"nrrd": ".nrrd", "nii": ".nii.gz"}[kind]
    load = {"nrrd": read_itk, "nii": read_nifti}[kind]
    return {int(path.name[len("s-") : -len(suffix)]): load(path) for path in sorted(folder.glob(f"s-*{suffix}"))}


def read_itk(path):
    """Any file that ITK reads."""
    image = SimpleITK.ReadImage(str(path))
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return Grid(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), lps)


def read_nifti(path):
    """A NIfTI volume, read by nibabel."""
    image = nib.load(path)
    return Grid(np.asarray(image.dataobj), RAS_LPS @ image.affine)


def pulled_onto(grid, shape, lps):
    """The values of ``grid`` at the voxels of another one, 0 outside of ``grid``.

    Voxel centres must meet within 0.01 mm, and no content of ``grid`` may be left over.
    """
    places = lps @ np.vstack([np.indices(shape).reshape(3, -1), np.ones(np.prod(shape))])
    indices = np.linalg.inv(grid.lps) @ places
    nearest = np.rint(indices)
    assert np.abs(grid.lps @ nearest - places)[:3].max() < 0.01, "the voxels of the two grids do not meet"
    nearest = nearest[:3].astype(int)
    inside = ((nearest >= 0) & (nearest < np.array(grid.values.shape)[:, None])).all(axis=0)
    values = np.zeros(np.prod(shape), dtype=grid.values.dtype)
    values[inside] = grid.values[tuple(nearest[:, inside])]
    assert np.count_nonzero(values) == np.count_nonzero(grid.values), "content lies outside of our grid"
    return values.reshape(shape)


def seg_by_dcmqi(ids, sources, folder, *, segments):
    """Let dcmqi write a SEG of label ids (``Grid``) over source files; ``segments``: label id -> (code, meaning)."""
    image = nib.Nifti1Image(ids.values.astype(np.uint8), RAS_LPS @ ids.lps)
    image.header.set_xyzt_units("mm")
    nib.save(image, folder / "ids.nii.gz")
    category = {"CodeValue": "91723000", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Anatomical Structure"}
    attributes = [
        {
            "labelID": number,
            "SegmentLabel": meaning,
            "SegmentDescription": meaning,
            "SegmentAlgorithmType": "AUTOMATIC",
            "SegmentAlgorithmName": "made by code",
            "SegmentedPropertyCategoryCodeSequence": category,
            "SegmentedPropertyTypeCodeSequence": {
                "CodeValue": value,
                "CodingSchemeDesignator": "SCT",
                "CodeMeaning": meaning,
            },
            "recommendedDisplayRGBValue": [40 * number, 200, 90],
        }
        for number, (value, meaning) in segments.items()
    ]
    metadata = {
        "ContentCreatorName": "Reader",
        "ContentLabel": "SEGMENTATION",
        "ContentDescription": "made by code",
        "SeriesDescription": "made by dcmqi",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "segmentAttributes": [attributes],
    }
    (folder / "meta.json").write_text(json.dumps(metadata))
    files = ",".join(map(str, sources))
    given = ["--inputImageList", folder / "ids.nii.gz", "--inputDICOMList", files]
    dcmqi("itkimage2segimage", *given, "--inputMetadata", folder / "meta.json", "--outputDICOM", folder / "seg.dcm")
    return folder / "seg.dcm"
