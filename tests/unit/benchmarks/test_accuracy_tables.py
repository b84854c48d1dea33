"""Tables say what the result files say, and what is not the same in all of them."""

import copy

import pytest
from PIL import Image

from benchmarks.accuracy.plots import draw_curves, ticks
from benchmarks.accuracy.progress import table_of_progress
from benchmarks.accuracy.tables import Report, load_results, main, with_baselines
from tests.unit.benchmarks.accuracy_results import make_result, write_results

NAME = "cpu/pictures"
RESULTS = [
    make_result("banet", 0, [0.8, 0.6]),
    make_result("banet", 1, [0.9, 0.7]),
    make_result("unet", 0, [0.7, 0.5], boundary_iou=0.4),
    make_result("unet", 1, [0.8, 0.6], boundary_iou=0.4),
]
DOCUMENT = f"before\n<!-- accuracy: {NAME} -->\nstale figures\n<!-- end -->\nafter\n"


@pytest.fixture
def report():
    return Report(NAME, RESULTS)


def row(table, title):
    return next(line for line in table.splitlines() if line.startswith(f"| {title} |"))


def test_a_row_of_scores_holds_means_deviations_and_the_interval(report):
    assert row(report.table_of_scores(), "BA-Net") == (
        "| BA-Net | 2 | 0.7500 ± 0.0707 | 0.6500 to 0.8500 | 0.2500 ± 0.0000 | 0.5000 ± 0.0000 | 10.00 ± 0.00 "
        "| 4.00 ± 0.00 | 0.2500 ± 0.0000 | 0.0 |"
    )


def test_a_row_of_differences_is_bold_where_zero_lies_outside(report):
    line = row(report.table_of_differences(), "U-Net")
    assert line.startswith("| U-Net | 2 | **-0.1000** | -0.1000 to -0.1000 | -0.1000 to -0.1000 | **-0.1000** |")
    assert "| +0.00 | +0.00 to +0.00 | +0.00 to +0.00 |" in line  # HD95 is the same
    assert "BA-Net" not in report.table_of_differences().splitlines()[2]


def test_a_row_of_costs_holds_size_learning_rate_time_and_memory(report):
    assert row(report.table_of_costs(), "U-Net") == (
        "| U-Net | mobilenet_v2 | ImageNet | 3.07 | 0.72 | 0.0005 | 50.5 | 10.0 | 2, 2 | 100 | 1900 |"
    )


def test_the_order_of_the_experiments_is_that_of_the_file():
    report = Report(NAME, RESULTS, order=["unet", "banet"])
    assert list(report.scores) == ["unet", "banet"]


def test_without_ba_net_there_are_no_differences():
    report = Report(NAME, RESULTS[2:])
    assert report.differences("ja") == {}
    assert "minus" not in report.markdown()


def test_results_of_several_versions_are_not_mixed_without_saying_so(report):
    assert report.warnings() == []
    mixed = Report(NAME, [*RESULTS[:3], make_result("unet", 1, [0.8, 0.6], commit="fff0000")])
    assert mixed.warnings() == ["**Not the same in all runs**: commit: abc1234 (3 runs), fff0000 (1 runs)."]
    assert mixed.warnings()[0] in mixed.markdown()


def test_a_method_with_another_size_of_picture_is_pointed_out():
    other = make_result("unet", 0, [0.7, 0.5])
    other["learning"]["image_size"] = 256
    assert Report(NAME, [RESULTS[0], other]).warnings() == [
        "**Not the same in all runs**: image_size: 128 (1 runs), 256 (1 runs)."
    ]


def starts_on(result, *machines, sources=("a",)):
    """The result, trained in several starts, each on the result's machine with these changes."""
    result = copy.deepcopy(result)
    result["training"] |= {"machines": [result["machine"] | changes for changes in machines], "sources": list(sources)}
    return result


def test_a_run_that_went_on_with_other_versions_says_which_came_first():
    two = starts_on(RESULTS[0], {"packages": {"torch": "2.12.0"}, "commit": "fff0000"}, {}, sources=("a", "b"))
    assert Report(NAME, [two, RESULTS[2]]).warnings() == [
        "**Not the same in all runs**: commit: fff0000 then abc1234 (1 runs), abc1234 (1 runs); "
        "torch: 2.12.0 then 2.13.0 (1 runs), 2.13.0 (1 runs).",
        "**Taken up under changed code**: cpu/pictures/banet/seed0.",
    ]
    assert len(Report(NAME, [two]).warnings()) == 2  # also where there is no other run to differ from


def test_starts_of_the_same_code_on_the_same_machine_need_no_remark():
    assert Report(NAME, [starts_on(RESULTS[0], {}, {}), RESULTS[2]]).warnings() == []


def test_a_machine_that_does_not_know_its_commit_is_no_other_version():
    elsewhere = {"commit": None, "packages": {"banet-monai": None, "torch": "2.13.0"}}
    assert Report(NAME, [starts_on(RESULTS[0], elsewhere), RESULTS[2]]).warnings() == []


def test_costs_name_the_machine_that_trained_and_not_the_one_that_judged():
    trained = starts_on(RESULTS[0], {"processor": "Another processor"})
    assert "Measured on Another processor, 2 cores (bfloat16), other work" in Report(NAME, [trained]).table_of_costs()


def on_gpu(result, peak):
    result = copy.deepcopy(result)
    result["machine"]["gpu"] = "Accelerator"
    result["training"]["peak_gpu_memory_mib"] = peak
    return result


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_memory_of_seeds_on_gpu_and_processor_is_of_one_kind(order):
    results = [on_gpu(RESULTS[0], 9000.0), RESULTS[1]]
    table = Report(NAME, [results[index] for index in order]).table_of_costs()
    assert row(table, "BA-Net").endswith("| 100 | 1900 |")


def test_a_gpu_run_whose_peak_is_not_known_leaves_that_of_the_other_seed():
    table = Report(NAME, [on_gpu(RESULTS[0], None), on_gpu(RESULTS[1], 9000.0)]).table_of_costs()
    assert row(table, "BA-Net").endswith("| 100 | 9000 |")


def test_times_that_are_not_known_are_left_out_of_their_mean():
    first, second = copy.deepcopy(RESULTS[:2])
    first["training"] |= {"seconds_per_epoch": None, "seconds_to_best": None, "peak_memory_mib": None}
    assert "| 51.0 | 10.0 | 2, 2 | 100 | 1900 |" in Report(NAME, [first, second]).table_of_costs()
    assert row(Report(NAME, [first]).table_of_costs(), "BA-Net").endswith("| 0.0005 |  | 10.0 | 2 |  |  |")


def test_tables_of_isic_pictures_say_that_they_cannot_stand_beside_the_paper(report):
    assert "centre-cropped" not in report.caption()
    isic = make_result("banet", 0, [0.8, 0.6])
    isic["definition"]["dataset"] = "isic2017"
    assert "1800 and 121 of the official 2000 and 150: not comparable" in Report(NAME, [isic]).caption()


def test_a_block_may_ask_for_a_part(tmp_path):
    results = write_results(tmp_path / "results", RESULTS)
    document = tmp_path / "validation.md"
    document.write_text(f"<!-- accuracy: {NAME}#scores -->\n<!-- end -->\n<!-- accuracy: runs -->\n<!-- end -->\n")
    assert main(["--results", str(results), "--write", str(document)]) == 0
    text = document.read_text()
    assert "| BA-Net | 2 | 0.7500 ± 0.0707 |" in text
    assert "GFLOP" not in text
    assert "| cpu | isic2017 |" in text


def test_what_was_run_stands_beside_what_waits():
    blocks = [{"experiments": ["banet", "unet"], "seeds": [0, 1]}, {"experiments": ["fcn"], "seeds": [0]}]
    titles = {"banet": "BA-Net", "unet": "U-Net", "fcn": "FCN"}
    definitions = {
        "datasets": {"pictures": {}},
        "experiments": {name: {"title": title, "group": "All"} for name, title in titles.items()},
        "budgets": {"quick": {"dataset": "pictures", "blocks": []}, "cpu": {"dataset": "pictures", "blocks": blocks}},
    }
    finished = {"cpu/pictures/banet/seed0", "cpu/pictures/banet/seed1", "cpu/pictures/unet/seed0"}
    assert table_of_progress(definitions, finished).splitlines()[2:] == [
        "| cpu | pictures | BA-Net (0, 1); U-Net (0) | U-Net (1) |",
        "| cpu | pictures |  | FCN (0) |",
    ]


def test_a_document_is_behind_until_it_is_written(tmp_path, capsys):
    results = write_results(tmp_path / "results", RESULTS)
    document = tmp_path / "validation.md"
    document.write_text(DOCUMENT)
    arguments = ["--results", str(results)]
    assert main([*arguments, "--check", str(document)]) == 1
    assert "does not say what the results say" in capsys.readouterr().out
    assert main([*arguments, "--write", str(document)]) == 0
    assert main([*arguments, "--check", str(document)]) == 0


def test_report_and_both_plots_are_written_beside_the_results(tmp_path):
    results = write_results(tmp_path, RESULTS)
    assert main(["--results", str(results)]) == 0
    assert (results / "cpu_pictures.md").read_text().startswith(f"# {NAME}\n\n2 held-back cases")
    for kind in ("curves", "differences"):
        with Image.open(results / f"cpu_pictures_{kind}.png") as picture:
            assert len(picture.getcolors(maxcolors=1 << 24)) > 2, kind  # not an empty sheet


def test_curves_of_one_colour_have_marks_that_tell_them_apart(tmp_path):
    one = make_result("banet", 0, [0.8, 0.6])
    report = Report(NAME, [one, *({**one, "experiment": f"form_{number}"} for number in range(24))])
    assert draw_curves(report, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        # the middle of the legend's line, below it, and to the right below: black where the first colour is drawn
        places = [[(652, y), (652, y + 3), (655, y + 3)] for y in (48 + 24 * row for row in (0, 8, 16, 24))]
        seen = [
            ["black" if sum(picture.getpixel((2 * x, 2 * y))) < 100 else "white" for x, y in place] for place in places
        ]
    assert seen == [
        ["black", "white", "white"],  # line
        ["black", "black", "white"],  # dot
        ["black", "black", "black"],  # square
        ["white", "black", "white"],  # ring
    ]


def test_without_ba_net_no_plot_of_differences_is_drawn(tmp_path):
    results = write_results(tmp_path, RESULTS[2:])
    assert main(["--results", str(results)]) == 0
    assert not (results / "cpu_pictures_differences.png").exists()


def test_a_folder_without_results_and_a_file_of_another_format_are_refused(tmp_path, capsys):
    assert main(["--results", str(tmp_path)]) == 2
    assert "no results in" in capsys.readouterr().err
    write_results(tmp_path, [{**RESULTS[0], "format": 99}])
    with pytest.raises(ValueError, match=r"seed0.json has format 99, this version reads 1"):
        load_results(tmp_path)


def test_ticks_are_round_and_inside():
    assert ticks(-0.012, 0.021) == [-0.01, 0.0, 0.01, 0.02]
    assert ticks(0, 10) == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


def test_a_budget_that_names_a_baseline_is_compared_with_it():
    groups = {
        "cpu/pictures": [make_result("banet", 0, [0.5, 0.7]), make_result("unet", 0, [0.4, 0.6])],
        "recipe/pictures": [make_result("unet", 0, [0.6, 0.8])],
    }
    complete = with_baselines(groups, {"cpu": {}, "recipe": {"baseline": "cpu/pictures"}})
    assert [result["experiment"] for result in complete["recipe/pictures"]] == ["unet", "banet"]
    assert complete["cpu/pictures"] == groups["cpu/pictures"]
    difference = Report("recipe/pictures", complete["recipe/pictures"]).differences("ja")["unet"]
    assert difference.mean == pytest.approx(0.1)


def test_methods_whose_curves_follow_other_cases_say_which():
    assert Report(NAME, RESULTS).curve_title("unet") == "U-Net"
    other = {**make_result("unet", 0, [0.8, 0.6]), "curve_of": "all held-back cases"}
    report = Report(NAME, [RESULTS[0], other])
    assert report.curve_title("unet") == "U-Net (all held-back cases)"
    assert report.curve_title("banet") == "BA-Net (first 100 held-back cases)"
    assert "The curve follows first 100 held-back cases or all held-back cases on the" in report.table_of_costs()
