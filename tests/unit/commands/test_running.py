"""The commands with the shipped network on small pictures."""

import json
import logging
import shutil

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner
from PIL import Image

from banet_monai.bundles import find_bundle
from banet_monai.cli import cli
from banet_monai.report.manifest import file_sha256

pytestmark = pytest.mark.slow

SMALL = ("--set", "image_size=64", "--device", "cpu")


def banet(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def pictures(tmp_path):
    """Two pictures, the second one in a folder, and a broken one."""
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        Image.fromarray(rng.integers(0, 255, (40, 64, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    return tmp_path / "in"


@pytest.fixture
def network_calls(monkeypatch):
    """How often weights were loaded."""
    calls = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **options: (calls.append(args), load(*args, **options))[1])
    return calls


def test_a_tree_with_a_broken_file_is_done_with_one_network(pictures, tmp_path, network_calls):
    out = tmp_path / "out"
    result = banet("segment", pictures, "-o", out, *SMALL, "--overlay", "--format", "auto,contours")
    assert result.exit_code == 1, result.output
    assert result.stdout == f"2 done, 0 skipped, 1 failed\nresults and manifest.json: {out}\n"
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("banet: failed: torn: torn.jpg")
    assert len(network_calls) == 1
    with Image.open(out / "deep" / "b_mask.png") as mask:
        assert mask.size == (64, 40)
    assert {path.name for path in (out / "deep").iterdir()} == {
        *("b_mask.png", "b_overlay.png", "b_contours.geojson", "b_contours.svg"),
    }
    assert not (out / "banet.log").exists()


def test_without_paths_neither_manifest_nor_names_nor_terminal_tell_a_path(pictures, tmp_path):
    out = tmp_path / "out"
    result = banet("segment", pictures, "-o", out, *SMALL, "--no-paths")
    assert result.exit_code == 1
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
    assert written == ["case-0001_mask.png", "case-0002_mask.png", "manifest.json"]
    for text in ((out / "manifest.json").read_text(), result.output):
        assert not any(name in text for name in ("a.png", "b.png", "deep", "torn", str(pictures)))
    assert json.loads((out / "manifest.json").read_text())["counts"] == {"done": 2, "skipped": 0, "failed": 1}


def test_logs_of_the_libraries_are_back_after_a_run(pictures, tmp_path):
    banet("segment", pictures / "a.png", "-o", tmp_path / "out", *SMALL, "--quiet")
    assert logging.root.manager.disable == logging.NOTSET


def test_weights_of_another_network_are_one_line(pictures, tmp_path):
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    result = banet("segment", pictures, "-o", tmp_path / "out", *SMALL, "--weights", tmp_path / "other.pt")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "other.pt" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_value_that_the_configuration_cannot_take_is_one_line(pictures, tmp_path):
    result = banet("segment", pictures, "-o", tmp_path / "out", *SMALL, "--set", "scale=huge")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "huge" in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_line(pictures, tmp_path):
    result = banet("segment", pictures, "-o", tmp_path / "out", "--device", "cuda")
    assert result.exit_code == 2
    assert result.stderr == (
        "banet: error: device cuda: no CUDA device is usable here; --device cpu works everywhere.\n"
    )


def test_evaluation_ends_with_a_table(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(rng.integers(0, 255, (40, 64, 3), dtype=np.uint8)).save(tmp_path / "data" / "images" / name)
        mask = np.zeros((40, 64), np.uint8)
        mask[8:30, 10:40] = 255
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / name)
    (tmp_path / "ids.txt").write_text("a\nc\n")
    words = ("--val-ids", tmp_path / "ids.txt", *SMALL)
    result = banet("evaluate", tmp_path / "data", "-o", tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    assert "**skin lesion**: 2 cases" in result.stdout
    assert "| JA |" in result.stdout
    assert result.stdout.endswith(f"2 done, 0 skipped, 0 failed\nresults and manifest.json: {tmp_path / 'out'}\n")
    assert (tmp_path / "out" / "cases.csv").is_file()


def test_temperatures_of_other_weights_are_said_where_a_number_is_wanted(pictures, tmp_path):
    weights = shutil.copy(find_bundle().task().weights(), tmp_path / "model.pt")
    content = {"weights_sha256": "0" * 64, "temperature": {"none": 2.0, "entropy": 2.0}}
    (tmp_path / "calibration.json").write_text(json.dumps(content))
    picture = pictures / "a.png"
    plain = banet("segment", picture, "-o", tmp_path / "plain", *SMALL, "--weights", weights)
    assert (plain.exit_code, plain.stderr) == (0, "")
    unsure = banet(
        "segment", picture, "-o", tmp_path / "unsure", *SMALL, "--weights", weights, "--uncertainty", "entropy"
    )
    assert unsure.exit_code == 0
    assert unsure.stderr.startswith("banet: warning: the temperatures of ")
    assert "were fitted for other weights" in unsure.stderr
    entry = json.loads((tmp_path / "unsure" / "manifest.json").read_text())["files"][0]
    assert "temperature" not in entry["uncertainty"]


def test_a_scale_of_tiles_that_is_none_is_refused_before_the_run(pictures, tmp_path):
    result = banet("segment", pictures, "-o", tmp_path / "out", *SMALL, "--set", "tile_downscale=0")
    assert result.exit_code == 2
    assert "tile_downscale must be a whole number from 1 on, got 0" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_picture_in_tiles_alone_gets_a_page_that_says_where_its_mask_is(tmp_path):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "a.tif", np.zeros((64, 64, 3), np.uint8), tile=(16, 16), photometric="rgb")
    words = ("--max-pixels", 1000, "--report", *SMALL)
    result = banet("segment", tmp_path / "in", "-o", tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert "was done in tiles and is not drawn here; its mask is" in page
    assert "a_mask.tif" in page


def test_an_exported_file_has_the_temperature_of_its_weights(pictures, tmp_path):
    """Named by --weights, it lies beside the temperatures that were fitted for the weights it was made from."""
    pytest.importorskip("onnxruntime")
    weights = shutil.copy(find_bundle().task().weights(), tmp_path / "model.pt")
    content = {"weights_sha256": file_sha256(weights), "temperature": {"none": 2.0, "entropy": 2.0}}
    (tmp_path / "calibration.json").write_text(json.dumps(content))
    exported = banet("export", tmp_path / "model.onnx", "--weights", weights)
    assert exported.exit_code == 0, exported.output
    words = ("--backend", "onnx", "--weights", tmp_path / "model.onnx", "--uncertainty", "entropy")
    result = banet("segment", pictures / "a.png", "-o", tmp_path / "out", *SMALL, *words)
    assert (result.exit_code, result.stderr) == (0, "")
    entry = json.loads((tmp_path / "out" / "manifest.json").read_text())["files"][0]
    assert entry["uncertainty"]["temperature"] == 2.0
