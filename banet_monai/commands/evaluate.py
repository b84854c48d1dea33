"""``banet evaluate``: how well the outlines of a task fit those of a data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from banet_monai.commands.closing import say_outcome
from banet_monai.commands.grammar import Share, WorkError, print_warning, shown
from banet_monai.commands.options import FILE, ResultOptions, RunOptions, result_options, run_options
from banet_monai.commands.pacs import check_input
from banet_monai.commands.paging import write_page
from banet_monai.commands.running import make_plan, run_plan
from banet_monai.commands.silence import quiet_libraries

__all__ = ["evaluate"]


@click.command(short_help="Compare outlines with the masks of DATASET.")
@click.argument("dataset", metavar="DATASET")
@click.option(
    "-o",
    "output",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Folder of the tables.  [default: results/evaluation]",
)
@run_options
@result_options
@click.option("--val-ids", type=FILE, metavar="FILE", help="List of the cases to use.")
@click.option(
    "--val-fraction",
    type=Share(),
    metavar="X",
    help="Share to use where the data bring no split; 1 is all.  [default: 0.1]",
)
def evaluate(
    *,
    dataset: str,
    output: Path | None,
    run: RunOptions,
    extras: ResultOptions,
    val_ids: Path | None,
    val_fraction: float | None,
) -> int:
    """Segment the validation cases of DATASET, compare with their masks, and write cases.csv and summary.json to OUT.

    DATASET is a folder with images/ and masks/ (or train/ and val/ with these), a Medical Segmentation Decathlon data
    set, or a list (.csv, .json) with the columns image and label. Where it brings no split, all of it is
    evaluated with --val-fraction 1.
    """
    changes: dict[str, Any] = dict(extras.changes)
    if val_ids is not None:
        changes["val_ids"] = str(val_ids.absolute())
    if val_fraction is not None:
        changes["val_fraction"] = val_fraction
    check_input(dataset, addresses=False)
    if output is not None and Path(dataset).is_dir() and output.resolve() == Path(dataset).resolve():
        raise click.UsageError("-o is the data set itself; give another folder, one inside it is fine.")
    outcome = run_plan(make_plan(run, changes, output=output, evaluate=True), Path(dataset))
    _set_aside(outcome.older)
    summary = outcome.output_dir / "summary.json"
    if not run.quiet and not outcome.interrupted and summary.is_file():
        with quiet_libraries():
            from banet_monai.metrics.table import format_summary
        click.echo(format_summary(json.loads(summary.read_text(encoding="utf-8"))) + "\n")
    page = write_page(outcome, extras, images=Path(dataset), quiet=run.quiet)
    return max(say_outcome(outcome, quiet=run.quiet), page)


def _set_aside(tables: Sequence[Path]) -> None:
    """Give tables of an earlier run, which this one did not come to replace, names that say so."""
    for table in tables:
        aside = table.with_name(f"{table.stem}.earlier{table.suffix}")
        try:
            table.replace(aside)
        except OSError as error:
            raise WorkError(f"'{shown(table)}' is of an earlier run; this one broke off.") from error
        print_warning(f"{table.name} is of an earlier run and is now called {aside.name}.")
