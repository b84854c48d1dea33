from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from banet_monai.choices import CORRUPTIONS as WORDS
from banet_monai.robustness import (
    CORRUPTIONS,
    AddNoised,
    Blurd,
    Brightnessd,
    Condition,
    Contrastd,
    Corruptiond,
    Haird,
    Inkd,
    Jpegd,
    Resolutiond,
    Rulerd,
    SliceThicknessd,
    Turnd,
    conditions,
)


def picture(values: torch.Tensor) -> MetaTensor:
    """A picture of 8 bits."""
    return MetaTensor(values.float(), meta={"value_range": (0.0, 255.0), "filename_or_obj": "mole.png"})


def grey(value: float = 128.0, *size: int) -> MetaTensor:
    return picture(torch.full((3, *(size or (40, 30))), value))


def corrupted(step: Corruptiond, image: torch.Tensor, name: str = "a", **others: Any) -> torch.Tensor:
    result = step({"image": image, "name": name, **others})["image"]
    assert isinstance(result, MetaTensor) == isinstance(image, MetaTensor)
    return torch.as_tensor(result)


def test_noise_has_the_deviation_that_is_stated_and_one_pattern_for_all_strengths() -> None:
    clean = grey(128, 100, 100)
    weak, strong = (corrupted(AddNoised("image", sigma), clean) - 128 for sigma in (0.02, 0.1))
    assert float(weak.std()) == pytest.approx(0.02 * 255, rel=0.02)
    torch.testing.assert_close(weak * 5, strong, atol=1e-3, rtol=1e-3)
    assert abs(float(weak.mean())) < 0.1


@pytest.mark.parametrize("largest", [255.0, 65535.0])
def test_a_volume_has_the_range_of_its_values_and_not_that_of_its_type(largest: float) -> None:
    values = torch.linspace(0, 200, 32**3).reshape(1, 32, 32, 32)
    volume = MetaTensor(values, meta={"value_range": (0.0, largest), "filename_or_obj": "mr.nii.gz"})
    noise = corrupted(AddNoised("image", 0.1), volume) - values
    assert float(noise.std()) == pytest.approx(0.1 * 0.99 * 200, rel=0.02)  # white is the 99.5th percentile
    assert float(corrupted(Brightnessd("image", 2.0), volume).max()) == pytest.approx(400, abs=2)


def test_what_is_drawn_depends_on_the_case_and_the_seed_and_not_on_the_order() -> None:
    step = AddNoised("image", 0.1)
    first, other, again = (corrupted(step, grey(), name) for name in "aba")
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, corrupted(AddNoised("image", 0.1, seed=1), grey()))


def test_a_picture_saturates_as_its_file_would_and_keeps_its_meta() -> None:
    result = Brightnessd("image", 2.0)({"image": grey(200)})["image"]
    assert torch.equal(torch.as_tensor(result), torch.full((3, 40, 30), 255.0))
    assert result.meta["filename_or_obj"] == "mole.png"


def test_a_volume_without_a_known_range_is_scaled_by_its_percentiles_and_does_not_saturate() -> None:
    volume = torch.linspace(-1000, 1000, 10 * 10 * 10).reshape(1, 10, 10, 10)
    low = float(np.percentile(volume.numpy(), 0.5))
    torch.testing.assert_close(
        corrupted(Brightnessd("image", 2.0), volume), (volume - low) * 2 + low, atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("factor", [0.2, 0.5])
def test_less_contrast_moves_values_towards_their_mean(factor: float) -> None:
    image = picture(torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0)) * 255)
    mean = image.as_tensor().mean()
    torch.testing.assert_close(
        corrupted(Contrastd("image", factor), image), mean + factor * (image.as_tensor() - mean), atol=1e-3, rtol=1e-4
    )


def test_blur_spreads_a_point_by_its_sigma_and_leaves_an_even_picture_as_it_is() -> None:
    point = torch.zeros(1, 61, 61)
    point[0, 30, 30] = 255
    spread = corrupted(Blurd("image", 3.0), picture(point))[0]
    place = torch.arange(61.0) - 30
    assert float(spread.sum()) == pytest.approx(255, rel=0.01)
    assert float((spread.sum(dim=0) * place**2).sum() / spread.sum()) == pytest.approx(9.0, rel=0.05)
    torch.testing.assert_close(
        corrupted(Blurd("image", 3.0), grey(100)), torch.full((3, 40, 30), 100.0), atol=0.05, rtol=0
    )


def test_slices_are_blurred_one_by_one() -> None:
    volume = torch.zeros(1, 21, 21, 3)
    volume[0, 10, 10, 1] = 1000.0
    spread = corrupted(Blurd("image", 1.0), volume)
    assert float(spread[..., 0].max()) == pytest.approx(float(spread[..., 2].max()))
    assert float(spread[0, 8, 10, 1]) > 10 * float(spread[0, 8, 10, 0])


def test_jpeg_keeps_places_and_loses_more_at_a_lower_quality() -> None:
    values = torch.zeros(3, 64, 32)
    values[:, :16, 20:] = 255  # one corner of an oblong picture
    good, bad = (corrupted(Jpegd("image", quality), picture(values)) for quality in (95, 5))
    assert float((good - values).abs().mean()) < 1
    rough = picture(torch.rand(3, 64, 32, generator=torch.Generator().manual_seed(0)) * 255)
    errors = [float((corrupted(Jpegd("image", q), rough) - rough.as_tensor()).abs().mean()) for q in (90, 40, 10)]
    assert errors == sorted(errors)
    assert bad.shape == (3, 64, 32)


def test_jpeg_is_for_pictures() -> None:
    with pytest.raises(ValueError, match=r"JPEG holds pictures with 1 or 3 channels, got shape \(1, 4, 4, 4\)"):
        corrupted(Jpegd("image", 50), torch.rand(1, 4, 4, 4))


def test_at_a_lower_resolution_detail_becomes_its_mean() -> None:
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 200.0
    result = corrupted(Resolutiond("image", 4.0), picture(board.expand(3, 32, 32)))
    torch.testing.assert_close(result, torch.full((3, 32, 32), 100.0), atol=1.0, rtol=0)


def test_a_quarter_turn_is_exact_and_undone_exactly() -> None:
    image = torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(0))
    step = Turnd("image", 90)
    turned = step.corrupt(image, np.random.default_rng(0))
    assert any(torch.allclose(turned, torch.rot90(image, k, (1, 2)), atol=1e-5) for k in (1, 3))
    torch.testing.assert_close(step.undo(turned, (24, 24)), image, atol=1e-5, rtol=1e-5)
    seen = step.seen((24, 24))
    assert seen is not None
    assert bool(seen[1:-1, 1:-1].all())


@pytest.mark.parametrize("size", [(64, 64), (80, 50)])
@pytest.mark.parametrize("degrees", [10.0, 45.0, 135.0])
def test_any_turn_is_undone_where_the_picture_stayed_inside(size: tuple[int, int], degrees: float) -> None:
    x, y = torch.meshgrid(*(torch.linspace(0, 3, length) for length in size), indexing="ij")
    image = (torch.sin(x) * torch.cos(y))[None]
    step = Turnd("image", degrees)
    seen = step.seen(size)
    assert seen is not None
    back = step.undo(step.corrupt(image, np.random.default_rng(0)), size)
    assert float((back - image)[0][seen].abs().max()) < 0.02
    assert 0.4 < float(seen.float().mean()) < 1
    assert not bool(seen[0, 0])
    assert bool(seen[size[0] // 2, size[1] // 2])


def test_a_volume_is_turned_in_the_plane_of_its_slices() -> None:
    volume = torch.zeros(1, 16, 16, 4)
    volume[0, 2:5, 3:9, 1] = 1
    turned = Turnd("image", 90).corrupt(volume, np.random.default_rng(0))
    assert float(turned[..., 1].sum()) == pytest.approx(18, rel=1e-3)
    assert float(turned[..., [0, 2, 3]].abs().sum()) == pytest.approx(0, abs=1e-3)


def test_thick_slices_are_fewer_and_come_back_as_many_as_there_were() -> None:
    ramp = torch.arange(24.0).expand(1, 8, 8, 24).clone()
    step = SliceThicknessd("image", 4)
    thick = corrupted(step, ramp)
    assert thick.shape == (1, 8, 8, 6)
    torch.testing.assert_close(thick[0, 0, 0], torch.tensor([1.5, 5.5, 9.5, 13.5, 17.5, 21.5]))
    back = step.undo(thick, (8, 8, 24))
    torch.testing.assert_close(back[0, 0, 0, 2:22], ramp[0, 0, 0, 2:22])
    with pytest.raises(ValueError, match=r"slices have a thickness in volumes"):
        corrupted(step, grey())


@pytest.mark.parametrize("kind", [Haird, Rulerd, Inkd])
def test_more_marks_cover_more_and_none_nothing(kind: type[Corruptiond]) -> None:
    label = torch.zeros(1, 96, 80)
    label[:, 30:60, 30:50] = 1
    shares = []
    for amount in (0, 1, 6):
        result = corrupted(kind("image", amount), grey(190, 96, 80), label=label)
        shares.append(float(((result - 190).abs() > 3).any(dim=0).float().mean()))
    assert shares[0] == 0
    assert 0 < shares[1] < shares[2] < 0.7
    assert torch.equal(label, (label > 0).float())


@pytest.mark.parametrize("name", ["noise", "jpeg", "hair", "rotation"])
def test_the_alpha_of_a_picture_is_left_out(name: str) -> None:
    step = Condition(name, 3).transform()
    assert step is not None
    colour, alpha = torch.full((3, 48, 48), 150.0), torch.full((1, 48, 48), 255.0)
    assert torch.equal(corrupted(step, picture(torch.cat([colour, alpha]))), corrupted(step, picture(colour)))


def test_grey_pictures_are_painted_too() -> None:
    result = corrupted(Haird("image", 20), picture(torch.full((1, 64, 64), 200.0)))
    assert float(result.min()) < 150


def test_the_catalogue_offers_the_words_of_the_command_line_and_rising_damage() -> None:
    assert tuple(CORRUPTIONS) == WORDS
    for name, corruption in CORRUPTIONS.items():
        amounts = np.array(corruption.amounts)
        assert len(amounts) == 5
        falling = name in ("contrast", "dark", "jpeg")  # factors and qualities
        assert (np.diff(amounts) < 0).all() if falling else (np.diff(amounts) > 0).all()
        assert corruption.transform("image", corruption.amounts[0]).amount == corruption.amounts[0]


def test_conditions_fit_the_kind_of_the_images() -> None:
    pictures, volumes = conditions(strengths=(3, 1)), conditions(strengths=(2,), volumes=True)
    assert pictures[:3] == [Condition("clean", 0), Condition("noise", 1), Condition("noise", 3)]
    assert "thickness" not in {condition.corruption for condition in pictures}
    assert {"thickness"} <= {condition.corruption for condition in volumes}
    assert not {"jpeg", "hair", "ruler", "ink"} & {condition.corruption for condition in volumes}
    assert Condition("blur", 3).amount == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruptions": ["noize"]}, r"no corruption 'noize' \(did you mean 'noise'\?\)"),
        ({"corruptions": ["thickness"]}, r"'thickness' is a corruption of volumes, these are pictures"),
        ({"strengths": (0, 1)}, r"strengths are out of 1 to 5"),
        ({"strengths": ()}, r"strengths are out of 1 to 5, at least one"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conditions(**options)


def test_an_amount_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Jpegd takes 1 to 100, got 0"):
        Jpegd("image", 0)
    with pytest.raises(ValueError, match=r"AddNoised takes 0 to inf, got -1"):
        AddNoised("image", -1)
