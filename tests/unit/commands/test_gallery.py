from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from banet_monai.cli import cli
from banet_monai.report.manifest import file_sha256
from banet_monai.uncertainty import write_temperatures
from tests.bundle_runs import ROOT, constant_network, random_network


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "bundle"
    shutil.copytree(ROOT / "bundle" / "configs", folder / "configs")
    (folder / "models").mkdir()
    torch.save(random_network().state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, a volume of three slices and a broken picture."""
    source = tmp_path / "in"
    source.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(source / "a<b>.png")
    nib.save(nib.Nifti1Image(rng.integers(0, 255, (30, 34, 3)).astype(np.uint8), np.eye(4)), source / "scan.nii.gz")
    (source / "broken.png").write_bytes(b"no picture")
    return source


def gallery(bundle: Path, *words: object) -> Result:
    options = ["--bundle", bundle, "--device", "cpu", "--set", "image_size=64", "--set", "amp=none"]
    result = CliRunner().invoke(cli, ["gallery", *map(str, (*words, *options))])
    assert "Traceback" not in result.output
    return result


def test_a_folder_becomes_a_page_and_a_broken_file_is_named(bundle: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = gallery(bundle, folder, "-o", out)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("banet: failed: broken: broken.png ")
    assert result.stdout.splitlines()[0] == "2 shown, 1 failed"
    names = sorted(path.name for path in out.iterdir())
    assert names == ["a<b>_gallery.png", "a<b>_strip.png", "gallery.html", "scan_gallery.png", "scan_strip.png"]
    page = (out / "gallery.html").read_text(encoding="utf-8")
    assert "a&lt;b&gt;" in page
    assert "<b>" not in page
    assert "of 3, the one with the largest outline" in page
    assert str(tmp_path) not in page


def test_case_numbers_stand_for_paths_and_the_limit_is_said(bundle: Path, folder: Path, tmp_path: Path) -> None:
    result = gallery(bundle, folder, "-o", tmp_path / "out", "--no-paths", "--limit", 1)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "1 shown, 0 failed, 2 left out (--limit)"
    page = (tmp_path / "out" / "gallery.html").read_text(encoding="utf-8")
    assert "a&lt;b&gt;" not in page


def test_without_paths_nobody_learns_the_name_of_a_file_that_fails(bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "DOE^JANE"
    source.mkdir()
    (source / "doe_jane.png").write_bytes(b"no picture")
    result = gallery(bundle, source, "-o", tmp_path / "out", "--no-paths")
    assert result.stderr.splitlines()[-1].startswith("banet: failed: case-0001: case-0001 ")
    page = (tmp_path / "out" / "gallery.html").read_text(encoding="utf-8")
    assert "case-0001" in page
    assert not {"doe", "jane"} & set(re.split(r"[\W_]+", (page + result.output).lower()))


def test_an_interrupted_gallery_keeps_what_it_has(
    bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from banet_monai.explain.cases import CaseExplainer

    def stop(self: CaseExplainer, source: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CaseExplainer, "__call__", stop)
    result = gallery(bundle, folder, "-o", tmp_path / "out")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "banet: error: interrupted; 0 of 3 cases are on the page."
    assert (tmp_path / "out" / "gallery.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "-o", "out"], "nowhere"),
        ([".", "-o", "out", "--limit", "0"], "0 is not in the range"),
    ],
)
def test_a_mistake_is_one_line(bundle: Path, words: list[str], message: str) -> None:
    result = gallery(bundle, *words)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr


def test_a_folder_without_images_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = gallery(bundle, tmp_path / "empty", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("setting", ["boundary=true", "uncertainty=tta", "uncertainty=entropy", "tta=true"])
def test_what_segment_can_be_set_to_the_gallery_can(bundle: Path, folder: Path, tmp_path: Path, setting: str) -> None:
    (folder / "broken.png").unlink()
    result = gallery(bundle, folder, "-o", tmp_path / "out", "--limit", 1, "--set", setting)
    assert result.exit_code == 0, result.output


def test_a_network_without_dropout_is_flipped_and_turned(bundle: Path, folder: Path, tmp_path: Path) -> None:
    result = gallery(bundle, folder, "-o", tmp_path / "out", "--limit", 1, "--set", "network_def::dropout=0")
    assert result.exit_code == 0, result.output


def test_threshold_and_fitted_temperature_are_those_of_segment(tmp_path: Path, folder: Path) -> None:
    """A logit of 2 everywhere: outlined as a whole, at temperature 2 with an error of 1 - sigmoid(1) = 0.27."""
    models = tmp_path / "bundle" / "models"
    shutil.copytree(ROOT / "bundle" / "configs", models.parent / "configs")
    models.mkdir()
    torch.save(constant_network(2.0).state_dict(), models / "model.pt")
    write_temperatures(
        models / "calibration.json",
        {"none": 9.0, "mc_dropout": 2.0},
        facts={"weights_sha256": file_sha256(models / "model.pt")},
    )
    for threshold, number in ((0.5, "0.27"), (0.95, "0.73")):  # nothing is outlined: the largest probability
        out = tmp_path / str(threshold)
        result = gallery(models.parent, folder, "-o", out, "--limit", 1, "--set", f"threshold={threshold}")
        assert result.exit_code == 0, result.output
        assert f"uncertainty {number}" in (out / "gallery.html").read_text(encoding="utf-8")
