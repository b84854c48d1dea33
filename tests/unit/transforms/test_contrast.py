import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from skimage.exposure import equalize_adapthist

from banet_monai.transforms import RandHistogramEqualized
from banet_monai.transforms.contrast import equalize_locally


def ramp(size=64):
    """A dark picture that brightens along its first axis from 0.2 to 0.4, with texture."""
    generator = torch.Generator().manual_seed(0)
    return (torch.linspace(0.2, 0.4, size)[:, None] + 0.02 * torch.rand(size, size, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_even_picture_stays_even_and_about_as_bright(value):
    out = equalize_locally(torch.full((40, 24), value), clip_limit=2.0)
    assert float(out.max() - out.min()) < 1e-5
    assert out.mean().item() == pytest.approx(value, abs=2.0 / 64)  # one bin holds at most twice its share


def test_a_higher_limit_changes_more():
    weak, strong = ((equalize_locally(ramp(), clip_limit=limit) - ramp()).abs().mean() for limit in (1.0, 4.0))
    assert 0 < weak < strong / 2


def test_one_tile_without_limit_equalises_the_whole_histogram():
    levels = torch.tensor([0.1, 0.2, 0.3, 0.4]).repeat_interleave(64).reshape(16, 16)  # a quarter of the pixels each
    out = equalize_locally(levels, tiles=1, clip_limit=64.0)
    means = [out.flatten()[start : start + 64].mean().item() for start in (0, 64, 128, 192)]
    # each level lies inside its quarter of the range
    assert [int(4 * mean) for mean in means] == [0, 1, 2, 3]


def test_order_within_a_single_tile_is_kept():
    values = ramp()
    out = equalize_locally(values, tiles=1, clip_limit=3.0)
    order = values.flatten().argsort()
    assert (out.flatten()[order].diff() >= -1e-6).all()


def test_the_result_is_much_like_that_of_scikit_image():
    picture = ramp(96)
    theirs = equalize_adapthist(picture.numpy().astype(np.float64), clip_limit=2 / 256)
    ours = equalize_locally(picture, clip_limit=2.0).numpy()
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("options", [{"tiles": 0}, {"clip_limit": 0.5}, {"tiles": 100}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="need tiles >= 1, clip_limit >= 1"):
        equalize_locally(ramp(), **options)


def test_differences_between_channels_stay_where_nothing_is_cut_off():
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    image = torch.stack([ramp(), ramp() * 0.9, ramp() * 0.8]) / std - 1.0
    out = RandHistogramEqualized("image", prob=1.0).set_random_state(0)({"image": image})["image"]
    assert not torch.allclose(out, image)
    change = (out - image) * std  # in units of [0, 1]
    torch.testing.assert_close(change[0], change[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(change[0], change[2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_seed_draws_the_same_and_meta_stay(channels):
    image = MetaTensor(torch.rand(channels, 32, 32, generator=torch.Generator().manual_seed(1)), meta={"name": "a"})
    transform = RandHistogramEqualized("image", prob=1.0)
    first, again, other = (transform.set_random_state(seed)({"image": image})["image"] for seed in (3, 3, 4))
    assert torch.equal(first.as_tensor(), again.as_tensor())
    assert not torch.equal(first.as_tensor(), other.as_tensor())
    assert first.meta["name"] == "a"


def test_probability_zero_returns_the_picture_itself():
    image = torch.rand(3, 16, 16)
    assert RandHistogramEqualized("image", prob=0.0)({"image": image})["image"] is image


def test_volumes_are_refused():
    with pytest.raises(ValueError, match="only pictures"):
        RandHistogramEqualized("image", prob=1.0)({"image": torch.zeros(1, 8, 8, 8)})
