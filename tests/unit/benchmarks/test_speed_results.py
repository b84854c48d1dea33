"""Names of result files, what the network alone is given, and what is said of memory and types on a GPU."""

import pytest
import torch
from monai.data import MetaTensor

from benchmarks import everything, forms_speed, measure, pipeline_speed, training_speed
from benchmarks.uncertainty.measure import _seconds_of_one_pass


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "pipeline_speed"),
        ("--quick", "pipeline_speed_quick"),
        ("--encoder resnet50", "pipeline_speed_resnet50"),
        ("--device cuda", "pipeline_speed_cuda"),
        ("--encoder resnet50 --device cuda:1 --quick", "pipeline_speed_resnet50_cuda1_quick"),
    ],
)
def test_a_gpu_never_writes_where_the_results_of_the_processor_lie(words, name):
    assert pipeline_speed.stem(pipeline_speed.parse_arguments(words.split())) == name


def test_every_step_writes_the_pipeline_result_that_it_is_known_by():
    steps = [step for step in everything.STEPS if step.module == "pipeline_speed"]
    assert [pipeline_speed.stem(pipeline_speed.parse_arguments([*step.arguments])) for step in steps] == [
        step.result for step in steps
    ]


def test_training_that_takes_a_gpu_by_itself_says_so_in_the_name_of_its_result():
    assert training_speed.stem_of(torch.device("cpu")) == "training_speed"
    assert training_speed.stem_of(torch.device("cpu"), quick=True) == "training_speed_quick"
    assert training_speed.stem_of(torch.device("cuda:0")) == "training_speed_cuda"


def test_the_network_alone_gets_windows_of_the_run_in_the_order_and_shapes_of_the_run():
    seen = []
    noted, passes = pipeline_speed.noting(lambda self, windows, network: seen.append(windows.clone()), 3)
    batches = [torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), torch.rand(1, 3, 4, 4), torch.rand(2, 3, 4, 4)]
    wanted = [batches[0].clone(), batches[0].clone(), batches[2].clone()]
    for batch in batches:
        noted(None, batch, None)
        batch.zero_()  # the run uses its memory again
    assert len(seen) == 4
    seen.clear()
    for one in passes:
        one()
    assert len(seen) == 3  # no more than were asked for
    assert all(torch.equal(given, expected) for given, expected in zip(seen, wanted, strict=True))


def test_nothing_is_kept_where_nothing_is_repeated():
    noted, passes = pipeline_speed.noting(lambda self, windows, network: windows, 0)
    batch = torch.rand(1, 3, 4, 4)
    assert noted(None, batch, None) is batch
    assert passes == []


def test_peak_memory_on_a_gpu_is_that_of_its_allocator(monkeypatch):
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 512 * 2**20)
    monkeypatch.setattr(measure, "resident_mib", lambda field: {"VmHWM": 3000.0}[field])
    assert measure.peak_mib(torch.device("cuda"), above=100.0) == 512.0
    assert measure.peak_mib(torch.device("cpu")) == 3000.0
    assert measure.peak_mib(torch.device("cpu"), above=100.0) == 2900.0


@pytest.mark.parametrize("allowed", [True, False])
def test_a_gpu_says_whether_its_float32_convolutions_are_tf32_and_a_processor_has_none(allowed, monkeypatch):
    monkeypatch.setattr("torch.backends.cudnn.allow_tf32", allowed)
    assert measure.machine_on(torch.device("cuda"))["tf32_convolutions"] is allowed
    assert "tf32_convolutions" not in measure.machine_on(torch.device("cpu"))


@pytest.mark.parametrize(
    ("device", "facts", "end"),
    [
        ("cpu", {}, "libraries."),
        ("cuda", {"tf32_convolutions": True}, "allocated. Convolutions of the float32 rows: TF32."),
        ("cuda", {"tf32_convolutions": False}, "allocated. Convolutions of the float32 rows: float32."),
        ("cuda", {}, "allocated."),  # a result from before it was recorded
    ],
)
def test_the_table_of_forms_says_what_float32_is_on_a_gpu(device, facts, end):
    machine = {"processor": "Processor", "cores": 2, "gpu": "Accelerator", "system": "Linux", "python": "3.11"}
    conditions = {"device": device, "threads": 2, "image_size": 256, "batch": 1, "rounds": 1, "steps": 1, "warmup": 1}
    report = {"machine": machine | {"packages": {}, "commit": "abc1234"} | facts, "conditions": conditions, "rows": []}
    assert forms_speed.format_markdown(report).splitlines()[3].endswith(end)


def test_one_pass_is_timed_until_its_result_lies_on_the_processor(monkeypatch):
    """A GPU returns at once and works on: 5 s pass in the call that fetches the result."""
    clock = [100.0]

    class Logits:
        def cpu(self):
            clock[0] += 5.0

    class Stand:
        device = torch.device("cpu")
        network = None

        def inferer(self, image, network):
            clock[0] += 1.0
            return Logits()

    monkeypatch.setattr("benchmarks.uncertainty.measure.time.perf_counter", lambda: clock[0])
    assert _seconds_of_one_pass(Stand(), MetaTensor(torch.zeros(3, 4, 4))) == 6.0
