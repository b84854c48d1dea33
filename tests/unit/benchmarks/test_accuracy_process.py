"""The process of a run beside its harness."""

import os
import select
import subprocess
import sys

import pytest

from benchmarks.accuracy.definitions import ROOT

HARNESS = """
import sys
from pathlib import Path
from benchmarks.accuracy import execution
execution.sys.executable = sys.argv[1]
execution._bundle([], [], Path(sys.argv[2]), [])
"""
COMMAND = """#!/usr/bin/env bash
echo begun >&$PIPE
exec sleep 60
"""
PATIENCE = 20.0  # seconds until the command must have ended by itself


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no signal of a parent's death")
def test_a_harness_that_is_killed_takes_its_command_along(tmp_path):
    command = tmp_path / "command"
    command.write_text(COMMAND)
    command.chmod(0o755)
    ours, theirs = os.pipe()
    words = [sys.executable, "-c", HARNESS, str(command), str(tmp_path / "log")]
    with subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PIPE": str(theirs)}, pass_fds=[theirs]) as harness:
        os.close(theirs)
        assert os.read(ours, 100) == b"begun\n"
        harness.kill()
    ended, _, _ = select.select([ours], [], [], PATIENCE)
    assert ended, "the command runs on"
    assert os.read(ours, 100) == b""  # nobody holds the other end any more
    os.close(ours)
