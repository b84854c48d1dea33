import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from banet_monai.transforms.intensity import NormalizeImaged
from banet_monai.transforms.painting import Layer, Stroke, disc_cover, keep_meta, paint, stroke_cover


def normalized(red, green, blue, size=(4, 4)):
    values = torch.tensor([red, green, blue]).reshape(3, 1, 1).expand(3, *size).clone()
    return NormalizeImaged("image").normalize(MetaTensor(values, meta={"value_range": (0.0, 1.0)})).as_tensor()


def test_a_line_of_one_pixel_along_a_row_of_pixels_covers_that_row():
    cover = stroke_cover((7, 5), [Stroke(np.array([[3.0, -2.0], [3.0, 8.0]]), width=1.0)])
    expected = torch.zeros(7, 5)
    expected[3] = 1
    assert torch.equal(cover, expected)


def test_points_are_along_the_first_axis_first():
    cover = stroke_cover((7, 5), [Stroke(np.array([[-2.0, 1.0], [9.0, 1.0]]), width=1.0)])
    assert cover[:, 1].min() == 1
    assert cover.sum() == 7


def test_a_line_half_a_pixel_thick_covers_less_than_its_pixels():
    cover = stroke_cover((7, 5), [Stroke(np.array([[3.0, -2.0], [3.0, 8.0]]), width=1 / 3)])
    assert cover[3].tolist() == pytest.approx([1 / 3] * 5, abs=0.01)


def test_strokes_that_cross_are_not_counted_twice():
    line = Stroke(np.array([[3.0, -2.0], [3.0, 8.0]]), width=1.0)
    assert torch.equal(stroke_cover((7, 5), [line, line]), stroke_cover((7, 5), [line]))


def test_a_filled_square_covers_its_inside():
    square = Stroke(np.array([[2.0, 2.0], [2.0, 7.0], [7.0, 7.0], [7.0, 2.0]]), filled=True)
    cover = stroke_cover((10, 10), [square])
    assert cover[3:7, 3:7].min() == 1
    assert cover[:2].max() == cover[8:].max() == cover[:, :2].max() == cover[:, 8:].max() == 0


def test_outside_a_disc_is_covered_and_its_rim_is_half():
    cover = disc_cover((9, 9), (4.0, 4.0), radius=3.0, softness=1.0)
    assert cover[4].tolist() == [1, 0.5, 0, 0, 0, 0, 0, 0.5, 1]
    assert cover[0, 0] == 1


def test_full_cover_gives_the_colour_and_none_the_picture():
    picture = normalized(0.2, 0.4, 0.6)
    cover = torch.zeros(4, 4)
    cover[0, 0], cover[1, 1] = 1.0, 0.5
    painted = paint(picture, [Layer(cover, (1.0, 0.0, 0.2))])
    torch.testing.assert_close(painted[:, 0, 0], normalized(1.0, 0.0, 0.2)[:, 0, 0])
    torch.testing.assert_close(painted[:, 1, 1], normalized(0.6, 0.2, 0.4)[:, 0, 0])
    torch.testing.assert_close(painted[:, 2, 2], picture[:, 2, 2])


def test_the_given_picture_stays_as_it_is():
    picture = normalized(0.2, 0.4, 0.6)
    before = picture.clone()
    paint(picture, [Layer(torch.ones(4, 4), (0.0, 0.0, 0.0))])
    assert torch.equal(picture, before)


def test_a_grey_picture_is_painted_with_the_luminance_of_the_colour():
    white = NormalizeImaged("image", in_channels=1).normalize(
        MetaTensor(torch.ones(1, 2, 2), meta={"value_range": (0.0, 1.0)})
    )
    painted = paint(torch.zeros(1, 2, 2), [Layer(torch.ones(2, 2), (1.0, 1.0, 1.0))])
    torch.testing.assert_close(painted, white.as_tensor())


@pytest.mark.parametrize("shape", [(3, 4, 4, 4), (2, 4, 4), (4, 4)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match=r"only pictures \(1 or 3, x, y\) can be painted over"):
        paint(torch.zeros(shape), [Layer(torch.ones(4, 4), (0.0, 0.0, 0.0))])


def test_meta_stay_with_a_picture_that_has_some():
    source = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": "a.png"})
    assert keep_meta(torch.ones(1, 2, 2), source).meta["filename_or_obj"] == "a.png"
    assert not isinstance(keep_meta(torch.ones(1, 2, 2), torch.zeros(1, 2, 2)), MetaTensor)
