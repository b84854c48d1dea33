"""Segment very many images with Ray Data: each worker loads the network once, every case has its fate in one manifest.

    pip install "banet-monai" "ray[data]==2.60.0"
    python ray_segment.py INPUT -o OUT --workers 8
    python ray_segment.py INPUT -o OUT --workers 16 --gpus 0.25      # four workers share a GPU
    python ray_segment.py INPUT -o OUT --workers 8 --resume          # after an end before its time

Without RAY_ADDRESS it starts Ray on this machine; with it, it uses that cluster, where INPUT, OUT and the package must
lie at the same path on every node. Exit codes: 0 all done, 1 some cases failed, 2 wrong use. Change it as you like.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import click
import ray
from monai.data import MetaTensor

from banet_monai.bundles import find_bundle
from banet_monai.data import find_inputs
from banet_monai.data.failures import failure_reason
from banet_monai.report import CasesFailedError, RunReport
from banet_monai.report.manifest import RESULT_ENDS
from banet_monai.segmenter import Segmenter
from banet_monai.transforms import SaveResultd

BLOCK = 16  # cases that are handed out, and when a process dies are lost, together
RETRIES = 1  # further attempts at a block whose process died; a case that cannot be read is no such end


class Worker:
    """A process of Ray with a network of its own."""

    def __init__(self, output: str, weights: str, result_format: str) -> None:
        config = find_bundle().task().config()
        self.segmenter = Segmenter(weights=weights)
        self.save = SaveResultd(
            "pred", output, output_format=result_format, segments=config["task"], modalities=config["modalities"]
        )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """One case: its result is written beside its place and renamed; an error becomes its reason."""
        start = time.perf_counter()
        report = self.save.report = RunReport(self.save.output_dir)
        name, files = str(row["name"]), [str(file) for file in row["files"]]
        image = files if len(files) > 1 else files[0]
        try:
            result = self.segmenter(image)
            probability = MetaTensor(result.probability, meta={**result.labels.meta, "level": 0.5})
            self.save({"pred": result.labels, "probability": probability, "image": result.image, "name": name})
        except Exception as error:  # readers raise what they like, and the others go on
            report.failed(name, failure_reason(error, {"image": image}))
        return {
            "name": name,
            "results": report.results.get(name, []),
            "warnings": report.warnings.get(name, []),
            "reason": report.failures.get(name, ""),
            "seconds": round(time.perf_counter() - start, 3),
        }


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Results.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes with a network each.")
@click.option("--cpus", type=float, default=1, show_default=True, help="Cores of each worker.")
@click.option("--gpus", type=float, default=0, show_default=True, help="GPUs of each worker; 0.25: four share one.")
@click.option("--format", "result_format", default="auto", show_default=True, help="As of `banet segment`.")
@click.option("--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Instead of the shipped.")
@click.option("--resume", is_flag=True, help="Keep results that are in OUT; give the same weights and options.")
def main(
    source: Path,
    output: Path,
    workers: int,
    cpus: float,
    gpus: float,
    result_format: str,
    weights: Path | None,
    resume: bool,
) -> None:
    """Outline the lesion in every image of INPUT, and write masks and manifest.json to OUT."""
    output = output.absolute()
    task = find_bundle().task()
    weights = (weights or task.weights()).absolute()
    try:
        inputs = find_inputs(source.absolute(), exclude=output)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    report = RunReport(output, inputs=inputs, weights=weights, device=f"{workers} workers of Ray, {gpus:g} GPUs each")

    rows = []
    for case in inputs.cases:
        if resume and (there := [path for end in RESULT_ENDS if (path := output / f"{case.name}{end}").is_file()]):
            report.done(case.name, *there)
            report.seconds.pop(case.name)
        else:
            rows.append({"name": case.name, "files": [str(file.absolute()) for file in case.files]})
    if rows:
        segment_all(rows, report, (str(output), str(weights), result_format), min(workers, len(rows)), cpus, gpus)
    try:
        report.finish()
    except CasesFailedError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    finally:
        click.echo(", ".join(f"{number} {word}" for word, number in report.counts.items()))


def segment_all(
    rows: list[dict[str, Any]], report: RunReport, of_worker: tuple[str, ...], workers: int, cpus: float, gpus: float
) -> None:
    """Hand out the cases, and tell the report what became of each as it comes in."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(ignore_reinit_error=True)
    ray.data.DataContext.get_current().max_errored_blocks = -1  # a lost block fails its cases, not the run
    cases = ray.data.from_items(rows, override_num_blocks=max(math.ceil(len(rows) / BLOCK), workers))
    done = cases.map(
        Worker,
        fn_constructor_args=of_worker,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=cpus,
        num_gpus=gpus,
        ray_remote_args_fn=lambda: {"max_task_retries": RETRIES},
    )
    for row in done.iter_rows():
        if row["reason"]:
            report.failed(row["name"], row["reason"])
        else:
            report.done(row["name"], *(report.output_dir / result for result in row["results"]))
        for warning in row["warnings"]:
            report.warned(row["name"], warning)
        report.seconds[row["name"]] = row["seconds"]


if __name__ == "__main__":
    main()
