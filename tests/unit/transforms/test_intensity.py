from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from banet_monai.transforms import MaskToIdsd, NormalizeImaged

NAN = float("nan")


def image(values: Any, **meta: Any) -> MetaTensor:
    return MetaTensor(torch.as_tensor(values, dtype=torch.float32), meta={"filename_or_obj": "/x/a.png", **meta})


def to_unit(picture: torch.Tensor, **options: Any) -> torch.Tensor:
    """The part before mean and standard deviation."""
    channels = options.get("in_channels", 3)
    plain = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    return NormalizeImaged("image", **(plain | options))({"image": picture})["image"]


@pytest.mark.parametrize(("bits", "high"), [(8, 255.0), (12, 4095.0), (16, 65535.0)])
def test_the_full_range_of_the_stored_type_maps_to_0_and_1(bits: int, high: float) -> None:
    picture = image([[[0.0, high / 5, high]]] * 3, bits=bits, value_range=(0.0, high))
    expected = torch.tensor([[[0.0, 0.2, 1.0]]] * 3)
    torch.testing.assert_close(to_unit(picture).as_tensor(), expected)


def test_the_same_picture_in_8_and_16_bits_reaches_the_network_the_same() -> None:
    values = torch.randint(0, 256, (3, 4, 5)).float()
    eight = NormalizeImaged("image")({"image": image(values, value_range=(0.0, 255.0))})["image"]
    sixteen = NormalizeImaged("image")({"image": image(values * 257, value_range=(0.0, 65535.0))})["image"]
    torch.testing.assert_close(eight.as_tensor(), sixteen.as_tensor())


def test_imagenet_statistics_are_applied_per_channel() -> None:
    picture = image([[[255.0]], [[0.0]], [[127.5]]], value_range=(0.0, 255.0))
    result = NormalizeImaged("image")({"image": picture})["image"]
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.5 - 0.406) / 0.225]
    torch.testing.assert_close(result.flatten().as_tensor(), torch.tensor(expected))


def test_grey_is_repeated_before_the_statistics() -> None:
    grey = image([[[51.0]]], value_range=(0.0, 255.0))
    colour = image([[[51.0]]] * 3, value_range=(0.0, 255.0))
    transform = NormalizeImaged("image")
    assert torch.equal(transform({"image": grey})["image"], transform({"image": colour})["image"])


def test_alpha_is_dropped() -> None:
    picture = image([[[51.0]], [[102.0]], [[153.0]], [[7.0]]], value_range=(0.0, 255.0))
    torch.testing.assert_close(to_unit(picture).flatten().as_tensor(), torch.tensor([0.2, 0.4, 0.6]))


def test_colour_for_a_network_with_one_channel_is_refused_unless_luminance_is_asked_for() -> None:
    picture = image([[[255.0]], [[0.0]], [[0.0]]], value_range=(0.0, 255.0))
    with pytest.raises(ValueError, match=r"'a\.png' has 3 channels, but the network takes 1; use intensity 'grey'"):
        to_unit(picture, in_channels=1)
    torch.testing.assert_close(to_unit(picture, in_channels=1, intensity="grey").as_tensor(), torch.tensor([[[0.299]]]))


def test_channels_that_do_not_fit_the_network_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has 2 channels, but the network takes 3"):
        to_unit(image(torch.zeros(2, 4, 4), value_range=(0.0, 255.0)))


def test_a_ct_window_maps_its_ends_to_0_and_1_and_clips() -> None:
    volume = image([[[-1000.0, -160.0, 40.0, 240.0, 3000.0]]], value_range=(-1024.0, 3071.0))
    result = to_unit(volume, intensity="ct_window", window=(40, 400), in_channels=1)
    assert result.flatten().tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("value_range", [(NAN, NAN), (-1024.0, 3071.0)], ids=["unknown", "signed"])
def test_without_a_fixed_range_the_window_of_the_file_is_used_and_named(
    value_range: tuple[float, float], caplog: pytest.LogCaptureFixture
) -> None:
    volume = image([[[-160.0, 40.0, 240.0]]], value_range=value_range, window=[40.0, 400.0])
    with caplog.at_level(logging.WARNING):
        result = to_unit(volume, in_channels=1)
    assert result.flatten().tolist() == [0.0, 0.5, 1.0]
    expected = "'a.png': no fixed value range, mapped to [0, 1] by the file's own window (centre 40, width 400)."
    assert caplog.messages == [expected]


def test_without_range_and_window_the_percentiles_of_the_whole_volume_are_used_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    volume = image(torch.arange(1001.0).reshape(1, 7, 11, 13), value_range=(NAN, NAN))
    with caplog.at_level(logging.WARNING):
        result = to_unit(volume, in_channels=1).flatten()
    assert (result == 0).sum() == 6  # 0..5: percentile 0.5 of 0..1000 is 5
    assert (result == 1).sum() == 6
    assert result[500] == pytest.approx(0.5)
    assert "percentiles 0.5 to 99.5 of the whole image" in caplog.text


def test_all_slices_of_a_volume_share_one_scale() -> None:
    volume = torch.stack([torch.full((4, 4), 10.0), torch.full((4, 4), 20.0), torch.full((4, 4), 30.0)], dim=-1)
    result = to_unit(image(volume[None]), intensity="percentiles", in_channels=1, percentiles=(0, 100))
    assert result[0, 0, 0].tolist() == [0.0, 0.5, 1.0]


def test_percentiles_are_taken_per_channel() -> None:
    volume = image(torch.stack([torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 100.0]])]))
    result = to_unit(volume, intensity="percentiles", in_channels=2, percentiles=(0, 100))
    assert result.tolist() == [[[0.0, 1.0]], [[0.0, 1.0]]]


def test_a_constant_image_stays_constant_and_finite() -> None:
    result = NormalizeImaged("image", intensity="percentiles")({"image": image(torch.full((1, 4, 4), 7.0))})["image"]
    assert torch.isfinite(result).all()
    assert all(len(channel.unique()) == 1 for channel in result)


def test_nan_is_refused_with_the_files_name() -> None:
    with pytest.raises(ValueError, match=r"'a\.png' holds NaN"):
        to_unit(image([[[0.0, NAN]]], value_range=(0.0, 255.0)))


def test_meta_and_applied_operations_survive() -> None:
    picture = image(torch.zeros(1, 4, 4), value_range=(0.0, 255.0))
    picture.applied_operations = [{"class": "x"}]
    result = NormalizeImaged("image")({"image": picture})["image"]
    assert result.meta["filename_or_obj"] == "/x/a.png"
    assert result.applied_operations == [{"class": "x"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intensity": "hsv"}, "intensity must be one of"),
        ({"intensity": "ct_window"}, r"needs window=\(centre, width > 0\)"),
        ({"intensity": "grey"}, "for networks with one channel"),
        ({"percentiles": (90, 10)}, "two rising numbers"),
        ({"mean": (0.5,)}, "need 3 values"),
    ],
)
def test_options_that_disagree_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NormalizeImaged("image", **options)


@pytest.mark.parametrize("values", [[0, 1, 1, 0], [0, 255, 255, 0], [3, 250, 255, 10]], ids=["01", "0255", "jpeg"])
def test_every_way_to_write_a_mask_gives_the_same_ids(values: list[int]) -> None:
    mask = image(np.reshape(values, (1, 2, 2)))
    ids = MaskToIdsd("label")({"label": mask})["label"]
    assert ids.dtype == torch.uint8
    assert ids.flatten().tolist() == [0, 1, 1, 0]


def test_ids_of_several_classes_stay() -> None:
    ids = MaskToIdsd("label", num_classes=2)({"label": image([[[0.0, 1.0, 2.0]]])})["label"]
    assert ids.flatten().tolist() == [0, 1, 2]


def test_a_mask_with_other_values_is_named_with_its_file() -> None:
    with pytest.raises(ValueError, match=r"mask 'a\.png'.*37"):
        MaskToIdsd("label")({"label": image(torch.arange(37.0)[None, None])})


def test_a_mask_of_another_size_than_its_image_is_named_with_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"mask 'a\.png' is 4x5, but its image 'a\.png' is 8x5"):
        MaskToIdsd("label")({"label": image(torch.zeros(1, 4, 5)), "image": image(torch.zeros(3, 8, 5))})


def test_a_coloured_mask_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask 'a\.png' has 3 channels"):
        MaskToIdsd("label")({"label": image(torch.zeros(3, 4, 5))})
