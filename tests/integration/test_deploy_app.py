"""The application of docs/deploy.md on MONAI Deploy's own SDK, in an environment laid over the one of the tests."""

from __future__ import annotations

import os
import platform
import re
import site
import subprocess
import sys

import monai
import numpy as np
import pydicom
import pytest
from PIL import Image

from banet_monai.data import make_demonstration_data
from banet_monai.segmenter import Segmenter
from tests.bundle_runs import ROOT, SECONDS

pytestmark = pytest.mark.slow

BUNDLE = ROOT / "bundle"
APP = ROOT / "docs" / "recipes" / "deploy_app.py"
PACKAGE = re.search(r"monai-deploy-app-sdk==[\d.]+", (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8"))[0]
ROUNDING = 0.005  # share of pixels; TorchScript computes in another order


def run(*line: object, **environment: str) -> str:
    words = [str(word) for word in line]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        words, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=2 * SECONDS
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-6000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of an environment with the SDK, laid over the one that runs the tests."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the SDK's runtime (holoscan) is made for Linux")
    folder = tmp_path_factory.mktemp("deploy") / "venv"
    run(sys.executable, "-m", "venv", folder)
    (own,) = (folder / "lib").glob("python*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()]
    (own / "layer.pth").write_text("".join(lines))
    pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, PACKAGE)
    run(*pip, "--no-deps", "--ignore-installed", f"monai=={monai.__version__}")  # monai.deploy lies inside monai
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Demonstration data and the exported TorchScript file."""
    folder = tmp_path_factory.mktemp("work")
    make_demonstration_data(folder / "demo", num_train=1, num_val=2, size=96)
    run(
        *(sys.executable, "-m", "monai.bundle", "ckpt_export", "network_def", "--filepath", folder / "model.ts"),
        *("--ckpt_file", BUNDLE / "models" / "model.pt", "--meta_file", BUNDLE / "configs" / "metadata.json"),
        *("--config_file", BUNDLE / "configs" / "inference.json"),
    )
    return folder


def test_pictures_become_masks_as_with_the_segmenter(python, work):
    pictures = work / "demo" / "val" / "images"
    run(python, APP, "-i", pictures, "-o", work / "masks", "-m", work / "model.ts")
    segmenter = Segmenter(BUNDLE, device="cpu")
    files = sorted(pictures.iterdir())
    assert sorted(path.name for path in (work / "masks").iterdir()) == [f"{file.stem}_mask.png" for file in files]
    for file in files:
        mask = np.asarray(Image.open(work / "masks" / f"{file.stem}_mask.png"))
        plain = segmenter(file).mask.T
        assert mask.shape == plain.shape
        assert plain.any()
        assert ((mask == 255) != (plain == 1)).mean() < ROUNDING


def test_a_dicom_series_becomes_a_segmentation_of_its_images(python, work):
    series = work / "demo" / "inference" / "skin_series"
    run(python, APP, "-i", series, "-o", work / "seg", "-m", work / "model.ts")
    (file,) = (work / "seg").glob("*.dcm")
    seg = pydicom.dcmread(file)
    sources = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in series.iterdir()}
    assert seg.Modality == "SEG"
    assert seg.pixel_array.any()
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Skin lesion"]
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "95324001"
    referenced = {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referenced <= sources
