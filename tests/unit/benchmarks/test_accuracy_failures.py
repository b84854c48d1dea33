"""The worst cases of an evaluation, on pictures whose outlines are known."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.accuracy.failures import CELL, PREDICTION, REFERENCE, main, sheet_of_worst, worst


@pytest.fixture
def evaluated(tmp_path):
    """Three black pictures; the references are their left halves, the predictions their right ones."""
    half = np.zeros((240, 240), dtype=np.uint8)
    half[:, :120] = 255
    (tmp_path / "out").mkdir()
    for part in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "data" / part / kind).mkdir(parents=True)
        for name in ("a", "b", "c"):
            Image.new("RGB", (240, 240)).save(tmp_path / "data" / part / "images" / f"{part}_{name}.png")
            Image.fromarray(half).save(tmp_path / "data" / part / "masks" / f"{part}_{name}.png")
            Image.fromarray(half[:, ::-1]).save(tmp_path / "out" / f"val_{name}_mask.png")
    (tmp_path / "out" / "cases.csv").write_text("case,class,ja\nval_a,lesion,0.9\nval_b,lesion,0.1\nval_c,lesion,0.1\n")
    return tmp_path


def test_the_lowest_come_first_and_equal_ones_by_name(evaluated):
    assert worst(evaluated / "out" / "cases.csv", 2) == [("val_b", 0.1), ("val_c", 0.1)]


def test_a_cell_shows_reference_and_prediction_in_their_colours(evaluated):
    case = {
        "name": "val_b",
        "image": evaluated / "data/val/images/val_b.png",
        "label": evaluated / "data/val/masks/val_b.png",
    }
    sheet = sheet_of_worst(evaluated / "out", [case], count=1)
    assert sheet.shape == (CELL, CELL, 3)
    middle = sheet[CELL // 2].astype(int)
    assert np.abs(middle[:4] - REFERENCE).sum(axis=1).min() < 120  # the frame closes the left half on the left
    assert np.abs(middle[-4:] - PREDICTION).sum(axis=1).min() < 120


def test_the_command_writes_the_picture_or_says_what_is_missing(evaluated, capsys):
    target = evaluated / "worst.jpg"
    words = [str(evaluated / "out"), "--data", str(evaluated / "data"), "--count", "2", "--write", str(target)]
    assert main(words) == 0
    with Image.open(target) as picture:
        assert picture.size == (2 * CELL + 4, CELL)
    (evaluated / "out" / "cases.csv").write_text("case,class,ja\nother,lesion,0.9\n")
    assert main(words) == 2
    assert "has a case 'other' that the data do not hold" in capsys.readouterr().err
