"""The page about speed says what the result files say."""

from benchmarks import performance


def test_the_page_is_what_the_result_files_give(capsys):
    assert performance.main(["--check"]) == 0, capsys.readouterr().out
