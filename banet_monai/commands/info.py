"""``banet info``: what an input holds, or what is installed and what the bundle expects."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import banet_monai
from banet_monai.bundles import Bundle, Task, find_bundle
from banet_monai.commands.facts import HEADINGS, CaseFacts, facts_of
from banet_monai.commands.grammar import DONE, SOME_FAILED, printable
from banet_monai.commands.options import WebOptions, bundle_options, series_option, web_options
from banet_monai.commands.pacs import check_input, local_input
from banet_monai.commands.running import unused_names
from banet_monai.commands.silence import in_words, quiet_libraries

__all__ = ["info"]

PACKAGES = ("torch", "monai", "numpy", "pydicom", "nibabel", "highdicom", "dicomweb-client", "python-gdcm", "pylibjpeg")
# entries of a configuration that are wiring, or have a place of their own on the command line
NOT_AN_OPTION = ("bundle_root", "dataset_dir", "output_dir", "checkpoint", "device", "task", "modalities")
NAMED_AT_MOST = 10  # files left out for one reason; --json names all


@click.command(short_help="What INPUT holds; without INPUT what is installed.")
@click.argument("source", metavar="[INPUT]", required=False)
@bundle_options
@series_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@web_options
def info(
    *, source: str | None, task: str | None, bundle: Path | None, rules: list[str], as_json: bool, web: WebOptions
) -> int:
    """List the images in INPUT and what was left out, without names, numbers or dates of patients.

    INPUT is what 'banet segment' takes. Without INPUT: versions, the tasks with their weights, and what a task
    expects.
    """
    if source is None:
        facts = _installation(bundle, task)
        click.echo(json.dumps(facts, indent=4) if as_json else _installation_text(facts))
        return DONE
    check_input(source)
    wanted = _chosen_task(bundle, task) if task is not None else None
    with local_input(source, web, quiet=as_json) as found, quiet_libraries():
        contents = _contents(found.path, rules, wanted)
    click.echo(json.dumps(contents, indent=4) if as_json else _contents_text(contents))
    return DONE if found.complete else SOME_FAILED


# ---- an input --------------------------------------------------------------------------------------------------------


def _contents(path: Path, rules: Sequence[str], task: Task | None) -> dict[str, Any]:
    from banet_monai.data.inputs import find_inputs

    try:
        with find_inputs(path, series=list(rules) or None) as inputs:
            cases = [facts_of(case) for case in inputs.cases]
    except (OSError, ValueError) as error:
        raise click.UsageError(in_words(error)) from error
    contents: dict[str, Any] = {
        "images": [case.as_dict() for case in cases],
        "left_out": [{"path": name, "reason": reason} for name, reason in inputs.skipped],
    }
    if task is not None:
        modalities = list(task.config().get("modalities") or ())
        unfit = [case.name for case in cases if modalities and case.modality and case.modality not in modalities]
        contents["task"] = {"name": task.name, "modalities": modalities, "other_modality": unfit}
    return contents


def _contents_text(contents: Mapping[str, Any]) -> str:
    images, left_out = contents["images"], contents["left_out"]
    blocks = [f"{_number(len(images), 'image')}\n{_table([HEADINGS, *(CaseFacts(**image).row() for image in images)])}"]
    if left_out:
        reasons: dict[str, list[str]] = {}
        for item in left_out:
            reasons.setdefault(item["reason"], []).append(item["path"])
        lines = []
        for reason, paths in reasons.items():
            shown = ", ".join(printable(path) for path in paths[:NAMED_AT_MOST])
            more = f" and {len(paths) - NAMED_AT_MOST} more" if len(paths) > NAMED_AT_MOST else ""
            lines.append(f"  {reason.rstrip('.')}: {shown}{more}")
        blocks.append("\n".join([f"{_number(len(left_out), 'file')} left out", *lines]))
    if unfit := contents.get("task", {}).get("other_modality"):
        made_for = ", ".join(contents["task"]["modalities"])
        of_other = ", ".join(map(printable, unfit))
        blocks.append(f"'{contents['task']['name']}' is made for {made_for}; of another modality: {of_other}")
    return "\n\n".join(blocks)


# ---- the installation ------------------------------------------------------------------------------------------------


def _installation(folder: Path | None, task: str | None) -> dict[str, Any]:
    chosen = _chosen_task(folder, task)
    bundle = Bundle(chosen.bundle)
    metadata = bundle.metadata()
    config = chosen.config()
    hidden = {*NOT_AN_OPTION, *unused_names(config)}
    network = config.get("network_def", {})
    return {
        "versions": _versions(),
        "bundle": {name: metadata[name] for name in ("name", "version", "intended_use") if name in metadata},
        "tasks": [_task_facts(each) for each in bundle.tasks()],
        "expects": {
            "task": chosen.name,
            "spatial_dims": network.get("spatial_dims"),
            "channels": network.get("in_channels"),
            "images": metadata.get("image_classes") if chosen.is_main else None,
            "formats": metadata.get("data_type"),
            "modalities": config.get("modalities"),
            "output_channels": network.get("out_channels"),
        },
        "options": {
            name: value
            for name, value in config.items()
            if name not in hidden and not name.startswith("_") and _is_plain(value)
        },
    }


def _installation_text(facts: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    tasks = []
    for task in facts["tasks"]:
        weights = "decided by the configuration" if task["weights"] is None else task["weights"]
        tasks.append([task["name"], "ready" if task["there"] else "to be trained", weights])
    expects = facts["expects"]
    outputs = expects["output_channels"]
    lines = [
        f"  images       {expects['images'] or _number(expects['channels'], 'channel')}, {expects['spatial_dims']}D",
        f"  formats      {expects['formats'] or 'png, jpeg, tiff, nifti, dicom'}",
        f"  modalities   {', '.join(expects['modalities'] or ()) or 'any'} (of DICOM)",
        f"  gives        {'one structure' if outputs == 1 else f'{(outputs or 1) - 1} structures'}",
    ]
    options = [[name, json.dumps(value)] for name, value in facts["options"].items()]
    bundle = facts["bundle"]
    return "\n\n".join(
        [
            f"{versions}\nbundle: {bundle.get('name', 'without metadata')} {bundle.get('version', '')}".rstrip(),
            f"tasks\n{_table(tasks)}",
            "\n".join([f"what {expects['task']} expects", *lines]),
            f"options and their defaults (--set NAME=VALUE)\n{_table(options)}",
            "For research use, not a medical device.",
        ]
    )


def _chosen_task(folder: Path | None, name: str | None) -> Task:
    try:
        return find_bundle(folder).task(name)
    except (FileNotFoundError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def _task_facts(task: Task) -> dict[str, Any]:
    weights = task.weights()
    return {
        "name": task.name,
        "weights": None if weights is None else str(weights),
        "there": weights is not None and weights.is_file(),
    }


def _versions() -> dict[str, str]:
    versions = {"banet-monai": banet_monai.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _is_plain(value: Any) -> bool:
    """Whether a value is no component and no expression, but something that people type."""
    if isinstance(value, list):
        return all(_is_plain(item) and not isinstance(item, list) for item in value)
    return not isinstance(value, dict) and not str(value).startswith(("$", "@", "%"))


def _number(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _table(rows: Sequence[Sequence[str]]) -> str:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(f"  {line}".rstrip() for line in lines)
