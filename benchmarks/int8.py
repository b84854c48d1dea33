"""The shipped network in 8-bit integers: what it loses and what it gains. ``python -m benchmarks.int8 --help``.

Static quantisation by ONNX Runtime and, where it is installed, by NNCF for OpenVINO, calibrated on training pictures as
the bundle prepares them; every candidate then segments the validation pictures through the bundle. Times are paired:
each picture goes through all candidates in turn, and *relative* is the median of the ratios to the reference.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from banet_monai.backends import ExportedNetwork, OnnxNetwork, OpenVinoNetwork
from banet_monai.export import describe, export, optimize
from banet_monai.segmenter import Segmenter
from benchmarks.machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = "torch float32"
MOST_LOSS, MOST_TIME, MOST_MB = 0.005, 0.5, 25.0  # of validation JA; of the reference's time; of the file

Floats = NDArray[np.float32]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.int8", description=__doc__)
    parser.add_argument(
        "--dataset-dir", type=Path, required=True, help="folder with train/ and val/, images/ and masks/"
    )
    parser.add_argument("--weights", type=Path, help="weights of the network (default: the shipped ones)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of JSON and Markdown")
    parser.add_argument("--keep", type=Path, help="folder in which the quantised files are kept")
    parser.add_argument("--calibration", type=int, default=100, metavar="N", help="training pictures to calibrate on")
    parser.add_argument("--validation", type=int, metavar="N", help="validation pictures (default: all)")
    parser.add_argument("--times", type=int, default=50, metavar="N", help="timed passes of each candidate")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="computing threads")
    parser.add_argument("--methods", nargs="+", choices=["onnx", "nncf"], default=["onnx", "nncf"])
    return parser.parse_args(arguments)


def pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Pictures and their masks, by name."""
    images, masks = (sorted((folder / name).iterdir()) for name in ("images", "masks"))
    if [image.stem for image in images] != [mask.stem for mask in masks]:
        raise SystemExit(f"the files in {folder}/images and {folder}/masks do not belong together by their names.")
    return list(zip(images, masks, strict=True))


def prepared(segmenter: Segmenter, files: Sequence[Path]) -> Iterator[Floats]:
    """Pictures as the network gets them: ``(1, 3, side, side)``, one window from the middle of each."""
    side = json.loads((segmenter.bundle / "configs" / "inference.json").read_text(encoding="utf-8"))["image_size"]
    for file in files:
        image = segmenter.preprocessing({"image": str(file)})["image"].as_tensor()
        x, y = ((length - side) // 2 for length in image.shape[1:])
        yield image[None, :, x : x + side, y : y + side].numpy()


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


def quantise_openvino(source: Path, target: Path, pictures: Sequence[Floats]) -> None:
    """Symmetric weights, asymmetric activations, biases corrected, by NNCF."""
    import nncf
    import openvino

    model = openvino.Core().read_model(source)
    quantised = nncf.quantize(
        model,
        nncf.Dataset(list(pictures)),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(pictures),
        fast_bias_correction=False,
    )
    openvino.save_model(quantised, target, compress_to_fp16=False)


def candidates(segmenter: Segmenter, folder: Path, options: argparse.Namespace) -> dict[str, torch.nn.Module]:
    """Everything that is compared, by name; the reference first."""
    network, torch_threads = segmenter.network, options.threads
    torch.set_num_threads(torch_threads)
    description = describe(network, task="skin_lesion")  # type: ignore[arg-type]
    for to, name in (("onnx", "model.onnx"), ("openvino", "model.xml")):
        export(network, folder / name, to=to, description=description)  # type: ignore[arg-type]
    train = [image for image, _ in pairs(options.dataset_dir / "train")]
    chosen = [train[index] for index in np.linspace(0, len(train) - 1, options.calibration).astype(int)]
    pictures = list(prepared(segmenter, chosen))

    found: dict[str, torch.nn.Module] = {
        REFERENCE: optimize(network),
        "torch bfloat16": optimize(network, dtype=torch.bfloat16),
        "onnx float32": OnnxNetwork(folder / "model.onnx", threads=torch_threads),
        "openvino float32": OpenVinoNetwork(folder / "model.xml", threads=torch_threads, amp="none"),
        "openvino bfloat16": OpenVinoNetwork(folder / "model.xml", threads=torch_threads, amp="bf16"),
    }
    for method in options.methods:
        if method == "nncf":
            if importlib.util.find_spec("nncf") is None:
                print("nncf is not installed: no int8 for OpenVINO.")
                continue
            quantise_openvino(folder / "model.xml", folder / "int8.xml", pictures)
            found["openvino int8"] = OpenVinoNetwork(folder / "int8.xml", threads=torch_threads)
        else:
            quantise_onnx(folder / "model.onnx", folder / "int8.onnx", pictures)
            found["onnx int8"] = OnnxNetwork(folder / "int8.onnx", threads=torch_threads)
    return found


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
        for turn in range(-3, times):
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


def format_markdown(report: dict[str, Any]) -> str:
    """The table under a line about the machine."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    lines = [
        "# 8-bit integers",
        "",
        f"Measured on: {machine['processor']}, {report['threads']} threads; {machine['system']}, Python "
        f"{machine['python']}, {versions}; commit {machine['commit']}.",
        f"{report['calibration_pictures']} training pictures to calibrate on, {report['validation_pictures']} to "
        f"validate; one picture of {report['image_size']} x {report['image_size']} at a time, {report['timed_passes']} "
        "passes of each candidate, in turn. Passes: validation JA at most "
        f"{MOST_LOSS} below float32, at most half its time, at most {MOST_MB:g} MB.",
        "",
        "| candidate | validation JA | loss | time (ms) | fastest | relative | file (MB) | passes |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in report["rows"]:
        lines.append(
            f"| {row['name']} | {row['validation_ja']:.4f} | {row['loss']:+.4f} | {row['median_ms']:.1f} | "
            f"{row['fastest_ms']:.1f} | {row['relative_time']:.2f} | {row['file_mb'] or '':} | "
            f"{'' if row['passes'] is None else 'yes' if row['passes'] else 'no'} |"
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
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        networks = candidates(segmenter, folder, options)
        window = next(prepared(segmenter, [cases[0][0]]))
        seconds = paired_times(networks, window, options.times)
        scores = {}
        for name, network in networks.items():
            scores[name] = validation_ja(segmenter, network, cases)
            print(f"{name:24s} JA {statistics.mean(scores[name]):.4f}  {1e3 * min(seconds[name]):.1f} ms", flush=True)
        sizes = {name: _file_mb(network) for name, network in networks.items()}

    reference = statistics.mean(scores[REFERENCE])
    rows = []
    for name in networks:
        loss = reference - statistics.mean(scores[name])
        relative = statistics.median(a / b for a, b in zip(seconds[name], seconds[REFERENCE], strict=True))
        within = loss <= MOST_LOSS and relative <= MOST_TIME and (sizes[name] or 0) <= MOST_MB
        rows.append(
            {
                "name": name,
                "validation_ja": statistics.mean(scores[name]),
                "loss": loss,
                "median_ms": 1e3 * statistics.median(seconds[name]),
                "fastest_ms": 1e3 * min(seconds[name]),
                "relative_time": relative,
                "file_mb": sizes[name],
                "passes": within if "int8" in name else None,
                "ja_of_each_picture": scores[name],
            }
        )
    report = {
        "machine": describe_machine(),
        "threads": options.threads,
        "calibration_pictures": options.calibration,
        "validation_pictures": len(cases),
        "image_size": window.shape[-1],
        "timed_passes": options.times,
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "int8.json").write_text(json.dumps(report, indent=2) + "\n")
    (options.out / "int8.md").write_text(format_markdown(report))
    print(format_markdown(report))


if __name__ == "__main__":
    main()
