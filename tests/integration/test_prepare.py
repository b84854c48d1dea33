"""From official archives to a table, by the commands alone."""

import subprocess
import sys

import pytest

from tests.official_archives import isic_archives

pytestmark = pytest.mark.slow

START = "from banet_monai.cli import main; main()"


def banet(*words):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", START, *map(str, words)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_prepared_is_evaluated(tmp_path):
    banet("prepare", "isic2017", *isic_archives(tmp_path), "-o", tmp_path / "data", "--crop", 64)
    output = banet(
        *("evaluate", tmp_path / "data", "-o", tmp_path / "out", "--device", "cpu", "--set", "image_size=64")
    )
    assert "1 done, 0 skipped, 0 failed" in output
    assert (tmp_path / "out" / "cases.csv").read_text().splitlines()[1].startswith("ISIC_0001769")
