"""``banet prepare``: official data sets, as they are distributed, to the folders that training and evaluation read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from banet_monai.commands.grammar import DONE, CommandGroup, WorkError, print_warning, shown
from banet_monai.commands.options import FILE
from banet_monai.commands.pacs import check_input, is_address
from banet_monai.commands.silence import in_words, quiet_libraries

if TYPE_CHECKING:
    from banet_monai.data.official_pictures import Scaling
    from banet_monai.data.official_sets import OfficialSet
    from banet_monai.data.preparing import Preparation

__all__ = ["prepare"]

SIZE = 512  # pixels of the ISIC 2017 and Shenzhen pictures behind this project's tables
SMALLEST = 32  # of a picture that a network can be trained on

Function = Callable[..., Any]


@dataclass(frozen=True)
class PrepareOptions:
    """What every data set takes."""

    sources: tuple[Path, ...]
    out: Path
    lists: tuple[Path, ...] = ()
    quiet: bool = False


@click.group(
    "prepare", cls=CommandGroup, invoke_without_command=True, short_help="Official data sets to folders for training."
)
@click.pass_context
def prepare(ctx: click.Context) -> int:
    """Bring a data set, as it is distributed, into the folders that training and evaluation read.

    Nothing is downloaded: get the archives from the pages that each data set's --help names, and mind their terms.

    \b
    banet prepare isic2017 downloads/ -o data/isic2017
    banet prepare msd Task04_Hippocampus.tar -o data/hippocampus
    """  # noqa: D301  # a real backspace, by which click keeps the lines
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    return DONE


def _common(command: Function) -> Function:
    """Adds :class:`PrepareOptions` as the argument ``wanted``."""

    @functools.wraps(command)
    def gathered(*, sources: tuple[str, ...], out: Path, lists: tuple[Path, ...], quiet: bool, **others: Any) -> Any:
        for source in sources:
            if is_address(source):
                raise click.UsageError("nothing is downloaded; get the archives and give their paths.")
            check_input(source)
        return command(wanted=PrepareOptions(tuple(map(Path, sources)), out, lists, quiet), **others)

    parameters = (
        click.argument("sources", metavar="SOURCE...", nargs=-1, required=True),
        click.option(
            "-o", "out", required=True, type=click.Path(path_type=Path), metavar="OUT", help="New or empty folder."
        ),
        click.option(
            "--only",
            "lists",
            type=FILE,
            multiple=True,
            metavar="FILE",
            help="Only the cases that FILE names, one per line; several lists add up.",
        ),
        click.option("--quiet", is_flag=True, help="No progress bar and no closing lines."),
    )
    wrapped: Function = gathered
    for parameter in reversed(parameters):
        wrapped = parameter(wrapped)
    return wrapped


def _scaling_options(name: str, text: str) -> Callable[[Function], Function]:
    """``--NAME N`` and ``--full-size``, as the argument ``size``: pixels, None for pictures as they are."""

    def decorate(command: Function) -> Function:
        @functools.wraps(command)
        def gathered(*, given_size: int | None, full_size: bool, **others: Any) -> Any:
            if full_size and given_size is not None:
                raise click.UsageError(f"--{name} and --full-size exclude each other.")
            return command(size=None if full_size else given_size or SIZE, **others)

        number = click.option(
            f"--{name}",
            "given_size",
            type=click.IntRange(min=SMALLEST),
            metavar="N",
            help=f"{text}  [default: {SIZE}, as in the tables of this project]",
        )
        return number(click.option("--full-size", is_flag=True, help="Copy the pictures as they are.")(gathered))

    return decorate


@prepare.command("isic2017", short_help="ISIC 2017, skin lesions.")
@_common
@_scaling_options("crop", "Scale the largest centred square to N x N pixels.")
def isic2017(*, wanted: PrepareOptions, size: int | None) -> int:
    """ISIC 2017 (challenge.isic-archive.com/data): train/ and val/ with images/ and masks/.

    SOURCE are ISIC-2017_Training_Data.zip, ISIC-2017_Training_Part1_GroundTruth.zip, the two of the validation part,
    the folders in them, or a folder that holds them. Superpixel maps and the test part are left out.
    """
    from banet_monai.data.official_pictures import Scaling
    from banet_monai.data.official_sets import ISIC_2017

    return _pictures(ISIC_2017, wanted, None if size is None else Scaling("crop", size))


@prepare.command("kvasir", short_help="Kvasir-SEG, polyps.")
@_common
def kvasir(*, wanted: PrepareOptions) -> int:
    """Kvasir-SEG (datasets.simula.no/kvasir-seg): train/images as they are, train/masks as PNG of 0 and 255.

    SOURCE is kvasir-seg.zip or the folder in it.
    """
    from banet_monai.data.official_sets import KVASIR_SEG

    return _pictures(KVASIR_SEG, wanted, None)


@prepare.command("shenzhen", short_help="Shenzhen chest X-rays, lungs.")
@_common
@_scaling_options("stretch", "Scale both sides to N pixels.")
def shenzhen(*, wanted: PrepareOptions, size: int | None) -> int:
    """Shenzhen chest X-rays (US National Library of Medicine) with their lung masks: train/images and train/masks.

    SOURCE are ChinaSet_AllFiles.zip and the archive or folder of the masks CHNCXR_*_mask.png. Pictures without a mask
    and the clinical readings are left out.
    """
    from banet_monai.data.official_pictures import Scaling
    from banet_monai.data.official_sets import SHENZHEN

    return _pictures(SHENZHEN, wanted, None if size is None else Scaling("stretch", size))


@prepare.command("msd", short_help="A task of the Medical Segmentation Decathlon.")
@_common
def msd(*, wanted: PrepareOptions) -> int:
    """A task of the Medical Segmentation Decathlon (medicaldecathlon.com): imagesTr/, labelsTr/ and dataset.json.

    SOURCE is the archive of a task, such as Task04_Hippocampus.tar, or the folder in it. Test images and the files ._*
    are left out.
    """
    from banet_monai.data.preparing import prepare_decathlon

    return _carried_out(functools.partial(prepare_decathlon, wanted.sources, wanted.out), wanted)


def _pictures(official: OfficialSet, wanted: PrepareOptions, scaling: Scaling | None) -> int:
    from banet_monai.data.preparing import prepare_pictures

    work = functools.partial(prepare_pictures, official, wanted.sources, wanted.out, scaling=scaling)
    return _carried_out(work, wanted)


def _carried_out(work: Callable[..., Preparation], wanted: PrepareOptions) -> int:
    from tqdm import tqdm

    from banet_monai.data.preparing import DamagedFilesError

    try:
        with quiet_libraries(), tqdm(disable=wanted.quiet or None, unit=" cases") as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            prepared = work(only=_listed(wanted.lists), progress=show)
    except DamagedFilesError as error:
        raise WorkError(f"{in_words(error)} Nothing was written.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise WorkError(f"{error.strerror}; nothing is left in '{shown(wanted.out)}'.") from error
        raise click.UsageError(in_words(error)) from error
    if not wanted.quiet:
        _say(prepared, complete=not wanted.lists)
    return DONE


def _listed(lists: Collection[Path]) -> set[str] | None:
    from banet_monai.data.splits import read_val_ids

    return {name for file in lists for name in read_val_ids(file)} if lists else None


def _say(prepared: Preparation, *, complete: bool) -> None:
    from banet_monai.data.preparing import RECORD

    for part, count in prepared.official.items():
        there = prepared.cases.get(part, 0)
        if complete and there not in (0, count):
            print_warning(f"'{part}' has {there} cases, the official set {count}.")
    counts = []
    for part, count in prepared.cases.items():
        official = f" (official {prepared.official[part]})" if part in prepared.official else ""
        counts.append(f"{part} {count}{official}")
    click.echo(f"{prepared.title}, cases: {', '.join(counts)}")
    click.echo(f"images: {prepared.rule}")
    if prepared.left_out:
        reasons = ", ".join(f"{reason} ({len(names)})" for reason, names in prepared.left_out.items())
        click.echo(f"left out, named in {RECORD}: {reasons}")
    click.echo(f"results: {shown(prepared.folder)}")
