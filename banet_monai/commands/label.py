"""``banet label``: an annotation server that proposes outlines, and learns from those that people correct."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from banet_monai.bundles import Bundle, Task, find_bundle
from banet_monai.commands.grammar import DONE, WorkError, print_warning, shown
from banet_monai.restore import restore_shipped_weights

__all__ = ["label"]

FOLDER = click.Path(file_okay=False, path_type=Path)
BUILDER = Path("tools") / "build_bundle.py"


@click.command(short_help="An annotation server (MONAI Label) for STUDIES.")
@click.argument("studies", metavar="[STUDIES]", required=False)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, metavar="N", help="Port.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen; by default for this machine alone.",
)
@click.option("--task", metavar="NAME", help="What to outline: skin_lesion, or a folder of bundle/tasks.")
@click.option(
    "--bundle", "bundles", type=FOLDER, multiple=True, metavar="DIR", help="Built archives to serve, any number."
)
@click.option(
    "--app", type=FOLDER, default="runs/label", show_default=True, metavar="DIR", help="Folder of the application."
)
@click.option("--environment", type=FOLDER, metavar="DIR", help="Environment of MONAI Label.  [default: .venv-label]")
@click.option("--modality", metavar="CODE", help="DICOM modality of the series to list.  [default: the task's first]")
@click.option("--no-scoring", is_flag=True, help="Do not score images by their uncertainty in the background.")
@click.option("--restore", is_flag=True, help="Put the weights back that the bundle shipped with, and end.")
def label(
    *,
    studies: str | None,
    port: int,
    host: str,
    task: str | None,
    bundles: tuple[Path, ...],
    app: Path,
    environment: Path | None,
    modality: str | None,
    no_scoring: bool,
    restore: bool,
) -> int:
    """Serve STUDIES to annotators: 3D Slicer, OHIF or your own client asks for outlines, corrects and trains on them.

    STUDIES is a folder of images or the address of a DICOMweb server; without it synthetic pictures are made. The
    server is MONAI Label in an environment of its own: python tools/label_environment.py .venv-label makes it.

    For research use, not a medical device.
    """
    from banet_monai.label import (
        ServerOptions,
        check_archive,
        check_studies,
        demonstration_studies,
        find_environment,
        lay_out,
        require_free_folder,
        require_free_port,
        require_same_code,
        server_command,
    )

    if task is not None and bundles:
        raise click.UsageError("--task and --bundle exclude each other: an archive holds one task.")
    try:
        if restore:
            for archive in _archives(task, bundles, app, build=False):
                _restore(archive)
            return DONE
        require_free_folder(app)
        require_free_port(host, port)
        chosen = check_studies(studies) if studies is not None else None
        found = find_environment(environment)
        chosen = chosen or check_studies(str(demonstration_studies(app / "studies")))
        archives = _archives(task, bundles, app, build=True)
        for archive in archives:
            check_archive(archive)
        require_same_code(archives)
        application = lay_out(app, found, archives)
        options = ServerOptions(host, port, not no_scoring, modality or _modality(archives[0]))
        line, variables = server_command(found, application, chosen, options)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    except RuntimeError as error:
        raise WorkError(str(error)) from error
    count = "" if chosen.images is None else f" ({chosen.images} image{'' if chosen.images == 1 else 's'})"
    click.echo(f"MONAI Label {found.versions['monailabel']} with {', '.join(application.models)}")
    click.echo(f"studies: {chosen.place}{count}")
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"server:  {address}   (Ctrl-C ends it; its log: {shown(application.folder)}/logs/app.log)")
    return _run(line, variables, application.folder)


def _restore(archive: Path) -> None:
    kept = restore_shipped_weights(archive)
    place = shown(archive.absolute())
    if kept is None:
        click.echo(f"{place} has the weights that it shipped with.")
    else:
        click.echo(f"{place} has the weights again that it shipped with; the others are kept: {shown(kept.absolute())}")


def _run(line: list[str], variables: dict[str, str], folder: Path) -> int:
    """Become the server, so that signals reach it; where a process cannot, wait for it."""
    sys.stdout.flush()
    if os.name == "posix":
        os.chdir(folder)
        os.execve(line[0], line, variables)
    return subprocess.run(line, env=variables, cwd=folder, check=False).returncode


def _archives(task: str | None, bundles: tuple[Path, ...], app: Path, *, build: bool) -> list[Path]:
    """The archives to serve: those that were named, the one that this package lies in, or one built from the clone."""
    if bundles:
        return [bundle.absolute() for bundle in bundles]
    wanted = find_bundle().task(task)
    if (wanted.bundle / "banet_monai").is_dir():  # an archive, not a clone
        return [wanted.bundle]
    name = f"banet_{wanted.name}_segmentation"
    place = app.absolute() / "bundles" / name
    if build:
        _build(wanted, place)
    return [place]


def _build(task: Task, place: Path) -> None:
    from banet_monai.label import sources_digest

    clone = task.bundle.parent
    if not (clone / BUILDER).is_file():
        raise ValueError("there is no archive here and no clone to build one from; name a built archive: --bundle DIR.")
    stamp, sources = place.with_suffix(".sources"), sources_digest(clone)
    if place.is_dir() and stamp.is_file() and stamp.read_text(encoding="utf-8") == sources:
        return
    line = [sys.executable, str(clone / BUILDER), task.name, "--output", str(place.parent)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        stamp.write_text(sources, encoding="utf-8")
        return
    said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("build_bundle: ")
    if not place.is_dir():
        raise ValueError(f"the archive of '{task.name}' was not built: {said}")
    print_warning(f"the archive in {shown(place)} is of older sources and stays: {said}")


def _modality(archive: Path) -> str:
    modalities = Bundle(archive).task().config().get("modalities")
    return str(modalities[0]) if modalities else ""
