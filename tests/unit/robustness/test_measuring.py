"""Cases measured through the configurations of the bundle, with networks whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from banet_monai.robustness import CaseMeasurer, Condition, conditions, robustness
from banet_monai.robustness.measuring import is_volume
from banet_monai.robustness.runs import facts_of, fitting_conditions
from banet_monai.segmenter import Segmenter
from tests.bundle_runs import ROOT, random_network

CLEAN = Condition("clean", 0)


class DarkIsLesion(nn.Module):
    """Logits that rise with darkness: 0 at ImageNet's mean."""

    def __init__(self, scale: float = 8.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -self.scale * x.mean(dim=1, keepdim=True)


class ThreeClasses(nn.Module):
    """Background where it is dark, class 1 where it is bright, class 2 where it is brightest."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        unit = x * 0.226 + 0.449  # back from the averages of ImageNet's mean and deviation
        return torch.cat([-((unit - centre) ** 2) for centre in (0.0, 0.5, 1.0)], dim=1) * 60


def save_picture(folder: Path, name: str, size: tuple[int, int] = (80, 64)) -> dict[str, Any]:
    """A dark rectangle on bright skin, and its mask."""
    x, y = size
    pixels = np.full((y, x, 3), 200, dtype=np.uint8)
    pixels[y // 4 : y // 2, x // 4 : 3 * x // 4] = 40
    mask = np.zeros((y, x), dtype=np.uint8)
    mask[y // 4 : y // 2, x // 4 : 3 * x // 4] = 255
    Image.fromarray(pixels).save(folder / f"{name}.png")
    Image.fromarray(mask).save(folder / f"{name}_mask.png")
    return {"name": name, "image": str(folder / f"{name}.png"), "label": str(folder / f"{name}_mask.png")}


def save_volume(folder: Path, name: str = "scan", shape: tuple[int, int, int] = (32, 36, 24)) -> dict[str, Any]:
    """Two boxes of classes 1 and 2 that begin and end between thick slices, and their labels."""
    labels = np.zeros(shape, dtype=np.uint8)
    labels[6:16, 8:26, 4:20] = 1
    labels[18:28, 8:26, 4:20] = 2
    nib.save(nib.Nifti1Image((labels.astype(np.int32) * 500).astype(np.int16), np.eye(4)), folder / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / f"{name}_label.nii.gz")
    return {"name": name, "image": str(folder / f"{name}.nii.gz"), "label": str(folder / f"{name}_label.nii.gz")}


def measurer_of(network: nn.Module, tmp_path: Path, *, task: str = "", **options: Any) -> CaseMeasurer:
    configs = ["configs/inference.json", *([f"tasks/{task}/inference.json"] if task else [])]
    small = {"amp": "none", "uncertainty": "entropy", **({"roi_size": [32, 32, 24]} if task else {"image_size": 64})}
    loaded = Segmenter(
        ROOT / "bundle", configs=configs, device="cpu", weights=weights(tmp_path, task), options={**small, **options}
    )
    loaded.network = network.eval()
    return CaseMeasurer(loaded)


def weights(folder: Path, task: str) -> Path:
    """Weights that load; the network is replaced afterwards."""
    if task:
        from monai.bundle import ConfigParser

        files = [str(ROOT / "bundle" / name) for name in ("configs/inference.json", f"tasks/{task}/inference.json")]
        network = ConfigParser(ConfigParser.load_config_files(files)).get_parsed_content("network_def")
    else:
        network = random_network()
    torch.save(network.state_dict(), folder / "model.pt")
    return folder / "model.pt"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> CaseMeasurer:
    return measurer_of(DarkIsLesion(), tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> CaseMeasurer:
    return measurer_of(ThreeClasses(), tmp_path_factory.mktemp("weights"), task="hippocampus")


def test_a_network_that_is_right_scores_one_on_clean_pictures(pictures: CaseMeasurer, tmp_path: Path) -> None:
    row = pictures(pictures.load(save_picture(tmp_path, "a")), CLEAN)
    assert row.ja == 1.0
    assert row.boundary_iou == 1.0
    assert not row.missed
    assert sum(row.bins[0]) == 80 * 64
    assert sum(row.bins[2]) == 16 * 40  # foreground of the truth
    assert 0 <= row.expected_error < 0.05


@pytest.mark.parametrize("strength", [1, 3, 4, 5])
def test_a_turn_is_undone_before_the_outlines_are_compared(
    pictures: CaseMeasurer, tmp_path: Path, strength: int
) -> None:
    row = pictures(pictures.load(save_picture(tmp_path, "a")), Condition("rotation", strength))
    assert row.ja > 0.9
    assert row.amount == {1: 10, 3: 45, 4: 90, 5: 135}[strength]
    assert sum(row.bins[0]) < 80 * 64  # corners that left the frame count neither way


def test_a_picture_without_contrast_is_missed_and_that_is_counted(tmp_path: Path) -> None:
    nothing = measurer_of(DarkIsLesion(), tmp_path)
    loaded = nothing.load(save_picture(tmp_path, "a"))
    nothing.segmenter.network = nn.Conv2d(3, 1, 1).eval()
    with torch.no_grad():
        nothing.segmenter.network.weight.zero_()
        nothing.segmenter.network.bias.fill_(-5.0)
    row = nothing(loaded, Condition("blur", 1))
    assert row.missed
    assert row.ja == 0.0
    assert row.expected_error == pytest.approx(1 / (1 + np.exp(5)), abs=1e-4)  # of an empty mask: the largest anywhere


def test_every_corruption_of_pictures_runs_and_gives_the_same_twice(pictures: CaseMeasurer, tmp_path: Path) -> None:
    loaded = pictures.load(save_picture(tmp_path, "a"))
    wanted = conditions(strengths=(5,))
    assert [pictures(loaded, condition) for condition in wanted] == [pictures(loaded, c) for c in wanted]


def test_a_large_picture_is_scored_on_a_smaller_grid(pictures: CaseMeasurer, tmp_path: Path) -> None:
    row = pictures(pictures.load(save_picture(tmp_path, "large", (1280, 1024))), CLEAN)
    assert sum(row.bins[0]) == 640 * 512
    assert row.ja > 0.95


def test_a_truth_of_another_size_is_refused_by_name(pictures: CaseMeasurer, tmp_path: Path) -> None:
    case = {**save_picture(tmp_path, "a"), "label": save_picture(tmp_path, "b", (64, 64))["label"]}
    with pytest.raises(ValueError, match=r"the truth of 'a' is \(64, 64\), its image \(80, 64\)"):
        pictures.load(case)
    rows, failures = robustness(pictures, [case, save_picture(tmp_path, "c")], conditions(["blur"], (1,)))
    assert {row.case for row in rows} == {"c"}
    assert "both need the same size" in failures["a"]


def test_values_that_are_no_numbers_are_a_failure_and_not_an_empty_mask(tmp_path: Path) -> None:
    broken = measurer_of(DarkIsLesion(float("nan")), tmp_path)
    with pytest.raises(ValueError, match=r"values that are no numbers"):
        broken(broken.load(save_picture(tmp_path, "a")), CLEAN)


def test_a_segmenter_without_uncertainty_is_refused(tmp_path: Path) -> None:
    plain = measurer_of(DarkIsLesion(), tmp_path, uncertainty="none")
    with pytest.raises(ValueError, match=r"give the segmenter uncertainty='entropy'"):
        plain(plain.load(save_picture(tmp_path, "a")), CLEAN)


def test_a_volume_of_two_classes_is_scored_class_by_class(volumes: CaseMeasurer, tmp_path: Path) -> None:
    loaded = volumes.load(save_volume(tmp_path))
    assert is_volume(loaded)
    row = volumes(loaded, CLEAN)
    assert row.ja > 0.99
    assert not row.missed
    assert sum(row.bins[0]) == 32 * 36 * 24
    assert sum(row.bins[2]) == 2 * 10 * 18 * 16


@pytest.mark.parametrize(("strength", "exact"), [(2, True), (4, True), (3, False), (5, False)])
def test_thick_slices_cost_what_they_cut_through(
    volumes: CaseMeasurer, tmp_path: Path, strength: int, exact: bool
) -> None:
    """The boxes begin at slice 4 and end at 20: borders of slices of 2 and 4, and not of slices of 3 and 6."""
    row = volumes(volumes.load(save_volume(tmp_path)), Condition("thickness", strength))
    assert not row.missed
    assert (row.ja > 0.99) == exact
    assert row.ja > 0.6


def test_a_truth_of_another_orientation_is_turned_to_its_volume(volumes: CaseMeasurer, tmp_path: Path) -> None:
    case = save_volume(tmp_path)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = [-5, 7, 3]
    for key in ("image", "label"):
        nib.save(nib.Nifti1Image(np.asanyarray(nib.load(case[key]).dataobj), affine), case[key])
    straight = volumes.load(case)
    turned = nib.load(case["label"]).as_reoriented(np.array([[0, -1], [1, -1], [2, 1]]))
    nib.save(turned, case["label"])
    assert torch.equal(volumes.load(case)["truth"], straight["truth"])


def test_conditions_follow_the_first_case_that_can_be_read(
    volumes: CaseMeasurer, pictures: CaseMeasurer, tmp_path: Path
) -> None:
    gone = {"name": "gone", "image": str(tmp_path / "gone.png"), "label": str(tmp_path / "gone.png")}
    of_volumes = fitting_conditions(volumes, [gone, save_volume(tmp_path)], None, (1,))
    assert {"thickness", "rotation"} <= {condition.corruption for condition in of_volumes}
    of_pictures = fitting_conditions(pictures, [save_picture(tmp_path, "a")], None, (1,))
    assert "jpeg" in {condition.corruption for condition in of_pictures}
    with pytest.raises(ValueError, match=r"no corruption 'blurr' \(did you mean 'blur'\?\)"):
        fitting_conditions(pictures, [save_picture(tmp_path, "a")], ["blurr"], (1,))


def test_facts_hold_the_weights_and_what_changes_figures_and_no_place(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    settings = {"output_dir": str(tmp_path), "threshold": 0.4, "device": "cpu"}
    facts = facts_of(settings, weights=tmp_path / "model.pt")
    assert facts["settings"] == {"threshold": "0.4"}
    assert facts["weights_sha256"].startswith("e3b0c44298fc1c14")  # of an empty file
    assert str(tmp_path) not in str(facts)


def test_facts_change_with_the_temperatures_and_the_members_of_an_ensemble(tmp_path: Path) -> None:
    settings, weights = {"ensemble": str(tmp_path / "other.pt")}, tmp_path / "model.pt"
    for name in ("model.pt", "other.pt", "calibration.json"):
        (tmp_path / name).write_bytes(b"first")
    first = facts_of(settings, weights=weights)
    for name in ("other.pt", "calibration.json"):
        (tmp_path / name).write_bytes(b"second")
        second = facts_of(settings, weights=weights)
        assert second != first
        first = second
