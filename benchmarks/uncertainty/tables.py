"""The results in words and tables, and the block of a page that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from banet_monai.files import write_beside
from banet_monai.uncertainty.scores import SCORES
from benchmarks.uncertainty.plots import TITLES

__all__ = ["BEGIN", "END", "figures", "update_page"]

BEGIN, END = "<!-- figures: begin, written by benchmarks.uncertainty -->", "<!-- figures: end -->"


def update_page(page: Path, content: dict[str, Any]) -> None:
    """Write the figures between the two marks of a page.

    Raises:
        ValueError: when the page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"'{page}' has no place for the figures: the lines '{BEGIN}' and '{END}' are needed.")
    new = f"{before}{BEGIN}\n{figures(content)}\n{END}{after}"
    write_beside(page, lambda path: path.write_text(new, encoding="utf-8"))


def figures(content: dict[str, Any]) -> str:
    """All tables as Markdown."""
    methods: dict[str, Any] = content["methods"]
    titles = [TITLES[method] for method in methods]
    results = list(methods.values())
    one = results[0]
    blocks = [
        f"{content['pictures']} pictures with their masks, {content['samples']} samples, weights "
        f"`{content['weights_sha256'][:12]}`, {one['low_ja']} pictures below JA 0.65 in one pass.",
        _table(["", *titles], _calibration_rows(results)),
        "Number against JA (Spearman's rank correlation with a 95 % bootstrap interval over pictures, and the area "
        "under the ROC curve of finding the pictures below JA 0.65):",
        _table(["number", *titles], _number_rows(results)),
        "Mean error (1 - JA) of the pictures that stay when the least certain go to a person, by `expected_error`; at "
        "random it stays what it is without any:",
        _table(
            ["referred", *(f"{title} (gain, 95 % interval)" for title in titles), "oracle"], _referral_rows(results)
        ),
        _places(results[min(1, len(results) - 1)], titles[min(1, len(results) - 1)]),
        _table(["cost by picture", *titles], _cost_rows(results)),
    ]
    return "\n\n".join(blocks)


def _calibration_rows(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    before, after = "calibration", "calibration_with_temperature"
    rows = [
        ["JA", *(f"{r['ja']['mean']:.4f}" for r in results)],
        ["temperature", *(f"{r['temperature']:.2f}" for r in results)],
    ]
    for key, label, digits in (
        ("ece", "ECE, all pixels together", 4),
        ("ece_per_picture", "ECE, mean of pictures (MONAI)", 4),
        ("brier", "Brier score", 4),
        ("negative_log_likelihood", "negative log likelihood", 4),
    ):
        rows.append([label, *(f"{r[before][key]:.{digits}f} → {r[after][key]:.{digits}f}" for r in results)])
    return rows


def _number_rows(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    names = list(dict.fromkeys(name for r in results for name in r["numbers"]))
    return [[f"`{name}`", *(_number(r["numbers"].get(name)) for r in results)] for name in names]


def _number(found: dict[str, Any] | None) -> str:
    if found is None or found["spearman_with_ja"] is None:
        return "none"
    low, high = found["spearman_interval"]
    auc = found["auc_of_low_ja"]
    return f"{found['spearman_with_ja']:.2f} ({low:.2f} to {high:.2f}), {'none' if auc is None else f'{auc:.2f}'}"


def _referral_rows(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    tables = [r["referral"][SCORES[0]]["shares"] for r in results]
    rows = [["0 %", *(f"{table[0]['at_random']:.3f}" for table in tables), f"{tables[0][0]['at_random']:.3f}"]]
    for index, first in enumerate(tables[0]):
        cells = []
        for table in tables:
            row = table[index]
            low, high = row["gain_interval"]
            cells.append(f"{row['error']:.3f} ({row['gain']:.3f}, {low:.3f} to {high:.3f})")
        rows.append([f"{100 * first['share']:.0f} %, {first['referred']} pictures", *cells, f"{first['oracle']:.3f}"])
    return rows


def _places(result: dict[str, Any], title: str) -> str:
    entropy = result["entropy"]
    near, area, difference = (entropy[key] for key in ("share_near_the_outline", "area_near_the_outline", "difference"))
    wrong, right = (entropy[f"near_{side}_outline"]["mean"] for side in ("wrong", "right"))
    low, high = difference["interval"]
    return (
        f"Where the entropy lies ({title}): {100 * near['mean']:.0f} % of it within 2 % of the image diagonal of the "
        f"predicted outline, which is {100 * area['mean']:.0f} % of the area. Around parts of the outline that are "
        f"farther than that from the true one its mean is {wrong:.2f}, around the others {right:.2f} (difference "
        f"{difference['mean']:.3f}, 95 % interval {low:.3f} to {high:.3f}, higher in "
        f"{100 * entropy['higher_near_wrong_outline']:.0f} % of the "
        f"{entropy['pictures_with_right_and_wrong_outline']} pictures that have both)."
    )


def _cost_rows(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [
        ["operations, in plain passes", *(f"{r['flops_relative_to_one_pass']:.2f}" for r in results)],
        ["time, in plain passes (median)", *(f"{r['time_relative_to_one_pass']['median']:.1f}" for r in results)],
        ["seconds (median)", *(f"{r['seconds_per_picture']['median']:.2f}" for r in results)],
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
