"""What an image costs at scale: the page says what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_quotes_the_measured_figures_and_their_products():
    ways = json.loads((ROOT / "benchmarks" / "results" / "scale_cost.json").read_text())["ways"]
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    rows = [re.findall(r"[\d.]+", line) for line in page.splitlines() if line.startswith(("| `banet", "| `Segmenter"))]
    for way, row in zip(ways, rows, strict=True):
        picture, start = way["cpu_seconds_per_picture"], way["cpu_seconds_to_start"]
        assert [float(figure) for figure in row[:3]] == [
            round(picture, 3),
            round(start, 1),
            round(picture * 1e6 / 3600),
        ]
    assert float(rows[0][3]) == round(2000 * ways[0]["cpu_seconds_to_start"] / 3600, 1)
    assert rows[0][4] == "2000"
