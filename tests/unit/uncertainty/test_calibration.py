from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics.calibration import CalibrationErrorMetric

from banet_monai.uncertainty import CalibrationBins, brier_score


def test_errors_of_a_set_known_by_hand() -> None:
    bins = CalibrationBins(10)
    # four pixels called 0.75, of which one is foreground; six called 0.15, of which three are
    bins.add(torch.tensor([0.75] * 4 + [0.15] * 6), torch.tensor([1, 0, 0, 0, 1, 1, 1, 0, 0, 0]))
    errors = bins.errors()
    assert errors["ece"] == pytest.approx(0.4 * 0.5 + 0.6 * 0.35, abs=1e-6)
    assert errors["ace"] == pytest.approx((0.5 + 0.35) / 2, abs=1e-6)
    assert errors["mce"] == pytest.approx(0.5, abs=1e-6)


def test_frequencies_that_are_as_promised_have_no_error() -> None:
    bins = CalibrationBins(20)
    bins.add(torch.tensor([0.0, 1.0, 0.5, 0.5]), torch.tensor([0, 1, 1, 0]))
    assert bins.errors()["ece"] == pytest.approx(0.0, abs=1e-6)


def test_the_diagram_holds_every_pixel_once() -> None:
    bins = CalibrationBins(4)
    bins.add(torch.tensor([[0.1, 0.2], [0.9, 1.0]]), torch.tensor([[0, 1], [1, 1]]))
    bins.add(torch.tensor([0.2]), torch.tensor([0]))
    rows = bins.rows()
    assert [row.pixels for row in rows] == [3, 0, 0, 2]
    assert (rows[0].low, rows[0].high) == (0.0, 0.25)
    assert rows[0].confidence == pytest.approx(0.5 / 3, abs=1e-6)
    assert rows[0].frequency == pytest.approx(1 / 3, abs=1e-6)
    assert math.isnan(rows[1].confidence)
    assert math.isnan(rows[1].frequency)


def test_one_image_has_the_error_that_monai_gives_it() -> None:
    torch.manual_seed(0)
    probability, truth = torch.rand(1, 1, 30, 30), torch.rand(1, 1, 30, 30).round()
    metric, bins = CalibrationErrorMetric(num_bins=15), CalibrationBins(15)
    metric(y_pred=probability, y=truth)
    bins.add(probability, truth)
    assert bins.errors()["ece"] == pytest.approx(float(metric.aggregate()), abs=1e-6)


def test_pixels_of_many_images_weigh_the_same_wherever_they_are() -> None:
    torch.manual_seed(0)
    probability, truth = torch.rand(400), torch.rand(400).round()
    together, apart = CalibrationBins(10), CalibrationBins(10)
    together.add(probability, truth)
    for start, stop in ((0, 7), (7, 300), (300, 400)):
        apart.add(probability[start:stop], truth[start:stop])
    assert np.array_equal(apart.pixels, together.pixels)
    assert apart.errors() == pytest.approx(together.errors(), abs=1e-6)


def test_a_large_volume_in_one_bin_is_counted_to_the_last_pixel() -> None:
    bins = CalibrationBins()
    bins.add(torch.full((17, 1024, 1024), 0.02), torch.zeros(17, 1024, 1024))
    assert bins.pixels[0] == 17 * 2**20  # above 2**24, where float32 counts no further
    assert bins.errors()["ece"] == pytest.approx(0.02, rel=1e-4)


def test_the_brier_score_is_the_mean_squared_distance() -> None:
    assert brier_score(torch.tensor([1.0, 0.0]), torch.tensor([1, 0])) == 0.0
    assert brier_score(torch.tensor([0.5, 0.5]), torch.tensor([1, 0])) == 0.25
    assert brier_score(torch.tensor([0.8, 0.0]), torch.tensor([1, 1])) == pytest.approx((0.04 + 1) / 2)


def test_what_is_no_probability_is_refused() -> None:
    bins = CalibrationBins()
    with pytest.raises(ValueError, match=r"must lie between 0 and 1; NaN or logits"):
        bins.add(torch.tensor([0.5, float("nan")]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"must lie between 0 and 1"):
        bins.add(torch.tensor([2.0]), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"must be one size"):
        bins.add(torch.tensor([0.5]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"no pixel to measure calibration on"):
        bins.errors()
    with pytest.raises(ValueError, match=r"bins must be at least 1, got 0"):
        CalibrationBins(0)
    with pytest.raises(ValueError, match=r"must be one size"):
        brier_score(torch.zeros(0), torch.zeros(0))


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (torch.tensor([0, 255], dtype=torch.uint8), r"hold 0 and 1 alone, got 0.0 to 255.0; truth > 0 works"),
        (torch.tensor([0.0, 0.5]), r"hold 0 and 1 alone, got 0.0 to 0.5"),
        (torch.tensor([0.0, math.nan]), r"hold 0 and 1 alone"),
    ],
)
def test_a_truth_that_is_no_mask_is_refused(truth: torch.Tensor, message: str) -> None:
    bins = CalibrationBins()
    with pytest.raises(ValueError, match=message):
        bins.add(torch.tensor([0.1, 0.9]), truth)
    bins.add(torch.tensor([0.1, 0.9]), torch.tensor([False, True]))
    assert bins.pixels.sum() == 2
