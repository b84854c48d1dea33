from __future__ import annotations

import numpy as np
import pytest

from banet_monai.report.page.palette import PREDICTION, TRUTH
from banet_monai.report.page.panels import Chord, Plane, drawing_panel, image_panel, map_panel
from banet_monai.report.page.raster import draw_strips
from banet_monai.report.page.views import Strip
from tests.report_folders import box

SIZE = (300, 260)
GREY = np.full((260, 300, 3), 120, dtype=np.uint8)
PRED, TRUE = box(60, 50, 240, 200, size=SIZE), box(90, 80, 210, 170, size=SIZE)


def drawn(plane: Plane) -> np.ndarray:
    panel = image_panel(plane, "Outline", "", longest=640)
    return np.asarray(draw_strips([Strip("", (panel,))])).astype(int)[8 : 8 + 260, 8 : 8 + 300]  # within the margin


def near(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels - np.array(color)).max(axis=-1) < 60


def test_prediction_is_a_solid_line_on_the_edge_of_the_mask() -> None:
    pixels = drawn(Plane(PRED.T, (1.0, 1.0), GREY))
    for row in range(60, 190):
        found = np.flatnonzero(near(pixels[row], PREDICTION[0]))
        assert set(found) & {59, 60}
        assert set(found) <= {58, 59, 60, 61, 238, 239, 240, 241}
    assert (pixels[100:150, 100:200] == 120).all()  # no fill


def test_truth_is_dashed() -> None:
    pixels = drawn(Plane(np.zeros_like(PRED.T), (1.0, 1.0), GREY, TRUE.T))
    along = near(pixels[90:160, 89:92], TRUTH).any(axis=1)
    assert 0.4 < along.mean() < 0.8
    assert np.count_nonzero(np.diff(along.astype(int)) == 1) >= 4


def test_panels_of_one_row_have_one_height() -> None:
    plane = Plane(PRED.T, (1.0, 1.0), GREY, None, (Chord((60.0, 50.0), (239.0, 199.0), "233 px", True),))
    panels = (
        image_panel(plane, "Outline", "", longest=640),
        map_panel(np.zeros((600, 520)), (1.0, 1.0), "Uncertainty", ""),
        drawing_panel(plane, "Measurements", ""),
    )
    assert draw_strips([Strip("", panels)]).size == (2 * 8 + 2 * 8 + 3 * 300, 2 * 8 + 260 + 18)


def test_pixels_become_as_high_as_wide() -> None:
    panel = image_panel(Plane(PRED.T, (1.0, 2.0), GREY), "Slice", "", longest=384)
    assert panel.size == (222, 384)  # 300 x 520, made smaller
    ring = panel.prediction[0].rings[0]
    np.testing.assert_allclose(ring.min(axis=0), (60 * 222 / 300, 100 * 384 / 520), atol=0.02)


def test_a_drawing_is_centred_and_keeps_the_proportions_of_the_picture() -> None:
    chord = Chord((60.0, 124.5), (239.0, 124.5), "179 px", True)
    panel = drawing_panel(Plane(PRED.T, (1.0, 1.0), GREY, None, (chord,)), "Measurements", "")
    assert panel.size[0] / panel.size[1] == pytest.approx(300 / 260, rel=0.01)
    ring = panel.prediction[0].rings[0]
    np.testing.assert_allclose((ring.min(axis=0) + ring.max(axis=0)) / 2, np.array(panel.size) / 2, atol=1)
    assert panel.chords[0].start[1] == pytest.approx(panel.size[1] / 2, abs=1)


def test_a_drawing_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs foreground"):
        drawing_panel(Plane(np.zeros((4, 4), dtype=np.uint8), (1.0, 1.0)), "", "")


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="no strip"):
        draw_strips([])
