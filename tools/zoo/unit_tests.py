"""The test files for the zoo's ``ci/unit_tests``, run on a built bundle in a small likeness of its repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["has_unit_tests", "run_unit_tests"]

HERE = Path(__file__).resolve().parent
SECONDS = 900  # tests that take longer hang
SHOWN = 3000  # characters of the output that a failure quotes


def has_unit_tests(name: str) -> bool:
    """Whether there are unit tests for the bundle of this name."""
    return _file(name).is_file()


def run_unit_tests(bundle: Path, *, several_processes: bool = False) -> str:
    """Run the unit tests of a bundle as the zoo's runner does: in the root of its repository.

    Args:
        bundle: folder of the bundle; nothing in it is changed.
        several_processes: the tests of ``..._dist.py``, started by torchrun.

    Returns:
        "" when they pass, else the end of what they printed.
    """
    suffix = "_dist" if several_processes else ""
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=1", "-m"] if several_processes else []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tests = shutil.copytree(HERE / "ci" / "unit_tests", root / "ci" / "unit_tests")
        shutil.copy(HERE / "stand_in" / "utils.py", tests)
        (root / "models").mkdir()
        (root / "models" / bundle.name).symlink_to(bundle.resolve(), target_is_directory=True)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", *launcher, "unittest", f"test_{bundle.name}{suffix}"],
            cwd=root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tests, bundle.resolve()))), **ENVIRONMENT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    return done.stdout[-SHOWN:] if done.returncode else ""


ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}  # caches are no part of a bundle


def _file(name: str) -> Path:
    return HERE / "ci" / "unit_tests" / f"test_{name}.py"
