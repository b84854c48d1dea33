"""What an image costs when very many are segmented: start of a process, then CPU seconds per picture.

    python -m benchmarks.scale_cost [--few 8] [--many 40] [--size 512]

Pictures are made by code. Each way segments few and many of them in a process of its own with one computing thread; the
difference is the price of a picture, the rest that of a start. CPU seconds (user and system, children included) say
more than wall time on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from banet_monai.data import make_demonstration_data
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).resolve().parent / "results" / "scale_cost.json"
COMMAND = "from banet_monai.cli import main; main()"
# One worker of docs/recipes/ray_segment.py, without Ray: the network is loaded once, then case by case.
PREDICTOR = """
import sys
from pathlib import Path

import torch

from banet_monai.segmenter import Segmenter
from banet_monai.transforms import SaveResultd

torch.set_num_threads(1)
segmenter, save = Segmenter(device="cpu"), SaveResultd("pred", sys.argv[2])
for file in sorted(Path(sys.argv[1]).iterdir()):
    result = segmenter(file)
    save({"pred": result.labels, "image": result.image, "name": file.stem})
"""


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=8, help="pictures of the short run")
    parser.add_argument("--many", type=int, default=40, help="pictures of the long run")
    parser.add_argument("--size", type=int, default=512, help="width of the pictures in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = {count: pictures(folder, count, options.size) for count in (options.few, options.many)}
        rows = [measure(way, sets, folder, options.rounds) for way in ("banet segment", "Segmenter and SaveResultd")]
    content = {
        "machine": describe_machine(),
        "load_average": os.getloadavg(),
        "threads": 1,
        "picture": f"synthetic skin, {options.size} pixels wide, 3/4 to 1 of it high, PNG in and out",
        "runs": f"{options.few} and {options.many} pictures, median of {options.rounds}",
        "ways": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=4))


def pictures(folder: Path, count: int, size: int) -> Path:
    """A folder with so many pictures."""
    demo = make_demonstration_data(folder / f"demo{count}", num_train=1, num_val=count, size=size)
    return demo / "val" / "images"


def measure(way: str, sets: dict[int, Path], folder: Path, rounds: int) -> dict[str, object]:
    """Seconds of a start and of a picture, CPU and wall."""
    seconds = {count: [run(way, source, folder / "out") for _ in range(rounds)] for count, source in sets.items()}
    few, many = sorted(sets)
    row: dict[str, object] = {"way": way}
    for index, name in enumerate(("cpu", "wall")):
        short, long = (sorted(values[index] for values in seconds[count])[rounds // 2] for count in (few, many))
        per_picture = (long - short) / (many - few)
        row[f"{name}_seconds_per_picture"] = round(per_picture, 4)
        row[f"{name}_seconds_to_start"] = round(short - few * per_picture, 2)
    return row


def run(way: str, source: Path, output: Path) -> tuple[float, float]:
    """CPU and wall seconds of one run."""
    if way == "banet segment":
        line = [sys.executable, "-c", COMMAND, "segment", source, "-o", output, "--device", "cpu", "--quiet"]
    else:
        line = [sys.executable, "-c", PREDICTOR, source, output]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([str(word) for word in line], env=environment, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


if __name__ == "__main__":
    main()
