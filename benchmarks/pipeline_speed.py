"""From files to files: what a whole run of ``inference.json`` costs beside its network.

    python -m benchmarks.pipeline_speed [--quick] [--only png jpeg nifti dicom deep huge]

Inputs are made by code. Each kind runs in a process of its own: after a warm-up, runs of the bundle's configuration
and the network alone, on as many batches of the same shapes, take turns. ``deep`` (a volume of 1000 slices) and
``huge`` (a tiled TIFF of 20,000 x 20,000 pixels) run once, for their memory. Cores are those the process may use. The
network alone gets the windows of the run's first batch of each shape again and again; in results whose conditions name
no ``network_alone_on`` it got zeros, which some processors multiply faster.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reporting import RESULTS, ROOT, measure_apart, measured_on, quartiles, write_report

SIDE = 512
ONCE = ("deep", "huge")
ALONE_ON = "the first windows of each shape"
KINDS = ("png", "jpeg", "nifti", "dicom", *ONCE)
HUGE_DOWNSCALE = 8  # pixels of the huge picture that make one of the network's; memory is largest then


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line; ``--quick`` overrides sizes and rounds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline_speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few small inputs and two rounds")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and Markdown")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="computing threads of PyTorch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--encoder", default=None, help="random weights of another encoder, such as resnet50")
    parser.add_argument("--set", dest="settings", nargs="*", default=[], metavar="NAME=JSON")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.quick:
        options.pictures, options.slices, options.rounds = 24, 24, 2
    return options


def make_inputs(kind: str, folder: Path, *, pictures: int, slices: int, quick: bool) -> int:
    """Write the inputs of a kind; returns the number of 512 x 512 pictures or slices in them."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    if kind in ("png", "jpeg"):
        return _make_pictures(folder, kind, pictures, rng)
    if kind == "dicom":
        from benchmarks.dicom_speed import make_series

        make_series(folder / "series", slices, SIDE, series=1)
        return slices
    if kind == "huge":
        return _make_huge(folder, 2_000 if quick else 20_000, rng)
    import nibabel

    depth = slices if kind == "nifti" else (60 if quick else 1000)
    values = rng.integers(-1000, 2000, (SIDE, SIDE, depth), dtype=np.int16)
    image: Any = nibabel.Nifti1Image(values, np.diag([0.7, 0.7, 1.5, 1.0]))  # type: ignore[no-untyped-call]
    nibabel.save(image, folder / "volume.nii")
    return depth


def _make_pictures(folder: Path, kind: str, pictures: int, rng: np.random.Generator) -> int:
    from PIL import Image

    from banet_monai.data.skin_phantom import skin_picture

    drawn = [skin_picture(np.random.default_rng(number), SIDE, SIDE)[0] for number in range(min(10, pictures))]
    for number in range(pictures):
        turned = np.rot90(drawn[number % len(drawn)], number // len(drawn))
        noisy = np.clip(turned + rng.integers(-6, 7, turned.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"case_{number:03d}.{'png' if kind == 'png' else 'jpg'}")
    return pictures


def _make_huge(folder: Path, side: int, rng: np.random.Generator) -> int:
    import tifffile

    tiles = [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(4)]
    count = (-(-side // SIDE)) ** 2
    tifffile.imwrite(
        folder / "huge.tif",
        (tiles[number % len(tiles)] for number in range(count)),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(SIDE, SIDE),
        photometric="rgb",
        compression="zlib",
    )
    return count


def configured(source: Path, output: Path, job: dict[str, Any]) -> Any:
    """The bundle's configuration for one run."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_file(str(ROOT / "bundle" / "configs" / "inference.json")))
    changes = {
        "bundle_root": str(ROOT / "bundle"),
        "dataset_dir": str(source),
        "output_dir": str(output),
        "device": f"$torch.device('{job['device']}')",
        "handlers": [],
        **job["settings"],
    }
    for name, value in changes.items():
        parser[name] = value
    if job["encoder"]:
        parser["encoder"] = job["encoder"]
        parser["weights"] = None  # random ones: time does not depend on them
    return parser


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """One kind in this process."""
    import torch

    from banet_monai.inferers import SegmentationInferer
    from benchmarks.machine import describe_machine, resident_mib

    place = Path(job["place"])
    original = SegmentationInferer._pass
    noted, passes = noting(original, job["replayed"])

    def whole(folder: str) -> None:
        shutil.rmtree(place / "out", ignore_errors=True)
        parser = configured(place / folder, place / "out", job)
        for name in ("memory", "run"):
            parser.get_parsed_content(name)

    def alone() -> None:
        with torch.inference_mode():
            for one in passes:
                one()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    whole("few")  # warm-up
    before = resident_mib("VmRSS")
    SegmentationInferer._pass = noted  # type: ignore[method-assign]
    job_times, network_times = [_timed(lambda: whole("inputs"))], []
    SegmentationInferer._pass = original  # type: ignore[method-assign]
    peak = resident_mib("VmHWM")
    if not job["once"]:
        alone()
        job_times = []
        for _ in range(job["rounds"]):
            network_times.append(_timed(alone))
            job_times.append(_timed(lambda: whole("inputs")))
    return {
        "job": job_times,
        "network": network_times,
        "passes": len(passes),
        "before_mib": round(before),
        "peak_mib": round(peak),
        "threads": torch.get_num_threads(),
        "machine": describe_machine(),
    }


def noting(original: Callable[..., Any], most: int) -> tuple[Callable[..., Any], list[Callable[[], Any]]]:
    """A stand-in for the method that gives one batch to the network, and the list it grows: the same calls again.

    Args:
        original: ``SegmentationInferer._pass``.
        most: calls that are noted. Of the windows the first batch of each shape is kept and given to all calls of that
            shape, so that memory does not grow with their number.
    """
    passes: list[Callable[[], Any]] = []
    kept: dict[Any, Any] = {}

    def noted(self: Any, windows: Any, network: Any, *rest: Any, **options: Any) -> Any:
        if len(passes) < most:
            key = (windows.shape, windows.dtype, windows.device)
            if key not in kept:
                kept[key] = windows.clone()
            passes.append(lambda: original(self, kept[key], network, *rest, **options))
        return original(self, windows, network, *rest, **options)

    return noted, passes


def stem(options: argparse.Namespace) -> str:
    """Name of the result, without ending: encoder and, where it is not the CPU, device."""
    parts = [options.encoder, None if options.device == "cpu" else options.device.replace(":", "")]
    return "_".join(["pipeline_speed", *filter(None, parts), *(["quick"] if options.quick else [])])


def _timed(action: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - processor


def summarize(kind: str, count: int, result: dict[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    row = {"kind": kind, "pictures": count, "peak_mib": result["peak_mib"], "before_mib": result["before_mib"]}
    job = [wall for wall, _ in result["job"]]
    row |= {"job_s": quartiles(job), "network_s": None, "ratio": None, "outside_ms": None}
    if result["network"]:
        pairs = list(zip(result["job"], result["network"], strict=True))
        row["network_s"] = quartiles([wall for wall, _ in result["network"]])
        row["ratio"] = statistics.median(whole[0] / alone[0] for whole, alone in pairs)
        row["ratio_of_each_round"] = [whole[0] / alone[0] for whole, alone in pairs]
        row["outside_ms"] = statistics.median(1e3 * (whole[1] - alone[1]) / count for whole, alone in pairs)
    return row


def format_markdown(report: dict[str, Any]) -> str:
    """A table under a line about the machine."""
    conditions = report["conditions"]
    lines = [
        "# From files to files",
        "",
        measured_on(report["machine"], device=conditions["device"], threads=report["threads"]),
        f"Times are medians over {conditions['rounds']} rounds, quartiles in brackets; ratio: whole run over the "
        "network alone on batches of the same shapes, median over pairs. Outside: processor time of all cores "
        "that is not the network's, for each 512 x 512 picture or slice; finding the inputs, loading the "
        "weights and the manifest included. "
        f"Memory: peak of the whole process. Encoder: {conditions['encoder'] or 'that of the shipped model'}. Load "
        f"average at the end, this run's own included: {report['load_average_at_end'][0]:.1f}.",
        "",
        "| input | pictures or slices | network (s) | whole run (s) | ratio | outside (ms) | peak memory (MiB) |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in report["rows"]:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        outside = "" if row["outside_ms"] is None else f"{row['outside_ms']:.1f}"
        lines.append(
            f"| {row['kind']} | {row['pictures']} | {_spread(row['network_s'])} | {_spread(row['job_s'])} | {ratio} "
            f"| {outside} | {row['peak_mib']} |"
        )
    return "\n".join(lines) + "\n"


def _spread(seconds: list[float] | None) -> str:
    return "" if seconds is None else f"{seconds[1]:.2f} ({seconds[0]:.2f}-{seconds[2]:.2f})"


def main(arguments: list[str] | None = None) -> None:
    """Make inputs, measure each kind, print, and write JSON and Markdown."""
    options = parse_arguments(arguments)
    if options.one:
        print(json.dumps(measure(json.loads(options.one))))
        return
    settings = {name: json.loads(value) for name, value in (text.split("=", 1) for text in options.settings)}
    rows, result = [], {}
    for kind in options.only:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            few = "png" if kind == "huge" else kind
            make_inputs(few, place / "few", pictures=4, slices=4, quick=True)
            sizes = {"pictures": options.pictures, "slices": options.slices, "quick": options.quick}
            count = make_inputs(kind, place / "inputs", **sizes)
            tiles = {"tile_downscale": HUGE_DOWNSCALE, "max_pixels": 10**6} if kind == "huge" else {}
            job = {
                "place": name, "rounds": options.rounds, "device": options.device, "encoder": options.encoder,
                "settings": tiles | settings, "once": kind in ONCE, "replayed": 0 if kind in ONCE else 10**6,
            }  # fmt: skip
            words = ("--one", json.dumps(job))
            result = measure_apart("benchmarks.pipeline_speed", *words, what=kind, threads=options.threads)
        rows.append(summarize(kind, count, result))
        print(json.dumps(rows[-1]), flush=True)
    report = {
        "machine": result["machine"],
        "threads": result["threads"],
        "load_average_at_end": os.getloadavg(),
        "conditions": {
            **{name: getattr(options, name) for name in ("pictures", "slices", "rounds", "device", "encoder", "quick")},
            "network_alone_on": ALONE_ON,
        },
        "rows": rows,
    }
    write_report(options.out, stem(options), report, format_markdown(report))


if __name__ == "__main__":
    main()
