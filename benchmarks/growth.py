"""How time and memory grow with the image and the settings: ``python -m benchmarks.growth --help``.

Pictures and volumes are made by code and go from file to written mask, each in a process of its own, with the network
of the bundle. A model of cost is fitted to them and predicts what a million studies take.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cost import CostModel, Observation, count_windows, fit_cost
from benchmarks.log_plots import Line, draw
from benchmarks.reporting import RESULTS, ROOT, measure_apart, measured_on, write_report

IMAGES = ROOT / "docs" / "images"
WINDOW = json.loads((ROOT / "bundle/configs/inference.json").read_text(encoding="utf-8"))["image_size"]
LONG = 4e6  # pixels above which one repetition says enough
STUDIES = 1_000_000
IMAGES_PER_START = 1000


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        series: to which it belongs.
        value: place on the axis of that series.
        shape: of the image in its file: two sides, and slices of a volume.
        scale: ``"native"``, windows over everything, or ``"short_side"``, resized to one window.
        overlap: of windows.
        batch: windows, or slices, per call of the network.
        threads: computing threads.
    """

    series: str
    value: float
    shape: tuple[int, ...]
    scale: str
    overlap: float = 0.5
    batch: int = 8
    threads: int = 2

    @property
    def windows(self) -> int:
        """Passes of the network over one window."""
        if self.scale == "native":
            return count_windows(self.shape, WINDOW, self.overlap)
        return self.shape[2] if len(self.shape) == 3 else 1  # squares fill one window

    @property
    def megapixels(self) -> float:
        """Of the file; of a volume megavoxels."""
        pixels = 1.0
        for size in self.shape:
            pixels *= size
        return pixels / 1e6


AXES = {
    "picture, windows over everything": "side of a picture (pixels)",
    "picture, resized to one window": "side of a picture (pixels)",
    "volume, slice by slice": "slices of 256 x 256",
    "windows per call": "windows per call of the network",
    "threads": "computing threads",
    "overlap": "overlap of windows",
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small images: about a minute")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and Markdown")
    parser.add_argument("--plots", type=Path, help="folder of the plots (default: docs/images; with --quick: --out)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="computing threads, where they do not vary")
    return parser.parse_args(arguments)


def plan(*, quick: bool, threads: int) -> list[Point]:
    """All points, in the order of the table."""
    native, resized, volume, batch, cores, overlap = AXES
    sides = (256, 512) if quick else (256, 512, 1024, 2048, 4096, 8192)
    depths = (4, 16) if quick else (50, 200, 500, 1000)
    batches = (1, 2) if quick else (1, 2, 4, 8, 16, 32)
    shares = (0.0, 0.5) if quick else (0.0, 0.25, 0.5, 0.75)
    base = Point(overlap, 0, (256, 512) if quick else (1024, 1024), "native", threads=threads)
    return [
        *(Point(native, side, (side, side), "native", threads=threads) for side in sides),
        *(Point(resized, side, (side, side), "short_side", threads=threads) for side in sides),
        *(Point(volume, depth, (256, 256, depth), "short_side", threads=threads) for depth in depths),
        *(replace(base, series=batch, value=size, batch=size) for size in batches),
        *(replace(base, series=cores, value=count, threads=count) for count in sorted({1, threads})),
        *(replace(base, series=overlap, value=share, overlap=share) for share in shares),
    ]


def make_image(folder: Path, shape: tuple[int, ...]) -> Path:
    """A picture (PNG) or volume (NIfTI) of 8-bit noise with large structures, made once for each shape."""
    import numpy as np
    from PIL import Image

    path = folder / ("x".join(map(str, shape)) + (".nii" if len(shape) == 3 else ".png"))
    if path.is_file():
        return path
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    with Image.fromarray(coarse) as picture:
        plane = picture.resize(shape[:2], Image.Resampling.BICUBIC)
    if len(shape) == 2:
        plane.save(path, compress_level=1)
        return path
    import nibabel

    slices = np.repeat(np.asarray(plane)[..., :1], shape[2], axis=2)
    nibabel.save(nibabel.Nifti1Image(slices, np.eye(4)), path)
    return path


def run_point(point: Point, folder: Path) -> dict[str, Any]:
    """Measure one point in a process of its own."""
    job = {
        "file": str(make_image(folder, point.shape)),
        "warm_up": str(make_image(folder, (256, 256, 4)[: len(point.shape)])),
        "options": {"scale": point.scale, "overlap": point.overlap, "sw_batch_size": point.batch},
        "threads": point.threads,
        "repeats": 1 if point.megapixels * 1e6 > LONG else 3,
        "began": time.time(),
    }
    what = f"{point.series} {point.value:g}"
    return measure_apart("benchmarks.measure_growth", json.dumps(job), what=what, threads=point.threads)


def row_of(point: Point, result: dict[str, Any]) -> dict[str, Any]:
    """What the table says of a point."""
    return {
        **asdict(point),
        "windows": point.windows,
        "megapixels": point.megapixels,
        "median_s": statistics.median(result["seconds"]),
        "seconds": result["seconds"],
        "start_s": result["start_s"],
        "ready_mib": result["ready_mib"],
        "peak_mib": result["peak_mib"],
    }


def model_of(rows: list[dict[str, Any]], threads: int) -> dict[str, Any]:
    """The fitted prices, how well they fit, and what they say of a million studies."""
    fitted = [row for row in rows if row["batch"] == 8 and row["threads"] == threads]
    seen = [Observation(row["megapixels"], row["windows"], row["median_s"]) for row in fitted]
    model, start = fit_cost(seen), statistics.median(row["start_s"] for row in rows)
    residuals = [model.residual(one) for one in seen]
    return {
        "prices": asdict(model),
        "start_s": start,
        "threads": threads,
        "fitted_points": len(seen),
        "median_absolute_residual": statistics.median(map(abs, residuals)),
        "largest_residual": max(residuals, key=abs),
        "residuals": [
            {"series": row["series"], "value": row["value"], "residual": residual}
            for row, residual in zip(fitted, residuals, strict=True)
        ],
        "million": list(_million(model, start)),
    }


def _million(model: CostModel, start_s: float) -> Iterator[dict[str, Any]]:
    kinds = (
        ("pictures of 512 x 512, resized to one window", Point("", 0, (512, 512), "short_side")),
        ("pictures of 4096 x 4096, windows over everything", Point("", 0, (4096, 4096), "native")),
        ("volumes of 512 x 512 x 300, slice by slice", Point("", 0, (512, 512, 300), "short_side")),
    )
    for name, point in kinds:
        yield {
            "study": name,
            "seconds_per_study": model.seconds(point.megapixels, point.windows),
            "machine_hours": model.hours(
                STUDIES, point.megapixels, point.windows, start_s=start_s, images_per_start=IMAGES_PER_START
            ),
        }


def format_markdown(report: dict[str, Any]) -> str:
    """Points, prices and predictions as tables."""
    model = report["model"]
    prices = model["prices"]
    lines = [
        "# How cost grows",
        "",
        measured_on(report["machine"]),
        f"From file to written mask with the network of the bundle, windows of {WINDOW} pixels; median of three "
        f"repetitions, of one above {LONG / 1e6:g} megapixels. Memory is that of the whole process with Python and its "
        "libraries, at its peak.",
        "",
        "| what varies | value | windows | seconds | peak memory (MiB) |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {row['series']} | {row['value']:g} | {row['windows']} | {row['median_s']:.3f} | {row['peak_mib']:.0f} |"
            for row in report["rows"]
        ),
        "",
        "## A model of cost",
        "",
        f"With {model['threads']} threads an image takes {1e3 * prices['image_s']:.1f} ms, "
        f"{1e3 * prices['megapixel_s']:.1f} ms more for each million of its pixels or voxels, and "
        f"{1e3 * prices['window_s']:.2f} ms more for each window; a process takes {model['start_s']:.1f} s to start. "
        f"Fitted to {model['fitted_points']} of the points above: the median error is "
        f"{100 * model['median_absolute_residual']:.0f} %, the largest {100 * model['largest_residual']:+.0f} %.",
        "",
        f"| a million | seconds each | hours of one such machine, a start every {IMAGES_PER_START} |",
        "|---|---:|---:|",
        *(
            f"| {row['study']} | {row['seconds_per_study']:.3f} | {row['machine_hours']:,.0f} |"
            for row in model["million"]
        ),
    ]
    return "\n".join(lines) + "\n"


def draw_plots(rows: list[dict[str, Any]], folder: Path) -> None:
    """Time and memory over sides and slices, and time over the settings, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)

    def line(series: str, key: str) -> Line:
        return Line(series, [(row["value"], row[key]) for row in rows if row["series"] == series])

    native, resized, volume, batch, cores, overlap = AXES
    for name, series, axis in (
        ("growth_side", (native, resized), AXES[native]),
        ("growth_slices", (volume,), AXES[volume]),
    ):
        draw(
            folder / f"{name}.png",
            [
                (axis, "seconds", [line(one, "median_s") for one in series]),
                (axis, "peak memory (MiB)", [line(one, "peak_mib") for one in series]),
            ],
        )
    settings = [(AXES[one], "seconds", [line(one, "median_s")]) for one in (batch, cores, overlap)]
    draw(folder / "growth_settings.png", settings)


def main(arguments: list[str] | None = None) -> None:
    """Measure, fit, draw, and write JSON and Markdown."""
    options = parse_arguments(arguments)
    points = plan(quick=options.quick, threads=options.threads)
    rows, machine = [], None
    with tempfile.TemporaryDirectory() as folder:
        for point in points:
            result = run_point(point, Path(folder))
            machine = machine or result["machine"]
            rows.append(row_of(point, result))
            print(
                f"{rows[-1]['median_s']:9.3f} s {rows[-1]['peak_mib']:7.0f} MiB  {point.series} {point.value:g}",
                flush=True,
            )
    report = {"machine": machine, "window": WINDOW, "rows": rows, "model": model_of(rows, options.threads)}
    draw_plots(rows, options.plots or (options.out if options.quick else IMAGES))
    write_report(options.out, "growth" + ("_quick" if options.quick else ""), report, format_markdown(report))


if __name__ == "__main__":
    main()
