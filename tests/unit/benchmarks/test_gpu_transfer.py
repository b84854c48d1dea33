"""What comes back from the machine, and how it is put together here again."""

import json
import tarfile

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from benchmarks.accuracy.collecting import definition, learning_curve
from benchmarks.accuracy.execution import Workplace, lay_over, write_json
from benchmarks.gpu import fetching, packing, sending
from benchmarks.gpu.fetching import fetch
from benchmarks.gpu.placing import place, relocate
from benchmarks.gpu.sending import names_sent, send, without_pictures
from benchmarks.gpu.steps import Workspace, load_step, state_name, state_pieces
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


def sent(step, workspace, out, *, again=False, sources=None, **options):
    """What a call sends at its end, from a machine where the note of the packed sources lies."""
    base = workspace.root / "carry" / "base"
    base.mkdir(parents=True, exist_ok=True)
    (base / "note.json").write_text(json.dumps({**NOTE, "sources": sources or packing.source_digest(packing.ROOT)}))
    options = {"carry": base.parent, "results": workspace.root / "travelled", **options}
    return send(step, workspace, out, Outcome(), sent=[] if again else names_sent(workspace), **options)


def fetched(tmp_path, **options):
    places = {"results": tmp_path / "results", "runs": tmp_path / "runs", "carry": tmp_path / "carry"}
    return fetch(tmp_path / "out", speed=tmp_path / "speed", **places, **options)


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
    stale = tmp_path / "carry" / "states" / f"{state_name(banet.name)}.01of01"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    finish(banet, workspace)
    sent(step, workspace, tmp_path / "out")
    fetched(tmp_path)
    assert not stale.exists()


def test_other_sources_than_the_packed_ones_are_marked_at_the_commit(tmp_path, step, workspace):
    finish(step.runs[0], workspace)
    sent(step, workspace, tmp_path / "out", sources="other")
    fetched(tmp_path)
    result = json.loads((tmp_path / "results" / f"{step.runs[0].name}.json").read_text())
    assert result["machine"]["commit"] == "abc1234+"


def test_packing_anew_before_fetching_does_not_change_what_a_result_says(tmp_path, step, workspace):
    finish(step.runs[0], workspace)
    sent(step, workspace, tmp_path / "out")
    (tmp_path / "carry" / "base").mkdir(parents=True)
    (tmp_path / "carry" / "base" / "note.json").write_text(json.dumps({**NOTE, "commit": "def5678"}))
    fetched(tmp_path)
    result = json.loads((tmp_path / "results" / f"{step.runs[0].name}.json").read_text())
    assert result["machine"]["commit"] == "abc1234"


def test_every_start_of_a_run_keeps_the_commit_that_it_was_made_with(tmp_path, step, workspace):
    banet, unet = step.runs[:2]
    unknown = {"commit": None, "packages": {"banet-monai": None}}
    interrupt(unet, workspace)
    write_json(Workplace(unet, workspace.places).segments, [{"started": 1.0}, {"started": 2.0, "machine": unknown}])
    finish(banet, workspace)
    path = workspace.places.result(banet)
    write_json(path, {**json.loads(path.read_text()), "training": {"machines": [unknown]}})
    sent(step, workspace, tmp_path / "out")
    fetched(tmp_path)
    known = {"commit": "abc1234", "packages": {"banet-monai": "0.1.0"}}
    result = json.loads((tmp_path / "results" / f"{banet.name}.json").read_text())
    assert result["training"]["machines"] == [known]
    another = Workspace(tmp_path / "another machine")
    place(tmp_path / "carry", another, step.runs)
    starts = json.loads(Workplace(unet, another.places).segments.read_text())
    assert starts == [{"started": 1.0}, {"started": 2.0, "machine": known}]


def test_a_state_waits_until_all_its_pieces_have_come(tmp_path, step, workspace, monkeypatch):
    monkeypatch.setattr(fetching, "STATE_PIECE_BYTES", 3000)
    unet = step.runs[1]
    interrupt(unet, workspace)
    sent(step, workspace, tmp_path / "out")
    fetched(tmp_path)
    pieces = state_pieces(tmp_path / "carry", unet.name)
    assert len(pieces) > 2
    assert all(piece.stat().st_size <= 3000 for piece in pieces)
    another, last = Workspace(tmp_path / "another machine"), pieces[-1].read_bytes()
    pieces[-1].unlink()
    assert place(tmp_path / "carry", another, step.runs) == []
    pieces[-1].write_bytes(last)
    assert place(tmp_path / "carry", another, step.runs) == [f"state of {unet.name}"]


def test_results_that_travelled_to_the_machine_do_not_go_back(tmp_path, step, workspace):
    for run in step.runs:
        finish(run, workspace)
    known = workspace.root / "travelled" / f"{step.runs[0].name}.json"
    known.parent.mkdir(parents=True)
    known.write_bytes(workspace.places.result(step.runs[0]).read_bytes())
    sent(step, workspace, tmp_path / "out")
    assert fetched(tmp_path).results == [run.name for run in step.runs[1:]]


def test_a_result_that_travelled_without_its_weights_has_none_to_send(tmp_path, step, workspace):
    finish(step.runs[0], workspace)
    Workplace(step.runs[0], workspace.places).weights.unlink()
    assert sent(step, workspace, tmp_path / "out")["members"] == []


def test_weights_are_there_when_a_call_is_killed_while_it_packs_states(tmp_path, step, workspace, monkeypatch):
    finish(step.runs[0], workspace)
    interrupt(step.runs[1], workspace)
    sent(step, workspace, tmp_path / "out", states=False)  # as after each run

    def killed(place, archive, packed):
        raise KeyboardInterrupt

    monkeypatch.setattr(sending, "_pack_state", killed)
    with pytest.raises(KeyboardInterrupt):
        sent(step, workspace, tmp_path / "out", again=True)
    back = fetched(tmp_path)
    assert (back.weights, back.states, back.problems) == ([f"{step.runs[0].name}/last.pt"], [], [])


def test_the_end_of_a_call_sends_again_what_the_call_itself_has_sent(tmp_path, step, workspace):
    finish(step.runs[0], workspace)
    interrupt(step.runs[1], workspace)
    before = names_sent(workspace)
    for states in (False, True):
        options = {"carry": tmp_path / "nothing", "results": tmp_path / "nothing"}
        send(step, workspace, tmp_path / "out", Outcome(), sent=before, states=states, **options)
    back = fetched(tmp_path)
    assert (len(back.weights), len(back.states), back.problems) == (1, 1, [])


def test_a_state_that_has_no_room_is_not_packed(tmp_path, step, workspace, monkeypatch):
    interrupt(step.runs[0], workspace)
    size = Workplace(step.runs[0], workspace.places).state.stat().st_size
    monkeypatch.setattr(sending, "_pack_state", lambda *args: pytest.fail("it was packed"))
    large = sent(step, workspace, tmp_path / "out", room=sending.TAR_BYTES + size // 2)
    assert large["left_behind"] == [f"states/{state_name(step.runs[0].name)}"]


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
    sent(step, workspace, tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "results.tar.gz") as tar:
        sizes = {member.name: member.size for member in tar}
    assert sizes.keys() == {"report.json", f"results/{step.runs[0].name}.json", "logs/one.log"}
    assert sizes["logs/one.log"] == sending.LOG_BYTES


SPEED = {"machine": {"commit": None, "packages": {"banet-monai": None}}, "rows": []}


def speed_reports(folder):
    """What a call of speed.sh leaves: a packed part, the loose report of a part that was killed, the note."""
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(SPEED))
    (folder / "a.md").write_text("Measured on: A card; commit None.")
    with tarfile.open(folder / "speed_rate.tar.gz", "w:gz") as tar:
        for name in ("a.json", "a.md"):
            tar.add(folder / name, name)
            (folder / name).unlink()
    (folder / "b_so_far.json").write_text(json.dumps(SPEED))
    (folder / fetching.NOTE).write_text(json.dumps({"commit": "abc1234", "version": "0.1.0"}))


def test_reports_of_speed_come_back_alone_and_with_their_commit(tmp_path):
    speed_reports(tmp_path / "out")
    back = fetched(tmp_path)
    assert (sorted(back.speed), back.problems, back.report) == (["a.json", "a.md", "b_so_far.json"], [], {})
    machine = json.loads((tmp_path / "speed" / "a.json").read_text())["machine"]
    assert machine == {"commit": "abc1234", "packages": {"banet-monai": "0.1.0"}}
    assert (tmp_path / "speed" / "a.md").read_text() == "Measured on: A card; commit abc1234."
    assert fetched(tmp_path).problems == []


def test_another_report_of_speed_is_replaced_only_on_demand(tmp_path):
    speed_reports(tmp_path / "out")
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "a.md").write_text("another")
    assert fetched(tmp_path).problems == ["report a.md: another one is here; --replace overwrites it"]
    assert (tmp_path / "speed" / "a.md").read_text() == "another"
    assert fetched(tmp_path, replace=True).problems == []
