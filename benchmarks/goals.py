"""The goals of speed and where each result file says whether it was reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.forms_speed import LIGHT, PAPER, SEPARABLE
from benchmarks.int8 import MOST_LOSS, MOST_MB, MOST_TIME
from benchmarks.training_table import MOST_WAITING
from benchmarks.windows_speed import CASES, GOAL_SHARE, GOAL_STOCK

__all__ = ["GOALS", "Finding", "Goal"]

MOST_PAPER, MOST_SEPARABLE, MOST_LIGHT_MS = 0.45, 0.15, 20.0
AIM_INT8_MS, LEAST_OF_RATE = 10.0, 0.3
MOST_RATIO, MOST_RATIO_GPU, MOST_OUTSIDE_MS, MOST_MIB = 1.5, 2.0, 10.0, 4096

Report = dict[str, Any]


class Finding(NamedTuple):
    """What a result says about a goal."""

    words: str
    met: bool


@dataclass(frozen=True)
class Goal:
    """One line of the table.

    Attributes:
        words: the goal.
        command: that measures it.
        result: name of the result file; None where there is none yet.
        look: reads the finding out of the result; None where it is not in it.
        why_not: the reason, and what the limit is, where it is missed.
    """

    words: str
    command: str
    result: str | None = None
    look: Callable[[Report], Finding | None] = lambda _: None
    why_not: str = ""


def _form(network: str, most: float) -> Callable[[Report], Finding | None]:
    """The fast bfloat16 form over the plain form of the paper's network, or its milliseconds for the light one."""

    def look(report: Report) -> Finding | None:
        for row in report["rows"]:
            if (row["network"], row["form"], row["dtype"]) == (network, "optimized", "bfloat16"):
                if network == LIGHT:
                    milliseconds = 1e3 * row["median_s"]
                    return Finding(
                        f"{milliseconds:.1f} ms (fastest {1e3 * row['fastest_s']:.1f})", milliseconds <= most
                    )
                return Finding(f"{row['relative_time']:.3f}", row["relative_time"] <= most)
        return None

    return look


def _windows(name: str) -> Callable[[Report], Finding | None]:
    def look(report: Report) -> Finding | None:
        row = next((row for row in report["rows"] if row["input"] == name), None)
        if row is None:
            return None
        words = f"{row['share_of_network']:.2f}; MONAI's inferer {row['share_of_network_of_stock']:.2f}"
        return Finding(words, row["met"])

    return look


def _all_windows(report: Report) -> Finding | None:
    shares = [row["share_of_network"] for row in report["rows"]]
    return Finding(f"at least {min(shares):.2f}", all(row["met"] for row in report["rows"]))


def _matrix_rate(report: Report) -> Finding | None:
    best = max(row["share"] for row in report["rows"])
    return Finding(f"{best:.2f} of {report['matrix_flops_per_s'] / 1e12:.0f} TFLOP/s", best >= LEAST_OF_RATE)


def _waiting(report: Report) -> Finding | None:
    rows = [row for row in report["rows"] if row["network"] == LIGHT]
    worst = max(rows, key=lambda row: row["waiting_share"])
    words = f"at most {100 * worst['waiting_share']:.1f} % (at {worst['image_size']} pixels)"
    return Finding(words, worst["waiting_share"] <= MOST_WAITING)


def _int8(report: Report, key: str) -> Finding | None:
    row = next((row for row in report["rows"] if row["name"] == "openvino int8"), None)
    if row is None:
        return None
    low, high = row["interval"] or (0.0, 0.0)
    findings = {
        "ja": lambda: Finding(f"{row['difference']:+.4f} ({low:+.4f} to {high:+.4f})", row["difference"] >= -MOST_LOSS),
        "time": lambda: Finding(f"{row['relative_time']:.2f}", row["relative_time"] <= MOST_TIME),
        "aim": lambda: Finding(f"{row['median_ms']:.1f} ms", row["median_ms"] <= AIM_INT8_MS),
        "size": lambda: Finding(f"{row['file_mb']:.1f} MB", row["file_mb"] <= MOST_MB),
    }
    return findings[key]()


def _ratio(kind: str) -> Callable[[Report], Finding | None]:
    """Whole run over the network alone, for one kind of input."""

    def look(report: Report) -> Finding | None:
        row = next((row for row in report["rows"] if row["kind"] == kind), None)
        if row is None or row["ratio"] is None:
            return None
        return Finding(f"{row['ratio']:.2f} ({report['machine']['processor']})", row["ratio"] <= MOST_RATIO)

    return look


def _whole_on_gpu(report: Report) -> Finding | None:
    """Whole run over the network alone at its worst kind of input, on a GPU."""
    rows = [row for row in report["rows"] if row["ratio"] is not None]
    if not rows:
        return None
    worst = max(rows, key=lambda row: row["ratio"])
    words = f"at most {worst['ratio']:.2f} ({worst['kind']}; {report['machine']['gpu']})"
    return Finding(words, worst["ratio"] <= MOST_RATIO_GPU)


def _outside(report: Report) -> Finding | None:
    rows = [row for row in report["rows"] if row["kind"] in ("png", "jpeg", "nifti") and row["outside_ms"] is not None]
    if not rows:
        return None
    words = ", ".join(f"{row['outside_ms']:.1f} ms ({row['kind']})" for row in rows)
    return Finding(words, all(row["outside_ms"] <= MOST_OUTSIDE_MS for row in rows))


def _memory(kind: str) -> Callable[[Report], Finding | None]:
    """Peak of the whole process for an input that was done once."""

    def look(report: Report) -> Finding | None:
        row = next((row for row in report["rows"] if row["kind"] == kind), None)
        return None if row is None else Finding(f"{row['peak_mib']} MiB", row["peak_mib"] <= MOST_MIB)

    return look


def _model(report: Report) -> Finding | None:
    model = report["model"]
    hours = model["million"][0]["machine_hours"]
    words = (
        f"{len(report['rows'])} points; the model errs by {100 * model['median_absolute_residual']:.0f} % (median) and "
        f"says {hours:,.0f} hours of this machine for a million pictures of 512 x 512"
    )
    return Finding(words, True)


_GPU = "bash benchmarks/gpu/step.sh speed"
_FORMS = ("python -m benchmarks.forms_speed", "forms_speed_cpu")
_INT8 = ("python -m benchmarks.int8 --dataset-dir DIR", "int8")
_INT8_AMX = (_INT8[0], "int8_amx")  # of the weights before, kept: there the goal is met
_INT8_AVX2 = (_INT8[0], "int8_avx2")  # a processor that multiplies neither bfloat16 nor bytes in one instruction
_PIPELINE = ("python -m benchmarks.pipeline_speed", "pipeline_speed")
_PIPELINE_50 = ("python -m benchmarks.pipeline_speed --encoder resnet50 --only png nifti", "pipeline_speed_resnet50")
_PIPELINE_50_AMX = (_PIPELINE_50[0], "pipeline_speed_resnet50_amx")  # kept: the network is so quick there
_PIPELINE_50_AVX2 = (_PIPELINE_50[0], "pipeline_speed_resnet50_avx2")  # neither bfloat16 nor AVX-512

GOALS = (
    Goal(
        f"ResNet-50, output stride 8, the paper's ASPP: at most {MOST_PAPER} of the plain form's time",
        *_FORMS,
        _form(PAPER, MOST_PAPER),
    ),
    Goal(
        f"ResNet-50, output stride 16, separable: at most {MOST_SEPARABLE} of it",
        *_FORMS,
        _form(SEPARABLE, MOST_SEPARABLE),
    ),
    Goal(
        f"light encoder: at most {MOST_LIGHT_MS:g} ms",
        *_FORMS,
        _form(LIGHT, MOST_LIGHT_MS),
        "the convolutions alone take two thirds of it; the table has the same network in OpenVINO "
        "(`--backend openvino`) below the goal",
    ),
    Goal(
        f"ResNet-50 on a GPU, bfloat16, batch of 64: at least {LEAST_OF_RATE:g} of the card's matrix rate",
        _GPU,
        "card_rate",
        _matrix_rate,
    ),
    Goal(
        f"ResNet-50, folder of 200 pictures of 512 x 512: the whole job at most {MOST_RATIO:g} times the network",
        *_PIPELINE_50,
        _ratio("png"),
    ),
    Goal(
        "the same on a processor that multiplies bfloat16 matrices in hardware (AMX)",
        *_PIPELINE_50_AMX,
        _ratio("png"),
        "since the fast form and the cores that share a batch, decoding these noisy PNGs takes a third as long as the "
        "network; two cores that never wait for each other would reach about 1.7",
    ),
    Goal("the same on a processor with AVX2 alone", *_PIPELINE_50_AVX2, _ratio("png")),
    Goal(
        f"ResNet-50, volume of 512 x 512 x 300: at most {MOST_RATIO:g} times",
        *_PIPELINE_50,
        _ratio("nifti"),
    ),
    Goal(
        "the same with AMX",
        *_PIPELINE_50_AMX,
        _ratio("nifti"),
        "reading, network and writing of a single volume follow each other",
    ),
    Goal("the same with AVX2 alone", *_PIPELINE_50_AVX2, _ratio("nifti")),
    Goal(
        f"outside the network at most {MOST_OUTSIDE_MS:g} ms of one core per picture",
        *_PIPELINE,
        _outside,
        "of a PNG decoding, scaling, scaling back and encoding are libraries' work; decoding one of these noisy ones "
        "by Pillow took about 4 ms of it, a JPEG of the same picture 1 ms. Since then libspng decodes them, in the "
        "share of Pillow's time that the table of one picture says, and then Python came to do less, which left "
        "0.84 of the rest on an older processor (16 to 24 ms on one core there). This line waits for one like its own",
    ),
    Goal(f"volume of 1000 slices: the process within {MOST_MIB} MiB", *_PIPELINE, _memory("deep")),
    Goal(f"tiled TIFF of 20,000 x 20,000: the process within {MOST_MIB} MiB", *_PIPELINE, _memory("huge")),
    Goal(
        f"the whole job on a GPU: at most {MOST_RATIO_GPU:g} times the network",
        f"{_PIPELINE_50[0]} --device cuda",
        "pipeline_speed_resnet50_cuda",
        _whole_on_gpu,
    ),
    *(
        Goal(
            f"{case.name}: {GOAL_SHARE:g} of the network's throughput, or {GOAL_STOCK:g} times MONAI's inferer",
            "python -m benchmarks.windows_speed",
            "windows_speed_cpu",
            _windows(case.name),
        )
        for case in CASES
    ),
    Goal("windows on a GPU: the same", _GPU, "windows_speed_cuda", _all_windows),
    Goal(
        f"training: waiting for data at most {100 * MOST_WAITING:g} % of a step, at 224 to 512 pixels",
        "python -m benchmarks.training_table",
        "training_table",
        _waiting,
    ),
    Goal("training on a GPU: the card busy at least 90 % of the time", _GPU, "training_table_cuda", _waiting),
    Goal(f"8-bit integers: validation JA at most {MOST_LOSS} below float32", *_INT8, lambda r: _int8(r, "ja")),
    Goal(
        f"8-bit integers: at most {MOST_TIME:g} of the float32 time",
        *_INT8,
        lambda r: _int8(r, "time"),
        "beside the fast float32 form, whose convolutions are quick on this processor; the next line is of another",
    ),
    Goal("the same on an Intel Xeon, the weights before", *_INT8_AMX, lambda r: _int8(r, "time")),
    Goal("the same on a processor with AVX2 alone: JA", *_INT8_AVX2, lambda r: _int8(r, "ja")),
    Goal("the same there: time", *_INT8_AVX2, lambda r: _int8(r, "time")),
    Goal(
        f"8-bit integers: {AIM_INT8_MS:g} ms is the aim",
        *_INT8,
        lambda r: _int8(r, "aim"),
        "this processor multiplies bfloat16 in hardware, so that OpenVINO's bfloat16 is faster than its 8-bit integers",
    ),
    Goal(f"8-bit integers: a file below {MOST_MB:g} MB", *_INT8, lambda r: _int8(r, "size")),
    Goal("how time and memory grow, and a model of cost", "python -m benchmarks.growth", "growth", _model),
)
