"""Squares beside the lesion, and what is outlined in them, on pictures whose free places are known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks.accuracy import background
from benchmarks.accuracy.background import free_square, main, measure, summary

PICTURE = np.zeros((100, 100, 3), dtype=np.uint8)
PICTURE[..., 0] = np.arange(100)[:, None]  # red says the row


def lesion_in_rows(first, end):
    mask = np.zeros((100, 100), dtype=bool)
    mask[first:end] = True
    return mask


def test_the_square_is_the_largest_that_fits_and_the_middle_one_of_its_places():
    # 40 rows of lesion and 5 of margin leave 55: half of the side fits, from rows 45 to 50 and columns 0 to 50
    assert free_square(lesion_in_rows(0, 40)) == ((48, 0), 50)


def test_a_lesion_that_leaves_no_room_has_no_square():
    assert free_square(lesion_in_rows(10, 90)) is None
    assert free_square(lesion_in_rows(0, 75)) == ((80, 40), 20)  # the last side that is tried


def test_more_than_a_hundredth_of_the_pixels_is_an_alarm_and_is_held_against_the_pictures_numbers():
    outlined, numbers = (0.0, 0.005, 0.02, 0.375), (0.0, 0.9, 0.15, 0.7)
    squares = [{"outlined": share, "number": number} for share, number in zip(outlined, numbers, strict=True)]
    pictures = [{"number": number / 100} for number in range(1, 22)]  # 20 of these 21 are at most 0.2
    found = summary(squares, pictures)
    low, high = found.pop("alarm_interval")
    assert 0.0 <= low < 0.5 < high <= 1.0
    assert found == {
        "squares": 4,
        "alarms": 2,
        "alarm_rate": 0.5,
        "any": 3,
        "mean_share": 0.1,
        "limit": 0.2,
        "alarms_above_limit": 1,
        "auc": 0.8452,  # one is above all 21, the other above 14 and like one: (21 + 14.5) / 42
    }


def test_without_an_alarm_there_is_nothing_to_tell_apart():
    found = summary([{"outlined": 0.0, "number": 0.1}] * 2, [{"number": 0.2}])
    assert (found["alarms"], found["alarms_above_limit"], found["auc"]) == (0, 0, None)


class RedIsLesion:
    """Stands for the bundle's chain: outlines what is redder than 60, and is nine tenths sure of it."""

    def __init__(self, bundle=None, *, weights=None):
        self.bundle = bundle
        self.weights = weights

    def __call__(self, path):
        with Image.open(path) as picture:
            mask = (np.asarray(picture)[..., 0] > 60).astype(np.uint8)
        return SimpleNamespace(mask=mask, probability=0.9 * mask[None].astype(np.float32))


@pytest.fixture
def data(tmp_path):
    """One training and three validation pictures; the lesion of the last leaves no room."""
    for part, masks in (("train", [(0, 40)]), ("val", [(0, 40), (60, 100), (10, 90)])):
        for kind in ("images", "masks"):
            (tmp_path / "data" / part / kind).mkdir(parents=True)
        for number, rows in enumerate(masks):
            Image.fromarray(PICTURE).save(tmp_path / "data" / part / "images" / f"{part}_{number}.png")
            mask = lesion_in_rows(*rows).astype(np.uint8) * 255
            Image.fromarray(mask).save(tmp_path / "data" / part / "masks" / f"{part}_{number}.png")
    return tmp_path / "data"


def test_each_square_is_segmented_as_a_picture_of_its_own(data):
    cases = [
        {"name": name, "image": str(data / f"val/images/{name}.png"), "label": str(data / f"val/masks/{name}.png")}
        for name in ("val_0", "val_1", "val_2")
    ]
    squares, pictures = measure(cases, RedIsLesion())
    assert squares == [
        {"name": "val_0", "side": 50, "outlined": 0.74, "number": 0.1},  # rows 48 to 97; 61 to 97 are redder
        {"name": "val_1", "side": 50, "outlined": 0.0, "number": 0.0},  # its square ends above row 55
    ]
    assert pictures == [{"name": name, "number": 0.1} for name in ("val_0", "val_1", "val_2")]


def test_the_command_writes_what_it_found_and_of_which_weights(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(background, "Segmenter", RedIsLesion)
    weights = tmp_path / "some.pt"
    weights.write_bytes(b"weights")
    words = ["--data", str(data), "--checkpoint", str(weights), "--write", str(tmp_path / "out.json")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "1 of 2 squares without a lesion have more than a hundredth outlined" in printed
    assert "0 of them with a number above 0.1, as 1 picture in 20 has it" in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert [len(written[name]) for name in ("of_squares", "of_pictures")] == [2, 3]
    assert written["alarm_rate"] == 0.5
    # printf weights | sha256sum
    assert written["weights"] == "9a129038d9a0"


def test_data_without_room_beside_its_lesions_are_refused(data, monkeypatch, capsys):
    monkeypatch.setattr(background, "Segmenter", RedIsLesion)
    for kind in ("images", "masks"):
        for name in ("val_0", "val_1"):
            (data / "val" / kind / f"{name}.png").unlink()
    assert main(["--data", str(data)]) == 2
    assert "0 of 1 pictures have room beside their lesion" in capsys.readouterr().err
