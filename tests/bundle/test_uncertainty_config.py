"""Uncertainty by name through the inference configuration, run on a picture and a volume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from banet_monai.report import CasesFailedError
from banet_monai.report.manifest import file_sha256
from banet_monai.segmenter import Segmenter
from banet_monai.uncertainty import find_temperature, write_temperatures
from tests.bundle_runs import ROOT, random_network

INFERENCE = ROOT / "bundle" / "configs" / "inference.json"


def with_uncertainty(task: str = "") -> ConfigParser:
    """The configuration of inference, of a task where one is named."""
    files = [INFERENCE, *([ROOT / "bundle" / "tasks" / task / "inference.json"] if task else [])]
    return ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = random_network()
        with torch.no_grad():
            network.head.conv.weight.normal_(generator=torch.Generator().manual_seed(seed))
        torch.save(network.state_dict(), folder / f"model{seed}.pt")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 60 x 40 pixels and a volume of 30 x 34 x 3 voxels of 1 x 1 x 4 mm."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(folder / "mole.png")
    volume = rng.integers(0, 255, (30, 34, 3)).astype(np.uint8)
    nib.save(nib.Nifti1Image(volume, np.diag([1.0, 1.0, 4.0, 1.0])), folder / "scan.nii.gz")
    return folder


def configured(weights: Path, images: Path, out: Path, *, task: str = "", **options: Any) -> ConfigParser:
    parser = with_uncertainty(task)
    small = {"image_size": 64, "device": "$torch.device('cpu')", "amp": "none", "sw_batch_size": 4}
    places = {"bundle_root": str(ROOT / "bundle"), "dataset_dir": str(images), "output_dir": str(out)}
    for name, value in {**small, **places, "checkpoint": str(weights / "model0.pt"), **options}.items():
        parser[name] = value
    parser["handlers"] = []
    return parser


def run(weights: Path, images: Path, out: Path, **options: Any) -> dict[str, Any]:
    """The entries of the manifest by their path."""
    configured(weights, images, out, **options).get_parsed_content("run")
    return {entry["path"]: entry for entry in json.loads((out / "manifest.json").read_text())["files"]}


@pytest.mark.parametrize("method", ["mc_dropout", "tta", "ensemble", "entropy"])
def test_a_picture_and_a_volume_get_maps_and_numbers(method: str, weights: Path, images: Path, tmp_path: Path) -> None:
    members = [str(weights / "model1.pt")]
    entries = run(weights, images, tmp_path, uncertainty=method, uncertainty_samples=3, ensemble=members)
    varies = method != "entropy"
    assert entries["mole.png"]["result"] == "mole_mask.png"
    assert entries["mole.png"]["also"] == ["mole_uncertainty.png", *(["mole_variance.png"] if varies else [])]
    with Image.open(tmp_path / "mole_uncertainty.png") as picture:
        assert (picture.mode, picture.size) == ("I;16", (60, 40))
    volume: Any = nib.load(tmp_path / "scan_uncertainty.nii.gz")
    assert volume.shape == (30, 34, 3)
    np.testing.assert_allclose(volume.affine, np.diag([1.0, 1.0, 4.0, 1.0]))
    values = volume.get_fdata()
    assert 0 < values.max() <= 1
    for entry in entries.values():
        number = entry["uncertainty"]
        assert number["method"] == method
        assert 0 <= number["score"] <= 1
        assert number.get("samples") == (3 if method == "mc_dropout" else None)
    if varies:
        with Image.open(tmp_path / "mole_variance.png") as picture:
            assert np.asarray(picture).max() > 0
    assert (tmp_path / "scan_variance.nii.gz").is_file() == varies


def test_without_it_nothing_but_the_masks_is_written(weights: Path, images: Path, tmp_path: Path) -> None:
    entries = run(weights, images, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "mole_mask.png", "scan_mask.nii.gz"]
    assert all("uncertainty" not in entry for entry in entries.values())


@pytest.mark.parametrize("format", ["auto", "contours"])
def test_a_temperature_leaves_every_mask_as_it_is(weights: Path, images: Path, tmp_path: Path, format: str) -> None:
    run(weights, images, tmp_path / "plain", format="auto")
    entries = run(weights, images, tmp_path / "tempered", uncertainty="entropy", temperature=1.7, format=format)
    assert all(entry["uncertainty"]["temperature"] == 1.7 for entry in entries.values())
    if format == "contours":
        assert (tmp_path / "tempered" / "mole_contours.geojson").is_file()
        return
    one, other = (np.asarray(Image.open(tmp_path / folder / "mole_mask.png")) for folder in ("plain", "tempered"))
    assert np.array_equal(one, other)
    one, other = (np.asarray(nib.load(tmp_path / f / "scan_mask.nii.gz").dataobj) for f in ("plain", "tempered"))
    assert np.array_equal(one, other)


def test_the_temperature_beside_the_weights_is_used_by_default(weights: Path, images: Path, tmp_path: Path) -> None:
    checkpoint = shutil.copy(weights / "model0.pt", tmp_path / "model0.pt")
    facts = {"weights_sha256": file_sha256(checkpoint)}
    write_temperatures(tmp_path / "calibration.json", {"none": 2.0, "entropy": 3.0}, facts=facts)
    entries = run(tmp_path, images, tmp_path / "out", uncertainty="entropy")
    assert entries["mole.png"]["uncertainty"]["temperature"] == 3.0
    assert configured(tmp_path, images, tmp_path / "out").get_parsed_content("applied_temperature") == 2.0
    write_temperatures(tmp_path / "calibration.json", {"entropy": 3.0}, facts={"weights_sha256": "0" * 64})
    parser = configured(tmp_path, images, tmp_path / "out", uncertainty="entropy")
    assert parser.get_parsed_content("applied_temperature") == 1.0


def test_the_temperatures_that_ship_are_of_the_weights_that_ship() -> None:
    """Other weights need other ones: python -m benchmarks.uncertainty fits them (docs/uncertainty.md)."""
    models = ROOT / "bundle" / "models"
    for method in ("none", "entropy", "mc_dropout", "tta"):
        value = find_temperature(models / "calibration.json", method=method, checkpoint=models / "model.pt")
        assert find_temperature("fitted", method=method, checkpoint=models / "model.pt") == value
        assert 1 < value < 4  # without one the network is too sure of itself


@pytest.mark.parametrize(
    "options",
    [
        {"boundary": True},
        {"boundary": True, "displayable_configs::tta": True},
        {"boundary": True, "uncertainty": "entropy"},
        {"boundary": True, "uncertainty": "tta", "uncertainty_samples": 3},
        {"uncertainty": "ensemble"},
        {"uncertainty": "mc_dropout", "uncertainty_samples": 2},
    ],
    ids=["boundary", "boundary, tta", "boundary, entropy", "boundary, tta as a method", "ensemble", "mc_dropout"],
)
def test_pictures_that_share_a_batch_get_what_each_gets_alone(
    options: dict[str, Any], weights: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    for number in range(3):  # of one shape, so that they go through the network together
        picture = np.kron(rng.integers(0, 255, (5, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "in" / f"mole{number}.png")
    options = {"ensemble": [str(weights / "model1.pt")], **options}
    together = run(weights, tmp_path / "in", tmp_path / "together", **options)
    alone = run(weights, tmp_path / "in", tmp_path / "alone", picture_batch=1, **options)
    assert {entry["fate"] for entry in together.values()} == {"result"}
    assert [entry.get("also") for entry in together.values()] == [entry.get("also") for entry in alone.values()]
    for file in (tmp_path / "alone").glob("*.png"):
        one, other = (np.asarray(Image.open(tmp_path / f / file.name)).astype(int) for f in ("alone", "together"))
        if options.get("uncertainty") == "mc_dropout":  # other draws
            assert one.shape == other.shape
        elif file.name.endswith("_mask.png"):
            assert np.mean(one != other) < 0.01
        else:
            np.testing.assert_allclose(one, other, atol=655)  # one percent of the 16 bits


def test_the_boundary_map_is_an_output_of_its_own(weights: Path, images: Path, tmp_path: Path) -> None:
    entries = run(weights, images, tmp_path, boundary=True)
    assert entries["mole.png"]["also"] == ["mole_boundary.png"]
    with Image.open(tmp_path / "mole_boundary.png") as picture:
        assert picture.size == (60, 40)
    assert nib.load(tmp_path / "scan_boundary.nii.gz").shape == (30, 34, 3)


def test_weights_that_give_no_numbers_fail_the_case_and_not_the_run(images: Path, tmp_path: Path) -> None:
    network = random_network()
    with torch.no_grad():
        network.head.conv.bias.fill_(float("nan"))
    torch.save(network.state_dict(), tmp_path / "model0.pt")
    with pytest.raises(RuntimeError, match=r"Failed to evaluate") as caught:
        run(tmp_path, images, tmp_path / "out", uncertainty="mc_dropout")
    assert isinstance(caught.value.__cause__, CasesFailedError)
    assert "2 of 2 cases failed: mole: the network gave values that are no numbers" in str(caught.value.__cause__)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("method", ["mc_dropout", "tta"])
def test_a_volume_of_several_classes_through_a_3d_network_has_them_too(method: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    volume = nib.Nifti1Image(rng.integers(0, 255, (34, 36, 33)).astype(np.int16), np.diag([1.0, 2.0, 1.0, 1.0]))
    nib.save(volume, tmp_path / "in" / "brain.nii.gz")
    torch.manual_seed(0)
    network = with_uncertainty("hippocampus").get_parsed_content("network_def")
    torch.save(network.state_dict(), tmp_path / "model0.pt")
    places = (tmp_path, tmp_path / "in", tmp_path / "out")
    small = {"roi_size": [32, 32, 32], "overlap": 0.0, "uncertainty_samples": 2}
    entries = run(*places, task="hippocampus", uncertainty=method, **small)
    number = entries["brain.nii.gz"]["uncertainty"]
    assert number["method"] == method
    written: Any = nib.load(tmp_path / "out" / "brain_variance.nii.gz")
    assert written.shape == (34, 36, 33)
    assert 0 < written.get_fdata().max() <= 0.25


def test_a_member_that_is_missing_stops_the_run_before_it_begins(weights: Path, images: Path, tmp_path: Path) -> None:
    parser = configured(weights, images, tmp_path, uncertainty="ensemble", ensemble="missing.pt")
    with pytest.raises(RuntimeError, match=r"Failed to instantiate") as caught:
        parser.get_parsed_content("evaluator")
    causes, cause = [], caught.value.__cause__
    while cause is not None:
        causes.append(str(cause))
        cause = cause.__cause__
    assert any("no weights file missing.pt" in text for text in causes)


def test_the_segmenter_takes_the_same_words_and_writes_no_file(
    weights: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "inference.json").write_text(json.dumps(with_uncertainty().get()))
    monkeypatch.chdir(tmp_path)
    options = {"image_size": 64, "amp": "none", "uncertainty": "tta", "uncertainty_samples": 2}
    segmenter = Segmenter(tmp_path / "bundle", weights=weights / "model0.pt", device="cpu", options=options)
    result = segmenter(images / "mole.png")
    assert result.mask.shape == (60, 40)
    assert result.probability.shape == (1, 60, 40)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
