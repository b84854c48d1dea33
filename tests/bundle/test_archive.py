"""What ``tools/build_bundle.py`` makes of the sources, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path

import jsonschema
import pytest
import torch
from monai.bundle import ConfigParser

import banet_monai
from tests.archives import MAIN, ROOT, TASKS, copy_sources, put
from tests.bundle_runs import random_network
from tools.build_bundle import WEIGHTS_URL, build, bundle_name, main, task_names
from tools.zoo.large_files import LargeFile, read_large_files, sha256, text_of

VERSION = banet_monai.__version__
SCHEMA = ROOT / "tools" / "zoo" / "meta_schema_20240725.json"
# Every entry in which the configurations of an archive differ from those of a clone
REPLACED = {
    "train": {
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/runs'",
        "ckpt_dir": "$@bundle_root + '/models'",
        "keep_start": False,
        "shipped_weights": "$@bundle_root + '/models/shipped/model.pt'",
    },
    "inference": {"bundle_root": ".", "checkpoint": "$@bundle_root + '/models/model.pt'"},
    "evaluate": {"bundle_root": ".", "checkpoint": "$@bundle_root + '/models/model.pt'"},
}
# an annotation server trains an archive again, and downloads nothing for it
FIRST_WEIGHTS = {"skin_lesion": "shipped", "polyp": "present", "lung": "present", "hippocampus": "none"}
COMPLETE = ("train", "inference", "evaluate", "metadata")  # the others are to be laid over one of these
READS = {"train": ("train",), "inference": ("inference",), "evaluate": ("inference", "evaluate")}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Folder with the bundle of every task."""
    output = tmp_path_factory.mktemp("dist")
    for task in task_names():
        build(task, output, training_only=not has_weights(task))
    return output


@pytest.fixture
def sources(tmp_path):
    return copy_sources(tmp_path / "clone")


def has_weights(task: str) -> bool:
    return task == "skin_lesion" or (ROOT / "bundle" / "tasks" / task / "model.pt").is_file()


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def files_of(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def change(path, **values) -> None:
    path.write_text(json.dumps({**load(path), **values}), encoding="utf-8")


def test_every_task_has_its_bundle(dist):
    assert task_names() == ["skin_lesion", *TASKS]
    names = {f"banet_{task}_segmentation" for task in ("skin_lesion", "polyp", "lung", "hippocampus")}
    assert {path.name for path in dist.iterdir()} == names | {f"{name}_v{VERSION}.zip" for name in names}


@pytest.mark.parametrize("task", ["skin_lesion", *TASKS])
@pytest.mark.parametrize("name", ["train", "inference", "evaluate"])
def test_configurations_are_what_monai_merges_but_for_the_entries_that_say_where_the_bundle_lies(dist, task, name):
    folders = [ROOT / "bundle" / "configs", ROOT / "bundle" / "tasks" / task]
    parts = [folder / f"{part}.json" for part in READS[name] for folder in folders]
    expected = ConfigParser.load_config_files([str(path) for path in parts if path.is_file()])
    built = load(dist / bundle_name(task) / "configs" / f"{name}.json")
    assert built["network_def"].pop("_requires_") == "$sys.path.append(@bundle_root)"
    first = {"init": FIRST_WEIGHTS[task]} if name == "train" else {}
    assert built == {**expected, **REPLACED[name], **first}


@pytest.mark.parametrize("task", ["skin_lesion", *TASKS])
def test_configurations_are_complete_and_name_no_other_file(dist, task):
    for path in (dist / bundle_name(task) / "configs").glob("*.json"):
        text = path.read_text(encoding="utf-8")
        if path.stem in COMPLETE:
            assert not [key for key in load(path) if "::" in key]
        assert "bundle/configs" not in text.replace("Path('bundle/configs", "")
        assert "bundle/tasks" not in text


@pytest.mark.parametrize("task", ["skin_lesion", *TASKS])
def test_the_licence_of_the_data_names_every_picture(dist, task):
    bundle = dist / bundle_name(task)
    text = (bundle / "docs" / "data_license.txt").read_text(encoding="utf-8")
    pictures = [path.name for path in bundle.rglob("*") if path.suffix in (".jpg", ".png")]
    assert [name for name in pictures if name not in text] == []
    assert not ("No picture is part of this bundle." in text and pictures)


def test_entries_that_a_task_adds_stand_where_the_task_has_them(dist):
    names = list(load(dist / "banet_hippocampus_segmentation" / "configs" / "train.json"))
    assert names.index("window") == names.index("encoder") + 1
    assert names.index("window") < names.index("network_def")


@pytest.mark.parametrize("task", ["skin_lesion", *TASKS])
def test_configurations_have_four_spaces_and_a_final_newline(dist, task):
    for path in (dist / bundle_name(task) / "configs").glob("*.json"):
        assert path.read_text(encoding="utf-8") == json.dumps(load(path), indent=4, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("task", ["skin_lesion", *TASKS])
def test_metadata_of_every_task_satisfy_the_zoos_schema_and_have_the_packages_version(dist, task):
    metadata = load(dist / bundle_name(task) / "configs" / "metadata.json")
    jsonschema.validate(metadata, load(SCHEMA))
    assert metadata["version"] == VERSION
    assert VERSION in metadata["changelog"]
    assert ("eval_metrics" in metadata) == has_weights(task)
    assert None not in metadata.values()


@pytest.mark.parametrize("task", ["skin_lesion", *TASKS])
def test_metadata_of_every_task_describe_its_network_and_its_labels(dist, task):
    configs = dist / bundle_name(task) / "configs"
    data = load(configs / "metadata.json")["network_data_format"]
    image, pred, network = (
        data["inputs"]["image"],
        data["outputs"]["pred"],
        load(configs / "inference.json")["network_def"],
    )
    assert (image["num_channels"], pred["num_channels"]) == (network["in_channels"], network["out_channels"])
    assert len(image["spatial_shape"]) == len(pred["spatial_shape"]) == network["spatial_dims"]
    assert list(pred["channel_def"].values()) == ["background", *load(configs / "evaluate.json")["class_names"]]
    assert list(pred["channel_def"]) == [str(number) for number in range(len(pred["channel_def"]))]


@pytest.mark.parametrize("task", ["skin_lesion", *TASKS])
def test_requirements_are_the_packages_of_the_metadata(dist, task):
    bundle = dist / bundle_name(task)
    metadata = load(bundle / "configs" / "metadata.json")
    lines = (bundle / "requirements.txt").read_text().splitlines()
    assert lines[:3] == [f"torch=={metadata['pytorch_version']}", f"monai=={metadata['monai_version']}", "numpy==2.2.6"]
    assert lines[3:] == [f"{name}=={version}" for name, version in metadata["required_packages_version"].items()]


def test_packages_that_the_readme_adds_are_those_that_were_tested(dist):
    text = (dist / MAIN / "docs" / "README.md").read_text()
    added = re.findall(r"\b([a-z]+==[\d.]+\d)", text)
    assert [pin.partition("==")[0] for pin in added] == ["onnx", "onnxscript"]
    assert set(added) <= set((ROOT / "requirements.txt").read_text().splitlines())


def test_bundle_holds_the_whole_package_and_nothing_else_of_the_clone(dist):
    package = {path for path in files_of(ROOT / "banet_monai") if "__pycache__" not in path}
    found = files_of(dist / MAIN)
    assert {path for path in found if path.startswith("banet_monai/")} == {f"banet_monai/{path}" for path in package}
    assert {f"configs/{name}.json" for name in COMPLETE} <= found
    rest = {path for path in found if not path.startswith(("banet_monai/", "configs/"))}
    weights = {"models/model.pt", "models/shipped/model.pt", "models/calibration.json", "large_files.yml"}
    documents = {"LICENSE", "docs/README.md", "docs/data_license.txt", "docs/failures.jpg", "requirements.txt"}
    assert rest == documents | weights


def test_weights_lie_there_twice_so_that_training_does_not_lose_them(dist):
    shipped = (ROOT / "bundle" / "models" / "model.pt").read_bytes()
    assert (dist / MAIN / "models" / "model.pt").read_bytes() == shipped
    assert (dist / MAIN / "models" / "shipped" / "model.pt").read_bytes() == shipped


def test_temperatures_go_with_the_weights_that_they_were_fitted_for(dist):
    calibration = dist / MAIN / "models" / "calibration.json"
    assert calibration.read_bytes() == (ROOT / "bundle" / "models" / "calibration.json").read_bytes()
    assert load(calibration)["weights_sha256"] == sha256(dist / MAIN / "models" / "model.pt")


def test_temperatures_of_other_weights_stay_out_and_this_is_said(sources, tmp_path, capsys):
    torch.save(random_network().state_dict(), sources / "bundle" / "models" / "model.pt")
    bundle = build("skin_lesion", tmp_path / "dist", source=sources)
    assert not (bundle / "models" / "calibration.json").exists()
    assert "calibration.json was fitted for other weights; fit it again" in capsys.readouterr().err


def test_large_files_name_the_weights_with_address_and_digest(dist):
    digest = sha256(ROOT / "bundle" / "models" / "model.pt")
    url = f"https://huggingface.co/MONAI/{MAIN}/resolve/{VERSION}/models/model.pt"
    paths = ("models/model.pt", "models/shipped/model.pt")
    assert read_large_files(dist / MAIN / "large_files.yml") == [LargeFile(path, url, digest) for path in paths]


def test_archive_holds_the_files_of_the_folder_below_its_name(dist):
    with zipfile.ZipFile(dist / f"{MAIN}_v{VERSION}.zip") as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
        assert {entry.filename for entry in entries} == {f"{MAIN}/{path}" for path in files_of(dist / MAIN)}
        assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
        assert {(entry.date_time, entry.external_attr >> 16) for entry in entries} == {
            ((1980, 1, 1, 0, 0, 0), 0o100644)
        }
        for entry in entries:
            assert archive.read(entry) == (dist / entry.filename).read_bytes()


def test_same_sources_give_the_same_bytes_whenever_and_wherever_they_lie(dist, sources, tmp_path):
    for number, path in enumerate(sorted((sources / "banet_monai").rglob("*.py"))):
        os.utime(path, (number, number))
        path.chmod(0o600)
    (sources / "banet_monai" / "__pycache__").mkdir()
    (sources / "banet_monai" / "__pycache__" / "cli.cpython-311.pyc").write_bytes(b"cache")
    (sources / "banet_monai" / ".cli.py.swp").write_bytes(b"editor")
    build("skin_lesion", tmp_path / "again", source=sources)
    name = f"{MAIN}_v{VERSION}.zip"
    assert (tmp_path / "again" / name).read_bytes() == (dist / name).read_bytes()
    assert files_of(tmp_path / "again" / MAIN) == files_of(dist / MAIN)


def test_second_build_replaces_the_first(tmp_path):
    folder = build("skin_lesion", tmp_path)
    put(folder / "left_over.txt", "from an older build")
    assert build("skin_lesion", tmp_path) == folder
    assert not (folder / "left_over.txt").exists()


def test_build_that_is_cut_short_leaves_the_older_one_and_the_next_one_ends(tmp_path, monkeypatch):
    folder = build("skin_lesion", tmp_path)
    before, write = files_of(folder), Path.write_bytes

    def torn(path, content):
        if path.parts[-3:] == ("models", "shipped", "model.pt"):
            raise OSError("no space left on device")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", torn)
        with pytest.raises(OSError, match="no space left"):
            build("skin_lesion", tmp_path)
    assert files_of(folder) == before
    build("skin_lesion", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [MAIN, f"{MAIN}_v{VERSION}.zip"]


@pytest.mark.parametrize("path", ["models/model.pt", "models/trained/0123.pt", "runs/state.pt"])
def test_weights_that_were_trained_in_a_bundle_are_not_lost(tmp_path, path):
    folder = build("polyp", tmp_path, training_only=True)
    put(folder / path, b"trained")
    with pytest.raises(ValueError, match=rf"{path} was trained there and would be lost: move it"):
        build("polyp", tmp_path, training_only=True)
    assert (folder / path).read_bytes() == b"trained"


# ---- tasks without weights -------------------------------------------------------------------------------------------


def test_task_without_weights_is_refused_unless_it_shall_only_train(tmp_path):
    message = r"polyp has no weights \(.*model\.pt does not exist\): train them.*--training-only"
    with pytest.raises(FileNotFoundError, match=message):
        build("polyp", tmp_path)
    assert not list(tmp_path.iterdir())


def test_bundle_that_only_trains_says_so_and_has_no_weights(dist):
    files = files_of(dist / "banet_polyp_segmentation")
    assert not [path for path in files if path.endswith(".pt")]
    assert "large_files.yml" not in files
    assert (
        (dist / "banet_polyp_segmentation" / "models" / "README.txt")
        .read_text()
        .startswith("This bundle ships no weights")
    )
    assert "**No weights are part of it**" in (dist / "banet_polyp_segmentation" / "docs" / "README.md").read_text()


def test_bundle_with_weights_is_not_built_without_them(tmp_path):
    with pytest.raises(ValueError, match=r"skin_lesion has weights .*build it without that option"):
        build("skin_lesion", tmp_path, training_only=True)


def test_task_that_has_weights_ships_them(sources, tmp_path):
    network = random_network(spatial_dims=2)
    torch.save(network.state_dict(), sources / "bundle" / "tasks" / "polyp" / "model.pt")
    folder = build("polyp", tmp_path / "dist", weights_url="https://example.org/{name}-{version}.pt", source=sources)
    assert (folder / "models" / "shipped" / "model.pt").is_file()
    url = f"https://example.org/banet_polyp_segmentation-{VERSION}.pt"
    assert {entry.url for entry in read_large_files(folder / "large_files.yml")} == {url}


@pytest.mark.parametrize(("task", "names"), [("polyp", ["ja", "dice"]), ("lung", ["ja", "dice"])])
def test_figures_in_a_card_are_those_that_were_measured(task, names):
    overall = load(ROOT / "docs" / "results" / f"{task}_validation.json")["overall"]
    low, high = overall["metrics"]["ja"]["interval"]
    ja, dice = (overall["metrics"][name]["mean"] for name in names)
    card = " ".join((ROOT / "bundle" / "tasks" / task / "card.md").read_text().split())
    assert f"a JA of {ja:.3f} (95 % interval {low:.3f} to {high:.3f}) and a Dice of {dice:.3f}" in card


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_unknown_task_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(
        ValueError, match=r"there is no task 'liver'; known are skin_lesion, hippocampus, lung, polyp\."
    ):
        build("liver", tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": "9.9.9"}, rf"metadata\.json has version 9\.9\.9 and the package {re.escape(VERSION)}"),
        (
            {"changelog": {"0.0.1": "old"}},
            rf"version {re.escape(VERSION)} is missing in the changelog.*which has 0\.0\.1",
        ),
        ({"changelog": {}}, rf"version {re.escape(VERSION)} is missing in the changelog.*which has nothing"),
    ],
    ids=["another version", "an older changelog", "no changelog"],
)
def test_versions_that_disagree_are_refused(sources, tmp_path, values, message):
    change(sources / "bundle" / "configs" / "metadata.json", **values)
    with pytest.raises(ValueError, match=message):
        build("skin_lesion", tmp_path / "dist", source=sources)
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    "path",
    ["bundle/LICENSE", "bundle/docs/data_license.txt", "bundle/configs/train.json", "bundle/configs/logging.conf"],
)
def test_missing_file_is_named(sources, tmp_path, path):
    (sources / path).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{path} is missing, and a bundle needs it"):
        build("skin_lesion", tmp_path / "dist", source=sources)


def test_configuration_that_is_not_json_is_named(sources, tmp_path):
    (sources / "bundle" / "configs" / "train.json").write_text('{"seed": 0,}')
    with pytest.raises(ValueError, match=r"bundle/configs/train\.json is not JSON: "):
        build("skin_lesion", tmp_path / "dist", source=sources)


def test_weights_of_another_network_are_refused_with_the_names_that_do_not_fit(sources, tmp_path):
    torch.save(random_network(width=32).state_dict(), sources / "bundle" / "models" / "model.pt")
    message = r"model\.pt does not fit BANet, nothing was loaded: .*of another shape.*width=32"
    with pytest.raises(ValueError, match=message):
        build("skin_lesion", tmp_path / "dist", source=sources)


def test_weights_without_some_of_their_tensors_are_refused_with_their_names(sources, tmp_path):
    state = random_network().state_dict()
    del state["head.conv.bias"]
    torch.save(state, sources / "bundle" / "models" / "model.pt")
    with pytest.raises(ValueError, match=r"nothing was loaded: 1 missing \(head\.conv\.bias\)"):
        build("skin_lesion", tmp_path / "dist", source=sources)


def test_nested_weights_are_refused_because_exports_would_ignore_them(sources, tmp_path):
    torch.save({"model": random_network().state_dict()}, sources / "bundle" / "models" / "model.pt")
    with pytest.raises(ValueError, match=r"is nested: save the state dictionary itself"):
        build("skin_lesion", tmp_path / "dist", source=sources)


def test_command_builds_and_says_what(tmp_path, capsys):
    assert main(["polyp", "lung", "--training-only", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/banet_polyp_segmentation: training only, no weights",
        f"{tmp_path}/banet_lung_segmentation: training only, no weights",
    ]


def test_command_ends_with_an_error_that_says_why(tmp_path, capsys):
    assert main(["polyp", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("build_bundle: polyp has no weights")


# ---- large_files.yml -------------------------------------------------------------------------------------------------


def test_large_files_are_read_as_they_were_written(tmp_path):
    entries = [
        LargeFile("models/model.pt", "https://a.example/x?y=1", "ab12"),
        LargeFile("b.ts", "https://b", "0", "md5"),
    ]
    (tmp_path / "large_files.yml").write_text(text_of(entries))
    assert read_large_files(tmp_path / "large_files.yml") == entries


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("files:\n", r"must begin with 'large_files:', got 'files:'"),
        ("large_files:\n  path: x\n", r"line 2: expected '  - path"),
        ('large_files:\n  - path: "x"\n    url: "y"\n', r"has no hash_type, hash_val"),
    ],
)
def test_large_files_in_another_form_are_refused(tmp_path, text, message):
    (tmp_path / "large_files.yml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_large_files(tmp_path / "large_files.yml")


def test_address_of_the_weights_names_bundle_and_version():
    assert {"{name}", "{version}"} <= set(re.findall(r"\{\w+\}", WEIGHTS_URL))


def test_unit_tests_for_the_zoo_are_named_after_the_bundle():
    folder = ROOT / "tools" / "zoo" / "ci" / "unit_tests"
    assert {path.name for path in folder.iterdir() if path.is_file()} == {f"test_{MAIN}.py", f"test_{MAIN}_dist.py"}
