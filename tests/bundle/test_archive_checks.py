"""Every check of a built bundle's files can fail: a broken bundle, and the check that names what is broken."""

from __future__ import annotations

import json

import pytest

import banet_monai
from tests.archives import MAIN, copy_bundle, put
from tools.build_bundle import build
from tools.zoo.file_checks import FILE_CHECKS
from tools.zoo_check import CHECKS, check, main

VERSION = banet_monai.__version__


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build("skin_lesion", tmp_path_factory.mktemp("dist"))


@pytest.fixture
def bundle(built, tmp_path):
    """A copy that a test may break."""
    return copy_bundle(built, tmp_path)


def failures(bundle) -> dict[str, list[str]]:
    return {name: problems for name, problems in check(bundle, list(FILE_CHECKS)) if problems}


def changed(bundle, config, **values) -> None:
    path = bundle / "configs" / f"{config}.json"
    content = {key: value for key, value in {**json.loads(path.read_text()), **values}.items() if value is not None}
    put(path, json.dumps(content, indent=4, ensure_ascii=False) + "\n")


def metadata_with(bundle, side, name) -> None:
    """The first input or output under another name."""
    data = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]
    (old,) = data[side]
    data[side] = {name: data[side].pop(old)}
    changed(bundle, "metadata", network_data_format=data)


def test_built_bundle_passes(built):
    assert failures(built) == {}


@pytest.mark.parametrize(
    "path",
    [
        "LICENSE",
        "banet_monai/__init__.py",
        "configs/inference.json",
        "configs/metadata.json",
        "docs/README.md",
        "docs/data_license.txt",
        "models/model.pt",
        "models/shipped/model.pt",
    ],
)
def test_missing_file_is_named(bundle, path):
    (bundle / path).unlink()
    assert failures(bundle)["files"] == [f"{path} is missing"]


def test_bundle_that_only_trains_is_told_what_the_zoo_wants(tmp_path):
    bundle = build("polyp", tmp_path, training_only=True)
    assert failures(bundle) == {
        "files": [
            f"{path} is missing: this bundle only trains, and the zoo takes it when it has weights"
            for path in ("models/model.pt", "models/shipped/model.pt")
        ]
    }


@pytest.mark.parametrize("path", ["banet_monai/__pycache__/cli.cpython-311.pyc", "docs/.DS_Store", "configs/old.pyc"])
def test_caches_and_hidden_files_are_named(bundle, path):
    put(bundle / path, b"\0")
    assert failures(bundle)["files"] == [f"{path} is a cache or hidden file: build the bundle again"]


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("9.9.9", f"the package has version {VERSION} and configs/metadata.json 9.9.9"),
        ("9.9.9", f"configs/metadata.json: version 9.9.9 is missing in the changelog, which has {VERSION}"),
        ("new", "configs/metadata.json: version must be like 1.2.3, got 'new'"),
    ],
)
def test_wrong_version_is_named(bundle, version, problem):
    changed(bundle, "metadata", version=version)
    assert problem in failures(bundle)["version"]


def test_large_file_that_is_not_listed_is_named(bundle):
    put(bundle / "docs" / "atlas.pt", bytes(1024 * 1024 + 1))
    assert failures(bundle) == {"large_files": ["docs/atlas.pt has 1024 kB, above 1024, and is not in large_files.yml"]}


def test_file_of_the_largest_size_allowed_need_not_be_listed(bundle):
    put(bundle / "docs" / "atlas.pt", bytes(1024 * 1024))
    assert failures(bundle) == {}


def test_missing_list_of_large_files_names_both_weights(bundle):
    (bundle / "large_files.yml").unlink()
    assert [problem.split()[0] for problem in failures(bundle)["large_files"]] == [
        "models/model.pt",
        "models/shipped/model.pt",
    ]


def test_weights_that_are_not_those_listed_are_named(bundle):
    put(bundle / "models" / "model.pt", bytes(2_000_000))
    assert failures(bundle) == {
        "large_files": [
            "large_files.yml: models/model.pt is not the file that is listed; "
            "python -m banet_monai.restore brings shipped weights back"
        ]
    }


def test_list_of_large_files_names_what_it_lists_and_is_missing(bundle):
    (bundle / "models" / "shipped" / "model.pt").unlink()
    assert failures(bundle)["large_files"] == ["large_files.yml lists models/shipped/model.pt, which is missing"]


def test_address_of_a_large_file_must_be_one_that_can_be_downloaded(bundle):
    text = (bundle / "large_files.yml").read_text()
    put(bundle / "large_files.yml", text.replace("https://huggingface.co", "ftp://example.org"))
    problems = failures(bundle)["large_files"]
    assert len(problems) == 2
    assert problems[0].startswith("large_files.yml: the address of models/model.pt must begin with https://, got 'ftp:")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"seed": 0,}\n', "configs/extra.json: Illegal trailing comma|configs/extra.json: Expecting property name"),
        ('{\n    "seed": 0,\n    "seed": 1\n}\n', "configs/extra.json: the key 'seed' stands there twice"),
        ('{\n  "seed": 0\n}\n', "configs/extra.json is not written with 4 spaces and a final newline"),
        ('{\n    "seed": 0\n}', "configs/extra.json is not written with 4 spaces and a final newline"),
    ],
    ids=["no JSON", "doubled key", "two spaces", "no newline"],
)
def test_badly_written_json_is_named(bundle, text, problem):
    put(bundle / "configs" / "extra.json", text)
    (found,) = failures(bundle)["json"]
    assert found.startswith(tuple(problem.split("|")))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"one\r\n", "docs/notes.txt has carriage returns"),
        (b"one", "docs/notes.txt must end with one newline"),
        (b"one\n\n", "docs/notes.txt must end with one newline"),
        (b"one\ntwo \n", "docs/notes.txt, line 2: blanks at the end"),
        (b"caf\xe9\n", "docs/notes.txt is not UTF-8"),
    ],
)
def test_text_that_the_hooks_of_the_zoo_refuse_is_named(bundle, content, problem):
    put(bundle / "docs" / "notes.txt", content)
    assert failures(bundle) == {"text": [problem]}


@pytest.mark.parametrize("path", ["/home/jane/data", "/Users/jane/data", "C:\\\\Users\\\\jane"])
def test_personal_paths_are_named_with_file_and_line(bundle, path):
    put(bundle / "docs" / "notes.txt", f"first\nsee {path}\n")
    (problem,) = failures(bundle)["personal_paths"]
    assert problem.startswith("docs/notes.txt, line 2: '")


def test_another_licence_is_named(bundle):
    put(bundle / "LICENSE", "MIT License\n")
    assert failures(bundle) == {"licence": ["LICENSE is not the text of the Apache License, Version 2.0"]}


def test_missing_statement_about_the_data_is_named(bundle):
    put(bundle / "docs" / "data_license.txt", "none\n")
    assert failures(bundle)["licence"] == [
        "docs/data_license.txt does not say under which licence the data may be used"
    ]


def test_section_missing_in_the_model_card_is_named(bundle):
    text = (bundle / "docs" / "README.md").read_text()
    put(bundle / "docs" / "README.md", text.replace("## Limitations", "## Remarks"))
    assert failures(bundle) == {"documents": ["docs/README.md has no section '## Limitations', or nothing in it"]}


@pytest.mark.parametrize(("side", "needed"), [("inputs", "image"), ("outputs", "pred")])
def test_input_and_output_under_other_names_are_named(bundle, side, needed):
    metadata_with(bundle, side, "x")
    problem = f"configs/metadata.json: the first of network_data_format::{side} must be '{needed}', got 'x'"
    assert failures(bundle) == {"names": [problem]}


@pytest.mark.parametrize(
    ("config", "key", "problem"),
    [
        ("inference", "inferer", "configs/inference.json has no 'inferer'"),
        ("train", "val_interval", "configs/train.json has no 'val_interval'"),
        ("train", "validate", "configs/train.json has no 'validate::evaluator'"),
    ],
)
def test_missing_key_of_a_configuration_is_named(bundle, config, key, problem):
    changed(bundle, config, **{key: None})
    assert problem in failures(bundle)["names"]


@pytest.mark.parametrize("name", ["BANet_Skin", "banet", "banet_lesion_detection"])
def test_name_that_the_zoo_or_monai_label_would_misread_is_named(bundle, name):
    assert name in failures(bundle.rename(bundle.with_name(name)))["name"][0]


def test_archive_that_is_not_the_folder_is_named(tmp_path):
    bundle = build("polyp", tmp_path, training_only=True)
    put(bundle / "docs" / "notes.txt", "new\n")
    put(bundle / "requirements.txt", "torch\n")
    assert failures(bundle)["archive"] == [
        "banet_polyp_segmentation/docs/notes.txt is only in the folder",
        "banet_polyp_segmentation/requirements.txt differs between folder and archive",
    ]
    (tmp_path / f"{bundle.name}_v{VERSION}.zip").rename(tmp_path / f"{bundle.name}_v0.0.1.zip")
    assert failures(bundle)["archive"] == [f"there is {bundle.name}_v0.0.1.zip and no {bundle.name}_v{VERSION}.zip"]


def test_what_a_check_cannot_read_is_a_fault_and_not_a_crash(tmp_path):
    bundle = build("skin_lesion", tmp_path)
    changed(bundle, "metadata", network_data_format={"inputs": ["image"], "outputs": 3}, changelog=5)
    (tmp_path / f"{MAIN}_v{VERSION}.zip").write_bytes(b"PK torn")
    found = failures(bundle)
    assert found.keys() == {"version", "archive", "names"}
    assert "BadZipFile" in found["archive"][0]


def test_command_names_the_checks_that_fail_and_ends_with_an_error(bundle, capsys):
    (bundle / "LICENSE").unlink()
    assert main([str(bundle), "--only", "files", "json", "licence"]) == 1
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [
        f"{bundle}:",
        "FAILS  files",
        "LICENSE is missing",
        "ok     json",
        "FAILS  licence",
        "LICENSE is not the text of the Apache License, Version 2.0",
        "2 failed: files, licence",
    ]


def test_command_ends_well_when_every_check_passes(built, capsys):
    assert main([str(built), "--only", *FILE_CHECKS]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "All checks passed."


def test_folder_that_is_no_bundle_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / MAIN)]) == 1
    assert f"{MAIN}' is no bundle" in capsys.readouterr().out


def test_unknown_check_is_refused_with_those_there_are(built):
    with pytest.raises(ValueError, match=r"there is no check colour; there are name, files, json"):
        list(check(built, ["colour"]))


def test_names_of_checks_are_unique():
    assert len(set(CHECKS)) == len(CHECKS)
