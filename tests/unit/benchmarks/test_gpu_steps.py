"""Which runs a step has, what travels, and how runs share the time of a call."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.accuracy.collecting import definition
from benchmarks.accuracy.execution import Workplace, lay_over, write_json
from benchmarks.gpu import working
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.packing import pack_base, pack_dataset, share_out, source_digest, travelling_bytes
from benchmarks.gpu.placing import place, relocate, require_packed_for
from benchmarks.gpu.steps import Workspace, load_step, state_name, step_names
from benchmarks.gpu.working import Outcome, queue, work


@pytest.fixture
def step(miniature):
    return load_step("mini", **miniature)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "machine")


@pytest.fixture
def miniature(tmp_path):
    """A step of two runs on five pictures of 40 x 30, one of them official validation, one held back by name."""
    experiments = json.loads(load_step.__globals__["EXPERIMENTS"].read_text())
    names = tmp_path / "held_back.txt"
    names.write_text("train1\nval0\n")
    experiments["datasets"]["pictures"] = {"folder": "pictures", "val_ids": str(names), "training": 3, "held_back": 2}
    experiments["budgets"]["mini"] = {
        "dataset": "pictures",
        "settings": {"init": "none", "image_size": 20, "max_epochs": 2, "num_workers": 0, "patience": 0},
        "blocks": [{"experiments": ["banet", "unet"], "seeds": [0]}],
    }
    steps = {"mini": {"budget": "mini", "runs": ["mini/pictures"], "lanes": 1, "weights": True}}
    files = {"experiments": tmp_path / "experiments.json", "steps": tmp_path / "steps.json"}
    files["experiments"].write_text(json.dumps(experiments))
    files["steps"].write_text(json.dumps({"steps": steps}))
    for part, count in (("train", 4), ("val", 1)):
        for kind in ("images", "masks"):
            (tmp_path / "data" / "pictures" / part / kind).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((30, 40), dtype=bool)
            mask[:, 20:] = True
            folder = tmp_path / "data" / "pictures" / part
            Image.fromarray(mask).save(folder / "masks" / f"{part}{number}.png")
            picture = np.where(mask[..., None], [10, 20, 200], [220, 120, 30]).astype(np.uint8)
            Image.fromarray(picture).save(folder / "images" / f"{part}{number}.png")
    return files


def placed(tmp_path, step, workspace):
    pack_base(tmp_path / "carry", [], [])
    pack_dataset("pictures", tmp_path / "data", [step], tmp_path / "carry")
    return place(tmp_path / "carry", workspace, step.runs)


def interrupt(run, places, **changes):
    """Leave the state of a run behind after its first epoch."""
    goal = Workplace(run, places)
    goal.training.mkdir(parents=True)
    torch.save({"progress": {"epoch": 1, "iteration": 2}, "network": {"weight": torch.ones(3)}}, goal.state)
    write_json(goal.train_overlay, {**lay_over(run, places)[0], **changes})
    return goal


def test_every_step_names_runs_of_the_full_budget_and_none_stands_in_two_steps():
    names = [run.name for name in step_names() for run in load_step(name).runs]
    assert all(name.startswith("gpu/") for name in names)
    assert len(names) == len(set(names))


def test_the_weights_that_ship_come_first_and_come_back():
    assert step_names()[:5] == ["skin", "ablation", "kvasir", "shenzhen", "hippocampus"]
    assert [name for name in step_names() if load_step(name).weights] == ["skin", "hippocampus"]


def test_an_unknown_step_and_an_unknown_key_are_refused(tmp_path, miniature):
    with pytest.raises(ValueError, match="there is no step 'nothing', there are: mini"):
        load_step("nothing", **miniature)
    miniature["steps"].write_text(json.dumps({"steps": {"mini": {"runs": [], "lane": 2}}}))
    with pytest.raises(ValueError, match=r"step 'mini': unknown keys \['lane'\]"):
        load_step("mini", **miniature)


def test_pictures_that_are_judged_travel_as_they_are_and_the_others_at_training_size(tmp_path, step, workspace):
    assert placed(tmp_path, step, workspace) == ["data set pictures"]
    there, here = workspace.root / "data" / "pictures", tmp_path / "data" / "pictures"
    for name in ("train/images/train1.png", "train/masks/train1.png", "val/images/val0.png"):
        assert (there / name).read_bytes() == (here / name).read_bytes()
    note = json.loads((tmp_path / "carry" / "pictures" / "note.json").read_text())
    assert (note["size"], note["shrunk"], note["as_they_are"]) == (20, 3, 2)
    with Image.open(there / "train/images/train0.jpg") as picture, Image.open(there / "train/masks/train0.png") as mask:
        assert picture.size == mask.size == (27, 20)  # short side 20, 40 x 20 / 30 rounded
        assert (np.asarray(mask)[:, :13] == 0).all()
        assert (np.asarray(mask)[:, 14:] > 0).all()
        assert np.abs(np.asarray(picture, dtype=int)[10, 3] - [220, 120, 30]).max() < 12
        assert np.abs(np.asarray(picture, dtype=int)[10, 23] - [10, 20, 200]).max() < 12


def test_what_is_placed_already_stays(tmp_path, step, workspace):
    placed(tmp_path, step, workspace)
    assert place(tmp_path / "carry", workspace, step.runs) == []


def test_data_that_were_not_packed_for_a_step_are_refused(tmp_path, step, workspace):
    with pytest.raises(ValueError, match="the data set 'pictures' was not carried"):
        require_packed_for(step, workspace)
    placed(tmp_path, step, workspace)
    require_packed_for(step, workspace)
    with pytest.raises(ValueError, match=r"'pictures' was packed for \['mini'\]: pack it for 'another' too"):
        require_packed_for(dataclasses.replace(step, name="another"), workspace)


def test_a_missing_data_set_is_named(tmp_path, step):
    with pytest.raises(FileNotFoundError, match="the data set 'pictures' is not in"):
        pack_dataset("pictures", tmp_path / "elsewhere", [step], tmp_path / "carry")


def test_a_data_set_that_is_too_large_to_travel_is_refused(tmp_path, miniature, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.gpu.__main__.LIMIT", 1000)
    files = [word for key, value in miniature.items() for word in (f"--{key}", str(value))]
    assert main(["pack", "mini", *files, "--carry", str(tmp_path / "carry"), "--data", str(tmp_path / "data")]) == 1
    assert "TOO MUCH" in capsys.readouterr().err
    assert main(["pack", "mini", *files, "--carry", str(tmp_path / "carry"), "--data", str(tmp_path)]) == 2


def test_what_is_too_much_for_one_call_is_shared_out(tmp_path):
    sizes = {"base": 17, "pictures": 27, "state.01of03": 8, "state.02of03": 8, "state.03of03": 8}
    paths = {name: tmp_path / name for name in sizes}
    for name in ("base", "pictures"):
        paths[name].mkdir()
    for name, size in sizes.items():
        (paths[name] / "file" if paths[name].is_dir() else paths[name]).write_bytes(bytes(size))
    tree = travelling_bytes([])
    calls = share_out(list(paths.values()), limit=tree + 36)
    assert [[path.name for path in call.paths] for call in calls] == [
        ["base", "state.01of03", "state.02of03"],
        ["pictures", "state.03of03"],
    ]
    assert [call.size - tree for call in calls] == [33, 35]


def test_states_count_among_what_a_call_carries(tmp_path, miniature, monkeypatch, capsys):
    files = [word for key, value in miniature.items() for word in (f"--{key}", str(value))]
    carry = tmp_path / "carry"
    main(["pack", "mini", *files, "--carry", str(carry), "--data", str(tmp_path / "data")])
    assert "mini: 1 calls" in capsys.readouterr().out
    (carry / "states").mkdir()
    (carry / "states" / f"{state_name('mini/pictures/unet/seed0')}.01of01").write_bytes(bytes(500_000))
    monkeypatch.setattr("benchmarks.gpu.__main__.LIMIT", travelling_bytes([]) + 500_000)
    assert main(["calls", "mini", *files, "--carry", str(carry)]) == 0
    shown = capsys.readouterr().out
    assert "mini: 2 calls" in shown
    assert shown.index("step.sh place mini") < shown.index("step.sh mini --minutes")


def test_calls_are_refused_before_anything_is_packed(tmp_path, miniature, capsys):
    files = [word for key, value in miniature.items() for word in (f"--{key}", str(value))]
    assert main(["calls", "mini", *files, "--carry", str(tmp_path / "carry")]) == 2
    assert "['base', 'pictures'] are not in" in capsys.readouterr().err


def test_base_and_pictures_may_come_in_two_calls(tmp_path, miniature, step, monkeypatch, capsys):
    placed(tmp_path, step, Workspace(tmp_path / "here"))
    files = [word for key, value in miniature.items() for word in (f"--{key}", str(value))]
    there = [*files, "--carry", str(tmp_path / "carry"), "--root", str(tmp_path / "machine")]
    pictures, later = tmp_path / "carry" / "pictures", tmp_path / "later"
    pictures.rename(later)
    assert main(["place", "mini", *there]) == 0
    out = ["--minutes", "0", "--out", str(tmp_path / "out")]
    assert main(["step", "mini", *there, *out]) == 2
    assert "the data set 'pictures' was not carried" in capsys.readouterr().err
    later.rename(pictures)
    assert main(["step", "mini", *there, *out]) == 0
    assert "placed   data set pictures" in capsys.readouterr().out


def test_the_time_of_a_call_must_be_said(capsys):
    with pytest.raises(SystemExit):
        main(["step", "skin"])
    assert "--minutes" in capsys.readouterr().err


def test_results_of_an_earlier_machine_are_not_made_again(tmp_path, step, workspace):
    banet, unet = step.runs
    results = tmp_path / "travelled"
    write_json(results / f"{banet.name}.json", {"definition": definition(banet)})
    write_json(results / f"{unet.name}.json", {"definition": "another"})
    pack_dataset("pictures", tmp_path / "data", [step], tmp_path / "carry")
    done = place(tmp_path / "carry", workspace, step.runs, results=results)
    assert done == ["data set pictures", f"result of {banet.name}"]
    assert queue(step, workspace.places) == [unet]
    assert place(tmp_path / "carry", workspace, step.runs, results=results) == []


def test_bytes_that_travel_are_the_working_tree_and_what_is_carried(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    alone = travelling_bytes([])
    assert travelling_bytes([tmp_path]) == alone + 5


def test_the_digest_of_the_sources_changes_with_any_of_them(tmp_path):
    (tmp_path / "banet_monai").mkdir()
    (tmp_path / "banet_monai" / "x.py").write_text("a")
    before = source_digest(tmp_path)
    (tmp_path / "banet_monai" / "notes.txt").write_text("a")
    assert source_digest(tmp_path) == before
    (tmp_path / "banet_monai" / "x.py").write_text("b")
    assert source_digest(tmp_path) != before


def test_a_state_from_another_folder_is_taken_up_but_not_one_of_other_settings(tmp_path, step, workspace):
    placed(tmp_path, step, workspace)
    banet, unet = step.runs
    goal = interrupt(banet, workspace.places, dataset_dir="/elsewhere", val_ids="/elsewhere/names.txt")
    interrupt(unet, workspace.places, max_epochs=3)
    assert relocate(banet, workspace.places)
    assert json.loads(goal.train_overlay.read_text()) == json.loads(json.dumps(lay_over(banet, workspace.places)[0]))
    assert not relocate(unet, workspace.places)


def test_interrupted_runs_go_first_and_alone_when_the_time_ends(tmp_path, step, workspace):
    placed(tmp_path, step, workspace)
    banet, unet = step.runs
    assert queue(step, workspace.places) == [banet, unet]
    interrupt(unet, workspace.places)
    assert queue(step, workspace.places) == [unet, banet]
    assert queue(step, workspace.places, finish=True) == [unet]


def test_a_run_that_is_done_does_not_wait(step, workspace):
    write_json(workspace.places.result(step.runs[0]), {"definition": definition(step.runs[0])})
    assert queue(step, workspace.places) == [step.runs[1]]


def stand_in(monkeypatch, words):
    """Let the lanes run this Python text, with NAME and RESULTS in its arguments, instead of the harness."""
    real = working.subprocess.Popen

    def start(command, **options):
        return real([sys.executable, "-S", "-c", words, *command[command.index("run") :]], **options)

    monkeypatch.setattr(working.subprocess, "Popen", start)


DONE = """
import pathlib, sys
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
path = pathlib.Path(options["--results"], options["--only"] + ".json")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text("{}")
print("JA 0.5")
"""


def test_each_finished_run_is_reported_at_once(step, workspace, monkeypatch, capsys):
    stand_in(monkeypatch, DONE)
    seen = []
    outcome = work(step, workspace, 60, after_each=lambda so_far: seen.append(len(so_far.finished)))
    assert outcome == Outcome(finished=[run.name for run in step.runs])
    assert seen == [1, 2]
    assert "finished mini/pictures/banet/seed0: JA 0.5" in capsys.readouterr().out


def test_a_run_that_fails_is_shown_and_the_others_go_on(step, workspace, monkeypatch, capsys):
    stand_in(monkeypatch, DONE.replace("print", "import os; 'unet' in path.parts or path.unlink(); print"))
    outcome = work(step, workspace, 60)
    assert outcome == Outcome(finished=["mini/pictures/unet/seed0"], failed=["mini/pictures/banet/seed0"])
    assert "FAILED   mini/pictures/banet/seed0, exit code 0" in capsys.readouterr().out


def test_what_runs_at_the_end_is_asked_to_stop_and_counts_as_interrupted(step, workspace, monkeypatch):
    stand_in(monkeypatch, "import time; time.sleep(60)")
    assert work(step, workspace, 1) == Outcome(interrupted=["mini/pictures/banet/seed0"])


def test_names_of_packed_states_have_no_sign_that_cannot_travel():
    assert state_name("gpu/isic2017/banet/seed0") == "gpu.isic2017.banet.seed0.tar.gz"
