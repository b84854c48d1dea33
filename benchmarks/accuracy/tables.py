"""Tables and plots from the result files: ``python -m benchmarks.accuracy tables --help``.

One report for each budget and data set: every method's figures as mean and standard deviation over seeds, the paired
differences from BA-Net, and what training cost. ``--write`` puts a report between the two marks of a document,
``<!-- accuracy: cpu/isic2017 -->`` and ``<!-- end -->``; ``cpu/isic2017#scores`` (``#caption``, ``#differences``,
``#costs``) names a part of it, ``runs`` what was run and what waits. ``--check`` fails where a document says something
else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from banet_monai.files import write_beside
from benchmarks.accuracy.collecting import FORMAT
from benchmarks.accuracy.definitions import EXPERIMENTS, load_definitions
from benchmarks.accuracy.estimates import Difference, Scores, compare, scores_of
from benchmarks.accuracy.folds import parts_of, with_folds_together
from benchmarks.accuracy.plots import draw_curves, draw_differences
from benchmarks.accuracy.progress import table_of_progress
from benchmarks.blocks import fill_blocks

__all__ = ["Report", "load_results", "main", "with_baselines"]

RESULTS = Path(__file__).with_name("results")
BASELINE = "banet"
PROGRESS = "runs"  # the mark of what was run and what waits
SHOWN = {  # metric: heading, digits
    "ja": ("JA", 4),
    "dice": ("Dice", 4),
    "boundary_iou": ("Boundary IoU", 4),
    "hd95": ("HD95", 2),
    "assd": ("ASSD", 2),
    "nsd": ("NSD", 4),
}
COMPARED = ("ja", "boundary_iou", "hd95", "nsd")
PROTOCOL = ("image_size", "max_epochs", "batch_size", "amp")  # of "learning": one value for all methods of a table
UNLIKE_THE_PAPER = (
    "The pictures are centre-cropped squares, 1800 and 121 of the official 2000 and 150: not comparable with the "
    "paper's .810 on the official test pictures."
)

Result = Mapping[str, Any]


def load_results(folder: Path) -> dict[str, list[Result]]:
    """All results of a folder by ``budget/dataset``.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: for a file of another format, naming it.
    """
    groups: dict[str, list[Result]] = {}
    for path in sorted(folder.rglob("seed*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result.get("format") != FORMAT:
            raise ValueError(f"{path} has format {result.get('format')}, this version reads {FORMAT}: run it again.")
        groups.setdefault(result["name"].rsplit("/", 2)[0], []).append(result)
    if not groups:
        raise FileNotFoundError(f"no results in '{folder}': run the experiments first.")
    return groups


def with_baselines(groups: Mapping[str, list[Result]], budgets: Mapping[str, Any]) -> dict[str, list[Result]]:
    """The groups, those of a budget that names a ``baseline`` with BA-Net's results of that one beside their own."""
    complete = {}
    for name, results in groups.items():
        source = budgets.get(name.split("/")[0], {}).get("baseline")
        lent = [result for result in groups.get(source, []) if result["experiment"] == BASELINE]
        complete[name] = [*results, *lent]
    return complete


class Report:
    """The results of one budget on one data set.

    Args:
        name: ``budget/dataset``.
        results: of all its experiments and seeds.
        order: names of experiments in the order of the tables; others follow.

    Raises:
        ValueError: when results of one experiment do not belong together, see :func:`scores_of`.
    """

    def __init__(self, name: str, results: Sequence[Result], order: Sequence[str] = ()) -> None:
        self.name = name
        by_experiment: dict[str, list[Result]] = {}
        for result in sorted(results, key=lambda result: (_place(result["experiment"], order), result["name"])):
            by_experiment.setdefault(result["experiment"], []).append(result)
        self.results = by_experiment
        self.scores: dict[str, Scores] = {key: scores_of(group) for key, group in by_experiment.items()}
        self.first: dict[str, Result] = {key: group[0] for key, group in by_experiment.items()}

    def title(self, experiment: str) -> str:
        """What the tables call an experiment."""
        return str(self.first[experiment]["title"])

    def curve_title(self, experiment: str) -> str:
        """The title, with the cases that its learning curve follows where those of others follow other cases."""
        followed = self._followed(experiment)
        same = all(self._followed(other) == followed for other in self.results)
        return self.title(experiment) if same else f"{self.title(experiment)} ({followed})"

    def _followed(self, experiment: str) -> str:
        return _any_of(part["curve_of"] for result in self.results[experiment] for part in parts_of(result))

    def differences(self, metric: str) -> dict[str, Difference]:
        """Every other method minus BA-Net; empty without BA-Net, methods without a common seed left out."""
        base = self.scores.get(BASELINE)
        if base is None:
            return {}
        others = {name: s for name, s in self.scores.items() if name != BASELINE and set(s.seeds) & set(base.seeds)}
        return {name: compare(scores, base, metric) for name, scores in others.items()}

    def parts(self) -> dict[str, str]:
        """The parts of the report by name, in their order."""
        parts = {"caption": "\n\n".join([self.caption(), *self.warnings()]), "scores": self.table_of_scores()}
        if self.differences("ja"):
            parts["differences"] = self.table_of_differences()
        return {**parts, "costs": self.table_of_costs()}

    def markdown(self) -> str:
        """The whole report."""
        return "\n\n".join(self.parts().values())

    def caption(self) -> str:
        """What was done, for a reader who sees the tables alone."""
        one = next(iter(self.first.values()))
        unit = one["summary"]["unit"]
        sizes = _any_of(" x ".join(map(str, result["network"]["image_size"])) for result in self.first.values())
        epochs, batch = (
            _any_of(r["learning"][key] for r in self.first.values()) for key in ("max_epochs", "batch_size")
        )
        text = (
            f"{one['summary']['n']} held-back cases, {sizes} pixels, {epochs} epochs of batch "
            f"{batch}; {one['judged']}. Mean ± standard deviation over seeds of the mean over cases; "
            f"HD95 and ASSD in {unit}, NSD at {one['summary']['nsd_tolerance']:g} {unit}, in the geometry of the "
            f"original files; a miss counts as JA 0."
        )
        return f"{text} {UNLIKE_THE_PAPER}" if one["definition"]["dataset"].startswith("isic2017") else text

    def warnings(self) -> list[str]:
        """What is not the same in all results or all starts of a run, each with the number of runs; changed code."""
        results = [part for group in self.results.values() for result in group for part in parts_of(result)]
        kinds: dict[str, list[list[object]]] = {
            key: [[result["learning"].get(key)] for result in results] for key in PROTOCOL
        }
        kinds["held-back list"] = [[r["definition"]["held_back"]] for group in self.results.values() for r in group]
        machines = [[*result["training"].get("machines", []), result["machine"]] for result in results]
        for key in ("commit", "processor", "gpu", "autocast"):
            kinds[key] = [[machine.get(key) for machine in of_run] for of_run in machines]
        for package in sorted({name for of_run in machines for machine in of_run for name in machine["packages"]}):
            kinds[package] = [[machine["packages"].get(package) for machine in of_run] for of_run in machines]
        for file in sorted({name for result in results for name in result["configuration"]}):
            kinds[file] = [[result["configuration"].get(file)] for result in results]
        lines = []
        for kind, values in kinds.items():
            counts = Counter(_in_turn(of_run, keep_none=kind == "gpu") for of_run in values)
            if len(counts) > 1 or any(len(in_turn) > 1 for in_turn in counts):
                words = (f"{' then '.join(in_turn)} ({count} runs)" for in_turn, count in counts.items())
                lines.append(f"{kind}: {', '.join(words)}")
        changed = [result["name"] for result in results if len(result["training"].get("sources", [])) > 1]
        warnings = [f"**Not the same in all runs**: {'; '.join(lines)}."] if lines else []
        return [*warnings, f"**Taken up under changed code**: {', '.join(changed)}."] if changed else warnings

    def table_of_scores(self) -> str:
        """Mean ± deviation over seeds of every metric, 95 % interval of JA, misses."""
        headings = ["", "seeds", "JA", "95 % interval", *(label for key, (label, _) in SHOWN.items() if key != "ja")]
        rows = []
        for name, scores in self.scores.items():
            cells = {metric: _spread(scores, metric, digits) for metric, (_, digits) in SHOWN.items()}
            low, high = scores.interval("ja")
            rest = [cells[metric] for metric in SHOWN if metric != "ja"]
            ja = [cells["ja"], f"{low:.4f} to {high:.4f}"]
            rows.append([self.title(name), str(len(scores.seeds)), *ja, *rest, f"{scores.misses():.1f}"])
        return _table([*headings, "misses"], rows)

    def table_of_differences(self) -> str:
        """Every method minus BA-Net, with both intervals."""
        headings = [f"minus {self.title(BASELINE)}", "seeds"]
        for metric in COMPARED:
            headings += [SHOWN[metric][0], "cases", "cases and seeds"]
        columns = {metric: self.differences(metric) for metric in COMPARED}
        rows = []
        for name in columns["ja"]:
            row = [self.title(name), str(len(columns["ja"][name].per_seed))]
            for metric in COMPARED:
                row += _difference_cells(columns[metric][name], SHOWN[metric][1])
            rows.append(row)
        note = (
            "Paired differences: the same cases and seeds; 95 % bootstrap intervals when cases are drawn anew, and "
            "when cases and seeds are (with three seeds still somewhat narrow). Bold: the wider one leaves out 0. "
            f"{len(rows)} {'method' if len(rows) == 1 else 'methods'} and {len(COMPARED)} metrics are compared without "
            "correction for their number. "
            "A lower HD95 is better."
        )
        return f"{_table(headings, rows)}\n\n{note}"

    def table_of_costs(self) -> str:
        """Size, cost, learning rate, time and memory."""
        headings = ["", "encoder", "start", "parameters (M)", "GFLOP", "learning rate", "s per epoch", "minutes"]
        headings += ["best epoch of the curve", "seconds to it", "memory (MiB)"]
        rows = []
        for name, group in self.results.items():
            one, parts = group[0], [part for result in group for part in parts_of(result)]
            times = [part["training"] for part in parts]
            has_encoder = "@encoder" in json.dumps(one["definition"]["overrides"]["network_def"])
            rows.append(
                [
                    self.title(name),
                    one["learning"]["encoder"] if has_encoder else "its own",
                    {"imagenet": "ImageNet", "none": "random"}.get(one["learning"]["init"], one["learning"]["init"]),
                    f"{one['network']['parameters'] / 1e6:.2f}",
                    f"{one['network']['flops'] / 1e9:.2f}",
                    f"{one['learning']['learning_rate']:g}",
                    _mean([t["seconds_per_epoch"] for t in times], 1),
                    _mean([t["seconds"] / 60 for t in times], 1),
                    ", ".join(str(t["best_epoch_of_curve"]) for t in times),
                    _mean([t["seconds_to_best"] for t in times], 0),
                    _most_memory(parts),
                ]
            )
        runs = [part for group in self.results.values() for result in group for part in parts_of(result)]
        where = _any_of(_place_of(m) for run in runs for m in run["training"].get("machines") or [run["machine"]])
        note = (
            f"Measured on {where}, other work beside it is possible; times are means over "
            "seeds, validation included. GFLOP: one picture, a multiply-add counting as two. The curve follows "
            f"{_any_of(run['curve_of'] for run in runs)} on the working grid and selects nothing."
        )
        return f"{_table(headings, rows)}\n\n{note}"


def _place_of(machine: Mapping[str, Any]) -> str:
    """Where a run was made, and in which type it computed."""
    where = machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores"
    return f"{where} ({machine['autocast']})"


def _any_of(values: Iterable[object]) -> str:
    """The different values, in the order of the table: "10 or 8"."""
    return " or ".join(dict.fromkeys(map(str, values)))


def _place(experiment: str, order: Sequence[str]) -> int:
    return order.index(experiment) if experiment in order else len(order)


def _spread(scores: Scores, metric: str, digits: int) -> str:
    deviation = scores.deviation(metric)
    mean = f"{scores.mean(metric):.{digits}f}"
    return mean if deviation is None else f"{mean} ± {deviation:.{digits}f}"


def _difference_cells(difference: Difference, digits: int) -> list[str]:
    mean = f"{difference.mean:+.{digits}f}"
    both = difference.by_both
    return [
        f"**{mean}**" if difference.clear else mean,
        _interval(difference.by_cases, digits),
        "" if both is None else _interval(both, digits),
    ]


def _interval(bounds: tuple[float, float], digits: int) -> str:
    return f"{bounds[0]:+.{digits}f} to {bounds[1]:+.{digits}f}"


def _in_turn(values: Iterable[object], *, keep_none: bool = False) -> tuple[str, ...]:
    """The different values of the starts of a run in their order; what is not known is left out beside what is."""
    known = dict.fromkeys(str(value) for value in values if value is not None or keep_none)
    return tuple(known) or ("None",)


def _mean(values: Sequence[float | None], digits: int) -> str:
    """Mean of what is known; empty where nothing is."""
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.{digits}f}" if known else ""


def _most_memory(runs: Sequence[Result]) -> str:
    """The most that any run held, of one kind for all: on the GPU where all ran on one, else in the process."""
    on_gpu = all(run["machine"]["gpu"] is not None for run in runs)
    for key in ("peak_gpu_memory_mib", "peak_memory_mib") if on_gpu else ("peak_memory_mib",):
        if known := [peak for run in runs if (peak := run["training"][key]) is not None]:
            return f"{max(known):.0f}"
    return ""


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy tables", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results; the reports go there too")
    parser.add_argument("--write", nargs="+", type=Path, default=[], metavar="FILE", help="fill marked blocks of these")
    parser.add_argument("--check", nargs="+", type=Path, default=[], metavar="FILE", help="are these up to date?")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the reports and plots, or check documents; 1 where a document is behind, 2 where it cannot be done."""
    options = parse_arguments(arguments)
    try:
        definitions = load_definitions(EXPERIMENTS)
        groups = with_baselines(load_results(options.results), definitions["budgets"])
        groups = with_folds_together(groups, definitions["datasets"])
        order = list(definitions["experiments"])
        reports = {name: Report(name, results, order) for name, results in groups.items()}
        finished = {result["name"] for results in groups.values() for result in results}
        blocks = {name: report.markdown() for name, report in reports.items()}
        blocks |= {f"{name}#{part}": text for name, report in reports.items() for part, text in report.parts().items()}
        blocks[PROGRESS] = table_of_progress(definitions, finished)
        texts = {path: path.read_text(encoding="utf-8") for path in (*options.write, *options.check)}
        filled = {path: fill_blocks(text, "accuracy", blocks) for path, text in texts.items()}
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.check:
        behind = [path for path in options.check if filled[path] != texts[path]]
        for path in behind:
            print(f"{path} does not say what the results say: python -m benchmarks.accuracy tables --write {path}")
        return 1 if behind else 0
    for path in options.write:
        _write(path, filled[path])
    for name, report in reports.items():
        stem = options.results / name.replace("/", "_")
        _write(stem.with_suffix(".md"), f"# {name}\n\n{report.markdown()}\n")
        draw_curves(report, stem.with_name(f"{stem.name}_curves.png"))
        draw_differences(report, stem.with_name(f"{stem.name}_differences.png"))
        print(f"{stem}.md")
    return 0


def _write(path: Path, text: str) -> None:
    write_beside(path, lambda partial: partial.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
