"""``banet robustness``: what becomes of the outlines when the images get worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from banet_monai.choices import CORRUPTIONS
from banet_monai.commands.grammar import (
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    SeveralChoices,
    Share,
    WorkError,
    print_error,
    print_failure,
    shown,
)
from banet_monai.commands.options import FILE, RunOptions, run_options
from banet_monai.commands.pacs import check_input
from banet_monai.commands.running import Plan, make_plan
from banet_monai.commands.silence import in_words, quiet_libraries

if TYPE_CHECKING:
    from banet_monai.robustness.measuring import CaseMeasurer
    from banet_monai.segmenter import Segmenter

__all__ = ["robustness"]

STRENGTHS = "1,3,5"
VAL_FRACTION = 0.1
Cases = list[dict[str, Any]]


@click.command(short_help="Measure outlines on ever worse images of DATASET.")
@click.argument("dataset", metavar="DATASET")
@click.option(
    "-o",
    "output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Folder of tables, plot and page.",
)
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="True masks by the names of the images, where DATASET is a folder of images.",
)
@click.option(
    "--corruptions",
    type=SeveralChoices(CORRUPTIONS),
    metavar="LIST",
    help=f"{', '.join(CORRUPTIONS)}; several with commas.  [default: all that fit]",
)
@click.option(
    "--strengths", default=STRENGTHS, show_default=True, metavar="LIST", help="Out of 1 (mild) to 5, with commas."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of noise, hair and the like.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first cases by name: a try.")
@run_options
@click.option("--val-ids", type=FILE, metavar="FILE", help="List of the cases to use.")
@click.option(
    "--val-fraction",
    type=Share(),
    metavar="X",
    help="Share to use where the data bring no split; 1 is all.  [default: 0.1]",
)
def robustness(
    *,
    dataset: str,
    output: Path,
    truth: Path | None,
    corruptions: tuple[str, ...] | None,
    strengths: str,
    seed: int,
    limit: int | None,
    run: RunOptions,
    val_ids: Path | None,
    val_fraction: float | None,
) -> int:
    """Corrupt the validation cases of DATASET step by step, segment them, and write robustness.html to OUT.

    Noise, blur, contrast, brightness, JPEG, resolution, rotation, hair, rulers and ink; of volumes thicker slices: each
    at several strengths on the same cases, with JA, Boundary IoU, calibration and the uncertainty number, and which of
    them break the outlines without the uncertainty noticing. DATASET is what 'banet evaluate' takes, or a folder of
    images with --truth. Interrupted, the same command goes on where it was.

    For research use, not a medical device.
    """
    steps = _strengths(strengths)
    if truth is not None and (val_ids is not None or val_fraction is not None):
        raise click.UsageError(
            "--val-ids and --val-fraction choose among the cases of a data set; with --truth all images are used, or "
            "the first ones by name with --limit."
        )
    check_input(dataset, addresses=False)
    plan = make_plan(run, {}, output=output)
    with quiet_libraries():
        share = VAL_FRACTION if val_fraction is None else val_fraction
        cases, failures = _cases(Path(dataset), truth, val_ids, share, limit)
        measurer = _measurer(plan, seed)
        return _measured(plan, measurer, cases, failures, corruptions, steps, output)


def _strengths(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= 5 for word in words):
        raise click.UsageError(f"--strengths: '{text}' is no list out of 1 to 5, such as {STRENGTHS}.")
    return [int(word) for word in words]


def _cases(
    source: Path, truth: Path | None, val_ids: Path | None, val_fraction: float, limit: int | None
) -> tuple[Cases, dict[str, str]]:
    """Cases with a truth, and why others have none."""
    from banet_monai.data import validation_cases
    from banet_monai.data.inputs import find_inputs
    from banet_monai.report.page.sources import find_truths

    try:
        if truth is None:
            ids = None if val_ids is None else str(val_ids)
            cases = validation_cases(str(source), val_fraction=val_fraction, val_ids=ids, limit=limit)
            return [dict(case) for case in cases], {}
        records = [dict(record) for record in find_inputs(source).records()][:limit]
        labels = find_truths([str(record["name"]) for record in records], truth)
    except (OSError, ValueError) as error:
        raise click.UsageError(in_words(error)) from error
    lacking = {str(r["name"]): "it has no true mask" for r in records if r["name"] not in labels}
    return [{**record, "label": labels[record["name"]]} for record in records if record["name"] in labels], lacking


def _measurer(plan: Plan, seed: int) -> CaseMeasurer:
    from banet_monai.robustness.measuring import CaseMeasurer

    try:
        return CaseMeasurer(_segmenter(plan), seed=seed)
    except Exception as error:
        raise click.UsageError(in_words(error)) from error


def _segmenter(plan: Plan) -> Segmenter:
    from banet_monai.segmenter import Segmenter

    own = ("bundle_root", "output_dir", "checkpoint")
    options: dict[str, Any] = {name: value for name, value in plan.changes.items() if name not in own}
    return Segmenter(
        plan.bundle.root,
        configs=[str(file.absolute()) for file in plan.configs()],
        weights=plan.changes.get("checkpoint"),
        options={"uncertainty": "entropy", **options},
    )


def _measured(
    plan: Plan,
    measurer: CaseMeasurer,
    cases: Cases,
    lacking: dict[str, str],
    corruptions: tuple[str, ...] | None,
    strengths: list[int],
    output: Path,
) -> int:
    from tqdm import tqdm

    from banet_monai.robustness.running import forget_partial, robustness
    from banet_monai.robustness.runs import facts_of, fitting_conditions
    from banet_monai.robustness.summary import summarise
    from banet_monai.robustness.writing import write_results

    try:
        wanted = fitting_conditions(measurer, cases, corruptions, strengths)
    except ValueError as error:
        raise click.UsageError(in_words(error)) from error
    facts = facts_of(plan.changes, weights=plan.changes.get("checkpoint"))
    total = len(cases) * len(wanted)
    with tqdm(desc="measuring", unit="pass", total=total, disable=plan.quiet or None) as bar:
        try:
            rows, failures = robustness(measurer, cases, wanted, folder=output, facts=facts, progress=bar.update)
        except KeyboardInterrupt:
            bar.close()
            kept = f"what is done is kept in {shown(output)}; the same command goes on from there"
            print_error(f"interrupted; {kept}.")
            return INTERRUPTED
        except OSError as error:
            raise WorkError(f"a finished case cannot be kept: {error.strerror or type(error).__name__}") from error
    failures = {**lacking, **failures}
    for name, reason in failures.items():
        print_failure(name, reason)
    if not rows:
        raise WorkError(f"none of the {len(cases) + len(lacking)} cases could be measured")
    summary = {"facts": facts, **summarise(rows, failures=failures)}
    try:
        first, *_ = write_results(output, summary, rows)
        forget_partial(output)
    except OSError as error:
        raise WorkError(f"the results cannot be written: {error.strerror or type(error).__name__}") from error
    if not plan.quiet:
        click.echo(f"{summary['cases']} cases under {len(wanted)} conditions, {len(failures)} failed")
        click.echo(f"page: {shown(first)}")
    return SOME_FAILED if failures else DONE
