"""The rules of the build server itself, tried on a throw-away test folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
ALL_PASSED, TESTS_FAILED, INTERRUPTED, NOTHING_COLLECTED = 0, 1, 2, 5

SKIPS_IN_TEST = "import pytest\ndef test_a(): pytest.skip('no server here')\ndef test_b(): pass\n"
SKIPS_BY_MARK = "import pytest\n@pytest.mark.skipif(True, reason='no server here')\ndef test_a(): pass\n"
SKIPS_ON_IMPORT = "import pytest\npytest.importorskip('no_such_module_anywhere')\ndef test_a(): pass\n"
FAILS_AS_EXPECTED = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_a(): raise ValueError\n"


def exit_code(folder: Path, source: str, *, ci: bool) -> tuple[int, str]:
    """Run pytest on ``source`` beside a copy of our conftest, with or without CI set."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "test_sample.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "true"} if ci else {})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "."],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("source", [SKIPS_IN_TEST, SKIPS_BY_MARK])
def test_a_skip_fails_the_run_where_ci_is_set(tmp_path, source):
    code, output = exit_code(tmp_path, source, ci=True)
    assert code == TESTS_FAILED
    assert "no server here" in output


def test_a_module_that_skips_on_import_fails_the_run_where_ci_is_set(tmp_path):
    code, output = exit_code(tmp_path, SKIPS_ON_IMPORT, ci=True)
    assert code in (TESTS_FAILED, INTERRUPTED)
    assert "no_such_module_anywhere" in output


def test_a_skip_is_allowed_on_a_desk(tmp_path):
    assert exit_code(tmp_path, SKIPS_IN_TEST, ci=False)[0] == ALL_PASSED


def test_an_expected_failure_is_no_skip(tmp_path):
    assert exit_code(tmp_path, FAILS_AS_EXPECTED, ci=True)[0] == ALL_PASSED


def test_a_folder_without_tests_fails_the_run(tmp_path):
    assert exit_code(tmp_path, "", ci=True)[0] == NOTHING_COLLECTED
