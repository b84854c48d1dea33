from __future__ import annotations

import numpy as np
import pytest

from banet_monai.report import contact_sheet, draw_outline, overlay_picture, overlay_volume
from banet_monai.report.overlays import PALETTE, to_grey_levels

GREY = np.full((64, 96, 3), 120, dtype=np.uint8)


def box(rows: int = 64, columns: int = 96) -> np.ndarray:
    mask = np.zeros((rows, columns), dtype=np.uint8)
    mask[16:48, 24:72] = 1
    return mask


def test_only_the_surroundings_of_the_outline_change() -> None:
    drawn = draw_outline(GREY, box(), width=2)
    changed = (drawn != GREY).any(axis=-1)
    near = np.zeros_like(changed)
    near[12:52, 20:76] = True
    near[20:44, 28:68] = False
    assert changed[near].any()
    assert not changed[~near].any()


def test_the_line_runs_between_the_pixels_inside_and_outside() -> None:
    drawn = draw_outline(GREY, box(), color=(255, 0, 0), width=2)
    redness = drawn[32, :, 0].astype(int) - drawn[32, :, 1]
    assert set(np.flatnonzero(redness > 120)) == {23, 24, 71, 72}
    redness = drawn[:, 48, 0].astype(int) - drawn[:, 48, 1]
    assert set(np.flatnonzero(redness > 120)) == {15, 16, 47, 48}


def test_the_given_picture_is_not_changed() -> None:
    before = GREY.copy()
    draw_outline(GREY, box())
    np.testing.assert_array_equal(GREY, before)


def test_an_empty_mask_draws_nothing() -> None:
    np.testing.assert_array_equal(draw_outline(GREY, np.zeros((64, 96), dtype=np.uint8)), GREY)


def test_every_label_has_its_colour() -> None:
    mask = box()
    mask[20:44, 30:50] = 2
    drawn = draw_outline(GREY, mask, width=3)
    colours = {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()}
    assert {PALETTE[0], PALETTE[1]} <= colours


def test_a_mask_that_fills_the_picture_is_outlined_along_the_frame() -> None:
    drawn = draw_outline(GREY, np.ones((64, 96), dtype=np.uint8), width=2)
    assert (drawn[0, 20:76] != 120).any()
    assert (drawn[4:-4, 4:-4] == 120).all()


def test_sizes_and_types_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mask must be \(64, 96\)"):
        draw_outline(GREY, box(64, 95))
    with pytest.raises(ValueError, match=r"must be .* uint8"):
        draw_outline(GREY.astype(np.float32), box())


def test_values_map_to_grey_levels_with_x_along_columns() -> None:
    values = np.zeros((1, 3, 2), dtype=np.float32)
    values[0, 2, 1] = 10.0
    shown = to_grey_levels(values, bounds=(0, 20))
    assert shown.shape == (2, 3, 3)
    assert shown[1, 2].tolist() == [128, 128, 128]
    assert shown.sum() == 3 * 128


def test_an_overlay_of_a_picture_is_turned_as_it_is_looked_at() -> None:
    mask = np.zeros((1, 96, 64))
    mask[0, 40:60, 10:20] = 1
    shown = overlay_picture(np.full((3, 96, 64), 120.0), mask, bounds=(0, 255))
    rows, columns = np.nonzero((shown != 120).any(axis=-1))
    assert shown.shape == (64, 96, 3)
    assert (rows.min() > 5) & (rows.max() < 25)
    assert (columns.min() > 35) & (columns.max() < 65)


def test_a_volume_is_hung_with_the_front_on_top_and_left_on_the_right() -> None:
    volume = np.zeros((1, 20, 30, 4), dtype=np.float32)  # RAS: x to the right, y to the front
    volume[0, 2, 27] = 1.0  # left front
    shown = overlay_volume(volume, np.zeros_like(volume), affine=np.diag([1.0, 1, 5, 1]), slices=1, bounds=(0, 1))
    row, column = np.argwhere(shown[..., 0] > 128).mean(axis=0)
    side = 270  # 30 pixels, nine times as large
    assert shown.shape == (side, side, 3)
    assert row < side / 6
    assert column > side / 2


def test_slices_with_a_label_are_shown_in_square_pixels() -> None:
    volume = np.zeros((1, 20, 30, 40), dtype=np.float32)
    mask = np.zeros_like(volume)
    mask[0, 5:15, 5:25, 10:14] = 1
    shown = overlay_volume(volume, mask, affine=np.diag([1.0, 2.0, 5.0, 1.0]), slices=6)
    side, gap = 4 * 60, 4  # 30 rows of 2 mm beside columns of 1 mm, enlarged; four slices hold a label
    assert shown.shape == (side, 4 * side + 3 * gap, 3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_shown_as_that_slice(axis: int) -> None:
    size = [40, 40, 40]
    size[axis] = 1
    shown = overlay_volume(np.zeros((1, *size)), np.zeros((1, *size)), affine=np.eye(4))
    assert shown.shape[0] == shown.shape[1]  # one square of 40 x 40, whatever it is enlarged by


def test_a_sheet_holds_every_picture_in_its_cell() -> None:
    pictures = [np.full((20, 40, 3), value, dtype=np.uint8) for value in (50, 100, 150)]
    sheet = contact_sheet(pictures, columns=2, cell=40, gap=2)
    assert sheet.shape == (82, 82, 3)
    assert [int(sheet[row, column, 0]) for row, column in ((20, 20), (20, 62), (62, 20))] == [50, 100, 150]


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([])
