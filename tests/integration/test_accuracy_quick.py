"""The accuracy harness, from experiments to tables, on the synthetic pictures that the bundle makes itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def harness(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.accuracy", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


def test_the_harness_trains_judges_tabulates_and_skips_what_is_done(tmp_path):
    places = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results"))
    first = harness("run", "--quick", *places)
    assert first.returncode == 0, first.stdout + first.stderr
    results = sorted((tmp_path / "results").rglob("seed*.json"))
    assert results
    for path in results:
        result = json.loads(path.read_text())
        ja = result["cases"]["columns"].index("ja")
        assert all(0 <= row[ja] <= 1 for row in result["cases"]["rows"])
        assert result["curve"]
        assert {"seed", "machine", "definition"} <= set(result)

    times = {path: path.stat().st_mtime_ns for path in results}
    second = harness("run", "--quick", *places)
    assert second.returncode == 0, second.stdout + second.stderr
    assert {path: path.stat().st_mtime_ns for path in results} == times

    tables = harness("tables", "--results", str(tmp_path / "results"))
    assert tables.returncode == 0, tables.stdout + tables.stderr
    (table,) = (tmp_path / "results").glob("*.md")
    assert "BA-Net" in table.read_text()
