"""The bundle's metadata: valid for the model zoo, and in step with the package, its pins and its change log."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import banet_monai

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "tools" / "zoo" / "meta_schema_20240725.json"
METADATA = ROOT / "bundle" / "configs" / "metadata.json"
NAMED_VERSIONS = {"torch": "pytorch_version", "monai": "monai_version", "numpy": "numpy_version"}


@pytest.fixture(scope="module")
def metadata():
    return json.loads(METADATA.read_text(encoding="utf-8"))


def read_pins() -> dict[str, str]:
    """Name to exact version, from requirements.txt."""
    pins = {}
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            pin = Requirement(text)  # with a marker where only some Python versions need it
            (exact,) = pin.specifier
            assert exact.operator == "==", f"requirements.txt must pin exactly, got '{text}'"
            pins[canonicalize_name(pin.name)] = exact.version
    return pins


def read_requirements() -> dict[str, list[Requirement]]:
    """Ranges of pyproject.toml: "core" and every extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    return {name: [Requirement(text) for text in group] for name, group in groups.items()}


def stated_versions(metadata) -> dict[str, str]:
    named = {package: metadata[key] for package, key in NAMED_VERSIONS.items()}
    return named | metadata["required_packages_version"]


def test_metadata_satisfies_the_model_zoos_schema(metadata):
    jsonschema.validate(metadata, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_schema_file_is_the_one_the_metadata_names(metadata):
    assert metadata["schema"].endswith(SCHEMA.name)


def test_metadata_states_every_core_dependency_and_no_other(metadata):
    assert set(stated_versions(metadata)) == {requirement.name for requirement in read_requirements()["core"]}


def test_metadata_states_the_versions_that_requirements_txt_pins(metadata):
    stated, pins = stated_versions(metadata), read_pins()
    assert stated == {name: pins[name] for name in stated}


@pytest.mark.parametrize(("group", "requirements"), read_requirements().items())
def test_every_range_of_pyproject_contains_its_pin(group, requirements):
    pins = read_pins()
    for requirement in requirements:
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"[{group}] {requirement} leaves out the pinned {pin}"


def test_version_is_the_packages_and_the_change_logs_newest(metadata):
    assert metadata["version"] == banet_monai.__version__
    assert next(iter(metadata["changelog"])) == banet_monai.__version__
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released[0] == banet_monai.__version__


def test_image_and_pred_come_first_with_sizes_in_plain_integers(metadata):
    inputs, outputs = (metadata["network_data_format"][side] for side in ("inputs", "outputs"))
    assert next(iter(inputs)) == "image"
    assert next(iter(outputs)) == "pred"
    assert all(isinstance(n, int) for side in (inputs["image"], outputs["pred"]) for n in side["spatial_shape"])


def test_label_ids_are_keys_with_background_at_zero(metadata):
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert pred["num_channels"] == 1
    assert pred["channel_def"] == {"0": "background", "1": "skin lesion"}


def test_file_has_four_spaces_and_a_final_newline(metadata):
    assert METADATA.read_text(encoding="utf-8") == json.dumps(metadata, indent=4, ensure_ascii=False) + "\n"


def test_bundle_carries_the_licence_of_the_project():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert (ROOT / "bundle" / "LICENSE").read_text(encoding="utf-8") == text
