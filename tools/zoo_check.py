"""Every check that the model zoo makes of a bundle, offline and in one command.

    python tools/zoo_check.py dist/banet_skin_lesion_segmentation
    python tools/zoo_check.py dist/banet_skin_lesion_segmentation --only files version large_files

Ends with 1 and the names of the checks that fail. docs/zoo.md says what each of them does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that this file can be started by its path

from tools.zoo import run_checks  # noqa: E402
from tools.zoo.file_checks import FILE_CHECKS, problems_of  # noqa: E402
from tools.zoo.unit_tests import ENVIRONMENT, has_unit_tests, run_unit_tests  # noqa: E402

__all__ = ["CHECKS", "check", "main"]

UNIT_TESTS = {"unit_tests": False, "unit_tests_dist": True}
CHECKS = (*FILE_CHECKS, *run_checks.RUN_CHECKS, *UNIT_TESTS)
"""Names of all checks, in the order in which they run."""

SECONDS = 900  # a check that takes longer hangs


def check(bundle: Path, names: Sequence[str] = CHECKS) -> Iterator[tuple[str, list[str]]]:
    """Make checks of a built bundle.

    Args:
        bundle: its folder; nothing in it is changed.
        names: which, of ``CHECKS``.

    Yields:
        The name of each and what is wrong; an empty list where it holds.

    Raises:
        ValueError: for a name that is none of ``CHECKS``.
    """
    if unknown := [name for name in names if name not in CHECKS]:
        raise ValueError(f"there is no check {', '.join(unknown)}; there are {', '.join(CHECKS)}.")
    for name in (name for name in FILE_CHECKS if name in names):
        yield name, problems_of(name, bundle)
    yield from _run(bundle, [name for name in run_checks.RUN_CHECKS if name in names])
    for name in (name for name in UNIT_TESTS if name in names):
        if has_unit_tests(bundle.name):
            output = run_unit_tests(bundle, several_processes=UNIT_TESTS[name])
            yield name, [output] if output else []


def _run(bundle: Path, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Checks that import the bundle's package: in a process of their own, in an empty folder."""
    if not names:
        return
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", run_checks.__file__, str(bundle.resolve()), str(report), *names],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(bundle.resolve()), **ENVIRONMENT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        results = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    for name in names:
        problem = results.get(name, f"the process that makes the checks ended with {done.returncode}: {done.stdout}")
        yield name, [problem] if problem else []


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="folder that build_bundle.py has made")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=CHECKS, metavar="CHECK", help=", ".join(CHECKS))
    options = parser.parse_args(arguments)
    failed = []
    for bundle in options.bundles:
        if not (bundle / "configs").is_dir():
            print(f"zoo_check: '{bundle}' is no bundle, it has no folder configs: build one with 'make bundle'.")
            return 1
        print(f"{bundle}:")
        for name, problems in check(bundle, options.only):
            print(f"  {'FAILS' if problems else 'ok   '}  {name}", flush=True)
            for problem in problems:
                print(f"           {problem}")
            failed += [name] if problems else []
    print(f"{len(failed)} failed: {', '.join(failed)}" if failed else "All checks passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
