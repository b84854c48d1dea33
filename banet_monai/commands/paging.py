"""The page of a run's results, where ``--report`` asks for it."""

from __future__ import annotations

from pathlib import Path

import click

from banet_monai.commands.grammar import DONE, SOME_FAILED, print_warning, shown
from banet_monai.commands.options import ResultOptions
from banet_monai.commands.running import Outcome
from banet_monai.commands.silence import in_words, quiet_libraries

__all__ = ["write_page"]


def write_page(outcome: Outcome, extras: ResultOptions, *, images: Path, quiet: bool) -> int:
    """Write ``report.html`` into the folder of the results where it was asked for and there are any.

    Args:
        outcome: of the run.
        extras: what was asked for.
        images: what the run was given.
        quiet: without a closing line.

    Returns:
        The exit code: 0, or 1 where the page could not be written; the results stay.
    """
    if not extras.report or outcome.interrupted or not outcome.results:
        return DONE
    with quiet_libraries():
        from banet_monai.report.page import write_report

        try:
            page = write_report(outcome.output_dir, images=images)
        except (OSError, ValueError) as error:
            print_warning(f"the results are written, but not their report: {in_words(error)}")
            return SOME_FAILED
    if not quiet:
        click.echo(f"report: {shown(page)}")
    return DONE
