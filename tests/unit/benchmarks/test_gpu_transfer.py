"""What comes back from the machine, and how it is put together here again."""

import json
import tarfile

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from benchmarks.accuracy.collecting import definition, learning_curve
from benchmarks.accuracy.execution import Workplace, lay_over, write_json
from benchmarks.gpu import sending
from benchmarks.gpu.fetching import fetch
from benchmarks.gpu.placing import place, relocate
from benchmarks.gpu.sending import send_results, send_states, without_pictures
from benchmarks.gpu.steps import Workspace, load_step, state_name
from benchmarks.gpu.working import Outcome

NOTE = {"commit": "abc1234", "version": "0.1.0", "sources": None}


@pytest.fixture
def step(tmp_path):
    """Three runs on the bundle's own pictures, whose weights come back."""
    steps = {"mini": {"budget": "quick", "runs": ["banet", "unet"], "lanes": 2, "weights": True}}
    (tmp_path / "steps.json").write_text(json.dumps({"steps": steps}))
    return load_step("mini", steps=tmp_path / "steps.json")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "machine")


def finish(run, workspace):
    """Leave what a finished run leaves."""
    machine = {"commit": None, "gpu": "Accelerator", "packages": {"banet-monai": None, "torch": "2.11.0"}}
    result = {"name": run.name, "definition": definition(run), "machine": machine}
    write_json(workspace.places.result(run), result)
    weights = Workplace(run, workspace.places).weights
    weights.parent.mkdir(parents=True)
    torch.save({"weight": torch.full((2,), 3.0)}, weights)


def interrupt(run, workspace):
    """Leave what an interrupted run leaves: the state of its first epoch, the overlay, a curve with pictures."""
    goal = Workplace(run, workspace.places)
    goal.training.mkdir(parents=True)
    state = {"progress": {"epoch": 1, "iteration": 2}, "network": {"weight": torch.rand(3000)}}
    torch.save(state, goal.state)
    write_json(goal.train_overlay, lay_over(run, workspace.places)[0])
    writer = SummaryWriter(str(goal.training))
    writer.add_scalar("val_ja", 0.25, 1)
    writer.add_image("overlay", torch.rand(3, 32, 32), 1)
    writer.add_scalar("val_ja", 0.5, 1)
    writer.close()
    (goal.training / "model.pt").write_bytes(b"best")
    return state


def sent(step, workspace, out, **options):
    large = send_states(step, workspace, out, **options)
    send_results(step, workspace, out, Outcome(), large)
    return large


def fetched(tmp_path, **options):
    base = tmp_path / "carry" / "base"
    base.mkdir(parents=True, exist_ok=True)
    (base / "note.json").write_text(json.dumps({**NOTE, "sources": sending.source_digest(sending.ROOT)}))
    places = {"results": tmp_path / "results", "runs": tmp_path / "runs", "carry": tmp_path / "carry"}
    return fetch(tmp_path / "out", **places, **options)


def test_results_weights_and_states_go_there_and_back(tmp_path, step, workspace, monkeypatch):
    monkeypatch.setattr(sending, "PIECE_BYTES", 5000)
    banet, unet = step.runs
    finish(banet, workspace)
    state = interrupt(unet, workspace)
    large = sent(step, workspace, tmp_path / "out")
    assert len(large["pieces"]) > 2
    assert all(file.stat().st_size <= 5000 for file in (tmp_path / "out").glob("large.*"))

    back = fetched(tmp_path)
    assert (back.results, back.weights, back.problems) == ([banet.name], [f"{banet.name}/last.pt"], [])
    assert back.report["runs"][unet.name] == "interrupted, 1 epochs"
    assert torch.load(tmp_path / "runs" / banet.name / "last.pt", weights_only=True)["weight"].tolist() == [3.0, 3.0]
    result = json.loads((tmp_path / "results" / f"{banet.name}.json").read_text())
    assert result["machine"]["gpu"] == "Accelerator"
    assert result["machine"]["commit"] == "abc1234"
    assert result["machine"]["packages"]["banet-monai"] == "0.1.0"

    another = Workspace(tmp_path / "another machine")
    assert place(tmp_path / "carry", another, step.runs) == [f"state of {unet.name}"]
    goal = Workplace(unet, another.places)
    assert torch.equal(torch.load(goal.state, weights_only=True)["network"]["weight"], state["network"]["weight"])
    assert relocate(unet, another.places)
    assert learning_curve(goal.training, 2)["val_ja"] == [0.25, 0.5]
    assert (goal.training / "model.pt").read_bytes() == b""  # the next better epoch deletes it


def test_the_state_of_a_finished_run_is_forgotten(tmp_path, step, workspace):
    banet = step.runs[0]
    stale = tmp_path / "carry" / "states" / state_name(banet.name)
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    finish(banet, workspace)
    sent(step, workspace, tmp_path / "out")
    fetched(tmp_path)
    assert not stale.exists()


def test_other_sources_than_the_packed_ones_are_marked_at_the_commit(tmp_path, step, workspace, monkeypatch):
    finish(step.runs[0], workspace)
    with monkeypatch.context() as patch:
        patch.setattr(sending, "source_digest", lambda root: "other")
        sent(step, workspace, tmp_path / "out")
    fetched(tmp_path)
    result = json.loads((tmp_path / "results" / f"{step.runs[0].name}.json").read_text())
    assert result["machine"]["commit"] == "abc1234+"


def test_weights_go_before_states_and_what_has_no_room_is_named(tmp_path, step, workspace):
    finish(step.runs[0], workspace)
    interrupt(step.runs[1], workspace)
    large = sent(step, workspace, tmp_path / "out", room=sending.TAR_BYTES + 5000)
    assert large["members"] == [f"weights/{step.runs[0].name}/last.pt"]
    assert large["left_behind"] == [f"states/{state_name(step.runs[1].name)}"]


def test_weights_are_sent_once_unless_asked_for_again(tmp_path, step, workspace):
    finish(step.runs[0], workspace)
    name = f"weights/{step.runs[0].name}/last.pt"
    assert sent(step, workspace, tmp_path / "out")["members"] == [name]
    assert sent(step, workspace, tmp_path / "out")["members"] == []
    assert sent(step, workspace, tmp_path / "out", again=True)["members"] == [name]


def test_a_missing_or_damaged_piece_is_named_and_results_are_taken_all_the_same(tmp_path, step, workspace):
    finish(step.runs[0], workspace)
    sent(step, workspace, tmp_path / "out")
    piece = tmp_path / "out" / "large.tar.00"
    content = piece.read_bytes()
    piece.write_bytes(content[:-1])
    back = fetched(tmp_path)
    assert (len(back.results), back.weights) == (1, [])
    assert back.problems == ["large.tar.00 is damaged, so no weights and no state were taken"]
    piece.unlink()
    assert "did not come back" in fetched(tmp_path).problems[0]


def test_another_result_of_the_same_name_is_replaced_only_on_demand(tmp_path, step, workspace):
    finish(step.runs[0], workspace)
    sent(step, workspace, tmp_path / "out")
    kept = tmp_path / "results" / f"{step.runs[0].name}.json"
    write_json(kept, {"another": True})
    back = fetched(tmp_path)
    assert "another one is here; --replace overwrites it" in back.problems[0]
    assert (back.weights, "not taken, because its result was not" in back.problems[1]) == ([], True)
    assert json.loads(kept.read_text()) == {"another": True}
    assert fetched(tmp_path, replace=True).problems == []
    assert json.loads(kept.read_text())["name"] == step.runs[0].name
    assert fetched(tmp_path).problems == []


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'results.tar.gz' is not in"):
        fetched(tmp_path)


def test_names_that_leave_their_folder_are_refused(tmp_path, step, workspace):
    finish(step.runs[0], workspace)
    path = workspace.places.result(step.runs[0])
    write_json(path, {**json.loads(path.read_text()), "name": "../../outside"})
    sent(step, workspace, tmp_path / "out")
    assert fetched(tmp_path).problems[0] == "result ../../outside: its name leaves the folder of results"
    assert not (tmp_path.parent / "outside.json").exists()


def test_no_more_files_and_bytes_come_back_than_are_allowed(tmp_path, step, workspace):
    most = sending.PIECES * sending.PIECE_BYTES
    assert sending.PIECES + 1 <= 8
    assert sending.PIECE_BYTES < 16 * 2**20
    assert most < 62 * 2**20
    for run in step.runs:
        finish(run, workspace)
    weights = [Workplace(run, workspace.places).weights for run in step.runs]
    for file in weights:
        file.write_bytes(bytes(5000))
    room = sending.TAR_BYTES + 10_000
    sent(step, workspace, tmp_path / "out", room=room)
    assert sum(file.stat().st_size for file in (tmp_path / "out").glob("large.*")) <= room


def test_small_events_are_kept_and_a_cut_record_is_dropped():
    def record(content):
        return len(content).to_bytes(8, "little") + b"head" + content + b"tail"

    small, large = record(b"x" * 20), record(b"y" * 5000)
    assert without_pictures(small + large + small + small[:-3]) == small + small
    assert without_pictures(b"") == b""


def test_results_are_one_archive_of_plain_files(tmp_path, step, workspace):
    finish(step.runs[0], workspace)
    (workspace.logs).mkdir(parents=True)
    (workspace.logs / "one.log").write_text("a" * 50_000)
    send_results(step, workspace, tmp_path / "out", Outcome(), {})
    with tarfile.open(tmp_path / "out" / "results.tar.gz") as tar:
        sizes = {member.name: member.size for member in tar}
    assert sizes.keys() == {"report.json", f"results/{step.runs[0].name}.json", "logs/one.log"}
    assert sizes["logs/one.log"] == sending.LOG_BYTES
