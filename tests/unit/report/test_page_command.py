from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from banet_monai.cli import cli
from tests.report_folders import Page, box, result_folder

LESION = box(10, 8, 34, 30)


def banet(*words: object) -> Result:
    return CliRunner().invoke(cli, ["report", *(str(word) for word in words)])


def only_error(result: Result, code: int = 2) -> str:
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    return str(line).removeprefix("banet: error: ")


def test_the_page_is_written_into_the_folder_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = result_folder(tmp_path, {"a": LESION})
    monkeypatch.chdir(tmp_path)
    result = banet("out", "--images", "images", "--title", "Ward 3")
    assert result.exit_code == 0, result.output
    assert result.stdout == "report: out/report.html\n"
    root = Page.read(out / "report.html")
    assert root.one("h1").text == "Ward 3"
    assert root.one("article").all("img")
    assert (out / "report" / "a.png").is_file()


def test_quiet_says_nothing_and_no_pngs_writes_none(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION})
    result = banet(out, "--quiet", "--no-pngs")
    assert (result.exit_code, result.output) == (0, "")
    assert not (out / "report").exists()


def test_true_masks_of_a_folder_turn_it_into_an_evaluation(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION})
    (tmp_path / "truth").mkdir()
    Image.fromarray(LESION * 255).save(tmp_path / "truth" / "a.png")
    assert banet(out, "--truth", tmp_path / "truth").exit_code == 0
    assert Page.read(out / "report.html").one("h1").text == "Evaluation report"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "'nowhere' does not exist; the folder that 'banet segment -o OUT'"),
        (["empty"], "'empty' has no manifest.json (it is empty); the folder that"),
        (["out", "--images", "nowhere"], "the images 'nowhere' do not exist"),
        (["out", "--truth", "empty"], "'empty' has a mask for none of the 1 cases"),
        (["out", "--pictures", "-1"], "Invalid value for '--pictures'"),
        (["out", "--image", "images"], "did you mean '--images'?"),
    ],
)
def test_wrong_use_is_one_line_that_says_what_would_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    result_folder(tmp_path, {"a": LESION})
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert message in only_error(banet(*words))


def test_a_page_that_cannot_be_written_is_a_failure_in_one_line(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION})
    (out / "report.html").mkdir()  # in the way
    (out / "report.html" / "x").touch()
    assert "the report cannot be written: " in only_error(banet(out), code=1)
