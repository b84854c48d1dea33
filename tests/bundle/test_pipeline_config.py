"""Reading ahead, batches and writing in the background change nothing but the time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser
from PIL import Image

from banet_monai.report import CasesFailedError
from tests.bundle_runs import random_network

ROOT = Path(__file__).resolve().parents[2]
ONE_BY_ONE = {"num_workers": 0, "picture_batch": 1}
OVERLAPPED = {"num_workers": 2, "picture_batch": 4, "read_ahead": 3}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(random_network().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine pictures of two shapes, a volume, a torn file and a tiled TIFF above the limit of the run."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(9):
        shape = (40, 40, 3) if number % 4 else (40, 56, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"p{number}.png")
    nib.save(
        nib.Nifti1Image(rng.integers(0, 255, (24, 20, 3), dtype=np.uint8), np.diag([1, 1, 3, 1])), folder / "v.nii"
    )
    (folder / "torn.png").write_bytes((folder / "p1.png").read_bytes()[:500])
    large = rng.integers(0, 256, (80, 64, 3), dtype=np.uint8)
    tifffile.imwrite(folder / "large.tif", large, tile=(32, 32), photometric="rgb")
    return folder


def segment(source: Path, output: Path, weights: Path, **changes: Any) -> ConfigParser:
    parser = ConfigParser(ConfigParser.load_config_files([str(ROOT / "bundle/configs/inference.json")]))
    given = {
        "dataset_dir": str(source), "output_dir": str(output), "checkpoint": str(weights), "image_size": 32,
        "bundle_root": str(ROOT / "bundle"), "device": "$torch.device('cpu')", "amp": "none", "handlers": [],
        "max_pixels": 5000, "temperature": 1.0,
    }  # fmt: skip
    for name, value in (given | changes).items():
        parser[name] = value
    parser.get_parsed_content("initialize")
    with pytest.raises(RuntimeError, match="Failed to evaluate") as failed:  # MONAI's words around those of the report
        parser.get_parsed_content("run")
    assert isinstance(failed.value.__cause__, CasesFailedError)
    return parser


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    for name in ("started", "ended", "input"):
        content.pop(name)
    for entry in content["files"]:
        entry.pop("seconds", None)
    return content


def files(folder: Path) -> dict[str, bytes]:
    """What a run wrote, without its manifest; measurements name no time."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_results_and_manifest_are_those_of_one_case_after_the_other(
    pictures: Path, weights: Path, tmp_path: Path
) -> None:
    wishes = {"overlay": True, "measurements": True}
    segment(pictures, tmp_path / "a", weights, **ONE_BY_ONE, **wishes)
    segment(pictures, tmp_path / "b", weights, **OVERLAPPED, **wishes)
    first, second = files(tmp_path / "a"), files(tmp_path / "b")
    assert sum(name.endswith("_mask.png") for name in first) == 9
    assert {"v_mask.nii.gz", "large_mask.tif", "measurements.csv"} <= first.keys()
    assert first.keys() == second.keys()
    compressed = [name for name in first if name.endswith(".nii.gz")]  # gzip notes the time
    for name in compressed:
        masks = [nib.load(tmp_path / run / name).get_fdata() for run in "ab"]  # type: ignore[attr-defined]
        np.testing.assert_array_equal(*masks)
    assert [name for name in first if first[name] != second[name] and name not in compressed] == []
    assert manifest(tmp_path / "a") == manifest(tmp_path / "b")


def test_a_result_that_cannot_be_written_is_reported_for_its_own_case(
    pictures: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Image.Image.save

    def full_for_one(image: Image.Image, path: Path, **options: Any) -> None:
        if "p3_mask" in Path(path).name:
            raise OSError(28, "No space left on device", str(path))
        write(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", full_for_one)
    segment(pictures, tmp_path, weights, **OVERLAPPED)
    fates = {entry["path"]: entry for entry in manifest(tmp_path)["files"]}
    assert fates["p3.png"]["fate"] == "failed"
    assert "No space left" in fates["p3.png"]["reason"]
    assert [path for path, entry in fates.items() if entry["fate"] == "failed"] == ["p3.png", "torn.png"]


def test_an_interruption_leaves_a_whole_manifest(
    pictures: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from banet_monai.transforms import InBackground

    call, calls = InBackground.__call__, []

    def interrupted(self: InBackground, data: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return call(self, data, **options)

    monkeypatch.setattr(InBackground, "__call__", interrupted)
    parser = ConfigParser(ConfigParser.load_config_files([str(ROOT / "bundle/configs/inference.json")]))
    changes = {
        "dataset_dir": str(pictures), "output_dir": str(tmp_path), "checkpoint": str(weights), "image_size": 32,
        "device": "$torch.device('cpu')", "handlers": [], "max_pixels": 5000, "temperature": 1.0, **OVERLAPPED,
    }  # fmt: skip
    for name, value in changes.items():
        parser[name] = value
    parser.get_parsed_content("initialize")
    with pytest.raises((KeyboardInterrupt, RuntimeError), match=r"^$|Failed"):
        parser.get_parsed_content("run")
    with pytest.raises(CasesFailedError, match="it was not processed"):
        parser.get_parsed_content("report").finish()
    entries = manifest(tmp_path)["files"]
    assert {entry["fate"] for entry in entries} == {"result", "failed"}
    done = {entry["result"] for entry in entries if entry["fate"] == "result"}
    assert done == {name for name in files(tmp_path) if "_mask" in name}
