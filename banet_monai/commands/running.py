"""Runs a task's configuration as ``monai.bundle`` would, with errors in words and the libraries silent."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from banet_monai.bundles import Bundle, Task, config_names, find_bundle, with_hint
from banet_monai.choices import BACKENDS, EXPORTS
from banet_monai.commands.grammar import print_warning, shown
from banet_monai.commands.options import RunOptions, is_device
from banet_monai.commands.silence import in_words, loading, quiet_libraries

__all__ = ["Outcome", "Plan", "make_plan", "run_plan", "unused_names"]

# entries that have a place of their own on the command line
OWN_PLACE = {"dataset_dir": "it is the first argument", "output_dir": "use -o", "bundle_root": "use --bundle"}
EXPRESSION = ("$", "@", "%")
TABLES = ("cases.csv", "summary.json")  # of an evaluation
# what an exported network has not
LACKING = {"mc_dropout": "no dropout", "ensemble": "no place for the weights of others"}
CUDA = re.compile(r"^\$torch\.device\('(cuda(?::(?P<number>\d+))?)'\)$")


@dataclass(frozen=True)
class Plan:
    """A checked wish: which configuration to run with which changes. Nothing is loaded yet.

    Attributes:
        bundle: the bundle.
        task: the task in it.
        evaluate: with the configuration of evaluation.
        changes: entries of the configuration to their values.
        quiet: without a progress bar.
        overlays: configurations laid over those of the task.
    """

    bundle: Bundle
    task: Task
    evaluate: bool
    changes: dict[str, Any]
    quiet: bool
    overlays: tuple[Path, ...] = ()

    def configs(self) -> list[Path]:
        """All configuration files, later ones overriding earlier ones."""
        return [*self.task.configs(evaluate=self.evaluate), *self.overlays]


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes:
        output_dir: folder of the results.
        counts: cases ``done`` and ``failed``, files ``skipped``.
        results: case to its files, relative to the folder.
        failures: case to the reason.
        warnings: case to what should be known about it.
        interrupted: whether Ctrl-C ended it.
        broken_off: why it ended before its time, "" where it did not.
        older: tables of an evaluation before this one, which this one has not replaced.
    """

    output_dir: Path
    counts: dict[str, int]
    results: dict[str, list[str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    interrupted: bool = False
    broken_off: str = ""
    older: tuple[Path, ...] = ()

    @property
    def seg_files(self) -> list[Path]:
        """The DICOM SEG objects of this run."""
        return [
            self.output_dir / name for names in self.results.values() for name in names if name.endswith("_mask.dcm")
        ]


def make_plan(
    options: RunOptions, changes: Mapping[str, Any], *, output: Path | None = None, evaluate: bool = False
) -> Plan:
    """Check everything that can be checked without loading torch.

    Args:
        options: task, bundle, weights, device and settings.
        changes: entries that the command sets by options of its own; they go before ``options.settings``.
        output: folder of the results, where one was named.
        evaluate: run the configuration of evaluation.

    Raises:
        click.UsageError: in words for the person at the terminal.
    """
    try:
        bundle = find_bundle(options.bundle)
        task = bundle.task(options.task)
        config = task.config(evaluate=evaluate)
        overlays = _backend_of(bundle, options.backend)
        laid_over: dict[str, Any] = {}
        for overlay in overlays:
            laid_over |= json.loads(overlay.read_text(encoding="utf-8"))
        unused = unused_names(config | laid_over) - set(laid_over)
        config |= dict.fromkeys(laid_over)
    except (FileNotFoundError, ValueError) as error:
        raise click.UsageError(str(error)) from error

    settings = dict(options.settings)
    _check_names(settings, config)
    if needless := sorted(unused.intersection(settings)):
        raise click.UsageError(f"--set {needless[0]}: the task '{task.name}' does not use it.")
    wanted = {**settings, **changes}
    if output is not None:
        _check_output(output)
        wanted["output_dir"] = str(output.absolute())
    wanted["bundle_root"] = str(bundle.root.absolute())
    weights = options.weights or settings.get("checkpoint") or _weights_of(task, options)
    if weights is not None:
        wanted["checkpoint"] = weights if str(weights).startswith(EXPRESSION) else str(Path(weights).absolute())
    device = options.device or settings.get("device")
    if device is not None and not str(device).startswith(EXPRESSION):
        if not is_device(str(device)):
            raise click.UsageError(f"--set device: '{device}' is no device; cpu, cuda and cuda:0 are.")
        wanted["device"] = f"$torch.device('{device}')"
    if lacking := sorted(name for name in wanted if name.split("::")[0] not in config):
        raise click.UsageError(f"the configuration of '{task.name}' has no entry {', '.join(lacking)}.")
    if options.backend in EXPORTS:
        _check_exported(bundle, task, options.backend, config | wanted)
    return Plan(bundle, task, evaluate, wanted, options.quiet, overlays)


def unused_names(config: Mapping[str, Any]) -> set[str]:
    """Entries of a configuration that people could type and that no other entry refers to: to set them does nothing."""
    plain = [name for name, value in config.items() if not isinstance(value, list | dict) and name not in OWN_PLACE]
    texts = {name: json.dumps(value) for name, value in config.items()}
    return {
        name
        for name in plain
        if not any(re.search(rf"[@%]{name}\b", text) for other, text in texts.items() if other != name)
    }


def _check_exported(bundle: Bundle, task: Task, backend: str, entries: Mapping[str, Any]) -> None:
    """Refuse what an exported network cannot do, and one that is not there, with the whole command that makes it."""
    method = str(entries.get("uncertainty"))
    if method in LACKING:
        raise click.UsageError(
            f"--uncertainty {method}: an exported network has {LACKING[method]}; use --backend torch."
        )
    if str(entries.get("boundary")).lower() == "true":
        raise click.UsageError("boundary: an exported network has no edge branch; use --backend torch.")
    checkpoint = str(entries.get("checkpoint"))
    file = Path(str(entries.get("exported") or Path(checkpoint).with_suffix(EXPORTS[backend])))
    if file.is_file() or any(text.startswith(EXPRESSION) for text in (checkpoint, str(file))):
        return
    is_known = task in bundle.tasks()
    words = ["banet", "export", str(shown(file.absolute())), "--to", backend]
    words += ["--task", task.name if is_known else str(shown(task.folder.absolute()))]
    if Path(checkpoint).suffix not in EXPORTS.values():
        words += ["--weights", str(shown(Path(checkpoint)))]
    raise click.UsageError(f"there is no file '{shown(file.absolute())}'; make it: {shlex.join(words)}")


def _backend_of(bundle: Bundle, backend: str | None) -> tuple[Path, ...]:
    """The configuration of a backend; none for PyTorch, which is the bundle's own."""
    if backend in (None, BACKENDS[0]):
        return ()
    overlay = bundle.root / "configs" / f"inference_{backend}.json"
    if not overlay.is_file():
        raise FileNotFoundError(f"the bundle has no configuration '{overlay.name}' for --backend {backend}.")
    return (overlay,)


def run_plan(plan: Plan, source: Path) -> Outcome:
    """Load the network once and do all cases of ``source``.

    Returns:
        What became of them; a failed case, Ctrl-C or an error in the middle raise nothing.

    Raises:
        click.UsageError: when it cannot begin: no image, weights of another network, no such device.
    """
    interrupted, broken_off = False, ""
    with quiet_libraries():
        parser = _ready_parser(plan, source)
        _warn_of_temperature(parser)
        report = parser.get_parsed_content("report")
        tables = [Path(report.output_dir) / name for name in TABLES if plan.evaluate]
        before = [(table, _stamp(table)) for table in tables]
        try:
            parser.get_parsed_content("run")
        except KeyboardInterrupt:
            interrupted = True
        except Exception as error:
            broken_off = _why_broken_off(_cause(error))
        if interrupted or broken_off:
            with suppress(Exception):  # the manifest of what is there; that cases are missing is known
                report.finish()
        if not plan.evaluate:
            parser.get_parsed_content("inputs").close()
    return Outcome(
        Path(report.output_dir),
        dict(report.counts),
        dict(report.results),
        dict(report.failures),
        dict(report.warnings),
        interrupted,
        broken_off,
        tuple(table for table, stamp in before if stamp is not None and stamp == _stamp(table)),
    )


def _stamp(file: Path) -> tuple[int, int] | None:
    """What is another once a file was written anew; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _ready_parser(plan: Plan, source: Path) -> Any:
    """The configuration with everything loaded that a run needs, so that what is wrong shows before it begins."""
    with loading():  # no longer than that: what follows makes garbage, of many inputs much
        _check_device(str(plan.changes.get("device", "")))
        import monai.bundle  # noqa: F401
    try:
        parser = _parser(plan, source)
        for name in ("initialize", "report", "weights", "evaluator"):
            parser.get_parsed_content(name)
        if "tiled" in parser and not plan.evaluate:
            parser.get_parsed_content("tiled")
    except Exception as error:
        raise click.UsageError(in_words(_cause(error))) from error
    return parser


def _warn_of_temperature(parser: Any) -> None:
    """Say where a number of uncertainty is wanted, and the temperatures beside the weights are not for it."""
    from banet_monai.uncertainty.temperature import FITTED, fitted_problem

    method = str(parser.get("uncertainty", "none"))
    if method == "none" or parser.get("temperature") != FITTED:
        return
    with suppress(Exception):  # what is damaged has been refused
        description = getattr(parser.get_parsed_content("network"), "description", None)  # of an exported file
        made_from = "" if description is None else description.weights_sha256
        problem = fitted_problem(method, str(parser.get_parsed_content("checkpoint")), made_from)
        if problem:
            print_warning(f"{problem}.")


def _check_names(settings: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    known = list(config_names(config))
    for name, value in settings.items():
        if name in OWN_PLACE:
            raise click.UsageError(f"--set {name}: {OWN_PLACE[name]}.")
        if name not in known:
            shown = [other for other in known if other.count("::") <= name.count("::")]
            problem = f"the configuration has no entry '{name}'"
            raise click.UsageError(with_hint(problem, name, shown, end="; 'banet info' lists what people change."))
        default = config.get(name)
        is_number = isinstance(default, int | float) and not isinstance(default, bool)
        if is_number and isinstance(value, str) and not value.startswith(EXPRESSION):
            raise click.UsageError(f"--set {name}: '{value}' is no number; the default is {default}.")


def _check_output(folder: Path) -> None:
    place = folder.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise click.UsageError(f"-o '{folder}': '{place}' is a file, a folder is needed.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise click.UsageError(f"-o '{folder}': nothing can be written in '{place}'; choose another folder.")


def _weights_of(task: Task, options: RunOptions) -> Path | None:
    weights = task.weights()
    if weights is None or weights.is_file():
        return weights
    configs = [task.bundle / "configs" / "train.json", *([] if task.is_main else [task.folder / "train.json"])]
    files = ",".join(f"'{shown(config.absolute())}'" for config in configs)
    raise click.UsageError(
        f"the task '{task.name}' has no weights at '{weights}'. Train them: python -m monai.bundle run training "
        f'--config_file "[{files}]" --dataset_dir FOLDER; or name a file: --weights FILE.'
    )


def _check_device(device: str) -> None:
    import torch

    asked = CUDA.search(device)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked is not None and int(asked["number"] or 0) >= count:
        here = "no CUDA device is" if not count else f"{count} CUDA device{'s are' if count > 1 else ' is'}"
        raise click.UsageError(f"device {asked[1]}: {here} usable here; --device cpu works everywhere.")


def _parser(plan: Plan, source: Path) -> Any:
    from monai.bundle import ConfigParser

    files = [str(file) for file in plan.configs()]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    for name, value in plan.changes.items():
        parser[name] = value
    parser["dataset_dir"] = str(source.absolute())  # absolute: no first letter that makes it an expression
    if plan.quiet:
        parser["handlers"] = [h for h in parser["handlers"] if not str(h["_target_"]).endswith(".Progress")]
    return parser


def _cause(error: BaseException) -> BaseException:
    """What an entry of the configuration raised, out of the RuntimeErrors that MONAI wraps around it."""
    while isinstance(error, RuntimeError) and str(error).startswith("Failed to ") and error.__cause__ is not None:
        error = error.__cause__
    return error


def _why_broken_off(error: BaseException) -> str:
    from banet_monai.report import CasesFailedError

    if isinstance(error, CasesFailedError):
        return ""
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return "there is not enough memory; try --set sw_batch_size=1 or --device cpu."
    return in_words(error)
