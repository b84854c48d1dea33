"""The model zoo's own checks of a built bundle, offline, and what they find in a broken one."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from tests.archives import ROOT, copy_bundle, put, run_in
from tests.bundle_runs import random_network
from tools.build_bundle import build
from tools.zoo.file_checks import FILE_CHECKS
from tools.zoo_check import CHECKS, check

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build("skin_lesion", tmp_path_factory.mktemp("dist"))


@pytest.fixture
def bundle(built, tmp_path):
    """A copy that a test may break."""
    return copy_bundle(built, tmp_path)


def failures(bundle, *names) -> dict[str, str]:
    return {name: "\n".join(problems) for name, problems in check(bundle, names) if problems}


def replace(bundle, path, old, new) -> None:
    text = (bundle / path).read_text(encoding="utf-8")
    assert old in text
    put(bundle / path, text.replace(old, new))


def test_one_command_makes_every_check_of_the_zoo(built, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    output = run_in(tmp_path, sys.executable, str(ROOT / "tools" / "zoo_check.py"), str(built))
    lines = [line.split() for line in output.splitlines()]
    assert [words for words in lines if words[0] in ("ok", "FAILS")] == [["ok", name] for name in CHECKS]
    assert output.splitlines()[-1] == "All checks passed."
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_named_and_no_export_of_them_passes(bundle):
    put(bundle / "models" / "model.pt", b"")
    torch.save(random_network(width=32).state_dict(), bundle / "models" / "model.pt")
    found = failures(bundle, "weights", "ckpt_export")
    assert set(found) == {"weights", "ckpt_export"}
    shape = r"model\.pt does not fit BANet, nothing was loaded: \d+ of another shape \(\S+\.weight \("
    assert re.search(shape, found["weights"])
    assert "size mismatch for " in found["ckpt_export"]


def test_every_check_names_its_own_fault(bundle):
    put(bundle / "models" / "model.pt", b"")
    torch.save({"model": random_network().state_dict()}, bundle / "models" / "model.pt")
    replace(bundle, "configs/metadata.json", '"num_channels": 1,', '"num_channels": 2,')
    replace(bundle, "configs/inference.json", '"evaluator": {', '"validator": {')
    put(bundle / "configs" / "train.json", '{"seed": 0,}')
    found = failures(bundle, "package", "weights", "net_in_out", "properties_train", "properties_inference")
    assert set(found) == {"weights", "net_in_out", "properties_train", "properties_inference"}
    assert "models/model.pt is no flat state dictionary" in found["weights"]
    assert "channel number" in found["net_in_out"]
    assert "JSONDecodeError" in found["properties_train"]
    assert "evaluator" in found["properties_inference"]


def test_missing_package_and_missing_metadata_are_named(bundle):
    for path in sorted((bundle / "banet_monai").rglob("*.py")):
        path.unlink()
    replace(bundle, "configs/metadata.json", '"authors": "banet-monai contributors",', "")
    found = failures(bundle, "package", "metadata")
    assert "has no package banet_monai of its own" in found["package"]
    assert "'authors' is a required property" in found["metadata"]


def test_unit_tests_for_the_zoo_find_a_configuration_that_does_not_run(bundle):
    replace(bundle, "configs/inference.json", '"_target_": "SupervisedEvaluator"', '"_target_": "NoSuchEvaluator"')
    assert "NoSuchEvaluator" in failures(bundle, "unit_tests")["unit_tests"]


def test_every_check_of_files_holds_for_the_built_bundle(built):
    assert failures(built, *FILE_CHECKS) == {}
