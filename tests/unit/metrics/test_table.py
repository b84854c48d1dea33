import csv
import io
import json

import numpy as np
import pytest
import torch

from banet_monai.metrics import CaseTable, Spacing, bootstrap_interval, format_summary
from banet_monai.metrics.table import METRICS

TRUE = torch.zeros(1, 30, 40, dtype=torch.uint8)
TRUE[0, 10:14, 10:14] = 1
SHIFTED = TRUE.roll(2, dims=2)  # JA 1/3
ELSEWHERE = TRUE.roll(15, dims=1)
EMPTY = torch.zeros_like(TRUE)


def example():
    """Five cases: perfect, JA 1/3, two misses (elsewhere, nothing), a false alarm."""
    table = CaseTable(["lesion"])
    for name, pred, label in [
        ("perfect", TRUE, TRUE),
        ("shifted", SHIFTED, TRUE),
        ("elsewhere", ELSEWHERE, TRUE),
        ("nothing", EMPTY, TRUE),
        ("alarm", TRUE, EMPTY),
    ]:
        table.add(name, pred, label)
    return table


def test_row_of_a_case_holds_all_figures():
    (row,) = CaseTable(["lesion"]).add("a", SHIFTED, TRUE)
    assert (row.case, row.class_name, row.unit, row.true_pixels, row.predicted_pixels) == ("a", "lesion", "px", 16, 16)
    assert row.ja == pytest.approx(1 / 3)
    assert row.dice == pytest.approx(1 / 2)
    assert row.sensitivity == pytest.approx(1 / 2)
    assert row.specificity == pytest.approx(1176 / 1184)
    assert row.accuracy == pytest.approx(1184 / 1200)
    assert row.boundary_iou == pytest.approx(4 / 20)
    assert row.hd95 == pytest.approx(2)
    assert row.nsd == 1
    assert not row.missed


def test_spacing_and_tolerance_are_in_millimetres_where_known():
    (row,) = CaseTable(["lesion"], tolerance=5).add("a", SHIFTED, TRUE, spacing=Spacing((1.0, 3.0), "mm"))
    assert (row.hd95, row.unit) == (6, "mm")
    assert row.nsd == pytest.approx(16 / 24)  # the 4 pixels of each outer column are 6 mm from the other outline


def test_missed_means_that_nothing_of_the_truth_was_found():
    missed = {row.case: row.missed for row in example().rows}
    assert missed == {"perfect": False, "shifted": False, "elsewhere": True, "nothing": True, "alarm": False}


def test_every_form_of_mask_gives_the_same_rows():
    ids = torch.zeros(1, 16, 16, dtype=torch.int64)
    ids[0, 2:6, 2:6], ids[0, 8:12, 8:12] = 1, 2
    classes = torch.cat([ids == 1, ids == 2])
    expected = CaseTable(["a", "b"]).add("x", ids, ids)
    assert [row.class_name for row in expected] == ["a", "b"]
    for other in (classes, torch.cat([ids == 0, classes]).float()):
        assert CaseTable(["a", "b"]).add("x", other, ids) == expected


def test_summary_counts_misses_false_alarms_and_low_cases():
    overall = example().summary()["overall"]
    assert (overall["n"], overall["misses"], overall["false_alarms"], overall["ja_below_low"]) == (5, 2, 1, 4)


def test_summary_means_count_misses_as_zero():
    summary = example().summary()
    figures = summary["overall"]["metrics"]["ja"]
    assert figures["mean"] == pytest.approx((1 + 1 / 3) / 5, abs=1e-6)
    assert figures["median"] == 0
    low, high = figures["interval"]
    assert 0 <= low < figures["mean"] < high <= 1
    assert summary["overall"]["metrics"]["hd95"]["mean"] == pytest.approx((0 + 2 + 15 + 50 + 50) / 5, abs=1e-6)


def test_a_jaccard_index_of_exactly_the_threshold_is_not_below_it():
    label, pred = torch.zeros(2, 1, 4, 5).unbind()
    label[:], pred.view(-1)[:13] = 1, 1  # 13 of 20 pixels
    table = CaseTable(["a"])
    table.add("edge", pred, label)
    assert table.summary()["overall"]["ja_below_low"] == 0


def test_same_seed_gives_the_same_interval_and_another_seed_another():
    assert example().summary(seed=3) == example().summary(seed=3)
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_bootstrap_interval_of_many_cases_approaches_the_normal_one():
    values = np.random.default_rng(0).normal(0.8, 0.1, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.001)
    assert high == pytest.approx(values.mean() + half, abs=0.001)


def test_bootstrap_keeps_the_metrics_of_a_case_together():
    values = np.random.default_rng(0).random((30, 1))
    low, high = bootstrap_interval(np.hstack([values, 1 - values]), resamples=500)
    np.testing.assert_allclose(low, 1 - high[::-1])


def test_one_case_alone_has_no_interval():
    table = CaseTable(["lesion"])
    table.add("only", SHIFTED, TRUE)
    summary = table.summary()
    assert summary["overall"]["metrics"]["ja"] == {"mean": 0.333333, "interval": None, "median": 0.333333}
    assert "| JA | 0.3333 |  | 0.3333 |" in format_summary(summary)


def test_overall_is_the_mean_over_classes_of_each_case():
    ids = torch.zeros(1, 16, 16, dtype=torch.int64)
    ids[0, 2:6, 2:6], ids[0, 8:12, 8:12] = 1, 2
    table = CaseTable(["a", "b"])
    table.add("half", ids * (ids == 1), ids)
    summary = table.summary()
    assert [summary["classes"][name]["metrics"]["ja"]["mean"] for name in "ab"] == [1, 0]
    assert [summary["classes"][name]["misses"] for name in "ab"] == [0, 1]
    assert summary["overall"]["metrics"]["ja"]["mean"] == 0.5
    assert (summary["overall"]["n"], summary["overall"]["misses"]) == (1, 1)


def test_distances_in_millimetres_and_pixels_are_not_averaged_together():
    table = example()
    table.add("volume", SHIFTED, TRUE, spacing=Spacing((1.0, 3.0), "mm"))
    summary = table.summary()
    assert summary["unit"] == "mixed"
    assert summary["overall"]["metrics"]["hd95"] is None
    assert summary["overall"]["metrics"]["ja"]["mean"] > 0
    assert "cases in mm and in pixels" in format_summary(summary)


def test_csv_has_one_line_per_case_and_numbers_that_read_back():
    rows = list(csv.DictReader(io.StringIO(example().to_csv())))
    assert [row["case"] for row in rows] == ["perfect", "shifted", "elsewhere", "nothing", "alarm"]
    assert set(METRICS) < set(rows[0])
    assert rows[1]["class"] == "lesion"
    assert float(rows[1]["ja"]) == pytest.approx(1 / 3, abs=1e-6)
    assert [row["missed"] for row in rows] == ["0", "0", "1", "1", "0"]


def test_files_are_written_whole_and_replaced(tmp_path):
    table = example()
    summary = table.summary()
    for _ in range(2):
        table.write(tmp_path / "new" / "cases.csv", tmp_path / "new" / "summary.json", summary)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["cases.csv", "summary.json"]
    assert (tmp_path / "new" / "cases.csv").read_text() == table.to_csv()
    assert json.loads((tmp_path / "new" / "summary.json").read_text()) == summary


def test_a_case_whose_name_is_no_unicode_is_written_with_its_bytes_as_escapes(tmp_path):
    table = CaseTable(["lesion"])
    table.add("mole_\udcff", TRUE, TRUE)  # as Python reads the byte 0xff of a file's name
    table.write(tmp_path / "cases.csv", tmp_path / "summary.json", table.summary())
    (row,) = csv.DictReader(io.StringIO((tmp_path / "cases.csv").read_text(encoding="utf-8")))
    assert row["case"] == "mole_\\udcff"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    table = example()
    with pytest.raises(OSError, match=r"cannot write the table.*choose a writable folder.*cases.csv"):
        table.write(tmp_path / "file" / "cases.csv", tmp_path / "file" / "summary.json", table.summary())


def test_summary_as_text_names_classes_counts_and_units():
    text = format_summary(example().summary())
    assert text.startswith("**lesion**: 5 cases, 2 missed, 1 false alarms, 4 with JA below 0.65\n")
    assert "| metric | mean | 95 % interval | median |" in text
    assert "| JA | 0.2667 | " in text
    assert "| NSD at 2 px |" in text
    assert len(text.splitlines()) == 4 + len(METRICS)


@pytest.mark.parametrize("names", [[], "lesion", ["a", "a"]])
def test_class_names_must_be_a_list_of_different_names(names):
    with pytest.raises(ValueError, match="class_names must be a list of different names"):
        CaseTable(names)


def test_errors_name_the_case():
    with pytest.raises(ValueError, match=r"case 'x': prediction and truth must have one size, got \(30, 20\)"):
        CaseTable(["a"]).add("x", TRUE[..., :20], TRUE)
    with pytest.raises(ValueError, match=r"case 'x': label ids must be whole numbers from 0 to 1, got also \[255\]"):
        CaseTable(["a"]).add("x", TRUE, TRUE * 255)


def test_summary_of_nothing_and_of_a_case_added_twice_is_refused():
    with pytest.raises(ValueError, match="the table holds no case"):
        CaseTable(["a"]).summary()
    table = example()
    table.add("perfect", TRUE, TRUE)
    with pytest.raises(ValueError, match="two cases of the table have the same name"):
        table.summary()
