from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from banet_monai.uncertainty import (
    CalibrationBins,
    RunningMoments,
    UncertaintyInferer,
    disagreement,
    expected_error,
    near_entropy,
    refer,
)
from banet_monai.uncertainty.statistics import entropy

LIMITED = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 12)


def directly(image: torch.Tensor, network: nn.Module) -> torch.Tensor:
    return network(image)


class Pixelwise(nn.Module):
    """Logit of every pixel from this pixel alone, with the same rounding wherever it lies."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1] * 2.5 + x[:, 1:2]


def random_maps(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * 3


@LIMITED
@given(st.integers(1, 7), st.sampled_from([("sigmoid", 1), ("sigmoid", 2), ("softmax", 3)]), SIDES, SIDES, SEEDS)
def test_running_moments_are_those_of_all_predictions_at_once(
    count: int, kind: tuple[str, int], width: int, height: int, seed: int
) -> None:
    activation, channels = kind
    logits = random_maps(seed, count, 2, channels, width, height)
    moments = RunningMoments(activation=activation)
    for prediction in logits:
        moments.add(prediction)
    found = moments.result()
    shares = logits.double().sigmoid() if activation == "sigmoid" else logits.double().softmax(dim=2)
    torch.testing.assert_close(found.mean.double(), shares.mean(dim=0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.variance.double(), shares.var(dim=0, correction=0), atol=1e-6, rtol=1e-4)
    each = torch.stack([entropy(share, activation) for share in shares]).mean(dim=0)
    torch.testing.assert_close(found.expected_entropy.double(), each, atol=1e-5, rtol=1e-5)
    assert found.variance.max() <= 0.25 + 1e-6
    information, agreement = found.mutual_information(activation), found.agreement(activation, 0.5)
    for values in (information, agreement):
        assert values.min() >= 0
        assert values.max() <= 1 + 1e-5


@LIMITED
@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 3), st.booleans(), SEEDS)
def test_whatever_follows_flips_and_turns_has_no_variance(
    width: int, height: int, depth: int, volume: bool, seed: int
) -> None:
    image = random_maps(seed, 1, 2, width, height, *([depth] if volume else []))
    axes = (0, 1, 2) if volume else (0, 1)
    result = UncertaintyInferer(directly, method="tta", samples=16, flip_axes=axes)(image, Pixelwise())
    assert torch.count_nonzero(result[:, 1]) == 0
    torch.testing.assert_close(result[:, :1].sigmoid(), Pixelwise()(image).sigmoid(), atol=1e-5, rtol=1e-4)


@LIMITED
@given(SIDES, SIDES, SEEDS)
def test_numbers_of_a_case_lie_between_zero_and_one_and_turn_with_it(width: int, height: int, seed: int) -> None:
    logits = random_maps(seed, width, height)
    foreground, inside = logits.sigmoid(), logits >= 0
    maps = (foreground, torch.where(inside, foreground, 1 - foreground), foreground)
    for score, values in zip((expected_error, disagreement, near_entropy), maps, strict=True):
        number = score(values, inside).item()
        assert 0 <= number <= 1
        assert score(values.T, inside.T).item() == pytest.approx(number, abs=1e-9)


@LIMITED
@given(SIDES, SIDES, st.floats(0.0, 0.5), SEEDS)
def test_less_sure_pixels_never_lower_the_expected_error(width: int, height: int, less: float, seed: int) -> None:
    logits = random_maps(seed, width, height)
    inside = logits >= 0
    foreground = logits.sigmoid().double()
    blurred = foreground + less * (0.5 - foreground)  # towards one half, on the same side of it
    assert expected_error(blurred, inside) >= expected_error(foreground, inside) - 1e-9


@LIMITED
@given(st.integers(1, 300), st.integers(1, 30), SEEDS)
def test_calibration_errors_are_ordered_and_every_pixel_is_counted(count: int, bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    collected = CalibrationBins(bins)
    truth = torch.from_numpy(rng.integers(0, 2, count))
    collected.add(torch.from_numpy(rng.random(count)).float(), truth)
    errors = collected.errors()
    assert collected.pixels.sum() == count
    assert 0 <= errors["ece"] <= errors["mce"] + 1e-9
    assert errors["ace"] <= errors["mce"] + 1e-9
    perfect = CalibrationBins(bins)
    perfect.add(truth.float(), truth)
    assert perfect.errors()["mce"] == 0


@LIMITED
@given(st.integers(2, 60), st.floats(0.01, 0.99), SEEDS)
def test_no_number_leaves_less_error_than_the_oracle(cases: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = refer(rng.random(cases), rng.random(cases), shares=(share,), resamples=2)[0]
    assert found.oracle <= found.error + 1e-12
    assert found.oracle <= found.at_random + 1e-12
    assert found.gain == found.at_random - found.error
