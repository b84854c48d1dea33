"""On a build server (``CI`` is set) a skipped integration test is a failure: what should run there must run there."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

MESSAGE = "skipped, which counts as a failure where CI is set: install what the test needs, or deselect it by marker"


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not (os.environ.get("CI") and report.skipped) or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid} {MESSAGE}\n{reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips while it is imported (``pytest.importorskip``)."""
    report = yield
    _fail_if_skipped(report)
    return report
