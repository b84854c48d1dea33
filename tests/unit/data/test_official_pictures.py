import numpy as np
import pytest
from PIL import Image

from banet_monai.data.official_pictures import Scaling, decode_mask, decode_picture
from tests.official_archives import banner, bar, encoded


def columns_inside(mask):
    """The columns that are inside from top to bottom, where all others are outside."""
    array = np.asarray(mask)
    assert set(np.unique(array)) <= {0, 255}
    assert (array == array[:1]).all()
    return np.flatnonzero(array[0]).tolist()


def test_crop_takes_the_centred_square_of_picture_and_mask_alike():
    crop = Scaling("crop", 32)
    picture = np.asarray(crop.picture(Image.fromarray(banner())))
    assert np.array_equal(picture, banner()[:, 16:48])
    assert columns_inside(crop.mask(Image.fromarray(bar()))) == list(range(8, 24))


def test_crop_of_a_tall_picture_takes_its_middle():
    tall = Image.fromarray(banner().swapaxes(0, 1).copy())
    assert np.array_equal(np.asarray(Scaling("crop", 32).picture(tall)), banner().swapaxes(0, 1)[16:48])


def test_stretch_keeps_the_whole_picture():
    mask = Scaling("stretch", 32).mask(Image.fromarray(bar()))
    assert mask.size == (32, 32)
    assert columns_inside(mask) == list(range(12, 20))


@pytest.mark.parametrize(("first", "expected"), [(32, 16), (33, 16), (34, 17)])
def test_a_pixel_of_a_smaller_mask_is_inside_where_at_least_half_of_it_is(first, expected):
    mask = Image.fromarray(bar((64, 64), slice(first, 64)))
    assert columns_inside(Scaling("crop", 32).mask(mask)) == list(range(expected, 32))


def test_a_larger_mask_repeats_its_pixels():
    assert columns_inside(Scaling("crop", 64).mask(Image.fromarray(bar((32, 32), slice(3, 5))))) == [6, 7, 8, 9]


def test_grey_along_the_edges_of_a_mask_is_decided_at_128():
    mask = bar((32, 32), slice(20, 32))
    mask[:, 0], mask[:, 18], mask[:, 19], mask[:, 25] = 12, 127, 128, 240
    assert columns_inside(decode_mask(encoded(mask))) == list(range(19, 32))


@pytest.mark.parametrize("array", [bar() // 255, bar(), np.stack([bar()] * 3, -1)], ids=["0/1", "0/255", "colour"])
def test_masks_are_read_however_they_are_spelled(array):
    assert columns_inside(decode_mask(encoded(array))) == list(range(24, 40))


def test_a_one_bit_mask_is_read(tmp_path):
    Image.fromarray(bar()).convert("1").save(tmp_path / "mask.png")
    assert columns_inside(decode_mask((tmp_path / "mask.png").read_bytes())) == list(range(24, 40))


def test_an_empty_mask_is_a_mask():
    assert columns_inside(decode_mask(encoded(np.zeros((8, 8))))) == []


def test_a_photograph_is_no_mask():
    with pytest.raises(ValueError, match="is no mask: 100% of its pixels are neither black nor white"):
        decode_mask(encoded(np.full((32, 32, 3), 128)))


@pytest.mark.parametrize("content", [b"", b"no picture", encoded(banner(), "JPEG")[:300]], ids=["empty", "text", "cut"])
def test_a_damaged_picture_is_refused(content):
    with pytest.raises(ValueError, match="is truncated, corrupt or no picture"):
        decode_picture(content)


def test_a_picture_of_16_bits_is_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="has more than 8 bits a pixel"):
        decode_picture((tmp_path / "deep.png").read_bytes())
