"""The command ``banet``: outlines of lesions and organs in medical images, from a terminal.

Modules that load torch are imported inside functions, so that help, mistakes and listings are answered at once.
"""

from __future__ import annotations

import gc

import click

from banet_monai import __version__
from banet_monai.commands.evaluate import evaluate
from banet_monai.commands.export import export
from banet_monai.commands.gallery import gallery
from banet_monai.commands.grammar import CommandGroup
from banet_monai.commands.info import info
from banet_monai.commands.label import label
from banet_monai.commands.prepare import prepare
from banet_monai.commands.report import report
from banet_monai.commands.robustness import robustness
from banet_monai.commands.segment import segment
from banet_monai.commands.store import store

__all__ = ["cli", "main"]


@click.group(
    "banet", cls=CommandGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="banet", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Outlines of lesions and organs in medical images, by BA-Net.

    \b
    banet segment photo.jpg -o out
    banet segment scans/ -o out --format dicom-seg
    banet info scans/

    For research use, not a medical device.
    """  # noqa: D301  # a real backspace, by which click keeps the lines
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (segment, evaluate, info, store, prepare, label, gallery, report, robustness, export):
    cli.add_command(command)


def main() -> None:
    """Entry point of the installed command."""
    try:
        cli.main(prog_name="banet")
    finally:
        gc.freeze()  # else Python searches all that the libraries hold for garbage as it ends, for about a second
