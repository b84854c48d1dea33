"""The experiments as a file says them, checked, and as the list of runs that a budget asks for.

``experiments.json`` has four parts. ``datasets``: folder below ``--data`` (or ``taught``: the data set whose training
cases :mod:`benchmarks.accuracy.teach` gave a second mask), task of the bundle, file of held-back names, numbers of
cases. ``transforms``: lists of transforms by name, which a setting joins by ``{"join": ["one list", "another"]}``.
``experiments``: title, ``network`` (arguments laid over the bundle's ``network_def``, or a definition of its own with
``_target_``), ``settings`` (entries of ``train.json``, ``::`` as separator) and ``evaluation`` (entries of
``inference.json`` and ``evaluate.json``, where the data reach the network in another way than the task's). ``budgets``:
settings for all, and blocks in the order of their worth, each with experiments and seeds; ``baseline`` names the
``budget/dataset`` whose BA-Net tables compare with, where the budget has none of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["EXPERIMENTS", "ROOT", "Run", "load_definitions", "plan", "the_run"]

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = Path(__file__).with_name("experiments.json")
CONFIGS = ROOT / "bundle" / "configs"
TASKS = ROOT / "bundle" / "tasks"

PARTS = {"about", "datasets", "transforms", "experiments", "budgets"}
JOIN = "join"
DATASET_KEYS = {"about", "folder", "taught", "task", "val_ids", "training", "held_back"}
EXPERIMENT_KEYS = {"title", "group", "network", "settings", "evaluation"}
BUDGET_KEYS = {"about", "dataset", "baseline", "settings", "curve_cases", "blocks"}
BLOCK_KEYS = {"about", "experiments", "seeds", "dataset", "settings", "curve_cases"}
# what the harness itself decides for each run
RESERVED = {"dataset_dir", "output_dir", "ckpt_dir", "checkpoint", "state_file", "resume", "seed", "val_ids", "limit"}

Settings = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training run and what it is judged on.

    Attributes:
        budget: name of the budget.
        dataset: name of the data set.
        experiment: name of the experiment.
        title: what tables call it.
        group: heading that tables put it under.
        seed: of initialisation, order and augmentation.
        data: definition of the data set.
        network: arguments laid over ``network_def``, or a whole definition.
        settings: entries of ``train.json``: the budget's, the block's and the experiment's, the later ones winning.
        evaluation: entries of the configurations of evaluation.
        curve_cases: held-back cases of the learning curve, None for all; the block's or else the budget's.
    """

    budget: str
    dataset: str
    experiment: str
    title: str
    group: str
    seed: int
    data: Mapping[str, Any]
    network: Mapping[str, Any]
    settings: Settings
    evaluation: Settings
    curve_cases: int | None

    @property
    def name(self) -> str:
        """Budget, data set, experiment and seed; also the path of the run below its folder."""
        return f"{self.budget}/{self.dataset}/{self.experiment}/seed{self.seed}"

    def training_files(self) -> list[Path]:
        """The bundle's training configuration and, for another task than the shipped one, the task's overrides."""
        return _with_task("train", self.data.get("task"))

    def evaluation_files(self) -> list[Path]:
        """The bundle's configurations for evaluation."""
        task = self.data.get("task")
        return [*_with_task("inference", task), *_with_task("evaluate", task)]


def _with_task(name: str, task: str | None) -> list[Path]:
    files = [CONFIGS / f"{name}.json"]
    return files if task is None else [*files, TASKS / task / f"{name}.json"]


def load_definitions(path: Path = EXPERIMENTS) -> dict[str, Any]:
    """Read the file of experiments and refuse it as a whole when anything in it is unknown.

    Raises:
        FileNotFoundError: when the file, a file of names or a task is missing.
        ValueError: naming the place, for an unknown key, data set, experiment or entry of ``train.json``.
    """
    definitions = json.loads(path.read_text(encoding="utf-8"))
    _require_keys(definitions, PARTS, path.name)
    for name, dataset in definitions["datasets"].items():
        _require_keys(dataset, DATASET_KEYS, f"data set '{name}'")
        _require_file(dataset.get("val_ids"), ROOT, f"data set '{name}'")
        if dataset.get("taught") not in (None, *definitions["datasets"]):
            raise ValueError(f"data set '{name}': there is no data set '{dataset['taught']}' to be taught.")
        if dataset.get("task") is not None and not (TASKS / dataset["task"] / "train.json").is_file():
            raise FileNotFoundError(f"data set '{name}': the bundle has no task '{dataset['task']}'.")
    known, judging = _configuration_keys("train"), _configuration_keys("inference", "evaluate")
    lists = definitions.get("transforms", {})
    for name, experiment in definitions["experiments"].items():
        place = f"experiment '{name}'"
        _require_keys(experiment, EXPERIMENT_KEYS, place)
        _require_settings(experiment.get("settings", {}), known, place)
        _require_settings(experiment.get("evaluation", {}), judging, place, "evaluation")
        _join(experiment.get("settings", {}), lists, place)
    for name, budget in definitions["budgets"].items():
        _check_budget(name, budget, definitions, known)
        for place in (budget, *budget["blocks"]):
            _join(place.get("settings", {}), lists, f"budget '{name}'")
    return definitions


def the_run(definitions: Mapping[str, Any], name: str) -> Run:
    """The one run of a name, ``budget/dataset/experiment/seedN``.

    Raises:
        ValueError: when the name fits no run or several.
    """
    fitting = plan(definitions, name.split("/")[0], only=[name])
    if len(fitting) != 1:
        raise ValueError(f"'{name}' fits {len(fitting)} runs, one is needed: {fitting[0].name}, ...")
    return fitting[0]


def plan(
    definitions: Mapping[str, Any], budget: str, *, only: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[Run]:
    """Runs of a budget, most wanted first: block by block, in each all experiments of one seed before the next seed.

    Args:
        definitions: from :func:`load_definitions`.
        budget: its name.
        only: keep runs whose experiment is one of these, or whose name (``budget/dataset/experiment/seedN``) begins
            with one.
        seeds: keep these seeds alone.

    Raises:
        ValueError: for an unknown budget, a name of ``only`` that fits no run, or a run that stands twice.
    """
    if budget not in definitions["budgets"]:
        raise ValueError(f"there is no budget '{budget}', there are: {', '.join(definitions['budgets'])}.")
    runs = list(_runs(definitions, budget))
    names = [run.name for run in runs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"budget '{budget}' asks for the same run twice: {', '.join(repeated)}.")
    if unknown := [text for text in only if not any(_fits(run, text) for run in runs)]:
        known = sorted({run.experiment for run in runs})
        raise ValueError(f"no run of budget '{budget}' fits {unknown}; its experiments are: {', '.join(known)}.")
    kept = [run for run in runs if not only or any(_fits(run, text) for text in only)]
    return [run for run in kept if not seeds or run.seed in seeds]


def _runs(definitions: Mapping[str, Any], name: str) -> Iterator[Run]:
    budget = definitions["budgets"][name]
    for block in budget["blocks"]:
        dataset = block.get("dataset", budget["dataset"])
        for seed in block["seeds"]:
            for experiment in block["experiments"]:
                definition = definitions["experiments"][experiment]
                parts = (budget.get("settings", {}), block.get("settings", {}), definition.get("settings", {}))
                yield Run(
                    budget=name,
                    dataset=dataset,
                    experiment=experiment,
                    title=definition["title"],
                    group=definition["group"],
                    seed=seed,
                    data=definitions["datasets"][dataset],
                    network=definition.get("network", {}),
                    settings={key: value for part in parts for key, value in part.items()},
                    evaluation=definition.get("evaluation", {}),
                    curve_cases=block.get("curve_cases", budget.get("curve_cases")),
                )


def _fits(run: Run, text: str) -> bool:
    return run.experiment == text or f"{run.name}/".startswith(f"{text}/")


def _check_budget(name: str, budget: Mapping[str, Any], definitions: Mapping[str, Any], known: set[str]) -> None:
    where = f"budget '{name}'"
    _require_keys(budget, BUDGET_KEYS, where)
    _require_settings(budget.get("settings", {}), known, where)
    for number, block in enumerate(budget["blocks"], start=1):
        place = f"{where}, block {number}"
        _require_keys(block, BLOCK_KEYS, place)
        _require_settings(block.get("settings", {}), known, place)
        datasets = [block.get("dataset", budget["dataset"])]
        for kind, names in (("data set", datasets), ("experiment", block["experiments"])):
            if unknown := [text for text in names if text not in definitions[f"{kind.replace(' ', '')}s"]]:
                raise ValueError(f"{place}: unknown {kind} {unknown}.")


def _require_keys(entry: Mapping[str, Any], allowed: set[str], place: str) -> None:
    if unknown := sorted(entry.keys() - allowed):
        raise ValueError(f"{place}: unknown keys {unknown}, allowed are {sorted(allowed)}.")


def _require_file(path: str | None, folder: Path, place: str) -> None:
    if path is not None and not (folder / path).is_file():
        raise FileNotFoundError(f"{place}: the list of names '{path}' does not exist.")


def _require_settings(settings: Mapping[str, Any], known: set[str], place: str, kind: str = "training") -> None:
    for key in settings:
        first = key.split("::")[0]
        if first in RESERVED or first == "network_def":
            raise ValueError(f"{place}: '{key}' is set by the harness for each run and cannot be a setting.")
        if first not in known:
            raise ValueError(f"{place}: '{key}' is no entry of the {kind} configuration.")


def _join(settings: Settings, lists: Mapping[str, list[Any]], place: str) -> None:
    """Put the named lists in the place of every setting ``{"join": [names]}``."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and set(value) == {JOIN}:
            if unknown := [name for name in value[JOIN] if name not in lists]:
                raise ValueError(f"{place}, '{key}': unknown lists of transforms {unknown}, there are {sorted(lists)}.")
            settings[key] = [transform for name in value[JOIN] for transform in lists[name]]


def _configuration_keys(*names: str) -> set[str]:
    """First parts of the entries of configurations of these names and of the tasks' overrides."""
    files = [file for name in names for file in (CONFIGS / f"{name}.json", *TASKS.glob(f"*/{name}.json"))]
    return {key.split("::")[0] for file in files for key in json.loads(file.read_text(encoding="utf-8"))}
