"""Rows and tables of the benchmarks, from results that are made up."""

import sys

import pytest

from banet_monai.transforms import pictures
from benchmarks import card_rate, growth, int8, one_picture, pipeline_speed, training_table, windows_speed

MACHINE = {
    "processor": "A processor",
    "cores": 2,
    "gpu": None,
    "system": "Linux",
    "python": "3.11",
    "packages": {"torch": "2.13.0", "monai": None},
    "commit": "abc1234",
}
ON = "Measured on: A processor, 2 threads; Linux, Python 3.11, torch 2.13.0; commit abc1234."


def int8_rows(loss, slow=1.0):
    seconds = {int8.REFERENCE: [0.020, 0.040], "openvino int8": [0.008 * slow, 0.016 * slow], int8.OTHER: [0.03, 0.06]}
    scores = {int8.REFERENCE: [0.8] * 40, "openvino int8": [0.8 - loss] * 40}
    return int8.summarize(seconds, scores, {name: None if name == int8.OTHER else 5.3 for name in seconds})


def test_int8_is_compared_in_pairs_of_pictures_and_of_times():
    reference, quantised, other = int8_rows(0.004)
    assert quantised["difference"] == pytest.approx(-0.004)
    assert quantised["interval"] == pytest.approx([-0.004, -0.004])
    assert quantised["relative_time"] == pytest.approx(0.4)
    assert quantised["passes"] is True
    assert reference["passes"] is None
    assert other["validation_ja"] is None
    assert other["relative_time"] == pytest.approx(1.5)


@pytest.mark.parametrize(("loss", "slow"), [(0.006, 1.0), (0.0, 1.3)])
def test_int8_that_loses_or_takes_too_much_does_not_pass(loss, slow):
    assert int8_rows(loss, slow)[1]["passes"] is False


def test_table_of_int8():
    report = {
        "machine": MACHINE,
        "weights_sha256": "f" * 64,
        "threads": 2,
        "calibration_pictures": 100,
        "validation_pictures": 40,
        "image_size": 224,
        "timed_passes": 2,
        "warm_up_turns": 3,
        "rows": int8_rows(0.004),
    }
    text = int8.format_markdown(report)
    assert ON in text
    assert "Weights ffffffffffff; 100 training pictures" in text
    assert (
        "| openvino int8 | 0.7960 | -0.0040 (-0.0040 to -0.0040) | 12.0 | 8.0 | 0.40 | 5.3 | yes |" in text.splitlines()
    )


def test_table_of_one_picture():
    report = {
        "machine": MACHINE,
        "load_average_at_end": [0.5, 0.4, 0.3],
        "conditions": {"rounds": 10, "pictures": 60, "quick": False},
        "starts": [{"what": one_picture.COMMAND, "wall_s": [3.9, 4.0, 4.2], "processor_s": 4.5}],
        "decoders": [
            {"what": "libspng", "ms": [3.0, 4.0, 5.0], "relative": 0.66},
            {"what": "Pillow", "ms": [5.0, 6.0, 7.0], "relative": 1.0},
        ],
    }
    lines = one_picture.format_markdown(report).splitlines()
    assert ON.replace("2 threads", "2 cores") in lines
    assert "| banet segment | 4.00 (3.90-4.20) | 4.50 |" in lines
    assert "| libspng | 4.00 (3.00-5.00) | 0.66 |" in lines


def test_a_command_that_fails_is_not_timed():
    with pytest.raises(SystemExit, match="ended with exit code 3"):
        one_picture.timed([sys.executable, "-c", "raise SystemExit(3)"])


def test_seconds_of_a_process_are_its_own():
    wall, processor = one_picture.timed([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert 0.5 <= wall < 60
    assert processor < wall


def test_pngs_are_decoded_by_both_and_the_reader_is_left_as_it_was(tmp_path):
    pytest.importorskip("imagecodecs")
    before = pictures._png_decoder
    pipeline_speed.make_inputs("png", tmp_path / "in", pictures=4, slices=0, quick=True)
    libspng, pillow = one_picture.decode_rows(sorted((tmp_path / "in").iterdir()))
    assert (libspng["what"], pillow["what"]) == ("libspng", "Pillow")
    assert pillow["relative"] == 1.0
    assert libspng["relative"] > 0
    assert pictures._png_decoder is before


def test_table_of_training():
    conditions = {"threads": 2, "batch_size": 8, "num_workers": 1, "steps": 4, "sizes": [224, 512]}
    rows = [
        {"network": name, "image_size": size, "pictures_per_s": speed, "waiting_share": 0.021}
        for name in training_table.NETWORKS
        for size, speed in ((512, 3.0), (224, 16.0))
    ]
    text = training_table.format_markdown({"machine": MACHINE, "conditions": conditions, "rows": rows})
    assert ON in text
    assert "| BasicUNet | 16.0 (2.1 %) | 3.0 (2.1 %) |" in text.splitlines()


def test_table_of_windows():
    result = {
        "seconds": {"network": [9], "banet": [10], "stock": [10], "banet_free": [0.001], "stock_free": [0.002]},
        "windows": 100,
        "relative_difference": 2e-7,
        "peak_memory_mib": 1.0,
    }
    report = {
        "machine": MACHINE,
        "conditions": {"device": "cpu", "threads": 2, "batch": 8, "overlap": 0.5, "dtype": "bfloat16"},
        "rows": [windows_speed.summarize("a picture", result)],
    }
    text = windows_speed.format_markdown(report)
    assert ON in text
    row = "| a picture | 100 | 11.1 | 10.0 | 0.90 | 10.0 | 0.90 | 1.00 | 10 | 20 | 2e-07 |"
    assert row in text.splitlines()


def test_table_of_growth():
    points = [growth.Point("overlap", 0.5, (1000, 1000), "native"), growth.Point("s", 2, (2000, 1000), "short_side")]
    points.append(growth.Point("s", 3, (3000, 2000), "short_side"))
    result = {"start_s": 4.0, "ready_mib": 400.0, "peak_mib": 512.0}
    rows = [
        growth.row_of(point, result | {"seconds": [0.1 * point.megapixels + 0.01 * point.windows]}) for point in points
    ]
    text = growth.format_markdown({"machine": MACHINE, "rows": rows, "model": growth.model_of(rows, threads=2)})
    assert "| s | 3 | 1 | 0.610 | 512 |" in text.splitlines()
    assert "With 2 threads an image takes 0.0 ms, 100.0 ms more for each million" in text
    assert "10.00 ms more for each window; a process takes 4.0 s to start" in text


def test_table_of_a_card():
    report = {
        "machine": MACHINE | {"gpu": "A card"},
        "conditions": {"device": "cuda", "batch": 64, "image_size": 256, "dtype": "bfloat16"},
        "matrix_flops_per_s": 5e14,
        "rows": [{"form": "optimized", "median_s": 0.04, "share": 0.311}],
    }
    text = card_rate.format_markdown(report)
    assert "Measured on: A card, 2 cores;" in text
    assert "matrix products reach 500.0 TFLOP/s here. Goal: 0.3." in text
    assert "| optimized | 40.0 | 0.31 |" in text.splitlines()
