import errno
import logging
import math
import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.data import Dataset
from monai.engines import Evaluator
from monai.transforms import RandFlip

from banet_monai.handlers import (
    BestCheckpoint,
    EarlierRun,
    EarlyStop,
    EpochSeeder,
    EpochValidation,
    EventWriter,
    FirstValidation,
    RunSummary,
    TrainingState,
    WeightAveraging,
    join_processes,
    require_run_folder,
    warmup_poly,
)


class Validator:
    """Stands in for a MONAI evaluator: gives the listed key metrics one after the other."""

    def __init__(self, values):
        self.values = list(values)
        self.epochs = []
        self.state = type("State", (), {"best_metric": -1.0, "best_metric_epoch": -1, "key_metric_name": "val_ja"})()

    def run(self, epoch):
        self.epochs.append(epoch)
        value = self.values.pop(0)
        self.state.metrics = {"val_ja": value}
        if value > self.state.best_metric:
            self.state.best_metric, self.state.best_metric_epoch = value, epoch


def sgd(value=0.0, rate=1.0):
    weight = torch.nn.Parameter(torch.tensor([value]))
    return weight, torch.optim.SGD([weight], lr=rate)


def test_learning_rate_warms_up_in_a_line_and_falls_to_its_final_fraction():
    _, optimizer = sgd(rate=2.0)
    schedule = warmup_poly(optimizer, max_epochs=3, epoch_length=4, warmup_epochs=1, power=1.0, final_fraction=0.0)
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(rates[:4], [0.4, 0.8, 1.2, 1.6])
    np.testing.assert_allclose(rates[4:], [2 * (1 - step / 8) for step in range(8)])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


def test_a_schedule_without_steps_is_refused():
    with pytest.raises(ValueError, match=r"nothing to schedule: 0 epochs of 4 steps"):
        warmup_poly(sgd()[1], max_epochs=0, epoch_length=4)


def test_every_generator_depends_on_the_epoch_alone():
    dataset = Dataset([0], RandFlip(prob=0.5))
    seeder = EpochSeeder(7, dataset)

    def draw(epoch):
        engine = Engine(lambda engine, batch: None)
        engine.state.epoch = epoch
        seeder(engine)
        return random.random(), np.random.rand(), torch.rand(1).item(), dataset.transform.R.rand()  # noqa: NPY002

    first, second = draw(2), draw(3)
    assert draw(2) == first
    assert all(a != b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("decay", "kept"), [(0.9, 2 / 11), (0.1, 0.1)])
def test_averaged_weight_follows_by_the_stated_share(decay, kept):
    network = torch.nn.Linear(1, 1, bias=False)
    averaging = WeightAveraging(network, decay=decay)
    with torch.no_grad():
        network.weight.fill_(1.0)
    averaging.begin()
    averaging.update()  # the first update takes the weights over
    with torch.no_grad():
        network.weight.fill_(2.0)
    averaging.update()
    assert averaging.network.weight.item() == pytest.approx(kept * 1.0 + (1 - kept) * 2.0)


def test_without_decay_the_network_itself_is_evaluated():
    network = torch.nn.Linear(1, 1)
    averaging = WeightAveraging(network, decay=0.0)
    averaging.update()
    assert averaging.network is network
    assert averaging.state_dict() == {}


def test_a_state_without_average_does_not_fit_a_run_with_one():
    with pytest.raises(ValueError, match=r"give the same 'ema_decay'"):
        WeightAveraging(torch.nn.Linear(1, 1), decay=0.5).load_state_dict({})


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
        WeightAveraging(torch.nn.Linear(1, 1), decay=decay)


def test_a_new_run_is_validated_once_before_its_first_step():
    validator = Validator([0.25])
    order = []
    engine = Engine(lambda engine, batch: order.append(len(validator.epochs)))
    FirstValidation(validator).attach(engine)
    engine.run([0, 1], max_epochs=2)
    assert validator.epochs == [1]
    assert order[0] == 1
    assert engine.state.first_metric == 0.25
    assert validator.state.best_metric_epoch == 0


def judge_of(layer, best):
    """A MONAI evaluator whose key metric is the weight of a layer, with the writer of the best one."""
    return Evaluator(
        torch.device("cpu"),
        [{"image": 0}],
        iteration_update=lambda engine, batch: (0, 0),
        key_val_metric={"val_ja": Value(layer)},
        val_handlers=[best],
        decollate=False,
    )


def trained_for_an_epoch(folder, *, keep):
    """A run that makes things worse; the file of the best weights that it leaves, as ``weight``."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 1.0)
    best = BestCheckpoint(str(folder), {"model": layer})
    validator = judge_of(layer, best)
    trainer = Engine(lambda engine, batch: layer.weight.data.mul_(0.5))
    FirstValidation(validator, best, keep=keep).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: validator.run(engine.state.epoch))
    trainer.run([0], max_epochs=1)
    return torch.load(folder / "model.pt", weights_only=True), validator.state


class Value(Metric):
    """Key metric that is the weight of a layer."""

    def __init__(self, layer):
        self.layer = layer
        super().__init__()

    def reset(self):
        pass

    def update(self, output):
        pass

    def compute(self):
        return float(self.layer.weight.detach())


@pytest.mark.parametrize(("keep", "weight", "epoch"), [(True, 1.0, 0), ("false", 0.5, 1)])
def test_weights_of_the_start_remain_the_best_only_where_they_are_to_be_kept(tmp_path, keep, weight, epoch):
    saved, state = trained_for_an_epoch(tmp_path, keep=keep)
    assert float(saved["weight"]) == weight
    assert (state.best_metric, state.best_metric_epoch) == (weight, epoch)


def test_the_best_weights_stay_until_the_new_ones_are_whole(tmp_path, monkeypatch):
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 1.0)
    best = BestCheckpoint(str(tmp_path), {"model": layer})
    validator = judge_of(layer, best)
    validator.run(1)
    record = best.record()
    layer.weight.data.fill_(2.0)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            validator.run(2)
    assert float(torch.load(tmp_path / "model.pt", weights_only=True)["weight"]) == 1.0
    (tmp_path / "model.pt").unlink()  # as a user may do before the run is resumed
    resumed = BestCheckpoint(str(tmp_path), {"model": layer})
    resumed.load_state_dict({"_saved": record})
    judge_of(layer, resumed).run(1)
    assert float(torch.load(tmp_path / "model.pt", weights_only=True)["weight"]) == 2.0
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_training_ends_when_the_metric_has_not_risen_for_the_patience():
    validator = Validator([0.5, 0.6, 0.6, 0.6, 0.7, 0.8])
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: validator.run(engine.state.epoch))
    EarlyStop(validator, patience=2).attach(engine)
    engine.run([0], max_epochs=6)
    assert engine.state.epoch == 4


@pytest.mark.parametrize(("begun_at", "trained"), [(4, [5, 6, 7]), (7, [])])
def test_a_resumed_run_that_had_ended_by_patience_ends_at_once(begun_at, trained):
    validator, epochs = Validator([0.5] * 20), []
    validator.state.best_metric_epoch = 4
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "epoch", begun_at))
    engine.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "iteration", begun_at))
    engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: epochs.append(engine.state.epoch))
    EarlyStop(validator, patience=3).attach(engine)
    engine.run([0], max_epochs=20)
    assert epochs == trained


def test_every_round_of_a_federated_client_trains_whatever_the_patience(tmp_path):
    validator, epochs = Validator([]), []
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: epochs.append(engine.state.epoch))
    EarlyStop(validator, patience=2).attach(engine)
    for round_number in range(5):
        engine.run([0], max_epochs=round_number + 1)
    assert epochs == [1, 2, 3, 4, 5]


def begin_run(folder, resume=False):
    """What training does to its folder: it looks at it, and moves an earlier run aside when the trainer starts."""
    require_run_folder(str(folder), resume)
    engine = Engine(lambda engine, batch: None)
    EarlierRun(str(folder), resume).attach(engine)
    engine.run([0])
    return engine


def test_a_log_that_was_begun_before_the_run_stays_in_its_folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train.log").touch()
    begin_run(tmp_path / "run")
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "train.log"]


@pytest.mark.parametrize(
    ("interval", "epochs", "validated"), [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (2, 4, [2, 4]), (5, 3, [3])]
)
def test_the_last_epoch_is_validated_whatever_the_interval(interval, epochs, validated):
    class Noting(Evaluator):
        def run(self, global_epoch=1):
            found.append(global_epoch)

    found = []
    engine = Engine(lambda engine, batch: None)
    EpochValidation(Noting(torch.device("cpu"), [0]), interval).attach(engine)
    engine.run([0], max_epochs=epochs)
    assert found == validated


def test_a_patience_that_ends_before_the_first_validation_is_refused():
    with pytest.raises(ValueError, match=r"patience 20 .* after 25 epochs"):
        EarlyStop(Validator([]), patience=20, interval=25)
    EarlyStop(Validator([]), patience=0, interval=25)


def run(path, epochs, resume):
    """Minimise (w - 3)^2 with momentum and noise; return the weight."""
    weight, optimizer = sgd()
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    holder = torch.nn.Module()
    holder.weight = weight

    def step(engine, batch):
        optimizer.zero_grad()
        loss = ((weight - 3 - 0.1 * torch.randn(1)) ** 2).sum()
        loss.backward()
        optimizer.step()

    engine = Engine(step)
    EpochSeeder(5).attach(engine)
    TrainingState(str(path), {"network": holder, "optimizer": optimizer}, resume=resume).attach(engine)
    engine.run([0, 1, 2], max_epochs=epochs)
    return weight.item()


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    whole = run(tmp_path / "whole.pt", 4, resume=False)
    run(tmp_path / "parts.pt", 2, resume=False)
    assert run(tmp_path / "parts.pt", 4, resume=True) == whole


def test_a_state_of_another_network_is_refused_by_name(tmp_path):
    path = tmp_path / "state.pt"
    run(path, 1, resume=False)
    engine = Engine(lambda engine, batch: None)
    parts = {"network": torch.nn.Linear(2, 2), "optimizer": sgd()[1]}
    TrainingState(str(path), parts, resume=True).attach(engine)
    with pytest.raises(ValueError, match=r"does not fit this configuration in 'network'"):
        engine.run([0], max_epochs=2)


def test_a_state_with_other_parts_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    run(path, 1, resume=False)
    engine = Engine(lambda engine, batch: None)
    TrainingState(str(path), {"network": torch.nn.Linear(1, 1)}, resume=True).attach(engine)
    with pytest.raises(ValueError, match=r"another configuration: \['optimizer'\] differ"):
        engine.run([0], max_epochs=2)


def test_a_state_of_epochs_of_another_length_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    run(path, 1, resume=False)  # of 3 steps
    weight, optimizer = sgd()
    holder = torch.nn.Module()
    holder.weight = weight
    engine = Engine(lambda engine, batch: None)
    TrainingState(str(path), {"network": holder, "optimizer": optimizer}, resume=True).attach(engine)
    with pytest.raises(ValueError, match="its epochs have 3 steps, and now 2; use the same training cases, batch_size"):
        engine.run([0, 1], max_epochs=2)


def test_the_closing_words_can_be_copied_into_a_shell(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    validator = Validator([0.5])
    validator.run(1)
    engine = Engine(lambda engine, batch: None)
    RunSummary(validator, str(tmp_path / "my runs" / "model.pt")).attach(engine)
    with caplog.at_level(logging.INFO, logger="banet_monai"):
        engine.run([0])
    assert caplog.messages[-1].endswith("--checkpoint 'my runs/model.pt'")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EarlyStop(Validator([]), patience="x"), "patience must be a number, got 'x'"),
        (lambda: EpochValidation(Evaluator("cpu", [0]), interval=0), "val_interval must be a whole number of at least"),
        (
            lambda: warmup_poly(sgd()[1], max_epochs=1.5, epoch_length=3),
            r"max_epochs must be a whole number of at least 0, got 1\.5",
        ),
    ],
)
def test_numbers_of_a_run_that_are_none_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_folder_of_other_files_is_not_moved_aside(tmp_path, monkeypatch):
    (tmp_path / "work" / "data").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds files, and they are of no earlier run"):
        require_run_folder(str(tmp_path / "work"))
    assert (tmp_path / "work" / "data").is_dir()
    (tmp_path / "work" / "model.pt").touch()
    monkeypatch.chdir(tmp_path / "work" / "data")
    for place in ("..", str(tmp_path)):
        with pytest.raises(ValueError, match="holds the working directory"):
            require_run_folder(place)


def test_results_of_an_earlier_run_move_aside(tmp_path):
    folder = tmp_path / "run"
    begin_run(folder)
    (folder / "model.pt").write_text("first")
    trainer = begin_run(folder)
    assert list(folder.iterdir()) == []
    assert (tmp_path / "run-1" / "model.pt").read_text() == "first"
    (folder / "model.pt").write_text("second")
    trainer.run([0], max_epochs=2)  # the next round of a federated client
    assert (folder / "model.pt").read_text() == "second"


def test_an_earlier_run_stays_in_its_place_until_training_begins(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.pt").write_text("first")
    require_run_folder(str(tmp_path / "run"))
    EarlierRun(str(tmp_path / "run")).attach(Engine(lambda engine, batch: None))
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "model.pt"]


def test_a_resumed_run_keeps_its_folder(tmp_path):
    (tmp_path / "state.pt").write_text("kept")
    begin_run(tmp_path, resume=True)
    assert (tmp_path / "state.pt").read_text() == "kept"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to folder .*file/run"):
        require_run_folder(str(tmp_path / "file" / "run"))


def test_a_run_has_one_event_file_for_curves_and_pictures(tmp_path):
    writer = EventWriter(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    writer.add_scalar("loss", 0.5, 1)
    writer.add_image("sheet", np.zeros((4, 6, 3), np.uint8), 1)
    writer.close()
    (file,) = tmp_path.iterdir()
    assert b"loss" in file.read_bytes()
    assert b"sheet" in file.read_bytes()


def test_joining_processes_needs_torchrun(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(RuntimeError, match=r"multi_gpu_evaluate\.json need processes that torchrun started"):
        join_processes()
