"""MONAI Label between annotators and a PACS: series come from Orthanc, finished labels go back as DICOM SEG."""

from __future__ import annotations

import os
import subprocess
import sys

import nibabel
import numpy as np
import pydicom
import pytest

from banet_monai.data.phantom_files import oblique_grid, write_series
from banet_monai.data.skin_phantom import skin_volume
from banet_monai.dicom import SeriesReader
from banet_monai.dicom.seg_reading import read_seg
from banet_monai.dicom.web import DicomWeb
from tests.bundle_runs import SECONDS
from tests.label_server import banet_label, built_archive, read_mask
from tests.orthanc import Orthanc, free_port, why_missing

pytest.importorskip("highdicom")
pytestmark = pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "Orthanc is here")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("label-pacs")


@pytest.fixture(scope="module")
def archive(place):
    return built_archive(place / "dist")


@pytest.fixture(scope="module")
def series(place):
    """An MR series on an oblique grid, in which the skin model finds its lesion."""
    rng = np.random.default_rng(5)
    volume, _ = skin_volume(rng, (72, 84, 5))
    folder = place / "series"
    write_series(folder, volume, oblique_grid(rng, (0.7, 0.7, 4.0)), seed=5)
    return folder


@pytest.fixture(scope="module")
def orthanc(place, series):
    with Orthanc(place / "orthanc") as pacs, DicomWeb(pacs.url, timeout=20, retries=1) as web:
        web.store(sorted(series.iterdir()))
        yield pacs


@pytest.fixture(scope="module")
def server(place, archive, orthanc):
    folder = place / "server"
    folder.mkdir()
    words = (orthanc.url, "--bundle", archive, "--modality", "MR", "--no-scoring")
    with banet_label(folder, free_port(), *words) as running:
        yield running


@pytest.fixture(scope="module")
def uid(series):
    return str(pydicom.dcmread(next(series.iterdir()), stop_before_pixels=True).SeriesInstanceUID)


@pytest.fixture(scope="module")
def plain(place, archive, series):
    """The mask that ``monai.bundle run`` makes of the DICOM files."""
    line = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(archive / "configs" / "inference.json")]
    line += ["--bundle_root", str(archive), "--dataset_dir", str(series), "--output_dir", str(place / "plain")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    return next((place / "plain").glob("*_mask.nii.gz"))


def in_patient_order(voxels, affine):
    """A volume and its affine with axes turned to RAS: readers disagree on which end of a series comes first."""
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels.astype(np.uint8), affine))
    return np.asarray(image.dataobj), image.affine


def test_a_series_is_outlined_by_its_uid_in_the_patients_space(server, uid, plain, tmp_path):
    answer = server.infer(uid, result_extension=".nrrd", result_dtype="uint8")
    voxels, affine = in_patient_order(*answer.array(tmp_path))
    wanted, wanted_affine = in_patient_order(*read_mask(plain))
    assert wanted.any()
    np.testing.assert_array_equal(voxels, wanted)
    np.testing.assert_allclose(affine, wanted_affine, atol=1e-3)


def test_an_unknown_series_is_refused_in_words(server):
    answer = server.infer("1.2.3.4")
    assert (answer.status, "there is no image '1.2.3.4'" in answer.detail) == (404, True)


def test_a_finished_label_is_stored_as_dicom_seg_that_refers_to_its_series(
    server, orthanc, uid, plain, series, tmp_path
):
    assert server.next_image("random")["id"] == uid
    label = {"name": "skin lesion", "model_name": "annotator"}
    server.submit(uid, plain, label_info=[label])

    (entry,) = [found for found in orthanc.ask("/series?expand") if found["MainDicomTags"]["Modality"] == "SEG"]
    (instance,) = entry["Instances"]
    path = tmp_path / "stored.dcm"
    path.write_bytes(orthanc.fetch(f"/instances/{instance}/file"))
    seg = pydicom.dcmread(path)
    assert str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID) == uid
    assert [str(segment.SegmentLabel) for segment in seg.SegmentSequence] == ["skin lesion"]

    reader = SeriesReader()
    array, meta = reader.get_data(reader.read([str(file) for file in sorted(series.iterdir())]))
    wanted, wanted_affine = read_mask(plain)
    assert wanted.shape == array.shape[:3]
    np.testing.assert_allclose(wanted_affine, meta["affine"], atol=1e-4)
    np.testing.assert_array_equal(read_seg(path, like=meta).array, wanted)
