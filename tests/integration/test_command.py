"""The installed command ``banet``, run as a user types it, with the shipped weights."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from tests import dicom_samples
from tests.bundle_runs import SECONDS

pytest.importorskip("highdicom")
pytestmark = pytest.mark.slow

BANET = Path(sys.executable).with_name("banet")
SMALL = ("--set", "image_size=64")
SECRETS = ("Secret", "ID-SECRET", "ACC-SECRET", "19700102", "20240131")


def banet(*words, cwd, expect=0, **variables):
    """Run the command and return (stdout, stderr)."""
    line = [str(BANET), *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def only_error(*words, cwd, expect=2):
    out, error = banet(*words, cwd=cwd, expect=expect)
    assert out == ""
    assert len(error.splitlines()) == 1, error
    return error


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def picture(path, *, size=(64, 48), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A working directory with ``mixed/``: a CT series, an X-ray, a dermoscopy picture as DICOM, NIfTI, PNG, a note."""
    folder = tmp_path_factory.mktemp("work")
    mixed = folder / "mixed"
    dicom_samples.write_samples(dicom_samples.ct_series(size=(3, 40, 48)), mixed / "ct")
    dicom_samples.write_samples(dicom_samples.xray(size=(1, 48, 40)), mixed / "xray")
    dicom_samples.write_samples(dicom_samples.dermoscopy(size=(1, 40, 56)), mixed / "dermoscopy")
    values = np.random.default_rng(0).integers(0, 400, (40, 44, 3)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([0.7, 0.8, 3.0, 1.0])), mixed / "volume.nii.gz")
    picture(mixed / "mole.png")
    (mixed / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def mixed(work):
    """What the terminal showed, and the results."""
    shown = banet("segment", "mixed", "-o", "out", "--format", "dicom-seg", "--overlay", *SMALL, cwd=work)
    return shown, work / "out"


def test_a_mixed_folder_goes_through_in_one_call(mixed):
    (out, _), folder = mixed
    assert out == "5 done, 1 skipped, 0 failed\nresults and manifest.json: out\n"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*_mask.*")) == [
        "ct_mask.dcm",
        "dermoscopy/0000_mask.dcm",
        "mole_mask.png",
        "volume_mask.nii.gz",
        "xray/0000_mask.dcm",
    ]


def test_a_result_refers_to_every_image_of_its_series(work, mixed):
    _, folder = mixed
    seg = pydicom.dcmread(folder / "ct_mask.dcm")
    assert seg.Modality == "SEG"
    assert seg.SegmentationType == "BINARY"
    assert seg.SeriesDescription.endswith("(research)")
    files = [pydicom.dcmread(path) for path in sorted((work / "mixed" / "ct").iterdir())]
    referenced = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {item.ReferencedSOPInstanceUID for item in referenced} == {ds.SOPInstanceUID for ds in files}


def test_the_terminal_shows_warnings_one_line_each_and_no_log_of_a_library(mixed):
    (_, error), _ = mixed
    lines = error.splitlines()
    assert lines
    assert all(line.startswith("banet: warning: ") for line in lines), error
    assert any("ct: the modality is CT" in line for line in lines)
    assert not any(word in error for word in ("nvImageCodec", "monai", "ignite", "INFO", "UserWarning"))


def test_the_manifest_tells_the_fate_of_every_file_and_nothing_of_a_patient(mixed):
    (out, error), folder = mixed
    text = (folder / "manifest.json").read_text()
    fates = {entry["path"]: entry["fate"] for entry in manifest(folder)["files"]}
    assert fates["ct"] == fates["mole.png"] == fates["dermoscopy/0000.dcm"] == "result"
    assert fates["notes.txt"] == "skipped"
    assert manifest(folder)["notice"] == "For research use, not a medical device."
    for secret in (*SECRETS, str(folder.parent)):
        assert secret not in text + out + error


def test_without_paths_a_manifest_holds_case_numbers_only(work):
    secret = work / "Doe_Jane_1970"
    shutil.copytree(work / "mixed" / "ct", secret / "ct")
    picture(secret / "jane.png")
    (secret / "torn_jane.dcm").write_bytes((work / "mixed" / "xray" / "0000.dcm").read_bytes()[:-1500])
    (secret / "letter.txt").write_text("no picture")
    words = ("segment", secret, "-o", "hidden", "--no-paths", *SMALL)
    out, error = banet(*words, cwd=work, expect=1)
    text = (work / "hidden" / "manifest.json").read_text()
    for word in ("jane", "Doe", "letter", "0000.dcm", "0001.dcm", "ct/", str(secret)):
        assert word not in text + out + error
    assert {entry["path"].split("/")[0] for entry in manifest(work / "hidden")["files"]} == {
        *("case-0001", "case-0002", "case-0003", "skipped-0001"),
    }


def test_a_broken_file_among_good_ones_fails_alone(work):
    for name in ("a", "z"):
        picture(work / "batch" / f"{name}.png")
    (work / "batch" / "torn.png").write_bytes((work / "batch" / "a.png").read_bytes()[:900])
    out, error = banet("segment", "batch", "-o", "batch_out", *SMALL, cwd=work, expect=1)
    assert out.startswith("2 done, 0 skipped, 1 failed\n")
    assert error.startswith("banet: failed: torn: torn.png")
    assert len(error.splitlines()) == 1
    assert sorted(path.name for path in (work / "batch_out").iterdir()) == [
        *("a_mask.png", "manifest.json", "z_mask.png"),
    ]


def test_a_zip_file_is_segmented_like_its_folder(work):
    with zipfile.ZipFile(work / "study.zip", "w") as archive:
        for path in sorted((work / "mixed" / "ct").iterdir()):
            archive.write(path, f"ct/{path.name}")
        archive.write(work / "mixed" / "mole.png", "mole.png")
    banet("segment", "study.zip", "-o", "from_zip", *SMALL, cwd=work)
    banet("segment", "mixed/ct", "-o", "from_folder", *SMALL, cwd=work)
    (from_zip,) = (work / "from_zip").rglob("ct_mask.nii.gz")
    one, other = nib.load(from_zip), nib.load(work / "from_folder" / "ct_mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    np.testing.assert_array_equal(one.affine, other.affine)


def test_a_hostile_zip_file_is_refused_in_one_line(work):
    with zipfile.ZipFile(work / "hostile.zip", "w") as archive:
        archive.writestr("../escaped.png", b"x")
    only_error("segment", "hostile.zip", "-o", "hostile_out", cwd=work)
    assert not (work.parent / "escaped.png").exists()
    assert not (work / "hostile_out").exists()


def test_series_rules_choose_what_is_segmented(work):
    out, _ = banet("segment", "mixed", "-o", "chosen", "--series", "modality=ct", *SMALL, cwd=work)
    assert out.startswith("1 done,")
    assert [path.name for path in (work / "chosen").rglob("*_mask.*")] == ["ct_mask.nii.gz"]
    error = only_error("segment", "mixed", "-o", "chosen_none", "--series", "modality=PT", cwd=work)
    assert "the series rules choose nothing" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("segmen", "mixed", "-o", "x"), "did you mean 'segment'?"),
        (("segment", "mixed", "-o", "x", "--fromat", "png"), "did you mean '--format'?"),
        (("segment", "mixed", "-o", "x", "--task", "skin_leson"), "did you mean 'skin_lesion'?"),
        (("segment", "mixed", "-o", "x", "--set", "image_sise=64"), "did you mean 'image_size'?"),
        (("segment", "mixed", "-o", "mixed"), "the output folder is the input folder"),
        (("segment", "mixed/notes.txt", "-o", "x"), "there is no image in"),
        (("segment", "mixed", "-o", "x", "--weights", "mixed/mole.png"), "mole.png"),
    ],
)
def test_a_mistake_is_one_line(work, words, message):
    assert message in only_error(*words, cwd=work)
    assert not (work / "x").exists()


def test_info_lists_an_input_as_json_without_the_patient(work):
    out, error = banet("info", "mixed", "--json", cwd=work)
    images = {item["name"]: item for item in json.loads(out)["images"]}
    assert sorted(images) == ["ct", "dermoscopy/0000", "mole", "volume", "xray/0000"]
    assert images["ct"]["modality"] == "CT"
    assert images["ct"]["size"] == [48, 40]
    assert images["ct"]["frames"] == images["ct"]["files"] == 3
    assert images["ct"]["spacing"] == pytest.approx([0.7, 0.9, 2.5])
    assert error == ""
    assert not any(secret in out for secret in SECRETS)


def test_evaluation_prints_its_summary(work):
    picture(work / "set" / "images" / "a.png")
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:40] = 255
    (work / "set" / "masks").mkdir()
    Image.fromarray(mask).save(work / "set" / "masks" / "a.png")
    (work / "ids.txt").write_text("a\n")
    out, error = banet("evaluate", "set", "-o", "eval", "--val-ids", "ids.txt", *SMALL, cwd=work)
    assert "**skin lesion**: 1 cases" in out
    assert error == ""
    assert json.loads((work / "eval" / "summary.json").read_text())["classes"]["skin lesion"]["n"] == 1


@pytest.fixture
def interruptible():
    """A shell has what it starts in the background ignore Ctrl-C, and that is inherited; a handler of ours is not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_what_is_done(work):
    for number in range(40):
        picture(work / "many" / f"{number:02d}.png", size=(256, 256), seed=number)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [str(BANET), "segment", "many", "-o", "stopped", "--set", "image_size=448"]
    process = subprocess.Popen(
        line, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + SECONDS
    while not (work / "stopped" / "00_mask.png").exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, error
    assert error.startswith("banet: error: interrupted; ")
    assert "cases are done and kept in stopped" in error
    counts = manifest(work / "stopped")["counts"]
    assert counts["done"] == len(list((work / "stopped").glob("*_mask.png"))) >= 1
    assert counts["done"] + counts["failed"] == 40
