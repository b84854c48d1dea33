import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banet_monai.data.splits import divided_groups, validation_indices

case_names = st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), min_size=2, max_size=40, unique=True)
fractions = st.floats(0.01, 0.95)
seeds = st.integers(0, 5)


@given(case_names, fractions, seeds)
@settings(max_examples=50, deadline=None)
def test_the_share_is_the_fraction_rounded_and_both_sides_hold_a_case(names, fraction, seed):
    chosen = validation_indices(names, val_fraction=fraction, seed=seed)
    assert len(chosen) == min(max(1, round(fraction * len(names))), len(names) - 1)
    assert chosen <= set(range(len(names)))


@given(case_names, fractions, seeds, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_the_cases_does_not_matter(names, fraction, seed, random):
    shuffled = list(names)
    random.shuffle(shuffled)
    first = {names[i] for i in validation_indices(names, val_fraction=fraction, seed=seed)}
    second = {shuffled[i] for i in validation_indices(shuffled, val_fraction=fraction, seed=seed)}
    assert first == second


@given(case_names, fractions, seeds)
@settings(max_examples=50, deadline=None)
def test_a_case_that_is_added_moves_at_most_one_other(names, fraction, seed):
    before = {names[i] for i in validation_indices(names, val_fraction=fraction, seed=seed)}
    more = [*names, "added"]
    after = {more[i] for i in validation_indices(more, val_fraction=fraction, seed=seed)} - {"added"}
    assert len(before ^ after) <= 1


@given(st.lists(st.sampled_from(["p1", "p2", "p3", "p4", "p5"]), min_size=2, max_size=40), fractions, seeds)
@settings(max_examples=50, deadline=None)
def test_no_group_is_divided(groups, fraction, seed):
    names = [f"case{index}" for index in range(len(groups))]
    if len(set(groups)) < 2:
        with pytest.raises(ValueError, match=r"one group \(patient or sequence\) cannot be split"):
            validation_indices(names, groups, val_fraction=fraction, seed=seed)
        return
    chosen = validation_indices(names, groups, val_fraction=fraction, seed=seed)
    assert divided_groups(groups, chosen) == []
    assert 0 < len(chosen) < len(names)


def test_the_split_of_a_seed_never_changes():
    names = [f"case_{index:02d}" for index in range(20)]
    assert validation_indices(names, val_fraction=0.2) == {1, 2, 13, 6}  # the four lowest SHA-256 of 0/<name>


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ValueError, match=rf"val_fraction must be at least 0 and below 1, got {fraction}"):
        validation_indices(["a", "b"], val_fraction=fraction)


def test_repeated_names_are_refused():
    with pytest.raises(ValueError, match=r"needs a name of its own to be split, repeated: a"):
        validation_indices(["a", "b", "a"])


def test_a_group_on_both_sides_is_named():
    assert divided_groups(["p1", "p2", "p1", "", ""], {0, 3}) == ["p1"]
