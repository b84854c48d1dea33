from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from banet_monai.cli import cli
from banet_monai.data import make_demonstration_data
from tests.bundle_runs import ROOT, random_network


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "bundle"
    shutil.copytree(ROOT / "bundle" / "configs", folder / "configs")
    (folder / "models").mkdir()
    torch.save(random_network().state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demonstration_data(tmp_path_factory.mktemp("data") / "demo", num_train=1, num_val=2, size=64)


def robustness(bundle: Path, *words: object) -> Result:
    few = {"--corruptions": "blur,rotation", "--strengths": "3"}
    missing = [word for name, value in few.items() if name not in words for word in (name, value)]
    options = [*missing, "--bundle", bundle, "--device", "cpu", "--set", "image_size=64", "--set", "amp=none"]
    result = CliRunner().invoke(cli, ["robustness", *map(str, (*words, *options))])
    assert "Traceback" not in result.output
    return result


def test_a_data_set_becomes_tables_a_plot_and_a_page(bundle: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = robustness(bundle, data, "-o", out)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "2 cases under 3 conditions, 0 failed"
    assert sorted(path.name for path in out.iterdir()) == [
        "robustness.csv",
        "robustness.html",
        "robustness.json",
        "robustness.svg",
        "robustness_cases.csv",
    ]
    summary = json.loads((out / "robustness.json").read_text())
    assert [row["corruption"] for row in summary["conditions"]] == ["clean", "blur", "rotation"]
    assert len(summary["facts"]["weights_sha256"]) == 64
    assert str(tmp_path) not in (out / "robustness.json").read_text() + (out / "robustness.html").read_text()


def test_a_folder_of_images_takes_its_truth_from_another_and_names_who_has_none(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    shutil.copytree(data / "val" / "images", images)
    shutil.copytree(data / "val" / "masks", masks)
    sorted(masks.iterdir())[0].unlink()
    result = robustness(bundle, images, "--truth", masks, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "it has no true mask" in result.stderr
    assert result.stdout.splitlines()[0] == "1 cases under 3 conditions, 1 failed"


def test_a_damaged_image_is_named_and_the_others_are_measured(bundle: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(data, folder)
    first = sorted((folder / "val" / "images").iterdir())[0]
    first.write_bytes(first.read_bytes()[:200])
    result = robustness(bundle, folder, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"banet: failed: {first.stem}: {first.name}" in result.stderr
    summary = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert summary["cases"] == 1
    assert list(summary["failed"]) == [first.stem]


def test_an_interrupted_run_says_so_and_the_same_command_goes_on(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from banet_monai.robustness.measuring import CaseMeasurer

    measured: list[str] = []
    load = CaseMeasurer.load

    def interrupted(self: CaseMeasurer, case: dict[str, str]) -> dict[str, object]:
        if len(measured) == 2:  # the first is opened to see what the cases are
            raise KeyboardInterrupt
        measured.append(case["name"])
        return load(self, case)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(CaseMeasurer, "load", interrupted)
        result = robustness(bundle, data, "-o", out)
    assert result.exit_code == 130
    assert "interrupted; what is done is kept in" in result.stderr
    assert len(list((out / "partial").iterdir())) == 1
    assert robustness(bundle, data, "-o", out).exit_code == 0
    assert not (out / "partial").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--strengths", "0,9"], "'0,9' is no list out of 1 to 5"),
        (["--corruptions", "blurr"], "did you mean 'blur'?"),
        (["--corruptions", "thickness"], "'thickness' is a corruption of volumes, these are pictures"),
        (["--set", "nonsense=1"], "no entry 'nonsense'"),
        (
            ["--truth", "x", "--val-fraction", "0.5"],
            "--val-ids and --val-fraction choose among the cases of a data set",
        ),
        (["--truth", "x", "--val-ids", __file__], "--val-ids and --val-fraction choose among the cases of a data set"),
        (["--truth", "nowhere"], "folder of true masks 'nowhere' does not exist"),
    ],
)
def test_wrong_use_is_answered_in_one_line(
    bundle: Path, data: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    source = data / "val" / "images" if "--truth" in words else data
    result = robustness(bundle, source, "-o", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out" / "robustness.json").exists()


def test_data_that_do_not_exist_are_refused(bundle: Path, tmp_path: Path) -> None:
    result = robustness(bundle, tmp_path / "nowhere", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
