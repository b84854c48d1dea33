from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from banet_monai.explain.cases import CaseExplainer
from banet_monai.networks import BANet
from banet_monai.segmenter import Segmenter
from tests.bundle_runs import ROOT, constant_network, random_network

VOLUMES = ("configs/inference.json", "tasks/hippocampus/inference.json")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "bundle"
    shutil.copytree(ROOT / "bundle" / "configs", folder / "configs")
    (folder / "tasks" / "hippocampus").mkdir(parents=True)
    shutil.copy(ROOT / "bundle" / "tasks" / "hippocampus" / "inference.json", folder / "tasks" / "hippocampus")
    (folder / "models").mkdir()
    torch.save(random_network().state_dict(), folder / "models" / "model.pt")
    torch.save(constant_network(2.0).state_dict(), folder / "models" / "constant.pt")
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("pictures") / "mole.png"
    values = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return str(path)


def segmenter(bundle: Path, *, weights: str = "model.pt", **options: Any) -> Segmenter:
    small = {"image_size": 64, "amp": "none", "uncertainty": "mc_dropout", "uncertainty_samples": 2}
    return Segmenter(bundle, weights=bundle / "models" / weights, device="cpu", options={**small, **options})


@pytest.mark.parametrize("uncertainty", ["mc_dropout", "tta"])
@pytest.mark.parametrize("tta", [False, True])
def test_the_outline_is_that_of_the_segmenter(bundle: Path, picture: str, uncertainty: str, tta: bool) -> None:
    loaded = segmenter(bundle, uncertainty=uncertainty, tta=tta)
    level = float(np.quantile(loaded(picture).probability, 0.8))  # far from one half for weights of chance
    loaded = segmenter(bundle, uncertainty=uncertainty, tta=tta, threshold=level)
    mask = loaded(picture).mask
    assert 0 < np.count_nonzero(mask) < mask.size / 2
    assert np.array_equal(CaseExplainer(loaded)(picture).mask.numpy(), mask)


def test_the_number_is_that_of_the_tempered_probability(bundle: Path, picture: str) -> None:
    case = CaseExplainer(segmenter(bundle, weights="constant.pt", temperature=2))(picture)
    assert case.score == pytest.approx(1 - 1 / (1 + np.exp(-1)), abs=1e-4)  # a logit of 2 at temperature 2
    assert case.scores["temperature"] == 2


def test_the_boundary_map_of_the_configuration_is_no_obstacle(bundle: Path, picture: str) -> None:
    case = CaseExplainer(segmenter(bundle, boundary=True))(picture)
    assert case.maps["boundary"].shape == (64, 64)


def test_a_configuration_without_uncertainty_is_refused(bundle: Path) -> None:
    with pytest.raises(ValueError, match=r"configuration's is 'none'; options=.*mc_dropout.* 'tta' for every one"):
        CaseExplainer(segmenter(bundle, uncertainty="none"))


def test_a_volume_smaller_than_a_window_is_explained_as_it_is_segmented(bundle: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = {"width": 8, "aspp_channels": 8}
    network = BANet(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        edge_channels=2,
        encoder="mobilenet_v2",
        output_stride=16,
        stem_stride=1,
        separable=True,
        **small,  # type: ignore[arg-type]
    )
    torch.save(network.state_dict(), tmp_path / "model.pt")
    values = np.random.default_rng(0).integers(0, 255, (20, 24, 12)).astype(np.uint8)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "scan.nii.gz")
    loaded = Segmenter(
        bundle,
        configs=VOLUMES,
        weights=tmp_path / "model.pt",
        device="cpu",
        options={
            "roi_size": [32, 32, 32],
            "amp": "none",
            "uncertainty": "tta",
            **{f"network_def::{name}": value for name, value in small.items()},
        },
    )
    case = CaseExplainer(loaded)(str(tmp_path / "scan.nii.gz"))
    assert {tuple(values.shape) for values in case.maps.values()} == {(20, 24)}
    assert {"uncertainty", "boundary", "edge1", "cff4", "gradcam1", "gradcam4"} <= set(case.maps)
    found = re.match(r"slice (\d+) of the volume", case.notes[0])
    assert found is not None
    mask = loaded(tmp_path / "scan.nii.gz").mask
    assert np.array_equal(case.mask.numpy(), mask[..., int(found[1]) - 1])
