import pytest
import torch

from banet_monai.networks import BANet
from benchmarks import forms_speed
from benchmarks.forms import plain
from benchmarks.forms_speed import PLAIN, Row, parse_arguments


def round_of(*milliseconds):
    return {"seconds": [value / 1000 for value in milliseconds], "ready_s": 1.0, "peak_memory_mib": 100.0}


def test_relative_time_is_the_median_of_pairs_within_rounds():
    """The machine slows down threefold in the second round, for both."""
    other = Row("light", "optimized", "bfloat16")
    entries = forms_speed.summarize(
        {PLAIN: [round_of(100, 110, 120), round_of(300, 330, 360)], other: [round_of(10, 11, 12), round_of(60, 66, 72)]}
    )
    assert entries[0]["relative_time"] == 1
    assert entries[1]["relative_time_of_rounds"] == pytest.approx([0.1, 0.2])
    assert entries[1]["relative_time"] == pytest.approx(0.15)
    assert entries[1]["median_s"] == pytest.approx(0.036)
    assert entries[1]["fastest_s"] == pytest.approx(0.010)


def test_quick_measures_what_the_goals_speak_of():
    assert forms_speed.choose_rows(parse_arguments(["--quick"])) == [PLAIN, *forms_speed.GOALS]


def test_no_row_is_measured_twice():
    rows = forms_speed.choose_rows(parse_arguments(["--compiled"]))
    assert len(rows) == len(set(rows)) == 39


def test_other_runtimes_are_measured_on_the_cpu_alone():
    assert not set(forms_speed.ELSEWHERE) & set(forms_speed.choose_rows(parse_arguments(["--device", "cuda"])))


@torch.no_grad()
def test_plain_form_computes_all_nine_maps_in_evaluation():
    torch.manual_seed(0)
    network = BANet(encoder="mobilenet_v2", width=8, aspp_channels=8, dropout=0.5).eval()
    x = torch.rand(1, 3, 32, 32)
    logits = network(x)
    maps = plain(network)(x)
    assert torch.equal(maps["mask"], logits)
    assert [len(maps["stage_masks"]), len(maps["stage_edges"])] == [4, 4]
