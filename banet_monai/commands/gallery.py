"""``banet gallery``: what the network saw in the images of a folder, as a page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from banet_monai.commands.grammar import DONE, INTERRUPTED, SOME_FAILED, print_error, print_failure, shown
from banet_monai.commands.options import RunOptions, run_options, series_option
from banet_monai.commands.pacs import check_input
from banet_monai.commands.running import Plan, make_plan
from banet_monai.commands.silence import in_words, quiet_libraries

if TYPE_CHECKING:
    from banet_monai.data.inputs import InputCase, Inputs
    from banet_monai.explain.cases import CaseExplainer
    from banet_monai.explain.gallery import GalleryPage
    from banet_monai.segmenter import Segmenter

__all__ = ["gallery"]

LIMIT = 24  # cases by default: a page of about ten megabytes


@click.command(short_help="Show what the network saw in INPUT, as a page.")
@click.argument("source", metavar="INPUT")
@click.option(
    "-o", "output", required=True, type=click.Path(path_type=Path), metavar="OUT", help="Folder of the page and PNGs."
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=LIMIT,
    show_default=True,
    metavar="N",
    help="Cases to show, the first by name.",
)
@run_options
@series_option
@click.option("--no-paths", is_flag=True, help="Case numbers instead of paths, on the page and in names.")
def gallery(*, source: str, output: Path, limit: int, run: RunOptions, rules: list[str], no_paths: bool) -> int:
    """Show what the network saw in the images of INPUT: gallery.html and a PNG of each case in OUT.

    Of each image: outline, boundary map, uncertainty, the edge maps of the four stages, what attention and fusion add,
    and Grad-CAM. Of a volume, the slice with the largest outline. INPUT is a picture, a NIfTI or DICOM file, a folder,
    a .zip, a DICOMDIR or a list (.csv, .json). The page needs no network and no other file.

    For research use, not a medical device.
    """
    check_input(source, addresses=False)
    plan = make_plan(run, {}, output=output)
    with quiet_libraries():
        inputs = _found(Path(source), output, rules, no_paths)
        with inputs:
            page, interrupted = _shown(plan, inputs, output, limit, no_paths=no_paths)
    for name, reason in page.failures:
        print_failure(name, reason)
    if interrupted:
        print_error(f"interrupted; {page.shown} of {len(inputs.cases)} cases are on the page.")
        return INTERRUPTED
    if not run.quiet:
        left_out = max(0, len(inputs.cases) - limit)
        more = f", {left_out} left out (--limit)" if left_out else ""
        click.echo(f"{page.shown} shown, {len(page.failures)} failed{more}")
        click.echo(f"page: {shown(output / 'gallery.html')}")
    return SOME_FAILED if page.failures else DONE


def _found(source: Path, output: Path, rules: list[str], no_paths: bool) -> Inputs:
    from banet_monai.data.inputs import find_inputs

    try:
        return find_inputs(source, exclude=output, series=list(rules) or None, no_paths=no_paths)
    except (OSError, ValueError) as error:
        raise click.UsageError(in_words(error)) from error


def _shown(plan: Plan, inputs: Inputs, output: Path, limit: int, *, no_paths: bool) -> tuple[GalleryPage, bool]:
    """The page with all cases that could be drawn, and whether Ctrl-C ended it."""
    from tqdm import tqdm

    from banet_monai.data.failures import explanation
    from banet_monai.explain.gallery import GalleryPage

    explainer = _explainer(plan)
    page, interrupted = GalleryPage(output), False
    cases = inputs.cases[:limit]
    try:
        for case in tqdm(cases, desc="explaining", unit="case", disable=plan.quiet or None):
            record = case.record()
            try:
                explained = explainer(record["image"])
            except Exception as error:  # readers raise what they like, and the page goes on
                page.failed(case.name, _reason(error, case, no_paths=no_paths))
                continue
            try:
                page.add(case.name, explained)
            except OSError as error:
                page.failed(case.name, f"its PNG cannot be written: {error.strerror or explanation(error, record)}")
    except KeyboardInterrupt:
        interrupted = True
    try:
        page.write(left_out=len(inputs.cases) - len(cases))
    except OSError as error:
        raise click.UsageError(f"the page cannot be written: {error.strerror or type(error).__name__}.") from error
    return page, interrupted


def _reason(error: Exception, case: InputCase, *, no_paths: bool) -> str:
    """Why a case failed; with ``no_paths`` its name stands for those of its files and their folder."""
    from banet_monai.data.failures import failure_reason
    from banet_monai.report.manifest import BEGINNING, PLAIN_NUMBER

    reason = failure_reason(error, case.record())
    if not no_paths:
        return reason
    names = {file.name: case.name for file in case.files if not PLAIN_NUMBER.fullmatch(file.name)}
    numbers = {file.name for file in case.files} - names.keys()  # which elsewhere count slices or pixels
    names |= {f"'{number}'": f"'{case.name}'" for number in numbers}
    if (first := BEGINNING.match(reason)) and first[0] in numbers:
        reason = case.name + reason[first.end() :]
    names[f"'{case.files[0].parent.name}'"] = f"'{case.name}'"  # a plain word elsewhere may be no folder
    words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?<![\w.-])(?:{words})(?![\w-])", lambda found: names[found[0]], reason)


def _explainer(plan: Plan) -> CaseExplainer:
    """By the configuration's method of uncertainty; where that is none by MC dropout, or flips and turns without it."""
    from banet_monai.explain.cases import CaseExplainer
    from banet_monai.uncertainty.dropout import has_dropout

    method = str((plan.task.config() | plan.changes).get("uncertainty", "none"))
    try:
        segmenter = _segmenter(plan, "mc_dropout" if method == "none" else method)
        if method == "none" and not has_dropout(segmenter.network):
            segmenter = _segmenter(plan, "tta")
        return CaseExplainer(segmenter)
    except Exception as error:
        raise click.UsageError(in_words(error)) from error


def _segmenter(plan: Plan, uncertainty: str) -> Segmenter:
    """The segmenter of the plan, with this method, so that threshold and temperature are the method's own."""
    from banet_monai.segmenter import Segmenter

    own = ("bundle_root", "output_dir", "checkpoint")
    options: dict[str, Any] = {name: value for name, value in plan.changes.items() if name not in own}
    return Segmenter(
        plan.bundle.root,
        configs=[str(file.absolute()) for file in plan.task.configs()],
        weights=plan.changes.get("checkpoint"),
        options={**options, "uncertainty": uncertainty},
    )
