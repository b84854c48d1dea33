import pytest

from banet_monai.data.failures import failure_reason
from banet_monai.data.masks import mask_ids


def raised_in_package(message: str) -> ValueError:
    """An error that a raise statement of the package raised, with another text."""
    with pytest.raises(ValueError, match="num_classes must be") as caught:
        mask_ids([0], num_classes=0)
    caught.value.args = (message,)
    return caught.value


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("cannot use /home/jane/scans/p1/a.xyz here", "cannot use a.xyz here"),
        (r"cannot use 'C:\scans\p1\a.xyz' here", "cannot use 'a.xyz' here"),
        ("values 0/255 and masks/a.png stay", "values 0/255 and masks/a.png stay"),
        ("two\nlines", "two lines"),
    ],
)
def test_paths_are_cut_to_file_names_and_lines_are_joined(message, shown):
    assert failure_reason(raised_in_package(message), {"label": ""}) == f"the case: {shown}"


def test_paths_of_the_case_are_cut_even_with_spaces(tmp_path):
    folder = tmp_path / "Jane Doe"
    folder.mkdir()
    (folder / "a.xyz").write_bytes(b"x")
    reason = failure_reason(raised_in_package(f"{folder / 'a.xyz'} is odd"), {"image": str(folder / "a.xyz")})
    assert reason == "a.xyz: a.xyz is odd"


def test_what_looks_for_the_reason_may_fail_itself(tmp_path, monkeypatch):
    def failing(path, *, decode):
        raise TypeError(f"of a library: {path}")

    monkeypatch.setattr("banet_monai.data.failures.probe", failing)
    reason = failure_reason(raised_in_package("the first error"), {"image": str(tmp_path / "a.dcm")})
    assert reason == "a.dcm: the first error"


def test_a_long_reason_is_cut():
    assert len(failure_reason(raised_in_package("x" * 1000), {})) == 400


def test_an_error_that_quotes_what_was_read_is_hidden_even_when_raised_in_the_package():
    with pytest.raises(ValueError, match="DOE") as caught:
        mask_ids("DOE^JANE")
    assert "DOE" not in failure_reason(caught.value, {})
