"""A round trip through a PACS that we did not write: Orthanc, started here and stopped."""

import os
import subprocess
import sys

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import RLELossless

from banet_monai.dicom import SeriesReader
from banet_monai.dicom.seg import write_seg
from banet_monai.dicom.web import DicomWeb, PacsError
from tests import dicom_samples
from tests.bundle_runs import ROOT, constant_network, make_clone
from tests.dicom_objects import run_length_packed, write, write_all
from tests.orthanc import Orthanc, free_port, why_missing

pytest.importorskip("dicomweb_client")
pytestmark = pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "Orthanc is here")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture
def web(orthanc):
    with DicomWeb(orthanc.url, timeout=20, retries=1) as service:
        yield service


def ct_files(folder, *, seed):
    return write_all(dicom_samples.ct_series(seed=seed), folder)


def uids_in(path):
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    return str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)


def sop_uid(path):
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def references(seg):
    instances = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    return {str(item.ReferencedSOPInstanceUID) for item in instances}


def read(paths):
    reader = SeriesReader()
    return reader.get_data(reader.read(paths))


def contents(paths):
    return sorted(path.read_bytes() for path in paths)


def test_series_comes_back_with_the_same_bytes_voxels_and_place(web, tmp_path):
    files = ct_files(tmp_path / "own", seed=1)
    assert web.store(files).stored == tuple(files)
    back = web.retrieve(*uids_in(files[0]), folder=tmp_path / "back")
    assert contents(back) == contents(files)
    (own, own_meta), (array, meta) = read(files), read(back)
    np.testing.assert_array_equal(array, own)
    np.testing.assert_array_equal(meta["affine"], own_meta["affine"])


def test_compressed_series_comes_back_as_it_was_compressed(web, tmp_path):
    objects = [run_length_packed(ds) for ds in dicom_samples.ct_series(seed=2)]
    files = [write(ds, tmp_path / "own" / f"{k}.dcm", syntax=RLELossless) for k, ds in enumerate(objects)]
    assert web.store(files).stored == tuple(files)
    assert contents(web.retrieve(*uids_in(files[0]), folder=tmp_path / "back")) == contents(files)


def test_storing_twice_stores_once(web, orthanc, tmp_path):
    files = ct_files(tmp_path / "own", seed=3)
    before = len(orthanc.ask("/instances"))
    assert web.store(files).stored == tuple(files)
    again = web.store(files)
    assert (again.stored, again.present, again.failed) == ((), tuple(files), ())
    assert len(orthanc.ask("/instances")) == before + len(files)


def test_segmentation_goes_in_and_comes_back_beside_its_series(web, tmp_path):
    pytest.importorskip("highdicom")
    files = ct_files(tmp_path / "own", seed=4)
    web.store(files)
    study, series = uids_in(files[0])
    source = web.retrieve(study, series, folder=tmp_path / "source")
    array, _ = read(source)
    mask = (array > np.median(array)).astype(np.uint8)
    seg = write_seg(mask, source, tmp_path / "out" / "a_mask.dcm", task="lung")
    assert web.store([seg]).stored == (seg,)

    (back,) = web.retrieve(*uids_in(seg), folder=tmp_path / "seg")
    own, other = pydicom.dcmread(seg), pydicom.dcmread(back)
    assert own.StudyInstanceUID == study
    assert other.PixelData == own.PixelData
    assert other.ReferencedSeriesSequence == own.ReferencedSeriesSequence
    assert references(other) <= set(map(sop_uid, files))
    whole_study = web.retrieve(study, folder=tmp_path / "study")
    assert contents(whole_study) == contents(files), "a result is no image to segment again"


def test_what_the_server_has_not_is_named(web, orthanc, tmp_path):
    files = ct_files(tmp_path / "own", seed=5)
    web.store(files[:1])
    study, series = uids_in(files[0])
    with pytest.raises(PacsError, match="has no such study"):
        web.retrieve("1.2.3", folder=tmp_path / "a")
    with pytest.raises(PacsError, match="has no such series in this study"):
        web.retrieve(study, "1.2.3", folder=tmp_path / "b")
    with (
        DicomWeb(orthanc.root + "/elsewhere", retries=0) as wrong,
        pytest.raises(PacsError, match="answered 404: it holds nothing there: check the address, the DICOMweb prefix"),
    ):
        wrong.retrieve(study, series, folder=tmp_path / "c")


def test_server_that_dies_on_the_way_loses_nothing_and_gets_nothing_twice(tmp_path):
    files = ct_files(tmp_path / "own", seed=6)
    own = contents(files)
    with Orthanc(tmp_path / "orthanc") as server:
        with DicomWeb(server.url, timeout=5, retries=1, backoff=0.05) as web:
            report = web.store(files, progress=lambda done, of: server.kill() if done == 2 else None)
        assert report.stored == tuple(files[:2])
        assert [path for path, _ in report.failed] == files[2:]
        assert "no connection, or it was cut" in report.failed[0].reason
        assert contents(files) == own

        server.start()
        with DicomWeb(server.url, timeout=20, retries=1) as web:
            report = web.store(files)
            assert (report.present, report.stored, report.failed) == (tuple(files[:2]), tuple(files[2:]), ())
            assert len(server.ask("/instances")) == len(files)

            study, series = uids_in(files[0])
            with pytest.raises(PacsError, match=r"instance 3 of \d+: the server .*no connection"):
                web.retrieve(
                    study,
                    series,
                    folder=tmp_path / "in",
                    progress=lambda done, of: server.kill() if done == 2 else None,
                )
        assert not (tmp_path / "in").exists(), "half a series must not be taken for a whole one"


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A bundle whose network calls every pixel lesion."""
    folder = make_clone(tmp_path_factory.mktemp("clone"))
    torch.save(constant_network(5.0).state_dict(), folder / "bundle" / "models" / "model.pt")
    return folder


def banet(*words):
    """Exit code and output of the command."""
    done = subprocess.run(
        [sys.executable, "-c", "from banet_monai.cli import main; main()", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout


def results_in(orthanc, study):
    """The SEG objects that the PACS holds for a study, as bytes, by its own interface."""
    found = []
    for series in orthanc.ask("/series?expand"):
        of_study = orthanc.ask(f"/studies/{series['ParentStudy']}")["MainDicomTags"]["StudyInstanceUID"] == study
        if of_study and series["MainDicomTags"]["Modality"] == "SEG":
            found += [orthanc.fetch(f"/instances/{instance}/file") for instance in series["Instances"]]
    return found


@pytest.mark.slow
def test_command_segments_a_series_of_the_pacs_and_stores_the_result_there(web, orthanc, clone, tmp_path):
    files = ct_files(tmp_path / "own", seed=7)
    web.store(files)
    study, series = uids_in(files[0])
    address = f"{orthanc.url}/studies/{study}/series/{series}"
    settings = ("--bundle", clone / "bundle", "--set", "image_size=64", "--device", "cpu")
    code, said = banet("segment", address, "-o", tmp_path / "out", "--format", "dicom-seg", "--store", *settings)
    assert code == 0, said
    assert "1 stored" in said
    (own,) = (tmp_path / "out").rglob("*_mask.dcm")
    assert results_in(orthanc, study) == [own.read_bytes()]
    assert references(pydicom.dcmread(own)) == set(map(sop_uid, files))
    said += (tmp_path / "out" / "manifest.json").read_text()
    assert not [secret for secret in ("Doe", "ID-SECRET", study, series) if secret in said]


@pytest.mark.slow
def test_command_keeps_the_result_when_the_pacs_is_away_and_stores_it_later(web, orthanc, clone, tmp_path):
    files = ct_files(tmp_path / "own", seed=8)
    web.store(files)
    settings = ("--bundle", clone / "bundle", "--set", "image_size=64", "--device", "cpu", "--retries", "0")
    away = f"http://127.0.0.1:{free_port()}/dicom-web"
    words = ("segment", tmp_path / "own", "-o", tmp_path / "out", "--format", "dicom-seg")
    code, said = banet(*words, "--store", away, *settings)
    assert code != 0
    assert "no connection" in said
    (own,) = (tmp_path / "out").rglob("*_mask.dcm")
    data = own.read_bytes()

    for expected in ("1 stored", "0 stored, 1 already there"):
        code, said = banet("store", tmp_path / "out", orthanc.url)
        assert code == 0, said
        assert expected in said
    assert results_in(orthanc, uids_in(files[0])[0]) == [data]
    assert own.read_bytes() == data
