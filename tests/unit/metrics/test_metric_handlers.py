import csv
import json
import logging

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.transforms import AsDiscreted

from banet_monai.metrics import CaseTableHandler, JaccardMetric
from banet_monai.metrics.handlers import case_names

TRUE = torch.zeros(1, 12, 16)
TRUE[0, 2:6, 2:6] = 1


def case(name, pred, label=TRUE, affine=None):
    meta = {"filename_or_obj": name} if name else {}
    return {"image": MetaTensor(pred, meta=meta), "label": MetaTensor(label, affine=affine), "pred": pred}


def run(handler, batches):
    engine = Engine(lambda _, batch: batch)
    handler.attach(engine)
    engine.run(batches)
    return engine


def rows(folder, name="cases.csv"):
    return list(csv.DictReader((folder / name).read_text().splitlines()))


def test_evaluator_writes_table_and_summary_and_logs_it(tmp_path, caplog):
    logits = [TRUE * 2 - 1, TRUE.roll(2, dims=2) * 2 - 1, torch.full_like(TRUE, -1)]
    data = [
        {"image": MetaTensor(image, meta={"filename_or_obj": f"/data/set/{name}.png"}), "label": TRUE}
        for name, image in zip("cab", logits, strict=True)
    ]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=2),
        network=torch.nn.Identity(),
        postprocessing=AsDiscreted(keys="pred", threshold=0.0),
        key_val_metric={
            "val_ja": IgniteMetricHandler(JaccardMetric(), output_transform=from_engine(["pred", "label"]))
        },
        val_handlers=[CaseTableHandler(tmp_path / "report", class_names=["lesion"])],
    )
    with caplog.at_level(logging.INFO, logger="banet_monai"):
        evaluator.run()

    assert [row["case"] for row in rows(tmp_path / "report")] == ["a", "b", "c"]
    assert [float(row["ja"]) for row in rows(tmp_path / "report")] == pytest.approx([1 / 3, 0, 1], abs=1e-6)
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["overall"]["misses"] == 1
    assert evaluator.state.best_metric == pytest.approx(4 / 9)
    assert evaluator.state.metrics["val_ja"] == pytest.approx(4 / 9, abs=1e-6)
    assert evaluator.state.metrics["val_misses"] == 1
    assert "3 cases, 1 missed" in caplog.text
    assert "/data/set" not in (tmp_path / "report" / "cases.csv").read_text()


def test_each_run_starts_a_new_table(tmp_path):
    handler = CaseTableHandler(tmp_path, class_names=["a"], filename="t.csv", summary_filename="s.json", resamples=10)
    run(handler, [[case("x.png", TRUE)], [case("y.png", TRUE)]])
    run(handler, [[case("z.png", TRUE)]])
    assert [row["case"] for row in rows(tmp_path, "t.csv")] == ["z"]
    assert (tmp_path / "s.json").is_file()


def test_batches_that_are_not_decollated_are_taken(tmp_path):
    batch = {"pred": torch.stack([TRUE, TRUE * 0]), "label": torch.stack([TRUE, TRUE])}
    run(CaseTableHandler(tmp_path, class_names=["a"]), [batch])
    assert [(row["case"], row["missed"]) for row in rows(tmp_path)] == [("case_0001", "0"), ("case_0002", "1")]


def test_a_label_in_microns_has_its_distances_in_millimetres_too(tmp_path):
    case_in_microns = case("a.nii.gz", TRUE.roll(2, dims=2), affine=np.diag([1000, 500, 1000, 1.0]))
    case_in_microns["label"].meta["spacing_unit"] = "micron"
    run(CaseTableHandler(tmp_path, class_names=["a"]), [[case_in_microns]])
    (row,) = rows(tmp_path)
    assert (row["unit"], float(row["hd95"])) == ("mm", 1.0)  # two pixels of half a millimetre


def test_a_label_whose_unit_is_not_known_names_its_case(tmp_path):
    in_inches = case("a.nii.gz", TRUE)
    in_inches["label"].meta["spacing_unit"] = "inch"
    with pytest.raises(ValueError, match=r"case 'a': .*spacing_unit"):
        run(CaseTableHandler(tmp_path, class_names=["a"]), [[in_inches]])


def test_distances_are_in_millimetres_where_the_label_has_a_spacing(tmp_path):
    shifted = TRUE.roll(2, dims=2)
    run(CaseTableHandler(tmp_path, class_names=["a"]), [[case("a.nii.gz", shifted, affine=np.diag([1, 0.5, 1, 1.0]))]])
    (row,) = rows(tmp_path)
    assert (row["case"], row["unit"], float(row["hd95"])) == ("a", "mm", 1.0)


def test_metric_prefix_and_mixed_units_reach_the_engine(tmp_path):
    cases = [case("a.png", TRUE), case("b.nii", TRUE, affine=np.diag([2.0, 2, 2, 1]))]
    engine = run(CaseTableHandler(tmp_path, class_names=["a"], metric_prefix="test_"), [cases])
    assert engine.state.metrics["test_ja"] == 1
    assert "test_hd95" not in engine.state.metrics


def test_missing_predictions_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"output lacks \['pred'\], it has \['image', 'label'\]"):
        run(CaseTableHandler(tmp_path, class_names=["a"]), [[{"image": TRUE, "label": TRUE}]])


def test_a_case_with_strange_values_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"case 'lesion_7': label ids must be whole numbers .* \[3.0\]"):
        run(CaseTableHandler(tmp_path, class_names=["a"]), [[case("/x/lesion_7.png", TRUE * 3)]])


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["/a/b/one.png", "/a/c/two.nii.gz"], ["one", "two"]),
        (["/a/b/one.png", "/a/c/one.png", "/a/two.png"], ["b/one", "c/one", "two"]),
        (["/a/one.png", "/a/one.jpg"], ["one", "one_2"]),
        (["/a/one.png", "/a/one.jpg", "/a/one_2.png"], ["one", "one_3", "one_2"]),
        (["/a/one_2.png", "/a/one.png", "/a/one.jpg", "/a/one.bmp"], ["one_2", "one", "one_3", "one_4"]),
        (["", "/a/case_0001.png"], ["case_0001", "case_0001_2"]),
        (["", ""], ["case_0001", "case_0002"]),
        (["/a/1.2.840.10008", "/a/slice.0007.dcm"], ["1.2.840.10008", "slice.0007"]),
    ],
)
def test_cases_get_short_and_different_names(sources, expected):
    assert case_names(sources) == expected


def test_series_is_named_after_its_folder(tmp_path):
    files = ["/a/series7/1.dcm", "/a/series7/2.dcm"]
    run(CaseTableHandler(tmp_path, class_names=["a"]), [[case(files, TRUE)]])
    assert rows(tmp_path)[0]["case"] == "series7"


def test_cases_are_called_by_their_given_names(tmp_path):
    def step(engine, batch):
        return [{key: value for key, value in item.items() if key != "name"} for item in batch]

    engine = Engine(step)
    CaseTableHandler(tmp_path, class_names=["a"]).attach(engine)
    engine.run([[{**case("/data/1/x.png", TRUE), "name": "second"}, {**case("/data/2/x.png", TRUE), "name": "first"}]])
    assert [row["case"] for row in rows(tmp_path)] == ["first", "second"]


def test_failed_cases_are_left_out_and_counted(tmp_path):
    stand_in = {"image": torch.zeros(3, 32, 32), "pred": torch.zeros(1, 32, 32), "name": "b", "failure": "b.png is bad"}
    run(CaseTableHandler(tmp_path, class_names=["a"]), [[{**case("a.png", TRUE), "failure": ""}], [stand_in]])
    assert [row["case"] for row in rows(tmp_path)] == ["a"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["n"], summary["failed"]) == (1, 1)


def test_nothing_is_written_when_every_case_failed(tmp_path, caplog):
    stand_in = {"image": torch.zeros(3, 32, 32), "name": "b", "failure": "b.png is bad"}
    run(CaseTableHandler(tmp_path / "report", class_names=["a"]), [[stand_in]])
    assert "All 1 cases failed" in caplog.text
    assert not (tmp_path / "report").exists()


def test_tables_of_an_earlier_run_do_not_pass_for_those_of_one_in_which_every_case_failed(tmp_path):
    run(CaseTableHandler(tmp_path, class_names=["a"]), [[case("a.png", TRUE)]])
    assert (tmp_path / "summary.json").is_file()
    stand_in = {"image": torch.zeros(3, 32, 32), "name": "b", "failure": "b.png is bad"}
    run(CaseTableHandler(tmp_path, class_names=["a"]), [[stand_in]])
    assert list(tmp_path.iterdir()) == []


def test_absolute_and_relative_paths_of_one_folder_may_be_mixed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert case_names([str(tmp_path / "one.png"), "sub/one.png"]) == ["one", "sub/one"]


def test_names_that_look_like_running_numbers_do_not_end_the_table(tmp_path):
    files = ["/d/a.png", "/d/a.jpg", "/d/a_2.png"]
    run(CaseTableHandler(tmp_path, class_names=["a"]), [[case(file, TRUE) for file in files]])
    assert [row["case"] for row in rows(tmp_path)] == ["a", "a_2", "a_3"]
