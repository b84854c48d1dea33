"""What the harness lays over the bundle's configurations, what it skips, takes up and refuses."""

import dataclasses
import json

import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from benchmarks.accuracy import run as command
from benchmarks.accuracy.checking import check, network_facts
from benchmarks.accuracy.collecting import collect, definition, learning_curve
from benchmarks.accuracy.definitions import ROOT, load_definitions, plan
from benchmarks.accuracy.execution import (
    Places,
    RunError,
    Workplace,
    lay_over,
    overrides,
    train,
    write_json,
    write_mean,
)
from benchmarks.accuracy.memory import write_gpu_peak
from benchmarks.accuracy.sources import training_digest

PICTURES = {"folder": "pictures", "training": 2, "held_back": 1}


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "data", tmp_path / "weights", tmp_path / "runs", tmp_path / "results")


@pytest.fixture
def quick():
    return plan(load_definitions(), "quick", only=["banet"])[0]


def make_pictures(folder, training=2, held_back=1):
    for part, count in (("train", training), ("val", held_back)):
        for kind, mode in (("images", "RGB"), ("masks", "L")):
            (folder / part / kind).mkdir(parents=True)
            for number in range(count):
                Image.new(mode, (8, 8)).save(folder / part / kind / f"{part}{number}.png")


def on_pictures(run, **changes):
    return dataclasses.replace(run, data={**PICTURES, **changes})


def test_the_overlay_of_an_ablation_is_the_bundles_network_with_one_switch(places):
    run = plan(load_definitions(), "cpu", only=["banet_no_pee"], seeds=[2])[0]
    base = json.loads((ROOT / "bundle" / "configs" / "train.json").read_text())
    content = overrides(run)
    assert content["network_def"] == {**base["network_def"], "use_pee": False}
    assert content["seed"] == 2
    assert content["validate::dataset::data::limit"] == 100
    assert content["patience"] == 0


def test_training_and_evaluation_use_the_same_network_and_size(places, quick):
    training, evaluation = lay_over(quick, places)
    assert training["network_def"] == evaluation["network_def"]
    assert training["image_size"] == evaluation["image_size"] == 64
    assert evaluation["checkpoint"] == str(Workplace(quick, places).weights)
    assert training["run"][-2:] == ["$@train::trainer.run()", "@measured"]


def test_every_entry_of_the_evaluation_overlay_is_one_of_the_bundles(places, quick):
    files = quick.evaluation_files()
    known = {key.split("::")[0] for file in files for key in json.loads(file.read_text())}
    assert lay_over(quick, places)[1].keys() <= known


def test_the_evaluation_knows_the_channels_of_every_network_also_of_one_that_is_wrapped(places):
    runs = {run.experiment: run for budget in ("cpu", "tasks") for run in plan(load_definitions(), budget, seeds=[0])}
    assert {"banet_stride_2", "monai_basicunetplusplus", "hippocampus_slices"} <= runs.keys()
    for run in runs.values():
        run = dataclasses.replace(run, settings={**run.settings, "init": "none"})
        (places.data / run.data["folder"]).mkdir(parents=True, exist_ok=True)
        parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in run.evaluation_files()]))
        for name, value in lay_over(run, places)[1].items():
            parser[name] = value
        expected = 3 if run.dataset == "hippocampus" else 1
        assert parser.get_parsed_content("postprocessing::transforms::0").out_channels == expected, run.name


def test_the_definition_of_a_run_holds_no_path_of_the_machine(places):
    for run in plan(load_definitions(), "cpu", seeds=[0]):
        assert str(ROOT) not in json.dumps(definition(run))


def test_missing_data_and_weights_are_named_before_anything_starts(places, quick):
    with pytest.raises(FileNotFoundError, match=r"needs the data set 'pictures', which is not in"):
        check(on_pictures(quick), places)
    with pytest.raises(FileNotFoundError, match="needs the data set 'pictures': say where by --data or BANET_DATA"):
        check(on_pictures(quick), dataclasses.replace(places, data=None))
    from_imagenet = dataclasses.replace(quick, settings={**quick.settings, "init": "imagenet"})
    with pytest.raises(FileNotFoundError, match=r"'mobilenet_v2_imagenet.pt', but it is not in .*--weights"):
        check(from_imagenet, places)


def test_a_run_goes_on_from_the_judged_weights_of_another_of_its_seed(places, quick):
    settings = {**quick.settings, "init": "run:cpu/isic2017/banet"}
    run = dataclasses.replace(quick, settings=settings, seed=2)
    with pytest.raises(FileNotFoundError, match="goes on from the run 'cpu/isic2017/banet/seed2'"):
        check(run, places)
    weights = places.runs / "cpu" / "isic2017" / "banet" / "seed2" / "last.pt"
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert lay_over(run, places)[0]["init"] == str(weights)
    assert definition(run)["overrides"]["init"] == "run:cpu/isic2017/banet"


def test_a_run_goes_on_from_the_mean_of_several(places, quick):
    names = ["final/pictures/first/seed1", "final/pictures/second/seed0"]
    init = "run:final/pictures/first/seed1+final/pictures/second"
    run = dataclasses.replace(quick, settings={**quick.settings, "init": init})
    for name, value in zip(names, (1.0, 4.0), strict=True):
        (places.runs / name).mkdir(parents=True)
        torch.save({"weight": torch.tensor([value, 0.0]), "steps": torch.tensor(3)}, places.runs / name / "last.pt")
    files = [places.runs / name / "last.pt" for name in names]
    assert places.starts(run) == files
    assert lay_over(run, places)[0]["init"] == str(Workplace(run, places).mean)
    write_mean(files, places.runs / "mean.pt")
    mean = torch.load(places.runs / "mean.pt", weights_only=True)
    assert mean["weight"].tolist() == [2.5, 0.0]
    assert mean["steps"] == 3


def test_networks_of_other_shapes_have_no_mean(tmp_path):
    for name, length in (("a", 2), ("b", 3)):
        torch.save({"weight": torch.zeros(length)}, tmp_path / f"{name}.pt")
    with pytest.raises(ValueError, match=r"b.pt' holds other tensors than .*a.pt'"):
        write_mean([tmp_path / "a.pt", tmp_path / "b.pt"], tmp_path / "mean.pt")


def test_another_number_of_cases_than_was_agreed_is_refused(places, quick):
    make_pictures(places.data / "pictures")
    check(on_pictures(quick), places)
    with pytest.raises(ValueError, match="data set has 2 training cases, 1521 are needed"):
        check(on_pictures(quick, training=1521), places)
    with pytest.raises(ValueError, match="data set has 1 held back cases, 400 are needed"):
        check(on_pictures(quick, held_back=400), places)


@pytest.mark.parametrize(
    ("settings", "network", "message"),
    [
        ({"image_size": 16}, {}, "the image is too small"),
        ({}, {"use_peee": True}, "use_peee"),
        ({"loss::edge_weight": -1.0}, {}, "weights must not be negative"),
    ],
)
def test_a_size_network_or_loss_that_cannot_work_is_refused(places, quick, settings, network, message):
    run = dataclasses.replace(quick, settings={**quick.settings, **settings}, network=network)
    with pytest.raises(ValueError, match=f"its settings do not work: .*{message}"):
        check(run, places)


def test_parameters_are_counted_on_the_runs_own_network(places, quick):
    facts = network_facts(dataclasses.replace(quick, network={"_target_": "torch.nn.Conv2d", "in_channels": 3,
                                                             "out_channels": 1, "kernel_size": 1}), places)  # fmt: skip
    assert (facts.parameters, facts.flops, facts.image_size) == (4, 2 * 3 * 64 * 64, [64, 64])


def finished(run, places, monkeypatch, commands, *, epoch=1):
    """Stand in for the bundle: record the options and leave a state of averaged weights 2 and trained weights 1."""

    def bundle(words, files, log, options):
        commands.append(options)
        place = Workplace(run, places)
        place.training.mkdir(parents=True, exist_ok=True)
        averaging = {"module.weight": torch.full((1,), 2.0), "n_averaged": torch.tensor(5)}
        progress = {"epoch": epoch, "iteration": 2 * epoch}
        torch.save({"averaging": averaging, "network": {"weight": torch.ones(1)}, "progress": progress}, place.state)
        return {"seconds": 3.0, "cpu_seconds": 4.0, "peak_memory_mib": 5.0}

    monkeypatch.setattr("benchmarks.accuracy.execution._bundle", bundle)


def test_the_averaged_weights_of_the_last_epoch_are_judged(places, quick, monkeypatch):
    finished(quick, places, monkeypatch, [])
    train(quick, places)
    state = torch.load(Workplace(quick, places).weights, weights_only=True)
    assert {name: value.tolist() for name, value in state.items()} == {"weight": [2.0]}


def test_finished_training_is_not_repeated_but_another_definition_starts_anew(places, quick, monkeypatch):
    commands = []
    finished(quick, places, monkeypatch, commands)
    train(quick, places)
    train(quick, places)
    assert commands == [["--resume", "false"]]
    longer = dataclasses.replace(quick, settings={**quick.settings, "max_epochs": 3})
    train(longer, places)
    assert commands == [["--resume", "false"]] * 2


def test_an_interrupted_run_is_taken_up_and_its_time_is_counted(places, quick, monkeypatch):
    commands = []
    finished(quick, places, monkeypatch, commands)
    place = Workplace(quick, places)
    train(quick, places)
    place.weights.unlink()
    began = place.state.stat().st_mtime - 7.0
    write_json(place.segments, [{"started": began, "seconds": None, "cpu_seconds": None, "peak_memory_mib": None}])
    train(quick, places)
    assert commands[-1] == ["--resume", "true"]
    assert [segment["seconds"] for segment in json.loads(place.segments.read_text())] == [
        pytest.approx(7.0, abs=0.2),
        3.0,
    ]


def test_a_run_that_was_trained_elsewhere_but_not_judged_is_not_started_again(places, quick, monkeypatch):
    commands = []
    finished(quick, places, monkeypatch, commands, epoch=quick.settings["max_epochs"])
    place = Workplace(quick, places)
    train(quick, places)
    place.weights.unlink()  # it does not travel with the state
    before = place.segments.read_text()
    train(quick, places)
    assert commands == [["--resume", "false"]]
    assert torch.load(place.weights, weights_only=True)["weight"].tolist() == [2.0]
    assert place.segments.read_text() == before


def test_every_start_keeps_its_code_and_its_machine(places, quick, monkeypatch):
    finished(quick, places, monkeypatch, [])
    place = Workplace(quick, places)
    for digest, commit in (("one", "abc1234"), ("two", "fff0000")):
        monkeypatch.setattr("benchmarks.accuracy.execution.training_digest", lambda run, digest=digest: digest)
        monkeypatch.setattr("benchmarks.accuracy.sources.describe_machine", lambda commit=commit: {"commit": commit})
        train(quick, places)
        place.weights.unlink()
    starts = json.loads(place.segments.read_text())
    assert [(start["sources"], start["machine"]["commit"]) for start in starts] == [
        ("one", "abc1234"),
        ("two", "fff0000"),
    ]
    assert all(start["machine"]["autocast"] in ("float32", "bfloat16", "float16") for start in starts)


def test_the_digest_of_the_code_that_trains_changes_with_it_alone(tmp_path, quick):
    digests = [training_digest(quick, tmp_path)]
    for name in ("banet_monai/losses.py", "benchmarks/accuracy/peers.py", "benchmarks/accuracy/tables.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a")
        digests.append(training_digest(quick, tmp_path))
    assert len(set(digests)) == 3
    assert digests[2] == digests[3]  # tables train nothing
    assert training_digest(dataclasses.replace(quick, data={**quick.data, "task": "lung"}), tmp_path) != digests[3]


def collected(run, places, monkeypatch, segments, *, gpu=None):
    """The result of a finished run with these starts, three epochs of 2 steps, the second one the best."""
    place = Workplace(run, places)
    place.training.mkdir(parents=True)
    place.evaluation.mkdir()
    write_json(place.segments, segments)
    torch.save({"progress": {"epoch": 3, "iteration": 6}}, place.state)
    if gpu is not None:
        write_json(place.gpu_peak, {"peak_gpu_memory_mib": gpu})
    write_json(place.evaluation / "summary.json", {"n": 1})
    (place.evaluation / "cases.csv").write_text("case,ja\na,0.5\n")
    curve = {"epoch": [0, 1, 2, 3], "val_ja": [0.1, 0.2, 0.9, 0.3], "seconds": [None, 10.0, None, 14.0]}
    monkeypatch.setattr("benchmarks.accuracy.collecting.learning_curve", lambda folder, length: curve)
    return collect(run, places, {"seconds": 1.0})


def test_an_epoch_after_a_start_counts_as_the_median_one_until_the_best(places, quick, monkeypatch):
    start = {"seconds": 20.0, "peak_memory_mib": 7.0}
    assert collected(quick, places, monkeypatch, [start])["training"]["seconds_to_best"] == 22.0  # 10 and median 12


def test_code_and_machines_of_all_starts_stand_in_the_result_once(places, quick, monkeypatch):
    one, two = ({"seconds": 5.0, "peak_memory_mib": 7.0, "sources": s, "machine": {"commit": s}} for s in "ab")
    training = collected(quick, places, monkeypatch, [one, one, two])["training"]
    assert training["sources"] == ["a", "b"]
    assert training["machines"] == [{"commit": "a"}, {"commit": "b"}]


def test_starts_of_an_older_harness_and_one_that_was_killed_are_collected(places, quick, monkeypatch):
    training = collected(quick, places, monkeypatch, [{"seconds": 5.0, "peak_memory_mib": None}])["training"]
    assert (training["sources"], training["machines"]) == ([None], [])
    assert (training["peak_memory_mib"], training["peak_gpu_memory_mib"]) == (None, None)


def test_the_peak_on_a_gpu_is_that_of_all_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for now, kept in ((3000, 3000.0), (10, 3000.0), (4000, 4000.0)):
        monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda now=now: now * 2**20)
        assert write_gpu_peak(str(tmp_path / "gpu.json")) == kept
    assert json.loads((tmp_path / "gpu.json").read_text()) == {"peak_gpu_memory_mib": 4000.0}
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert write_gpu_peak(str(tmp_path / "none.json")) is None


def test_a_run_that_starts_anew_forgets_the_peak_of_the_old_one(places, quick, monkeypatch):
    finished(quick, places, monkeypatch, [])
    place = Workplace(quick, places)
    write_json(place.gpu_peak, {"peak_gpu_memory_mib": 9000.0})
    train(quick, places)
    assert not place.gpu_peak.exists()


def test_a_folder_that_another_process_holds_is_left_alone(places, quick):
    with Workplace(quick, places).claim() as first, Workplace(quick, places).claim() as second:
        assert (first, second) == (True, False)


def test_a_run_that_fails_lets_the_others_go_on(tmp_path, monkeypatch, capsys):
    started = []

    def run_one(run, places):
        started.append(run.experiment)
        if run.experiment == "banet":
            raise RunError("exit code 1")
        return "JA 0.5"

    monkeypatch.setattr(command, "_run_one", run_one)
    monkeypatch.setattr(command.signal, "signal", lambda number, action: None)
    assert command.main(["--quick", "--runs", str(tmp_path)]) == 1
    assert started == ["banet", "unet"]
    assert "1 of 2 runs failed: quick/demonstration/banet/seed0" in capsys.readouterr().err


def test_what_is_done_is_skipped_and_another_definition_is_replaced_only_on_demand(tmp_path, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(command, "_run_one", lambda run, places: started.append(run.experiment))
    monkeypatch.setattr(command.signal, "signal", lambda number, action: None)
    runs = plan(load_definitions(), "quick")
    for run, change in zip(runs, ({}, {"dataset": "another"}), strict=True):
        write_json(tmp_path / "results" / f"{run.name}.json", {"definition": {**definition(run), **change}})
    assert command.main(["--quick", "--runs", str(tmp_path)]) == 0
    assert started == []
    assert "Results of another definition stay as they are" in capsys.readouterr().out
    assert command.main(["--quick", "--runs", str(tmp_path), "--replace"]) == 0
    assert started == ["unet"]


def test_a_dry_run_starts_nothing_and_tells_what_cannot_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_run_one", lambda run, places: pytest.fail("started"))
    monkeypatch.delenv("BANET_DATA", raising=False)
    options = ["--dry-run", "--runs", str(tmp_path), "--results", str(tmp_path / "results")]
    assert command.main(["--quick", *options]) == 0
    assert "to do       quick/demonstration/banet/seed0" in capsys.readouterr().out
    assert command.main(["--only", "unet", *options]) == 1
    assert "cannot run cpu/isic2017/unet/seed0: it needs the data set 'isic2017'" in capsys.readouterr().err


def test_a_wrong_name_is_refused_before_anything_starts(capsys):
    assert command.main(["--quick", "--only", "nothing"]) == 2
    assert "no run of budget 'quick' fits ['nothing']" in capsys.readouterr().err


def test_the_learning_curve_joins_the_starts_of_a_run(tmp_path):
    first = SummaryWriter(str(tmp_path), filename_suffix=".0")
    first.add_scalar("val_ja", 0.1, 1, walltime=100.0)  # before training
    for step, loss in ((1, 8.0), (2, 6.0), (3, 9.0)):  # the third is of an epoch that was interrupted
        first.add_scalar("train_loss", loss, step, walltime=100.0 + step)
    first.add_scalar("val_ja", 0.3, 1, walltime=110.0)
    first.close()
    second = SummaryWriter(str(tmp_path), filename_suffix=".1")
    for step, loss in ((3, 5.0), (4, 3.0)):
        second.add_scalar("train_loss", loss, step, walltime=200.0 + step)
    second.add_scalar("val_ja", 0.5, 2, walltime=220.0)
    second.close()
    assert learning_curve(tmp_path, epoch_length=2) == {
        "epoch": [0, 1, 2],
        "train_loss": [None, 7.0, 4.0],
        "val_ja": [0.1, 0.3, 0.5],
        "seconds": [None, 10.0, None],
    }


def test_lists_of_plain_values_stand_on_one_line_and_read_back_equal(tmp_path):
    content = {"rows": [["a", 1, 0.5], ["b", 2, None]], "none": [], "inner": {"list": [1, 2], "empty": {}}}
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == content
    assert '    ["a", 1, 0.5],\n' in text
