"""What a report costs beyond the predictions: seconds and size of ``report.html`` with pictures made by code.

    python -m benchmarks.report_speed [--cases 200] [--size 512]

Each case has a picture, a mask, a true mask, an uncertainty and a boundary map; measurements and PNGs are made too. The
masks are the truth with a wavy border, because what a network would have made of it does not change the price. CPU
seconds (of all threads together) say more than wall time on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from banet_monai.data.skin_phantom import skin_picture
from banet_monai.files import NOTICE
from banet_monai.metrics.table import CaseTable
from banet_monai.report.page import write_report
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).resolve().parent / "results" / "report_speed.json"
DRAWN = 16  # different pictures; the others are these turned, with noise
WHITE = 65535  # of a 16-bit PNG


def main() -> None:
    """Makes the results, writes their report, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200, help="cases of the run")
    parser.add_argument("--size", type=int, default=512, help="sides of the pictures in pixels")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        results = make_results(root, options.cases, options.size)
        cpu, wall = time.process_time(), time.perf_counter()
        page = write_report(results, images=root)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        pngs = sum(file.stat().st_size for file in (results / "report").iterdir())
        row = {
            "cases": options.cases,
            "size": options.size,
            "cpu_seconds": round(cpu, 1),
            "wall_seconds": round(wall, 1),
            "html_megabytes": round(page.stat().st_size / 1e6, 1),
            "png_megabytes": round(pngs / 1e6, 1),
        }
    content = {"machine": describe_machine(), "load_average": os.getloadavg(), "report": row}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
    print(json.dumps(row, indent=4))


def make_results(root: Path, cases: int, size: int) -> Path:
    """A data set in ``root`` and the results of an evaluation of it in ``root/out``."""
    out = root / "out"
    for folder in (root / "images", root / "masks", out):
        folder.mkdir()
    drawn = [skin_picture(np.random.default_rng(number), size, size) for number in range(min(DRAWN, cases))]
    table = CaseTable(["skin lesion"])
    files = []
    for number in range(cases):
        rng = np.random.default_rng(number)
        picture, truth = (np.rot90(part, number // DRAWN) for part in drawn[number % len(drawn)])
        noisy = np.clip(picture + rng.integers(-6, 7, picture.shape), 0, 255).astype(np.uint8)
        distance = _wavy_distance(truth, rng)
        name = f"case_{number:03d}"
        Image.fromarray(noisy).save(root / "images" / f"{name}.png", compress_level=1)
        Image.fromarray(truth.astype(np.uint8) * np.uint8(255)).save(root / "masks" / f"{name}.png")
        Image.fromarray((distance > 0).astype(np.uint8) * np.uint8(255)).save(out / f"{name}_mask.png")
        for key, width in (("uncertainty", 6.0), ("boundary", 3.0)):
            grey = np.rint(np.exp(-((distance / width) ** 2)) * WHITE).astype(np.uint16)
            Image.fromarray(grey).save(out / f"{name}_{key}.png")
        table.add(name, *(torch.from_numpy(mask.copy())[None].to(torch.uint8) for mask in (distance > 0, truth)))
        score = float(rng.random())
        files.append({"path": f"{name}.png", "fate": "result", "result": f"{name}_mask.png", "uncertainty": score})
    table.write(out / "cases.csv", out / "summary.json", table.summary())
    (out / "manifest.json").write_text(json.dumps({"notice": NOTICE, "files": files}), encoding="utf-8")
    return out


def _wavy_distance(truth: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    """Pixels to the border, positive inside, with a smooth error of a few pixels."""
    distance = ndimage.distance_transform_edt(truth) - ndimage.distance_transform_edt(~truth)
    noise = ndimage.gaussian_filter(rng.normal(size=truth.shape), len(truth) / 24)
    wavy: NDArray[np.float64] = distance + noise / noise.std() * rng.gamma(1.5, len(truth) / 90)
    return wavy


if __name__ == "__main__":
    main()
