"""The model of cost: prices that are known come back, and predictions are sums that can be done by hand."""

import pytest

from banet_monai.windows import Grid, window_starts
from benchmarks.cost import CostModel, Observation, count_windows, fit_cost


def observed(image, megapixel, window, cases):
    return [Observation(m, w, image + megapixel * m + window * w) for m, w in cases]


def test_prices_come_back_from_measurements_that_follow_them():
    model = fit_cost(observed(0.05, 0.02, 0.01, [(0.25, 1), (1, 64), (4, 16), (16, 1), (64, 900)]))
    assert (model.image_s, model.megapixel_s, model.window_s) == pytest.approx((0.05, 0.02, 0.01))


def test_no_price_is_below_zero():
    """Large images that took less than small ones would ask for a negative price of a megapixel."""
    model = fit_cost([Observation(1, 1, 1.0), Observation(2, 1, 0.9), Observation(3, 1, 0.8), Observation(1, 2, 2.0)])
    assert min(model.image_s, model.megapixel_s, model.window_s) >= 0


def test_small_and_large_images_count_alike():
    """Half too much for the small image and half too much for the large one are the same error."""
    model = CostModel(image_s=1.5, megapixel_s=0, window_s=0)
    assert model.residual(Observation(1, 1, 1.0)) == pytest.approx(0.5)
    assert CostModel(0, 1.5, 0).residual(Observation(100, 1, 100.0)) == pytest.approx(0.5)


def test_hours_of_many_images_are_their_seconds_and_the_starts():
    model = CostModel(image_s=0.1, megapixel_s=0.2, window_s=0.05)
    assert model.seconds(0.5, 4) == pytest.approx(0.4)
    assert model.hours(9000, 0.5, 4) == pytest.approx(1.0)
    assert model.hours(9000, 0.5, 4, start_s=36, images_per_start=1000) == pytest.approx(1.0 + 9 * 36 / 3600)
    assert model.hours(9001, 0, 0, start_s=3600, images_per_start=9000) == pytest.approx(9001 * 0.1 / 3600 + 2)


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ([Observation(1, 1, 1.0)] * 2, "three prices need at least three measured images, got 2"),
        ([Observation(1, 1, 1.0)] * 2 + [Observation(1, 1, 0.0)], "measured seconds must be positive"),
    ],
)
def test_measurements_that_say_nothing_are_refused(measured, message):
    with pytest.raises(ValueError, match=message):
        fit_cost(measured)


@pytest.mark.parametrize(
    ("sizes", "window", "overlap", "windows"),
    [((224, 224), 224, 0.5, 1), ((225, 224), 224, 0.5, 2), ((448, 448), 224, 0.5, 9), ((448, 448), 224, 0, 4)],
)
def test_windows_are_counted(sizes, window, overlap, windows):
    assert count_windows(sizes, window, overlap) == windows


def test_windows_are_counted_as_the_inferer_lays_them():
    for length in range(16, 80, 3):
        for overlap in (0.0, 0.25, 0.5, 0.75):
            laid = window_starts(length, 16, Grid((16,), overlap, "constant").interval(0))
            assert count_windows((length,), 16, overlap) == len(laid)
