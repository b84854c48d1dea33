import pytest

from banet_monai.flags import as_flag, as_number, as_whole


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), (False, False), ("true", True), ("False", False), ("TRUE", True)]
)
def test_booleans_and_their_names_are_taken(value, expected):
    assert as_flag(value, "resume") is expected


@pytest.mark.parametrize("value", ["maybe", "", 1, None])
def test_anything_else_is_refused(value):
    with pytest.raises(ValueError, match=r"overlay must be true or false, got"):
        as_flag(value, "overlay")


@pytest.mark.parametrize(("value", "expected"), [(0.25, 0.25), (2, 2), ("0.25", 0.25), ("2", 2.0)])
def test_numbers_are_taken_as_text_too(value, expected):
    assert as_number(value, "overlap") == expected


@pytest.mark.parametrize("value", ["much", "", None, [0.5]])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"overlap must be a number, got"):
        as_number(value, "overlap")


@pytest.mark.parametrize("value", ["nan", float("nan"), "inf", float("-inf")])
def test_a_number_is_finite(value):
    with pytest.raises(ValueError, match=r"threshold must be a finite number, got"):
        as_number(value, "threshold")


@pytest.mark.parametrize(("value", "expected"), [(3, 3), ("3", 3), (3.0, 3)])
def test_whole_numbers_are_taken_as_text_too(value, expected):
    assert as_whole(value, "max_epochs") == expected


@pytest.mark.parametrize("value", [0, -1, 1.5, "2.5"])
def test_parts_and_numbers_that_are_too_small_are_refused(value):
    with pytest.raises(ValueError, match=rf"max_epochs must be a whole number of at least 1, got {value}\."):
        as_whole(value, "max_epochs")
    assert as_whole(0, "patience", least=0) == 0
