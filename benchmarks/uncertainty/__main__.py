"""Calibration, referral and cost of the uncertainty on validation pictures with their masks.

    python -m benchmarks.uncertainty --data ISIC2017

writes ``uncertainty_isic2017.json`` into ``benchmarks/results`` and two plots into ``docs/images``. With
``--page docs/uncertainty.md --calibration bundle/models/calibration.json`` also the tables of the page and the fitted
temperatures: everything that depends on the weights is made again by this one command, in about five minutes of one
core. The blocks that other documents take from the results (:mod:`benchmarks.figures`) are written too.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from banet_monai.bundles import find_bundle
from banet_monai.data import validation_cases
from banet_monai.files import write_beside
from banet_monai.report.manifest import file_sha256
from banet_monai.segmenter import Segmenter
from banet_monai.uncertainty.scores import SCORES
from banet_monai.uncertainty.temperature import write_temperatures
from benchmarks.figures import main as write_documents
from benchmarks.machine import describe_machine
from benchmarks.uncertainty.analysis import analyse
from benchmarks.uncertainty.measure import Measured, measure, relative_flops
from benchmarks.uncertainty.plots import draw_referral, draw_reliability
from benchmarks.uncertainty.tables import update_page

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
METHODS = ("entropy", "mc_dropout", "tta")  # "entropy" is one plain pass


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.uncertainty",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, help="data set with masks, as banet evaluate takes it")
    parser.add_argument("--name", default="isic2017", help="of the data, in the names of the files")
    parser.add_argument("--weights", type=Path, help="default: those that ship")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--limit", type=int, help="only the first pictures: a try, no result")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="computing threads on the CPU")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder of the plots")
    parser.add_argument("--page", type=Path, help="write the tables into this page, such as docs/uncertainty.md")
    parser.add_argument("--calibration", type=Path, help="write the fitted temperatures there, beside the weights")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, analyse, write."""
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    weights = options.weights or find_bundle().task().weights()
    segmenter = Segmenter(weights=weights, device=options.device)
    cases = validation_cases(options.data, limit=options.limit)
    measured: dict[str, list[Measured]] = defaultdict(list)
    total = len(cases) * len(METHODS)
    for method, item in tqdm(measure(segmenter, cases, METHODS, samples=options.samples), total=total, disable=None):
        measured[method].append(item)

    side = int(segmenter.preprocessing.transforms[1].image_size[0])
    results: dict[str, Any] = {method: analyse(items) for method, items in measured.items()}
    for method, ratio in relative_flops(segmenter, METHODS, samples=options.samples, side=side).items():
        results[method]["flops_relative_to_one_pass"] = ratio
    facts = {"data": options.name, "pictures": len(cases), "weights_sha256": file_sha256(weights)}
    machine = {**describe_machine(), "device": options.device, "threads": options.threads}
    content = {**facts, "samples": options.samples, "machine": machine, "methods": results}
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    file = options.out / f"uncertainty_{options.name}.json"
    write_beside(file, lambda path: path.write_text(text, encoding="utf-8"))
    draw_reliability(results, options.images / f"reliability_{options.name}.svg")
    draw_referral(results, SCORES[0], options.images / f"referral_{options.name}.svg")
    if options.calibration is not None:
        temperatures = {method: result["temperature"] for method, result in results.items()}
        write_temperatures(options.calibration, {"none": temperatures["entropy"], **temperatures}, facts=facts)
    if options.page is not None:
        update_page(options.page, content)
    if options.out == RESULTS:
        write_documents([])
    print(summary(content))
    print(f"written: {file}")
    return 0


def summary(content: dict[str, Any]) -> str:
    """The main figures as a table."""
    lines = [
        f"{content['pictures']} pictures",
        f"{'':12}{'JA':>7}{'ECE':>8}{'ECE T':>8}{'T':>6}{'rho':>7}{'AUC':>6}{'time':>6}",
    ]
    for method, result in content["methods"].items():
        number = result["numbers"][SCORES[0]]
        auc = number["auc_of_low_ja"]
        lines.append(
            f"{method:12}{result['ja']['mean']:7.4f}{result['calibration']['ece']:8.4f}"
            f"{result['calibration_with_temperature']['ece']:8.4f}{result['temperature']:6.2f}"
            f"{number['spearman_with_ja']:7.2f}{auc if auc is not None else float('nan'):6.2f}"
            f"{result['time_relative_to_one_pass']['median']:6.1f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
