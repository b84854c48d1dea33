"""The figures of robustness, calibration and referral in the documents are those of the result files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from banet_monai.report.manifest import file_sha256
from banet_monai.robustness.catalogue import CORRUPTIONS
from banet_monai.robustness.plots import draw
from benchmarks import figures
from benchmarks.robustness.__main__ import parse_arguments, report

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / "robustness.json").read_text(encoding="utf-8"))
    return content


def test_the_documents_give_the_figures_of_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert figures.main(["--check"]) == 0, capsys.readouterr().out


def test_table_and_plot_are_drawn_from_the_results(summary: dict[str, Any]) -> None:
    assert (RESULTS / "robustness.md").read_text(encoding="utf-8") == report(summary)
    assert (ROOT / "docs" / "images" / "robustness.svg").read_text(encoding="utf-8") == draw(summary)


def test_results_are_of_the_weights_that_ship(summary: dict[str, Any]) -> None:
    """After new weights: python -m benchmarks.robustness --data DATASET."""
    assert summary["facts"]["weights_sha256"] == file_sha256(ROOT / "bundle" / "models" / "model.pt")
    assert summary["failed"] == {}


def test_the_strengths_in_the_document_are_those_of_the_catalogue() -> None:
    page = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    for name, corruption in CORRUPTIONS.items():
        amounts = " | ".join(f"{amount:g}" for amount in corruption.amounts)
        assert f"| `{name}` | {amounts} |" in page


def test_a_stale_document_is_named_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures: robustness-rule -->\nold\n<!-- end -->\nafter\n", encoding="utf-8")
    assert figures.main(["--check", str(page)]) == 1
    assert "differs from the results" in capsys.readouterr().out
    assert "old" in page.read_text(encoding="utf-8")
    assert figures.main([str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "A shift breaks the outlines when the mean JA falls by more than 0.05" in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert figures.main(["--check", str(page)]) == 0


def test_a_try_touches_no_file_of_the_project() -> None:
    options = parse_arguments(["--data", "x", "--quick"])
    assert options.quick
    assert options.strengths == [1, 3, 5]
