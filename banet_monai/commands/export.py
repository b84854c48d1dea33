"""``banet export``: a task's network as a file that runs without this package."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from banet_monai.choices import EXPORT_PACKAGES, EXPORTS, INT8_PACKAGES
from banet_monai.commands.grammar import DONE, Setting, SeveralChoices, WorkError, shown
from banet_monai.commands.options import FILE, RunOptions, bundle_options
from banet_monai.commands.running import Plan, make_plan
from banet_monai.commands.silence import in_words, quiet_libraries

if TYPE_CHECKING:
    import torch

    from banet_monai.export import Description
    from banet_monai.networks import BANet

__all__ = ["export"]

TOLERANCE = 1e-3  # of logits between the network and its file, in float32: rounding is a tenth of it
MOST_CHANGED = 0.02  # share of pixels that 8-bit integers may move to another class
CALIBRATION, COMPARED = 100, 20  # images that 8-bit integers are made on, and those they are compared on
MEGABYTE = 1e6


@click.command(short_help="Write the network of a task as ONNX, OpenVINO, torch.export or TorchScript.")
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "formats",
    type=SeveralChoices(tuple(EXPORTS)),
    multiple=True,
    metavar="FORMAT",
    help=f"{', '.join(EXPORTS)}; several with commas.  [default: by the ending of OUT]",
)
@click.option(
    "--int8",
    "calibration",
    type=click.Path(path_type=Path, exists=True),
    metavar="IMAGES",
    help=f"8-bit integers for OpenVINO, calibrated on up to {CALIBRATION} images of this folder: training pictures.",
)
@bundle_options
@click.option("--weights", type=FILE, metavar="FILE", help="Weights of the network.  [default: the task's]")
@click.option(
    "--set", "settings", type=Setting(), multiple=True, metavar="NAME=VALUE", help="Entry of the configuration."
)
@click.option("--quiet", is_flag=True, help="No closing lines.")
def export(
    *,
    output: Path,
    formats: tuple[tuple[str, ...], ...],
    calibration: Path | None,
    task: str | None,
    bundle: Path | None,
    weights: Path | None,
    settings: tuple[tuple[str, Any], ...],
    quiet: bool,
) -> int:
    """Write the network of a task to OUT, for programs that run it without this package.

    OUT is a file (.onnx, .xml for OpenVINO, .pt2 for torch.export, .ts for TorchScript), or a folder, where the file is
    named after the task. The file takes normalised images of any size and says in its metadata how they are
    normalised. Each file is compared with the network before the command ends.

    With --int8, the file computes in 8-bit integers: about half the time on processors that have instructions for it, a
    third of the size, and slightly other masks. Such a file is run like any other OpenVINO file.
    """
    wanted = list(dict.fromkeys(word for words in formats for word in words))
    if calibration is not None and not wanted and output.suffix not in EXPORTS.values():
        wanted = ["openvino"]  # in the folder
    files = _files(output, wanted)
    _check_packages([to for to, _ in files], int8=calibration is not None)
    plan = make_plan(RunOptions(task, bundle, weights, None, settings, quiet), {})
    if "checkpoint" not in plan.changes:
        raise click.UsageError(
            f"the configuration of '{plan.task.name}' does not say which weights; add --weights FILE."
        )
    with quiet_libraries():
        try:
            network, description, images = _load(plan, calibration)
        except Exception as error:
            raise click.UsageError(in_words(error)) from error
        for to, file in files:
            name = plan.task.name if calibration is None else f"{plan.task.name}_int8"
            path = file or output / f"{name}{EXPORTS[to]}"
            write = _write if calibration is None else partial(_write_int8, images=images)
            said = write(network, path, to, description)
            if not quiet:
                click.echo(f"{shown(path.absolute())}: {said}")
    return DONE


def _files(output: Path, formats: list[str]) -> list[tuple[str, Path | None]]:
    """Format and file of each thing to write; None for a file in the folder ``output``."""
    by_suffix = {suffix: to for to, suffix in EXPORTS.items()}
    named = by_suffix.get(output.suffix)
    if named is None or output.is_dir():
        if not formats:
            raise click.UsageError(
                f"--to is missing: one of {', '.join(EXPORTS)}, or OUT ending in {', '.join(by_suffix)}."
            )
        if output.is_file():
            raise click.UsageError(
                f"OUT '{output}' is a file; give a folder, or a name ending in {', '.join(by_suffix)}."
            )
        return [(to, None) for to in formats]
    if formats and formats != [named]:
        raise click.UsageError(f"OUT '{output}' is a file for {named}, --to says {', '.join(formats)}; give a folder.")
    return [(named, output)]


def _check_packages(formats: list[str], *, int8: bool) -> None:
    if int8:
        if formats != ["openvino"]:
            raise click.UsageError(f"--int8 makes a file for OpenVINO alone, not for {', '.join(formats)}.")
        if missing := [name for name in INT8_PACKAGES if importlib.util.find_spec(name) is None]:
            raise click.UsageError(f'--int8 needs the package {missing[0]}: pip install "banet-monai[int8]"')
    for to in formats:
        if missing := [name for name in EXPORT_PACKAGES.get(to, ()) if importlib.util.find_spec(name) is None]:
            raise click.UsageError(f'{to} needs the package {missing[0]}: pip install "banet-monai[{to}]"')


def _load(plan: Plan, calibration: Path | None) -> tuple[BANet, Description, list[torch.Tensor]]:
    """The network with its weights, what the configuration says about it, and the images to calibrate on."""
    from monai.bundle import ConfigParser

    from banet_monai.export.tasks import calibration_images, describe_task
    from banet_monai.networks import load_weights

    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in plan.task.configs()]))
    for name, value in plan.changes.items():
        parser[name] = value
    network: BANet = parser.get_parsed_content("network_def")
    weights = Path(parser.get_parsed_content("checkpoint"))
    load_weights(network, weights)
    description = describe_task(parser, network, task=plan.task, weights=weights)
    images = []
    if calibration is not None:
        roi_size = parser.get_parsed_content("plain_inferer").roi_size
        preprocessing = parser.get_parsed_content("preprocessing")
        images = calibration_images(preprocessing, calibration, roi_size=roi_size, count=CALIBRATION)
    return network.eval(), description, images


def _write(network: BANet, path: Path, to: str, description: Description) -> str:
    """Write one file, compare it with the network, and say how large it is and how well it agrees."""
    from banet_monai.export import export as write

    try:
        write(network, path, to=to, description=description)
        difference = _difference(network, path, description)
    except OSError as error:
        raise WorkError(f"'{shown(path.absolute())}' cannot be written ({error.strerror or error}).") from error
    if difference is not None and not difference <= TOLERANCE:  # NaN is not
        _remove(path, to)
        raise WorkError(f"{to}: the file differs from the network by {difference:.1e} and was removed.")
    compared = (
        f"within {difference:.0e} of the network" if difference is not None else "not compared, nothing here runs it"
    )
    return f"{to}, {_megabytes(path, to):.1f} MB, {compared}"


def _write_int8(network: BANet, path: Path, to: str, description: Description, *, images: list[torch.Tensor]) -> str:
    """Write a file in 8-bit integers, compare it with the network, and say how large it is and how well it agrees."""
    from banet_monai.export import quantize

    try:
        quantize(network, path, description=description, images=images)
        changed = _changed(network, path, images[:: max(1, len(images) // COMPARED)])
    except ValueError as error:
        raise click.UsageError(in_words(error)) from error
    except OSError as error:
        raise WorkError(f"'{shown(path.absolute())}' cannot be written ({error.strerror or error}).") from error
    if changed > MOST_CHANGED:
        _remove(path, to)
        raise WorkError(
            f"8-bit integers: {100 * changed:.1f} % of the pixels change their class, at most {100 * MOST_CHANGED:g} % "
            f"may; the file was removed. Calibrate on pictures like those of the training."
        )
    return (
        f"{to} in 8-bit integers from {len(images)} images, {_megabytes(path, to):.1f} MB, "
        f"{100 * changed:.2f} % of pixels change their class"
    )


def _changed(network: BANet, path: Path, images: list[torch.Tensor]) -> float:
    """Share of pixels that the file puts into another class than the network does."""
    import torch

    from banet_monai.backends import load_exported

    exported, changed, pixels = load_exported(path), 0, 0
    with torch.no_grad():
        for image in images:
            ours, theirs = network(image), exported(image)
            several = ours.shape[1] > 1
            other = ours.argmax(1) != theirs.argmax(1) if several else (ours > 0) != (theirs > 0)
            changed, pixels = changed + int(other.sum()), pixels + other.numel()
    return changed / pixels


def _parts(path: Path, to: str) -> list[Path]:
    """The files of a network: a ``.bin`` beside it belongs to OpenVINO's alone."""
    return [path, path.with_suffix(".bin")] if to == "openvino" else [path]


def _remove(path: Path, to: str) -> None:
    for file in _parts(path, to):
        file.unlink(missing_ok=True)


def _megabytes(path: Path, to: str) -> float:
    return sum(file.stat().st_size for file in _parts(path, to) if file.is_file()) / MEGABYTE


def _difference(network: BANet, path: Path, description: Description) -> float | None:
    """Largest difference of logits between the network and its file, for an image of noise; None if it cannot run.

    Relative to the largest logit where that is above 1, since rounding grows with it.
    """
    import torch

    from banet_monai.backends import load_exported

    try:
        exported = load_exported(path, task=description.task, amp="none")
    except ModuleNotFoundError:
        return None
    sizes = [least + 32 + 8 * axis for axis, least in enumerate(description.min_size)]
    image = torch.randn(1, description.in_channels, *sizes, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(image)
        return float((exported(image) - logits).abs().max() / logits.abs().max().clamp(min=1))
