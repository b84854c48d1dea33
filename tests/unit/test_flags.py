import pytest

from banet_monai.flags import as_flag


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), (False, False), ("true", True), ("False", False), ("TRUE", True)]
)
def test_booleans_and_their_names_are_taken(value, expected):
    assert as_flag(value, "resume") is expected


@pytest.mark.parametrize("value", ["maybe", "", 1, None])
def test_anything_else_is_refused(value):
    with pytest.raises(ValueError, match=r"overlay must be true or false, got"):
        as_flag(value, "overlay")
