from __future__ import annotations

import pytest
import torch

from banet_monai.uncertainty import case_scores, disagreement, expected_error, near_entropy
from banet_monai.uncertainty.scores import neighbourhood

INSIDE = torch.tensor([[True, True], [False, False]])


def test_a_case_that_is_certain_everywhere_has_the_number_zero() -> None:
    assert expected_error(INSIDE.float(), INSIDE).item() == 0.0
    assert disagreement(torch.ones(2, 2), INSIDE).item() == 0.0
    assert near_entropy(torch.zeros(2, 2), INSIDE).item() == 0.0


def test_the_expected_error_is_one_minus_the_fraction_of_expected_counts() -> None:
    foreground = torch.tensor([[0.9, 0.7], [0.2, 0.0]])
    assert expected_error(foreground, INSIDE).item() == pytest.approx(1 - (0.9 + 0.7) / (2 + 0.2))


def test_the_disagreement_is_one_minus_the_samples_intersection_by_their_union() -> None:
    # of four samples 4 and 2 hold the two pixels inside, 1 and 0 those outside: mean intersection 1.5, mean union 2.25
    agreement = torch.tensor([[1.0, 0.5], [0.75, 1.0]])
    assert disagreement(agreement, INSIDE).item() == pytest.approx(1 - 1.5 / 2.25)


def test_an_empty_mask_is_as_unsure_as_its_least_sure_pixel() -> None:
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    assert expected_error(torch.tensor([[0.1, 0.4], [0.0, 0.2]]), nothing).item() == pytest.approx(0.4)
    assert disagreement(torch.tensor([[1.0, 0.75], [1.0, 1.0]]), nothing).item() == pytest.approx(0.25)
    assert near_entropy(torch.tensor([[0.1, 0.6], [0.0, 0.2]]), nothing).item() == pytest.approx(0.6)


def test_a_mask_that_is_the_whole_image_has_a_number() -> None:
    whole = torch.ones(2, 2, dtype=torch.bool)
    assert expected_error(torch.full((2, 2), 0.8), whole).item() == pytest.approx(0.2)
    assert near_entropy(torch.full((2, 2), 0.3), whole).item() == pytest.approx(0.3)


def test_the_neighbourhood_reaches_a_share_of_the_diagonal() -> None:
    mask = torch.zeros(30, 40, dtype=torch.bool)
    mask[10, 20] = True
    grown = neighbourhood(mask, 0.04)  # 2 pixels of a diagonal of 50
    expected = torch.zeros(30, 40, dtype=torch.bool)
    expected[8:13, 18:23] = True
    assert torch.equal(grown, expected)
    volume = torch.zeros(5, 5, 5, dtype=torch.bool)
    volume[2, 2, 2] = True
    assert int(neighbourhood(volume, 0.01).sum()) == 27  # at least one voxel


def test_entropy_far_from_the_mask_does_not_count() -> None:
    mask, entropy = torch.zeros(50, 50, dtype=torch.bool), torch.zeros(50, 50)
    mask[:5, :5] = True
    entropy[40:, 40:] = 1.0
    assert near_entropy(entropy, mask).item() == 0.0


def test_all_numbers_come_together() -> None:
    scores = case_scores(INSIDE.float(), INSIDE, entropy=torch.zeros(2, 2), agreement=torch.ones(2, 2))
    assert scores == {"expected_error": 0.0, "near_entropy": 0.0, "disagreement": 0.0}


def test_maps_of_another_size_are_refused() -> None:
    for function in (expected_error, disagreement, near_entropy):
        with pytest.raises((ValueError, RuntimeError), match=r"must have one size|must match the size"):
            function(torch.zeros(3, 2), INSIDE)
