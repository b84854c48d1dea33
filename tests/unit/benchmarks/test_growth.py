import pytest
from PIL import Image

from benchmarks import growth
from benchmarks.log_plots import Line, draw, log_ticks


def row(series, value, megapixels, windows, seconds):
    return {
        "series": series,
        "value": value,
        "megapixels": megapixels,
        "windows": windows,
        "median_s": seconds,
        "batch": 8,
        "threads": 2,
        "start_s": 4.0,
        "peak_mib": 500.0 + value,
    }


def test_the_full_plan_covers_what_was_asked():
    points = growth.plan(quick=False, threads=2)
    values = {series: [point.value for point in points if point.series == series] for series in growth.AXES}
    assert values["picture, windows over everything"] == [256, 512, 1024, 2048, 4096, 8192]
    assert values["volume, slice by slice"] == [50, 200, 500, 1000]
    assert values["threads"] == [1, 2]
    assert values["overlap"] == [0, 0.25, 0.5, 0.75]
    assert all(values.values())


def test_windows_of_a_point_follow_from_its_shape():
    window = growth.WINDOW
    assert growth.Point("", 0, (2 * window, 2 * window), "native").windows == 9
    assert growth.Point("", 0, (8192, 8192), "short_side").windows == 1
    assert growth.Point("", 0, (256, 256, 50), "short_side").windows == 50
    assert growth.Point("", 0, (1000, 500), "native").megapixels == 0.5


def test_the_model_predicts_a_million_from_the_points():
    """0.05 s per image, 0.1 s per megapixel, 0.01 s per window, exactly."""
    cases = [(0.25, 1), (1, 64), (4, 300), (16, 1)]
    rows = [row("s", number, m, w, 0.05 + 0.1 * m + 0.01 * w) for number, (m, w) in enumerate(cases)]
    rows.append({**row("threads", 1, 1, 64, 99.0), "threads": 1})  # another condition: not fitted
    model = growth.model_of(rows, threads=2)
    assert model["fitted_points"] == 4
    assert model["largest_residual"] == pytest.approx(0, abs=1e-9)
    picture = model["million"][0]
    seconds = 0.05 + 0.1 * 512 * 512 / 1e6 + 0.01
    assert picture["seconds_per_study"] == pytest.approx(seconds)
    assert picture["machine_hours"] == pytest.approx((1e6 * seconds + 1000 * 4.0) / 3600)


def test_pictures_and_volumes_have_the_shape_that_was_asked_for(tmp_path):
    import nibabel

    with Image.open(growth.make_image(tmp_path, (40, 24))) as picture:
        assert (picture.size, picture.mode) == ((40, 24), "RGB")
    assert nibabel.load(growth.make_image(tmp_path, (20, 20, 3))).shape == (20, 20, 3)


def test_plots_are_drawn_for_every_series(tmp_path):
    rows = [row(series, value, 1, 1, value + 0.1) for series in growth.AXES for value in (1, 2)]
    growth.draw_plots(rows, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "growth_settings.png",
        "growth_side.png",
        "growth_slices.png",
    ]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(1, 10, [1, 2, 5, 10]), (0.3, 0.4, [0.2, 0.5]), (3, 3, [2, 5]), (1, 10000, [1, 10, 100, 1000, 10000])],
)
def test_ticks_enclose_the_values(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_a_single_point_is_a_plot(tmp_path):
    draw(tmp_path / "one.png", [("x", "y", [Line("a", [(3, 3)])])])
    assert (tmp_path / "one.png").stat().st_size > 500
