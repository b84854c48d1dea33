from click.testing import CliRunner

from banet_monai.cli import cli


def test_the_data_set_itself_is_no_output_folder(tmp_path):
    (tmp_path / "a.txt").touch()
    result = CliRunner().invoke(cli, ["evaluate", str(tmp_path), "-o", str(tmp_path)])
    assert result.exit_code == 2
    assert "-o is the data set itself" in result.stderr + result.output
