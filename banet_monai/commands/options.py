"""Options that several commands share, gathered so that a command gets one argument for each group."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from banet_monai.choices import BACKENDS, UNCERTAINTY
from banet_monai.commands.grammar import NearestChoice, Setting

__all__ = [
    "ResultOptions",
    "RunOptions",
    "WebOptions",
    "bundle_options",
    "is_device",
    "result_options",
    "run_options",
    "series_option",
    "web_options",
]

Function = Callable[..., Any]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FILE_OR_FOLDER = click.Path(exists=True, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclass(frozen=True)
class RunOptions:
    """What every command that runs the network takes; None stands for what the configuration says."""

    task: str | None = None
    bundle: Path | None = None
    weights: Path | None = None
    device: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    quiet: bool = False
    backend: str | None = None


@dataclass(frozen=True)
class ResultOptions:
    """What is written beside the masks.

    Attributes:
        changes: entries of the configuration, without those that were not named.
        report: whether a page of the results is wanted.
    """

    changes: dict[str, Any]
    report: bool = False


@dataclass(frozen=True)
class WebOptions:
    """How to speak with a DICOMweb server; ``token_env`` names an environment variable, so that no token is typed."""

    timeout: float = 30.0
    retries: int = 3
    ca_bundle: Path | None = None
    client_cert: Path | None = None
    no_verify: bool = False
    token_env: str | None = None


def bundle_options(command: Function) -> Function:
    """``--task`` and ``--bundle``."""
    task = "What to segment: skin_lesion, or a folder of bundle/tasks.  [default: the bundle's own task]"
    bundle = "Folder of the bundle.  [default: the one beside the package]"
    return _with(
        command,
        click.option("--task", metavar="NAME|FOLDER", help=task),
        click.option("--bundle", type=FOLDER, metavar="DIR", help=bundle),
    )


def run_options(command: Function) -> Function:
    """Adds :class:`RunOptions` as the argument ``run``."""

    @functools.wraps(command)
    def gathered(
        *,
        task: str | None,
        bundle: Path | None,
        weights: Path | None,
        device: str | None,
        backend: str | None,
        settings: tuple[tuple[str, Any], ...],
        quiet: bool,
        max_pixels: int | None,
        **others: Any,
    ) -> Any:
        if max_pixels is not None:
            settings = (*settings, ("max_pixels", max_pixels))
        return command(run=RunOptions(task, bundle, weights, device, settings, quiet, backend), **others)

    weights_help = "Weights of the network.  [default: the task's]"
    device_help = "Where to compute.  [default: a GPU where there is one]"
    backend_help = f"What computes the network: {', '.join(BACKENDS)}; a file of banet export.  [default: torch]"
    pixels_help = "Refuse larger pictures before decoding them; tiled TIFFs above go in tiles.  [default: 178956970]"
    set_help = "Any other entry of the configuration; nested ones as A::B=VALUE."
    return bundle_options(
        _with(
            gathered,
            click.option("--weights", type=FILE, metavar="FILE", help=weights_help),
            click.option("--device", metavar="cpu|cuda|cuda:N", callback=_known_device, help=device_help),
            click.option("--backend", type=NearestChoice(BACKENDS), help=backend_help),
            click.option("--max-pixels", type=click.IntRange(min=1), metavar="N", help=pixels_help),
            click.option("--set", "settings", type=Setting(), multiple=True, metavar="NAME=VALUE", help=set_help),
            click.option("--quiet", is_flag=True, help="No progress bar and no closing lines."),
        )
    )


def result_options(command: Function) -> Function:
    """Adds :class:`ResultOptions` as the argument ``extras``."""

    @functools.wraps(command)
    def gathered(
        *,
        overlay: bool,
        uncertainty: str | None,
        samples: int | None,
        measurements: bool,
        report: bool,
        **others: Any,
    ) -> Any:
        if samples is not None and uncertainty not in ("mc_dropout", "tta"):
            raise click.UsageError("--samples is the number of predictions of --uncertainty mc_dropout or tta.")
        wanted = {
            "overlay": overlay or None,
            "uncertainty": uncertainty,
            "uncertainty_samples": samples,
            "measurements": measurements or None,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        return command(extras=ResultOptions(given, report), **others)

    uncertainty_help = f"How sure the network is, as maps and one number a case: {', '.join(UNCERTAINTY)}."
    return _with(
        gathered,
        click.option("--overlay", is_flag=True, help="Also draw the outlines on the images (PNG)."),
        click.option("--uncertainty", type=NearestChoice(UNCERTAINTY), help=uncertainty_help),
        click.option(
            "--samples", type=click.IntRange(min=2), metavar="N", help="Predictions for --uncertainty.  [default: 8]"
        ),
        click.option("--measurements", is_flag=True, help="Also measure the outlines (JSON and CSV)."),
        click.option("--report", is_flag=True, help="Also write a page of the results, report.html."),
    )


def series_option(command: Function) -> Function:
    """``--series``, checked, as the argument ``rules``."""
    text = "Only these DICOM series, such as 'modality=CT,description=*liver*', 'number=3' or 'uid=1.2.3'."
    option = click.option("--series", "rules", multiple=True, metavar="RULE", callback=_known_rules, help=text)
    return option(command)


def web_options(command: Function) -> Function:
    """Adds :class:`WebOptions` as the argument ``web``."""

    @functools.wraps(command)
    def gathered(
        *,
        timeout: float,
        retries: int,
        ca_bundle: Path | None,
        client_cert: Path | None,
        no_verify: bool,
        token_env: str | None,
        **others: Any,
    ) -> Any:
        return command(web=WebOptions(timeout, retries, ca_bundle, client_cert, no_verify, token_env), **others)

    positive = click.FloatRange(min=0, min_open=True)
    return _with(
        gathered,
        click.option(
            "--timeout",
            type=positive,
            default=30.0,
            show_default=True,
            metavar="S",
            help="Seconds to wait for a server.",
        ),
        click.option(
            "--retries",
            type=click.IntRange(min=0),
            default=3,
            show_default=True,
            metavar="N",
            help="Further attempts when it fails.",
        ),
        click.option("--ca-bundle", type=FILE_OR_FOLDER, metavar="FILE", help="Certificates of authorities to trust."),
        click.option("--client-cert", type=FILE, metavar="FILE", help="Client certificate with its key (PEM)."),
        click.option("--no-verify", is_flag=True, help="Do not check the server's certificate."),
        click.option("--token-env", metavar="NAME", help="Environment variable that holds a bearer token."),
    )


def _with(command: Function, *options: Callable[[Function], Function]) -> Function:
    for option in reversed(options):
        command = option(command)
    return command


def is_device(value: str) -> bool:
    """Whether a text is ``cpu``, ``cuda`` or ``cuda:N``."""
    return re.fullmatch(r"cpu|cuda(:\d+)?", value) is not None


def _known_device(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None or is_device(value):
        return value
    raise click.BadParameter(f"'{value}' is no device; cpu, cuda and cuda:0 are.", ctx, param)


def _known_rules(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> list[str]:
    if not value:
        return []
    from banet_monai.dicom.selection import parse_rules

    try:
        parse_rules(list(value))
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error
    return list(value)
