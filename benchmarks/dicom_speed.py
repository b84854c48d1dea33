"""Reading a DICOM series and writing its SEG beside plain pydicom: ``python -m benchmarks.dicom_speed --help``.

The series is made by code. Every measurement runs in a process of its own, and the ways of reading take turns round by
round, so that a machine that slows down or warms up does so for all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine, resident_mib
from benchmarks.reporting import RESULTS, measure_apart, measured_on, quartiles, write_report

REFERENCE = "dcmread + pixel_array + np.stack"
WARM_UP = 3  # slices of the small series on which everything is imported and tried before the measurement
UID_ROOT = "1.2.826.0.1.3680043.10.9"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line; ``--quick`` overrides size and rounds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dicom_speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 slices of 256 pixels, two rounds: under a minute")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and Markdown")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=7, help="processes for each way of reading")
    parser.add_argument("--steps", type=int, default=3, help="timed readings in each process, nothing kept in between")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "SERIES", "WARM_UP"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.quick:
        options.slices, options.size, options.rounds = 60, 256, 2
    return options


def make_series(folder: Path, slices: int, size: int, *, series: int) -> None:
    """Write an oblique CT of signed 16-bit values with rescale and the attributes that a scanner writes."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    row, column = np.array([0.8, 0.6, 0.0]), np.array([-0.6, 0.8, 0.0])
    for k in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        meta.MediaStorageSOPInstanceUID = f"{UID_ROOT}.{series}.{k + 1}"
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        ds = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{UID_ROOT}.{series}.1001", f"{UID_ROOT}.{series}.1002"
        ds.FrameOfReferenceUID = f"{UID_ROOT}.{series}.1003"
        ds.SpecificCharacterSet, ds.ImageType = "ISO_IR 100", ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "", "", "", ""
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20200101", "120000", "1", ""
        ds.ReferringPhysicianName, ds.Manufacturer, ds.PositionReferenceIndicator = "", "", ""
        ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "CT", "2", str(k + 1)
        ds.KVP, ds.SliceThickness, ds.PatientPosition = "120", "1.5", "HFS"
        ds.ImagePositionPatient = [f"{value:.6f}" for value in (-90.0, -110.0, 40.0 + 1.5 * k)]
        ds.ImageOrientationPatient = [f"{value:.6f}" for value in (*row, *column)]
        ds.PixelSpacing, ds.Rows, ds.Columns = ["0.7", "0.7"], size, size
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", "-24", "HU"
        ds.WindowCenter, ds.WindowWidth = "40", "400"
        ds.PixelData = random.integers(-1000, 2000, (size, size), dtype=np.int16).tobytes()
        ds.save_as(folder / f"{k:04d}.dcm")


def read_plainly(folder: Path) -> object:
    """The reference: what every script does."""
    import pydicom

    return np.stack([pydicom.dcmread(path).pixel_array for path in sorted(folder.iterdir())])


def read_folder(folder: Path) -> object:
    """SeriesReader alone."""
    from banet_monai.dicom import SeriesReader

    reader = SeriesReader()
    return reader.get_data(reader.read(folder))


def load_image(folder: Path) -> object:
    """SeriesReader in MONAI's own LoadImaged."""
    from monai.transforms import LoadImaged

    from banet_monai.dicom import SeriesReader

    return LoadImaged("image", reader=SeriesReader())({"image": str(folder)})


def find_and_load(folder: Path) -> Any:
    """What the bundle does: find the cases below a folder, then load the case."""
    from banet_monai.data.inputs import find_inputs
    from banet_monai.transforms.reading import LoadCased

    (record,) = find_inputs(folder).records()
    return LoadCased("image")(record)


def find_load_and_write(folder: Path) -> float:
    """The same, then a SEG of two segments in half of the slices; returns the seconds of writing."""
    from banet_monai.dicom.seg import write_seg

    image = find_and_load(folder)["image"]
    mask = np.zeros(image.shape[1:], np.uint8)
    columns, rows, slices = mask.shape
    mask[columns // 4 : columns // 2, rows // 4 : rows // 2, slices // 4 : 3 * slices // 4] = 1
    mask[columns // 2 : 3 * columns // 4, rows // 3 : rows // 2, slices // 4 : 3 * slices // 4] = 2
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        write_seg(mask, image, Path(place) / "mask.dcm", task="hippocampus")
        return time.perf_counter() - start


WAYS: dict[str, Callable[[Path], object]] = {
    REFERENCE: read_plainly,
    "SeriesReader": read_folder,
    "LoadImaged with SeriesReader": load_image,
    "find_inputs + LoadCased": find_and_load,
    "find_inputs + LoadCased + write_seg": find_load_and_write,
}


def measure(way: str, series: Path, warm_up: Path, steps: int) -> dict[str, Any]:
    """Time one way of reading in this process; memory is the peak above what it held before the first reading."""
    from banet_monai.dicom.parsing import forget

    action = WAYS[way]
    action(warm_up)
    files = sorted(series.iterdir())
    before = resident_mib("VmRSS")
    seconds, processor, writing = [], [], []
    for _ in range(steps):
        forget(files)
        start, start_processor = time.perf_counter(), time.process_time()
        result = action(series)
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_processor)
        if isinstance(result, float):
            writing.append(result)
        del result
    peak = resident_mib("VmHWM") - before
    return {
        "seconds": seconds,
        "processor_seconds": processor,
        "writing_s": writing,
        "peak_memory_mib": round(peak, 1),
        "machine": describe_machine(),
    }


def run_one(way: str, series: Path, warm_up: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure in a process of its own."""
    job = ("--steps", str(options.steps), "--one", way, str(series), str(warm_up))
    return measure_apart("benchmarks.dicom_speed", *job, what=way)


def summarize(results: dict[str, list[dict[str, Any]]], volume_mib: float) -> list[dict[str, Any]]:
    """One row for each way; relative times are paired round by round with the reference's."""
    rows = []
    for way, rounds in results.items():
        seconds = sorted(value for one in rounds for value in one["seconds"])
        low, median, high = quartiles(seconds)
        ratios = [
            statistics.median(one["seconds"]) / statistics.median(reference["seconds"])
            for one, reference in zip(rounds, results[REFERENCE], strict=True)
        ]
        writing = [value for one in rounds for value in one["writing_s"]]
        peak = max(one["peak_memory_mib"] for one in rounds)
        rows.append(
            {
                "way": way,
                "median_s": median,
                "quartiles_s": [low, high],
                "fastest_s": seconds[0],
                "processor_s": statistics.median(value for one in rounds for value in one["processor_seconds"]),
                "relative_time": statistics.median(ratios),
                "relative_time_of_each_round": ratios,
                "writing_seg_s": statistics.median(writing) if writing else None,
                "peak_memory_mib": peak,
                "peak_memory_in_float32_volumes": peak / volume_mib,
            }
        )
    return rows


def format_markdown(report: dict[str, Any]) -> str:
    """A table under a line about the machine."""
    conditions = report["conditions"]
    size, slices = conditions["size"], conditions["slices"]
    lines = [
        "# Reading a DICOM series and writing its SEG",
        "",
        measured_on(report["machine"]),
        f"Read by pydicom {report['pydicom']}: {slices} files of {size} x {size} signed 16-bit values, in the system's "
        "file cache. Time is the median, with "
        f"the quartiles in brackets; processes per row: {conditions['rounds']}, readings in each: "
        f"{conditions['steps']}. Relative: median over rounds of the time divided by the first row's in the same "
        "round. Processor: time of all cores together. Memory: peak of the process above what it held before, also in "
        f"volumes of float32 ({report['volume_mib']:.0f} MiB). Load average at the end, this run's own included: "
        f"{report['load_average_at_end'][0]:.1f}. The first row gives stored 16-bit values in file order; all others "
        "give float32 after rescale, in order of position, with their affine.",
        "",
        "| way | time (ms) | relative | fastest (ms) | processor (ms) | of it writing the SEG (ms) | peak memory (MiB) "
        "| in volumes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in report["rows"]:
        low, median, high = (1e3 * value for value in (row["quartiles_s"][0], row["median_s"], row["quartiles_s"][1]))
        writing = "" if row["writing_seg_s"] is None else f"{1e3 * row['writing_seg_s']:.0f}"
        lines.append(
            f"| {row['way']} | {median:.0f} ({low:.0f}-{high:.0f}) | {row['relative_time']:.2f} "
            f"| {1e3 * row['fastest_s']:.0f} | {1e3 * row['processor_s']:.0f} | {writing} "
            f"| {row['peak_memory_mib']:.0f} | {row['peak_memory_in_float32_volumes']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Make the series, measure, print, and write JSON and Markdown."""
    options = parse_arguments(arguments)
    if options.one:
        way, series, warm_up = options.one
        print(json.dumps(measure(way, Path(series), Path(warm_up), options.steps)))
        return
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        series, warm_up = Path(place) / "series", Path(place) / "warm-up"
        make_series(series, options.slices, options.size, series=1)
        make_series(warm_up, WARM_UP, options.size, series=2)
        for number in range(options.rounds):
            for way in WAYS:
                result = run_one(way, series, warm_up, options)
                results[way].append(result)
                print(f"round {number + 1}  {statistics.median(result['seconds']) * 1e3:8.1f} ms  {way}", flush=True)
    from importlib import metadata

    volume_mib = options.slices * options.size**2 * 4 / 2**20
    report = {
        "machine": results[REFERENCE][0]["machine"],
        "pydicom": metadata.version("pydicom"),
        "load_average_at_end": os.getloadavg(),
        "conditions": {key: getattr(options, key) for key in ("slices", "size", "rounds", "steps", "quick")},
        "volume_mib": volume_mib,
        "rows": summarize(results, volume_mib),
    }
    stem = "dicom_speed" + ("_quick" if options.quick else "")
    write_report(options.out, stem, report, format_markdown(report))


if __name__ == "__main__":
    main()
