"""The shipped network in 8-bit integers: what it loses and what it gains. ``python -m benchmarks.int8 --help``.

Static quantisation by ONNX Runtime and by NNCF for OpenVINO (``banet export --int8``), calibrated on training pictures
as the bundle prepares them; every candidate then segments the validation pictures through the bundle. JA is compared
picture by picture, with an interval over other draws of pictures. Times are paired: each picture goes through all
candidates in turn, and *relative* is the median of the ratios to the reference. The light network with another encoder
is timed alone, with random weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from PIL import Image

from banet_monai.backends import OFTEN, ExportedNetwork, OnnxNetwork, OpenVinoNetwork
from banet_monai.export import describe, export, optimize, quantize
from banet_monai.export.tasks import calibration_images
from banet_monai.metrics import bootstrap_interval
from banet_monai.networks import BANet
from banet_monai.report.manifest import file_sha256
from banet_monai.segmenter import Segmenter
from benchmarks.candidates import BANET, LIGHT_V3
from benchmarks.machine import describe_machine
from benchmarks.reporting import RESULTS, measured_on, write_report

REFERENCE = "torch float32"
OTHER = "mobilenet_v3_large"
MOST_LOSS, MOST_TIME, MOST_MB = 0.005, 0.5, 25.0  # of validation JA; of the reference's time; of the file
WARM_UP = OFTEN // 2 + 2  # turns of two calls: afterwards OpenVINO has its program for this shape

Floats = NDArray[np.float32]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.int8", description=__doc__)
    parser.add_argument(
        "--dataset-dir", type=Path, required=True, help="folder with train/ and val/, images/ and masks/"
    )
    parser.add_argument("--weights", type=Path, help="weights of the network (default: the shipped ones)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and Markdown")
    parser.add_argument("--keep", type=Path, help="folder in which the quantised files are kept")
    parser.add_argument("--calibration", type=int, default=100, metavar="N", help="training pictures to calibrate on")
    parser.add_argument("--validation", type=int, metavar="N", help="validation pictures (default: all)")
    parser.add_argument("--times", type=int, default=50, metavar="N", help="timed passes of each candidate")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="computing threads")
    parser.add_argument("--methods", nargs="+", choices=["onnx", "nncf"], default=["onnx", "nncf"])
    parser.add_argument("--quick", action="store_true", help="few pictures and passes: a minute; no figures to keep")
    options = parser.parse_args(arguments)
    if options.quick:
        options.calibration, options.validation, options.times = 8, 6, 5
    if "nncf" in options.methods and importlib.util.find_spec("nncf") is None:
        print('nncf is not installed (pip install "banet-monai[int8]"): no 8-bit integers for OpenVINO.')
        options.methods = [method for method in options.methods if method != "nncf"]
    return options


def pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Pictures and their masks, by name."""
    images, masks = (sorted((folder / name).iterdir()) for name in ("images", "masks"))
    if [image.stem for image in images] != [mask.stem for mask in masks]:
        raise SystemExit(f"the files in {folder}/images and {folder}/masks do not belong together by their names.")
    return list(zip(images, masks, strict=True))


def calibrated_on(segmenter: Segmenter, folder: Path, count: int) -> list[Floats]:
    """Windows of so many pictures of a folder, ``(1, 3, side, side)`` as the network gets them."""
    side = json.loads((segmenter.bundle / "configs" / "inference.json").read_text(encoding="utf-8"))["image_size"]
    windows = calibration_images(segmenter.preprocessing, folder, roi_size=(side, side), count=count)
    return [window.numpy() for window in windows]


def quantise_onnx(source: Path, target: Path, pictures: Sequence[Floats]) -> None:
    """Weights per channel in 8 bits with sign, activations without, by ONNX Runtime."""
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(pictures)

        def get_next(self) -> dict[str, Floats] | None:
            picture = next(self.left, None)
            return None if picture is None else {"image": picture}

    ready = target.with_name(f"{target.stem}_ready.onnx")
    quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Add", "Concat", "AveragePool"],
        calibrate_method=CalibrationMethod.MinMax,  # the others keep every feature map of every picture in memory
    )
    ready.unlink()
    model, original = onnx.load(target), onnx.load(source)
    del model.metadata_props[:]
    model.metadata_props.extend(original.metadata_props)
    onnx.save(model, target)


def candidates(
    segmenter: Segmenter, folder: Path, pictures: Sequence[Floats], options: argparse.Namespace
) -> dict[str, torch.nn.Module]:
    """Everything that is compared, by name; the reference first."""
    network, torch_threads = cast(BANet, segmenter.network), options.threads
    torch.set_num_threads(torch_threads)
    description = describe(network, task="skin_lesion", weights=weights_of(segmenter, options))
    for to, name in (("onnx", "model.onnx"), ("openvino", "model.xml")):
        export(network, folder / name, to=to, description=description)

    found: dict[str, torch.nn.Module] = {
        REFERENCE: optimize(network),
        "torch bfloat16": optimize(network, dtype=torch.bfloat16),
        "onnx float32": OnnxNetwork(folder / "model.onnx", threads=torch_threads),
        "openvino float32": OpenVinoNetwork(folder / "model.xml", threads=torch_threads, amp="none"),
        "openvino bfloat16": OpenVinoNetwork(folder / "model.xml", threads=torch_threads, amp="bf16"),
    }
    if "onnx" in options.methods:
        quantise_onnx(folder / "model.onnx", folder / "int8.onnx", pictures)
        found["onnx int8"] = OnnxNetwork(folder / "int8.onnx", threads=torch_threads)
    if "nncf" in options.methods:
        images = [torch.from_numpy(picture) for picture in pictures]
        thorough = not options.quick
        quantize(network, folder / "int8.xml", description=description, images=images, thorough=thorough)
        found["openvino int8"] = OpenVinoNetwork(folder / "int8.xml", threads=torch_threads)
        other = _with_other_encoder()
        facts = describe(other, task="skin_lesion")
        export(other, folder / "other.xml", to="openvino", description=facts)
        quantize(other, folder / "other_int8.xml", description=facts, images=images[:8], thorough=False)  # timed alone
        found[f"{OTHER}: torch float32"] = optimize(other)
        found[f"{OTHER}: openvino float32"] = OpenVinoNetwork(folder / "other.xml", threads=torch_threads, amp="none")
        found[f"{OTHER}: openvino int8"] = OpenVinoNetwork(folder / "other_int8.xml", threads=torch_threads)
    return found


def _with_other_encoder() -> BANet:
    torch.manual_seed(0)
    network: BANet = ConfigParser({"network": BANET[LIGHT_V3]}).get_parsed_content("network")
    return network.eval()


def weights_of(segmenter: Segmenter, options: argparse.Namespace) -> Path:
    """The file of weights that is quantised."""
    return Path(options.weights or segmenter.bundle / "models" / "model.pt")


def validation_ja(segmenter: Segmenter, network: torch.nn.Module, cases: Sequence[tuple[Path, Path]]) -> list[float]:
    """Jaccard index of each picture, in the size of its file."""
    segmenter.network = network
    scores = []
    for image, mask in cases:
        found = segmenter(image).mask > 0
        with Image.open(mask) as picture:
            truth = np.asarray(picture.convert("L")).T > 127  # MONAI's axes: x first
        union = (found | truth).sum()
        scores.append(float((found & truth).sum() / union) if union else 1.0)
    return scores


def paired_times(networks: dict[str, torch.nn.Module], picture: Floats, times: int) -> dict[str, list[float]]:
    """Seconds of each pass; all candidates take turns, and runtimes that spin get a rest before the next."""
    image = torch.from_numpy(picture).to(memory_format=torch.channels_last)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    with torch.inference_mode():
        for turn in range(-WARM_UP, times):
            for name, network in networks.items():
                network(image)  # wakes its threads and fills the caches again
                took = _time(lambda network=network: network(image))
                if turn >= 0:
                    seconds[name].append(took)
                time.sleep(0.005)
    return seconds


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def summarize(
    seconds: dict[str, list[float]], scores: dict[str, list[float]], sizes: dict[str, float | None]
) -> list[dict[str, Any]]:
    """One row for each candidate; those without scores were timed alone."""
    rows: list[dict[str, Any]] = []
    for name, times in seconds.items():
        relative = statistics.median(a / b for a, b in zip(times, seconds[REFERENCE], strict=True))
        row = {
            "name": name,
            "median_ms": 1e3 * statistics.median(times),
            "fastest_ms": 1e3 * min(times),
            "relative_time": relative,
            "file_mb": sizes[name],
            "validation_ja": None,
            "difference": None,
            "interval": None,
            "passes": None,
        }
        if name in scores:
            differences = np.array(scores[name]) - np.array(scores[REFERENCE])
            row["validation_ja"], row["difference"] = statistics.mean(scores[name]), float(differences.mean())
            row["interval"] = [float(end) for end in bootstrap_interval(differences)]
            row["ja_of_each_picture"] = scores[name]
            if "int8" in name:
                small = (sizes[name] or 0) <= MOST_MB
                row["passes"] = bool(row["difference"] >= -MOST_LOSS and relative <= MOST_TIME and small)
        rows.append(row)
    return rows


def format_markdown(report: dict[str, Any]) -> str:
    """The table under a line about the machine."""
    lines = [
        "# 8-bit integers",
        "",
        measured_on(report["machine"], threads=report["threads"]),
        f"Weights {report['weights_sha256'][:12]}; {report['calibration_pictures']} training pictures to calibrate on, "
        f"{report['validation_pictures']} to validate; one picture of {report['image_size']} x {report['image_size']} "
        f"at a time, {report['timed_passes']} passes of each candidate, in turn, after {2 * report['warm_up_turns']} "
        f"to warm up. Difference: to {REFERENCE}, picture by picture, with its 95 % interval. Passes: validation JA at "
        f"most {MOST_LOSS} below {REFERENCE}, at most {MOST_TIME:g} of its time, at most {MOST_MB:g} MB.",
        "",
        "| candidate | validation JA | difference | time (ms) | fastest | relative | file (MB) | passes |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in report["rows"]:
        ja = difference = ""
        if row["validation_ja"] is not None:
            low, high = row["interval"]
            ja, difference = f"{row['validation_ja']:.4f}", f"{row['difference']:+.4f} ({low:+.4f} to {high:+.4f})"
        lines.append(
            f"| {row['name']} | {ja} | {difference} | {row['median_ms']:.1f} | {row['fastest_ms']:.1f} "
            f"| {row['relative_time']:.2f} | {row['file_mb'] or ''} "
            f"| {'' if row['passes'] is None else 'yes' if row['passes'] else 'no'} |"
        )
    return "\n".join(lines) + "\n"


def _file_mb(network: torch.nn.Module) -> float | None:
    if not isinstance(network, ExportedNetwork):
        return None
    weights = network.path.with_suffix(".bin")  # of OpenVINO
    files = [network.path, *([weights] if network.path.suffix == ".xml" else [])]
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)


def main(arguments: list[str] | None = None) -> None:
    """Quantise, validate, time, and write JSON and Markdown."""
    options = parse_arguments(arguments)
    segmenter = Segmenter(device="cpu", weights=options.weights, options={"amp": "none"})
    cases = pairs(options.dataset_dir / "val")[: options.validation]
    pictures = calibrated_on(segmenter, options.dataset_dir / "train" / "images", options.calibration)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        networks = candidates(segmenter, folder, pictures, options)
        seconds = paired_times(networks, pictures[0], options.times)
        scores = {}
        for name, network in networks.items():
            if not name.startswith(OTHER):
                scores[name] = validation_ja(segmenter, network, cases)
                ja = statistics.mean(scores[name])
                print(f"{name:24s} JA {ja:.4f}  {1e3 * min(seconds[name]):.1f} ms", flush=True)
        sizes = {name: _file_mb(network) for name, network in networks.items()}
    report = {
        "machine": describe_machine(),
        "weights_sha256": file_sha256(weights_of(segmenter, options)),
        "threads": options.threads,
        "calibration_pictures": len(pictures),
        "validation_pictures": len(cases),
        "image_size": pictures[0].shape[-1],
        "timed_passes": options.times,
        "warm_up_turns": WARM_UP,
        "rows": summarize(seconds, scores, sizes),
    }
    write_report(options.out, "int8" + ("_quick" if options.quick else ""), report, format_markdown(report))


if __name__ == "__main__":
    main()
