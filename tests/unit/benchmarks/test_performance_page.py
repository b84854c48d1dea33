"""Goals are judged by what was measured, and what was not is said to wait."""

import json

import pytest

from benchmarks import everything, performance, pipeline_speed, reporting
from benchmarks.forms_speed import LIGHT, PAPER
from benchmarks.goals import GOALS


def rows_of(reports):
    return performance.goal_table(reports.get).splitlines()[2:]


def row_about(words, reports):
    (row,) = [row for row in rows_of(reports) if words in row]
    return row


def form(network, **figures):
    return {"network": network, "form": "optimized", "dtype": "bfloat16", **figures}


def test_without_results_every_goal_waits_with_its_command():
    rows = rows_of({})
    assert len(rows) == len(GOALS)
    assert all("waits: `" in row and row.endswith("| |") for row in rows)


@pytest.mark.parametrize(("relative", "verdict"), [(0.449, "yes"), (0.451, "no")])
def test_a_ratio_is_held_to_its_limit(relative, verdict):
    reports = {"forms_speed_cpu": {"rows": [form(PAPER, relative_time=relative)]}}
    assert row_about("the paper's ASPP", reports).endswith(f"| {relative:.3f} | {verdict} |")


def test_the_light_network_is_held_to_milliseconds():
    reports = {"forms_speed_cpu": {"rows": [form(LIGHT, median_s=0.0251, fastest_s=0.019)]}}
    assert "| 25.1 ms (fastest 19.0) | no: " in row_about("light encoder", reports)


def test_waiting_is_judged_at_its_worst_size():
    rows = [{"network": LIGHT, "image_size": size, "waiting_share": share} for size, share in ((224, 0.02), (512, 0.2))]
    rows.append({"network": "BasicUNet", "image_size": 224, "waiting_share": 0.9})
    assert "| at most 20.0 % (at 512 pixels) | no |" in row_about("224 to 512", {"training_table": {"rows": rows}})


def test_int8_is_judged_by_its_paired_difference():
    row = {
        "name": "openvino int8",
        "difference": -0.0031,
        "interval": [-0.006, 0.001],
        "relative_time": 0.46,
        "median_ms": 11.0,
        "file_mb": 5.3,
    }
    reports = {"int8": {"rows": [row]}}
    assert row_about("0.005 below", reports).endswith("| -0.0031 (-0.0060 to +0.0010) | yes |")
    assert row_about("of the float32 time", reports).endswith("| 0.46 | yes |")
    assert "| 11.0 ms | no: " in row_about("is the aim", reports)


def test_a_block_is_filled_and_found_to_be_behind(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("Before\n\n<!-- performance: windows -->\nold\n<!-- end -->\n\nafter\n")
    (tmp_path / "windows_speed_cpu.md").write_text("# Title\n\nMeasured.\n\n## Part\n\n| a |\n")
    options = ["--page", str(page), "--results", str(tmp_path)]
    assert performance.main(["--check", *options]) == 1
    assert "the block 'windows' is behind the results" in capsys.readouterr().out
    assert performance.main(["--write", *options]) == 0
    wanted = "Before\n\n<!-- performance: windows -->\n\nMeasured.\n\n### Part\n\n| a |\n\n<!-- end -->\n\nafter\n"
    assert page.read_text() == wanted
    assert performance.main(["--check", *options]) == 0


def test_what_was_measured_at_this_commit_is_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(everything, "RESULTS", tmp_path)
    step = everything.STEPS[0]
    options = everything.parse_arguments([])
    assert everything.why_not(step, options, "abc1234") == ""
    (tmp_path / f"{step.result}.json").write_text(json.dumps({"machine": {"commit": "abc1234+"}}))
    assert "--again repeats it" in everything.why_not(step, options, "abc1234")
    assert everything.why_not(step, options, "fff0000") == ""
    assert everything.why_not(step, everything.parse_arguments(["--again"]), "abc1234") == ""


def test_without_pictures_only_what_needs_them_is_left_out(monkeypatch):
    monkeypatch.delenv("BANET_DATA", raising=False)
    options = everything.parse_arguments(["--quick"])
    left_out = [step.module for step in everything.STEPS if "BANET_DATA" in everything.why_not(step, options, "abc")]
    assert left_out == ["int8"]


def test_quartiles_of_one_value_are_that_value():
    assert reporting.quartiles([3.0]) == [3.0, 3.0, 3.0]
    assert reporting.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == [2.0, 3.0, 4.0]


def test_a_measurement_that_fails_says_which_and_why():
    with pytest.raises(SystemExit, match=r"light form: measurement failed with exit code 1\n(.|\n)*JSONDecodeError"):
        reporting.measure_apart("benchmarks.measure_form", "no job", what="light form")


def test_the_whole_job_is_judged_with_resnet50_and_memory_with_what_ships():
    once = {"ratio": None, "outside_ms": None}
    rows = [
        {"kind": "png", "ratio": 1.4, "outside_ms": 9.0, "peak_mib": 900},
        {"kind": "deep", "peak_mib": 5000, **once},
    ]
    report = {"rows": rows, "machine": {"processor": "Processor"}}
    reports = {"pipeline_speed": report, "pipeline_speed_resnet50": report}
    assert row_about("folder of 200", reports).endswith("| 1.40 (Processor) | yes |")
    assert "waits: " in row_about("512 x 512 x 300", reports)
    assert row_about("of one core", reports).endswith("| 9.0 ms (png) | yes |")
    assert row_about("1000 slices", reports).endswith("| 5000 MiB | no |")


@pytest.mark.parametrize(("nifti", "verdict"), [(1.99, "yes"), (2.01, "no")])
def test_the_whole_job_on_a_gpu_is_judged_by_its_own_result_at_its_worst_input(nifti, verdict):
    rows = [{"kind": "png", "ratio": 1.2}, {"kind": "nifti", "ratio": nifti}, {"kind": "deep", "ratio": None}]
    report = {"rows": rows, "machine": {"processor": "Processor", "gpu": "Accelerator"}}
    row = row_about("whole job on a GPU", {"pipeline_speed_resnet50_cuda": report})
    assert row.endswith(f"| at most {nifti:.2f} (nifti; Accelerator) | {verdict} |")
    assert "waits: " in row_about("whole job on a GPU", {"pipeline_speed_resnet50": report})


@pytest.mark.parametrize("goal", [goal for goal in GOALS if "cuda" in goal.command], ids=lambda goal: goal.words)
def test_a_goal_on_a_gpu_reads_what_its_command_writes(goal):
    words = goal.command.split("benchmarks.pipeline_speed ")[1].split()
    assert goal.result == pipeline_speed.stem(pipeline_speed.parse_arguments(words))


def test_a_quick_run_leaves_out_what_has_no_quick_form():
    options = everything.parse_arguments(["--quick"])
    (step,) = [step for step in everything.STEPS if step.result == "pipeline_speed_resnet50"]
    assert everything.why_not(step, options, "abc") == "it has no quick form"
