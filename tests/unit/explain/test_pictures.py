from __future__ import annotations

import numpy as np
import pytest
import torch

from banet_monai.explain.pictures import CAPTION, GAP, Tile, draw_tiles, heat_tile, outline_tile
from banet_monai.report.page.palette import heat

BLACK = np.zeros((10, 20, 3), np.uint8)


def test_a_map_is_shown_as_it_is_looked_at() -> None:
    values = torch.zeros(3, 2)
    values[2, 0] = 1.0  # x = 2, y = 0: the right end of the first row
    shown = heat_tile(values, "a map", largest=1.0).picture
    assert shown.shape == (2, 3, 3)
    assert shown[0, 2].tolist() == heat(np.array(1.0)).tolist()
    assert shown[1, 0].tolist() == heat(np.array(0.0)).tolist()


def test_the_scale_is_given_or_that_of_the_map_without_its_last_percents() -> None:
    values = torch.full((100, 100), 0.5)
    values[0, :5] = 100.0  # a corner
    assert heat_tile(values, "own scale").picture[50, 50].tolist() == heat(np.array(1.0)).tolist()
    assert heat_tile(values, "given", largest=1.0).picture[50, 50].tolist() == heat(np.array(0.5)).tolist()
    assert heat_tile(torch.zeros(4, 4), "nothing").picture.max() <= 4  # no division by zero


def test_the_outline_is_drawn_on_the_picture() -> None:
    mask = torch.zeros(20, 10, dtype=torch.uint8)
    mask[5:15, 3:7] = 1
    shown = outline_tile(BLACK, mask, "outline").picture
    assert shown.shape == (10, 20, 3)
    assert shown.max() > 100
    assert np.array_equal(outline_tile(BLACK, torch.zeros(20, 10, dtype=torch.uint8), "none").picture, BLACK)


def test_rows_of_tiles_keep_their_shape_and_have_captions() -> None:
    white = np.full((10, 20, 3), 255, np.uint8)
    sheet = draw_tiles([[Tile(white, "one"), Tile(white, "two")], [Tile(white, "three")]], cell=40)
    assert sheet.shape == (2 * (20 + CAPTION + GAP) - GAP, 2 * (40 + GAP) - GAP, 3)
    assert (sheet[:20, :40] == 255).all()  # twice as wide as high, scaled to the width of the cell
    assert (sheet[20 : 20 + CAPTION, :40] > 100).any()
    assert (sheet[20 + CAPTION + GAP : 40 + CAPTION + GAP, 44:] < 40).all()  # the second row has one tile


def test_nothing_to_draw_is_refused() -> None:
    for rows in ([], [[]]):
        with pytest.raises(ValueError, match=r"nothing to draw"):
            draw_tiles(rows)
