import pytest
from click.testing import CliRunner

from banet_monai.cli import cli
from banet_monai.files import write_beside

OLD, NEW = '{"run": "old"}', '{"run": "new"}'


def test_the_data_set_itself_is_no_output_folder(tmp_path):
    (tmp_path / "a.txt").touch()
    result = CliRunner().invoke(cli, ["evaluate", str(tmp_path), "-o", str(tmp_path)])
    assert result.exit_code == 2
    assert "-o is the data set itself" in result.stderr + result.output


def run_that_breaks_off(monkeypatch, folder, *, writes):
    """A run that breaks off, before or after it has written its tables."""

    class Report:
        def __init__(self):
            self.output_dir, self.counts = folder, {"done": 0, "skipped": 0, "failed": 2}
            self.results, self.failures, self.warnings = {}, {}, {}

        def finish(self):
            pass

    class Parser:
        def get_parsed_content(self, name):
            if name == "run":
                for table in ("cases.csv", "summary.json") if writes else ():
                    write_beside(folder / table, lambda partial: partial.write_text(NEW))
                raise RuntimeError("the network is gone")
            return Report()

    monkeypatch.setattr("banet_monai.commands.running._ready_parser", lambda plan, source: Parser())
    monkeypatch.setattr("banet_monai.commands.running._warn_of_temperature", lambda parser: None)
    monkeypatch.setattr("banet_monai.metrics.table.format_summary", lambda summary: f"table of {summary['run']}")


@pytest.fixture
def folders(tmp_path):
    """A data set, and results of an earlier evaluation."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").touch()
    (tmp_path / "out").mkdir()
    for table in ("cases.csv", "summary.json"):
        (tmp_path / "out" / table).write_text(OLD)
    return tmp_path / "data", tmp_path / "out"


def test_the_table_of_an_earlier_run_is_not_shown_as_that_of_one_that_broke_off(folders, monkeypatch):
    data, out = folders
    run_that_breaks_off(monkeypatch, out, writes=False)
    result = CliRunner().invoke(cli, ["evaluate", str(data), "-o", str(out)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "summary.json is of an earlier run and is now called summary.earlier.json" in result.stderr
    assert {path.name: path.read_text() for path in out.iterdir()} == {
        "cases.earlier.csv": OLD,
        "summary.earlier.json": OLD,
    }


def test_the_table_of_the_run_itself_is_shown_though_it_broke_off_later(folders, monkeypatch):
    data, out = folders
    run_that_breaks_off(monkeypatch, out, writes=True)
    result = CliRunner().invoke(cli, ["evaluate", str(data), "-o", str(out)])
    assert result.exit_code == 1
    assert "table of new" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == ["cases.csv", "summary.json"]
