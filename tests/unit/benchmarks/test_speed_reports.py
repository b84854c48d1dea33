"""What a benchmark of speed has written when it ends early, and what it times."""

import json

import pytest
import torch

from benchmarks import card_rate, network_speed, training_speed
from benchmarks.candidates import BANET, REFERENCE

MACHINE = {"processor": "A processor", "gpu": "A card", "cores": 2, "system": "Linux", "python": "3.12", "packages": {}}
MACHINE["commit"] = None


def measured(name, mode, options):
    seconds = [0.5, 0.5] if name == REFERENCE else [1.0, 1.0]
    return {"seconds": seconds, "parameters": 1, "flops": 1, "peak_memory_mib": 1.0, "machine": MACHINE}


WORDS = ["--networks", "as shipped", "BasicUNet", "SegResNet", "--rounds", "2"]
STEM = "network_speed_cpu_float32"


def test_networks_that_were_measured_before_one_fails_are_on_disk(tmp_path, monkeypatch, capsys):
    def fails_late(name, mode, options):
        if name == "SegResNet 32":
            raise SystemExit("out of memory")
        return measured(name, mode, options)

    monkeypatch.setattr(network_speed, "run_job", fails_late)
    with pytest.raises(SystemExit, match="out of memory"):
        network_speed.main([*WORDS, "--out", str(tmp_path)])
    report = json.loads((tmp_path / f"{STEM}_so_far.json").read_text())
    assert [(row["network"], row["mode"], row["relative_time"]) for row in report["rows"]] == [
        (name, mode, ratio) for name, ratio in ((REFERENCE, 1.0), ("BasicUNet", 2.0)) for mode in ("forward", "train")
    ]
    assert "# Speed and memory" not in capsys.readouterr().out


def test_the_whole_report_takes_the_place_of_what_was_there_so_far(tmp_path, monkeypatch):
    monkeypatch.setattr(network_speed, "run_job", measured)
    network_speed.main([*WORDS, "--out", str(tmp_path)])
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"{STEM}.json", f"{STEM}.md"]
    report = json.loads((tmp_path / f"{STEM}.json").read_text())
    assert [row["timed_steps"] for row in report["rows"]] == [4] * 6
    assert [row["relative_time"] for row in report["rows"]] == [1.0, 1.0, 2.0, 2.0, 2.0, 2.0]


def test_a_form_that_does_not_compile_leaves_the_rate_and_the_other_form(tmp_path, monkeypatch):
    def optimize(network, *, dtype, compile_mode):
        if compile_mode is not None:
            raise RuntimeError("no compiler")
        return network

    monkeypatch.setattr(card_rate, "optimize", optimize)
    monkeypatch.setitem(BANET, card_rate.PAPER, BANET[REFERENCE])
    small = [
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--image-size",
        "32",
        "--batch",
        "1",
        "--steps",
        "1",
        "--sides",
        "8",
    ]
    with pytest.raises(RuntimeError, match="no compiler"):
        card_rate.main([*small, "--out", str(tmp_path)])
    report = json.loads((tmp_path / "card_rate.json").read_text())
    assert report["matrix_flops_per_s"] > 0
    assert [row["form"] for row in report["rows"]] == ["optimized"]


@pytest.mark.parametrize(("pictures", "batch_size"), [(48, 64), (3, 4), (5000, 8)])
def test_few_pictures_are_repeated_until_an_epoch_has_many_batches(pictures, batch_size):
    dataset = torch.utils.data.TensorDataset(torch.arange(pictures))
    loader = torch.utils.data.DataLoader(training_speed.repeated(dataset, batch_size), batch_size=batch_size)
    assert len(loader) >= 100
    assert {int(value) for (batch,) in loader for value in batch} == set(range(pictures))
    assert len(loader.dataset) % pictures == 0


def test_training_is_timed_over_epochs_of_many_batches(tmp_path):
    options = training_speed.parse_arguments(["--batch-size", "64", "--image-size", "64", "--num-workers", "0"])
    parser = training_speed.load_parser(options)
    parser["train::dataset"] = {"_target_": "monai.data.Dataset", "data": [0] * 48}
    assert len(parser.get_parsed_content("train::dataloader")) >= 100
