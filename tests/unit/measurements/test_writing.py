from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest

from banet_monai.measurements import (
    Intensity,
    MeasurementTable,
    compare_outlines,
    measure,
    write_comparisons,
    write_measurements,
)
from banet_monai.measurements.records import as_plain, from_plain


def picture(value=1):
    mask = np.zeros((20, 20), dtype=np.uint8)
    mask[5:15, 5:10] = value
    return mask


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_json_holds_each_quantity_with_its_unit(tmp_path):
    found = measure(picture(), affine=np.diag([0.5, 0.5, 1, 1]), labels=["lesion"], image=np.ones((20, 20)))
    path = write_measurements(tmp_path / "new" / "a.json", found, case="one")
    content = json.loads(path.read_text())
    assert "research" in content["notice"]
    (case,) = content["cases"]
    assert case["case"] == "one"
    (item,) = case["measurements"]
    assert item["area"] == {"value": 12.5, "unit": "mm2"}
    assert item["volume"] is item["surface"] is item["sphericity"] is None
    assert item["name"] == "lesion"
    assert item["spacing"] == {"value": [0.5, 0.5], "unit": "mm"}
    assert item["centroid"] == {"index": [9.5, 7.0], "lps_mm": [-4.75, -3.5, 0.0]}
    assert item["bounding_box"]["size"] == {"value": [5.0, 2.5], "unit": "mm"}
    assert item["longest_diameter"]["unit"] == "mm"
    assert len(item["longest_diameter"]["start_index"]) == 2
    assert item["intensity"][0]["mean"] == 1
    assert item["border_distance"] == {"value": 2.5, "unit": "mm"}


def test_what_is_not_finite_is_null_in_json_and_empty_in_csv(tmp_path):
    (found,) = measure(picture(), spacing=1)
    strange = dataclasses.replace(found, area=float("nan"), perimeter=float("inf"), centroid=(float("nan"), 1.0))
    text = write_measurements(tmp_path / "a.json", [strange]).read_text()
    item = json.loads(text)["cases"][0]["measurements"][0]
    assert item["area"] is item["perimeter"] is item["centroid"]["index"][0] is None
    row = rows_of(write_measurements(tmp_path / "a.csv", [strange]))[0]
    assert row["area"] == row["perimeter"] == row["centroid_x"] == ""
    assert row["centroid_y"] == "1.0"


def test_the_columns_of_a_table_do_not_depend_on_what_is_in_it(tmp_path):
    volume = np.zeros((9, 9, 9), dtype=bool)
    volume[2:7, 2:7, 2:7] = True
    of_picture = measure(picture(), labels=["a", "b"])
    of_volume = measure(volume, spacing=1, affine=None)
    tables = [
        write_measurements(tmp_path / f"{k}.csv", cases)
        for k, cases in enumerate([{"p": of_picture}, {"v": of_volume}, {"v": of_volume, "p": of_picture}, {}])
    ]
    heads = {table.read_text().splitlines()[0] for table in tables}
    assert len(heads) == 1
    assert heads.pop().startswith("case,label,name,component,slice,dimensions,length_unit,area_unit,volume_unit,")
    both = rows_of(tables[2])
    assert [row["case"] for row in both] == ["v", "p", "p"]
    assert [row["length_unit"] for row in both] == ["mm", "px", "px"]
    assert float(both[0]["volume"]) == pytest.approx(0.125)
    assert (both[0]["area"], both[1]["volume"]) == ("", "")
    assert both[2]["pixels"] == "0"
    assert both[2]["longest_diameter"] == ""


def test_intensities_of_as_many_channels_as_there_are_come_last(tmp_path):
    grey = measure(picture(), image=np.ones((20, 20)))
    colour = measure(picture(), image=np.ones((3, 20, 20)))
    path = write_measurements(tmp_path / "a.csv", {"grey": grey, "colour": colour})
    one, other = rows_of(path)
    assert list(one)[-1] == "intensity_3_left_out"
    assert (one["intensity_1_mean"], one["intensity_3_mean"], other["intensity_3_mean"]) == ("1.0", "", "1.0")


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x", " =1", "\t=1", "\r=1", "\n=1"])
def test_names_that_a_spreadsheet_would_run_are_disarmed(tmp_path, name):
    found = measure(picture(), labels=[name])
    row = rows_of(write_measurements(tmp_path / "a.csv", {name: found}))[0]
    assert row["case"][0] == row["name"][0] == "'"
    assert row["case"][1:].strip() == name.strip()


def test_numbers_below_zero_stay_numbers(tmp_path):
    found = measure(picture(), image=np.full((20, 20), -1000.0), affine=np.diag([1, 1, 1, 1.0]), unit="mm")
    row = rows_of(write_measurements(tmp_path / "a.csv", found))[0]
    assert float(row["intensity_1_mean"]) == -1000
    assert float(row["centroid_lps_mm_x"]) == -9.5


def test_commas_quotes_and_letters_of_any_language_survive(tmp_path):
    found = measure(picture(), labels=['Läsion, "groß"'])
    assert rows_of(write_measurements(tmp_path / "a.csv", {"雪": found}))[0]["name"] == 'Läsion, "groß"'
    path = write_measurements(tmp_path / "a.json", {"a\udcffb": found})  # a file name that is no UTF-8
    assert json.loads(path.read_bytes())["cases"][0]["case"] == "a\udcffb"


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"as \.json or \.csv, got 'a\.xlsx'"):
        write_measurements(tmp_path / "a.xlsx", [])
    with pytest.raises(ValueError, match=r"as \.json or \.csv, got 'a\.txt'"):
        write_comparisons(tmp_path / "a.txt", {})


def test_comparisons_are_written_too(tmp_path):
    found = compare_outlines(picture() * 0, picture(), labels=["lesion"])
    row = rows_of(write_comparisons(tmp_path / "a.csv", {"case": found}))[0]
    assert (row["case"], row["name"], row["size_unit"], row["relative_change"]) == ("case", "lesion", "px2", "")
    content = json.loads(write_comparisons(tmp_path / "a.json", {"case": found}).read_text())
    assert content["cases"][0]["comparisons"][0]["change"] == 50


def test_a_table_collects_cases_and_is_written_once(tmp_path):
    table = MeasurementTable(tmp_path / "measurements.csv")
    assert table.write() is None
    assert not table.path.exists()
    table.add("b", measure(picture()))
    table.add("a", measure(picture()))
    table.add("b", measure(picture(value=2)))
    assert table.write() == table.path
    assert [(row["case"], row["label"]) for row in rows_of(table.path)] == [("b", "2"), ("a", "1")]


def test_several_processes_write_one_table_ordered_by_case(tmp_path, monkeypatch):
    others = {"a": [as_plain(item) for item in measure(picture(value=2), image=np.ones((20, 20)))]}
    parts = json.loads(json.dumps(others))
    monkeypatch.setattr("banet_monai.measurements.writing.gather", lambda own: [own, parts])
    table = MeasurementTable(tmp_path / "measurements.csv")
    table.add("b", measure(picture()))
    table.write()
    assert [(row["case"], row["label"]) for row in rows_of(table.path)] == [("a", "2"), ("b", "1")]
    monkeypatch.setattr("banet_monai.measurements.writing.process_rank", lambda: 1)
    table.path.unlink()
    assert table.write() is None


def test_a_measurement_survives_being_taken_apart():
    (found,) = measure(picture(), affine=np.diag([0.5, 0.5, 1, 1]), image=np.ones((2, 20, 20)))
    again = from_plain(json.loads(json.dumps(as_plain(found))))
    assert again == found
    assert isinstance(again.intensity[1], Intensity)
