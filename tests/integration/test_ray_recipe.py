"""The Ray recipe, run on this machine in an environment that has Ray beside everything of this one."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from banet_monai.data import make_demonstration_data
from tests.bundle_runs import ROOT, SECONDS

pytestmark = pytest.mark.slow

RECIPE = ROOT / "docs" / "recipes" / "ray_segment.py"
PACKAGE = re.search(r'"(ray\[data\]==[\d.]+)"', RECIPE.read_text())[1]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of an environment with the pinned Ray, laid over the one that runs the tests."""
    folder = tmp_path_factory.mktemp("ray") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=SECONDS)
    (own,) = (folder / "lib").glob("python*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()]
    (own / "layer.pth").write_text("".join(lines))
    executable = folder / "bin" / "python"
    install = [executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]
    done = subprocess.run(install, capture_output=True, text=True, timeout=2 * SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    return executable


@pytest.fixture(scope="module")
def segment(python, tmp_path_factory):
    """Runs the recipe; Ray keeps its files in a folder that goes away, with a short name because of its sockets."""
    home = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    environment = {
        **os.environ,
        "HOME": str(home),
        "RAY_TMPDIR": str(home),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("RAY_ADDRESS", None)

    def run(*words: object) -> tuple[int, str]:
        line = [str(python), str(RECIPE), *(str(word) for word in words)]
        done = subprocess.run(
            line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS
        )
        return done.returncode, done.stdout

    yield run
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def finished(segment, tmp_path_factory):
    """A folder with pictures of one name, a volume, a DICOM series and a torn file, segmented by two workers."""
    folder = tmp_path_factory.mktemp("work")
    demo = make_demonstration_data(folder / "demo", num_train=1, num_val=2, size=64)
    source = folder / "in"
    for number in (0, 1):
        (source / f"p{number}").mkdir(parents=True)
        shutil.copy(demo / "val" / "images" / f"synthetic_00{number}.png", source / f"p{number}" / "photo.png")
    shutil.copy(demo / "inference" / "skin_volume.nii.gz", source)
    shutil.copytree(demo / "inference" / "skin_series", source / "skin_series")
    (source / "torn.png").write_bytes(b"torn")
    code, output = segment(source, "-o", folder / "out", "--workers", 2)
    return source, folder / "out", code, output


def test_every_case_has_its_result_and_failures_end_with_1(finished):
    _, out, code, output = finished
    assert code == 1, output[-6000:]
    assert "1 of 5 cases failed: torn: torn.png is no picture" in output
    assert "4 done, 0 skipped, 1 failed" in output
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == [
        "manifest.json",
        "p0/photo_mask.png",
        "p1/photo_mask.png",
        "skin_series_mask.nii.gz",
        "skin_volume_mask.nii.gz",
    ]


def test_the_manifest_is_that_of_the_command(finished, tmp_path):
    source, out, _, _ = finished
    command = [sys.executable, "-c", "from banet_monai.cli import main; main()"]
    words = ["segment", source, "-o", tmp_path / "plain", "--device", "cpu", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run([*command, *words], env=environment, timeout=SECONDS, check=False).returncode == 1
    ours, plain = (json.loads((folder / "manifest.json").read_text()) for folder in (out, tmp_path / "plain"))
    for entry in (*ours["files"], *plain["files"]):
        entry.pop("seconds", None)
    assert ours["files"] == plain["files"]
    assert (ours["weights"], ours["counts"]) == (plain["weights"], plain["counts"])
    for mask in (tmp_path / "plain").rglob("*_mask.png"):
        assert (out / mask.relative_to(tmp_path / "plain")).read_bytes() == mask.read_bytes()


def test_resuming_does_only_what_has_no_result(segment, finished):
    source, out, _, _ = finished
    kept, lost = out / "p0" / "photo_mask.png", out / "p1" / "photo_mask.png"
    before = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    (source / "torn.png").unlink()
    code, output = segment(source, "-o", out, "--workers", 1, "--resume")
    assert code == 0, output[-6000:]
    assert "4 done, 0 skipped, 0 failed" in output
    assert (kept.stat().st_mtime_ns, lost.read_bytes()) == before


def test_a_folder_without_images_is_wrong_use(segment, tmp_path):
    (tmp_path / "empty").mkdir()
    code, output = segment(tmp_path / "empty", "-o", tmp_path / "out")
    assert code == 2
    assert "there is no image in" in output
