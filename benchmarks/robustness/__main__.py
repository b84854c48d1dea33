"""What becomes of the shipped network's outlines when the images get worse.

    python -m benchmarks.robustness --data ISIC2017

writes ``robustness.json`` and ``robustness.md`` into ``benchmarks/results`` and ``robustness.svg`` into
``docs/images``, and fills the blocks of the documents (:mod:`benchmarks.figures`): everything that depends on the
weights is made again by this one command. Interrupted, it goes on where it was. ``--quick`` takes eight pictures at one
strength and writes to a temporary folder: a try, no result.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from banet_monai.bundles import find_bundle
from banet_monai.data import validation_cases
from banet_monai.files import write_beside
from banet_monai.report.manifest import file_sha256
from banet_monai.robustness import CaseMeasurer, robustness, summarise
from banet_monai.robustness.plots import draw
from banet_monai.robustness.running import forget_partial
from banet_monai.robustness.runs import facts_of, fitting_conditions
from banet_monai.robustness.tables import figures_table, rule_in_words
from banet_monai.segmenter import Segmenter
from benchmarks import figures
from benchmarks.machine import current_commit, describe_machine

ROOT = Path(__file__).resolve().parents[2]
RESULTS, IMAGES = ROOT / "benchmarks" / "results", ROOT / "docs" / "images"
QUICK_CASES, QUICK_STRENGTHS = 8, (3,)
SETTINGS = {"uncertainty": "entropy"}  # laid over inference.json


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.robustness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, help="data set with masks, as banet robustness takes it")
    parser.add_argument("--name", default="isic2017", help="of the data, in the results")
    parser.add_argument("--weights", type=Path, help="default: those that ship")
    parser.add_argument("--strengths", type=int, nargs="+", default=[1, 3, 5], help="out of 1 to 5")
    parser.add_argument("--limit", type=int, help="only the first cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="computing threads on the CPU")
    parser.add_argument("--quick", action="store_true", help="a try that touches no file of the project")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the plot")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, summarise, write."""
    options = parse_arguments(arguments)
    if options.quick:
        folder = Path(tempfile.mkdtemp(prefix="robustness_"))
        options.out, options.images = folder, folder
        options.limit, options.strengths = options.limit or QUICK_CASES, QUICK_STRENGTHS
    torch.set_num_threads(options.threads)
    weights = options.weights or find_bundle().task().weights()
    segmenter = Segmenter(weights=weights, device=options.device, options=SETTINGS)
    measurer = CaseMeasurer(segmenter, seed=options.seed)
    cases = validation_cases(options.data, limit=options.limit)
    wanted = fitting_conditions(measurer, cases, None, options.strengths)
    facts: dict[str, Any] = {"data": options.name, "weights_sha256": file_sha256(weights), "seed": options.seed}

    depends_on = {**facts, **dependencies(weights, options.device)}
    start = time.perf_counter()
    with tqdm(total=len(cases) * len(wanted), unit="pass", disable=None) as bar:
        rows, failures = robustness(measurer, cases, wanted, folder=options.out, facts=depends_on, progress=bar.update)
    machine = {**describe_machine(), "device": options.device, "threads": options.threads}
    minutes = round((time.perf_counter() - start) / 60, 1)
    summary = {"facts": {**facts, "minutes": minutes, "machine": machine}, **summarise(rows, failures=failures)}
    _write(options.out / "robustness.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    _write(options.out / "robustness.md", report(summary))
    _write(options.images / "robustness.svg", draw(summary))
    forget_partial(options.out)
    if options.out == RESULTS:
        figures.main([])
    print(report(summary))
    print(f"written: {options.out / 'robustness.json'} and {options.images / 'robustness.svg'}, {minutes} minutes")
    return 1 if failures else 0


def dependencies(weights: Path, device: str) -> dict[str, Any]:
    """What a case that an interrupted run has kept depends on: weights, temperatures, settings, commit and device."""
    return {**facts_of(SETTINGS, weights=weights), "commit": current_commit(), "device": device}


def report(summary: dict[str, Any]) -> str:
    """The results as Markdown."""
    facts = summary["facts"]
    head = (
        f"{summary['cases']} cases of {facts['data']}, weights `{facts['weights_sha256'][:12]}`, seed {facts['seed']}."
    )
    return f"# Robustness\n\n{head}\n\n{rule_in_words(summary)}\n\n{figures_table(summary)}\n"


def _write(path: Path, text: str) -> None:
    write_beside(path, lambda partial: partial.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    raise SystemExit(main())
