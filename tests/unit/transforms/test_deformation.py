import pytest
import torch
from monai.data import MetaTensor

from banet_monai.transforms import RandElasticd
from banet_monai.transforms.deformation import displace


def picture(*size):
    return torch.rand(2, *size, generator=torch.Generator().manual_seed(0))


def test_no_shift_returns_the_picture():
    torch.testing.assert_close(displace(picture(9, 6), torch.zeros(2, 9, 6)), picture(9, 6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_a_shift_along_the_first_axis_takes_pixels_from_there(mode):
    shift = torch.zeros(2, 9, 6)
    shift[0] = 2.0
    out = displace(picture(9, 6), shift, mode=mode)
    torch.testing.assert_close(out[:, :7], picture(9, 6)[:, 2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(out[:, 7], picture(9, 6)[:, 8], atol=1e-5, rtol=0)  # mirrored at the frame


def test_half_a_pixel_is_the_mean_of_two():
    shift = torch.zeros(2, 4, 4)
    shift[1] = 0.5
    out = displace(picture(4, 4), shift)
    expected = (picture(4, 4)[:, :, :-1] + picture(4, 4)[:, :, 1:]) / 2
    torch.testing.assert_close(out[:, :, :-1], expected, atol=1e-5, rtol=0)


def test_label_ids_stay_label_ids():
    label = (picture(32, 32)[:1] * 3).to(torch.uint8)
    out = RandElasticd("label", prob=1.0, mode="nearest").set_random_state(0)({"label": label})["label"]
    assert out.dtype == torch.uint8
    assert set(out.unique().tolist()) <= {0, 1, 2}
    assert not torch.equal(out, label)


def test_picture_and_mask_move_together():
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:44, 24:40] = 1
    data = {"image": MetaTensor(mask.clone(), meta={"name": "a"}), "label": mask}
    transform = RandElasticd(["image", "label"], prob=1.0, magnitude=(0.05, 0.05), mode="nearest")
    out = transform.set_random_state(1)(data)
    assert torch.equal(out["image"].as_tensor(), out["label"])
    assert not torch.equal(out["label"], mask)
    assert out["image"].meta["name"] == "a"


def test_the_same_seed_draws_the_same_and_another_seed_another():
    transform = RandElasticd("image", prob=1.0, mode="bilinear")
    first, again, other = (transform.set_random_state(seed)({"image": picture(32, 24)})["image"] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_probability_zero_returns_the_picture_itself():
    image = picture(8, 8)
    assert RandElasticd("image", prob=0.0, mode="bilinear")({"image": image})["image"] is image


@pytest.mark.parametrize("magnitude", [(0.0, 0.06), (0.03, 0.01), (-0.1, 0.01)])
def test_a_magnitude_that_would_fold_the_picture_is_refused(magnitude):
    with pytest.raises(ValueError, match=r"at most 0\.056 for cells=6"):
        RandElasticd("image", magnitude=magnitude)
