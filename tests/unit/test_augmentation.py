import pytest
import torch
from monai.data import MetaTensor

from banet_monai.transforms.augmentation import RandColorJitterd, jitter_color

ONES = torch.ones(3)


def picture() -> torch.Tensor:
    return torch.stack([torch.full((2, 2), 1.0), torch.full((2, 2), 2.0), torch.full((2, 2), 3.0)])


def test_neutral_parameters_change_nothing():
    same = jitter_color(picture(), brightness=0.0, contrast=1.0, saturation=1.0, gains=ONES)
    torch.testing.assert_close(same, picture())


def test_zero_saturation_gives_the_grey_value_of_each_pixel():
    grey = jitter_color(picture(), brightness=0.0, contrast=1.0, saturation=0.0, gains=ONES)
    torch.testing.assert_close(grey, torch.full((3, 2, 2), 2.0))


def test_brightness_is_added_and_gains_are_multiplied_last():
    out = jitter_color(picture(), brightness=1.0, contrast=1.0, saturation=1.0, gains=torch.tensor([1.0, 2.0, 0.5]))
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([2.0, 6.0, 2.0]))


def test_zero_contrast_leaves_the_mean_of_the_picture():
    values = torch.tensor([[[0.0, 4.0]]])
    out = jitter_color(values, brightness=0.0, contrast=0.0, saturation=1.0, gains=torch.ones(1))
    torch.testing.assert_close(out, torch.tensor([[[2.0, 2.0]]]))


def test_the_same_seed_draws_the_same_change_and_another_seed_another():
    transform = RandColorJitterd("image", prob=1.0)
    first = transform.set_random_state(3)({"image": picture()})["image"]
    again = transform.set_random_state(3)({"image": picture()})["image"]
    other = transform.set_random_state(4)({"image": picture()})["image"]
    torch.testing.assert_close(first, again)
    assert not torch.equal(first, other)


def test_probability_zero_returns_the_picture_itself():
    image = picture()
    assert RandColorJitterd("image", prob=0.0)({"image": image})["image"] is image


def test_metadata_of_the_picture_stay_with_it():
    image = MetaTensor(picture(), meta={"filename_or_obj": "a.png"})
    out = RandColorJitterd("image", prob=1.0).set_random_state(0)({"image": image})["image"]
    assert isinstance(out, MetaTensor)
    assert out.meta["filename_or_obj"] == "a.png"


@pytest.mark.parametrize("channels", [1, 3])
def test_labels_are_left_alone(channels):
    label = torch.ones(1, 2, 2)
    data = {"image": torch.rand(channels, 2, 2), "label": label}
    assert RandColorJitterd("image", prob=1.0)(data)["label"] is label
