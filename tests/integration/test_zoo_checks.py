"""The model zoo's own checks of a bundle, with the commands that its build server uses, offline."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.bundle_runs import ROOT, command, make_clone, run

pytestmark = pytest.mark.slow

META = "bundle/configs/metadata.json"
CONFIG = "bundle/configs/inference.json"

# In a process of its own, because TorchScript is deprecated and this project's tests treat warnings as errors.
COMPARE = """
import sys
import torch
from tests.bundle_runs import random_network

eager = random_network()
eager.load_state_dict(torch.load(sys.argv[1], weights_only=True))
scripted = torch.jit.load(sys.argv[2])
for size in ((1, 3, 64, 64), (2, 3, 96, 65)):
    image = torch.rand(size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(scripted(image), eager(image), rtol=1e-4, atol=1e-4)
print("equal")
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return make_clone(tmp_path_factory.mktemp("clone"))


def test_metadata_is_verified(clone, tmp_path):
    schema = shutil.copy(ROOT / "tests" / "bundle" / "data" / "meta_schema_20240725.json", tmp_path)
    output = run(clone, "monai.bundle", "verify_metadata", meta_file=META, filepath=schema)
    assert "metadata is verified with no error" in output


def test_input_and_output_of_the_network_are_verified(clone):
    words = ("monai.bundle", "verify_net_in_out", "network_def")
    output = run(clone, *words, meta_file=META, config_file=CONFIG)
    assert "data shape of network is verified with no error" in output


def test_exported_network_computes_what_the_network_computes(clone, tmp_path):
    words, exported = ("monai.bundle", "ckpt_export", "network_def"), tmp_path / "model.ts"
    weights = clone / "bundle" / "models" / "model.pt"
    run(clone, *words, filepath=exported, ckpt_file=weights, meta_file=META, config_file=CONFIG)
    _, environment = command(clone, ())
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, str(weights), str(exported)],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.strip().endswith("equal"), done.stderr[-3000:]
