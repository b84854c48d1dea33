"""``banet segment``: outlines in a file, a folder, an archive or a PACS."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from banet_monai.choices import FORMATS, IRREGULAR, SEG_KINDS
from banet_monai.commands.closing import say_outcome
from banet_monai.commands.grammar import (
    DONE,
    SOME_FAILED,
    NearestChoice,
    SeveralChoices,
    Share,
    StoreCommand,
    print_warning,
    shown,
)
from banet_monai.commands.options import (
    ResultOptions,
    RunOptions,
    WebOptions,
    result_options,
    run_options,
    series_option,
    web_options,
)
from banet_monai.commands.pacs import check_input, check_service, is_address, local_input, service_address, store_files
from banet_monai.commands.paging import write_page
from banet_monai.commands.running import Outcome, Plan, make_plan, run_plan
from banet_monai.files import is_result_folder

__all__ = ["segment"]

IMAGE_ENDS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".nii", ".nii.gz", ".dcm", ".dicom", ".ima", ".zip")
RESULT = re.compile(r"_(mask|overlay|uncertainty|variance|information|boundary|probability)\.")  # of a run cut short


@click.command(cls=StoreCommand, short_help="Outline what the task is about in INPUT.")
@click.argument("source", metavar="INPUT")
@click.option(
    "-o", "output", required=True, type=click.Path(path_type=Path), metavar="OUT", help="Folder of the results."
)
@click.option(
    "--format",
    "formats",
    type=SeveralChoices(FORMATS),
    multiple=True,
    metavar="FORMAT",
    help=f"{', '.join(FORMATS)}; several with commas.  [default: auto, PNG for pictures, else NIfTI]",
)
@run_options
@series_option
@click.option("--seg-kind", type=NearestChoice(SEG_KINDS), help="Kind of DICOM SEG.  [default: binary]")
@click.option("--threshold", type=Share(), metavar="X", help="Probability that counts as inside.")
@click.option(
    "--smallest-part",
    type=Share(),
    metavar="X",
    help="Drop parts of a picture's mask below this share of the largest; 0 keeps all.",
)
@result_options
@click.option("--structured-report", is_flag=True, help="Also measure and write DICOM SR; needs dicom-seg in --format.")
@click.option(
    "--irregular",
    type=NearestChoice(IRREGULAR),
    help="Series with gaps, tilt or uneven slices: refuse, or slice by slice.  [default: refuse]",
)
@click.option("--no-paths", is_flag=True, help="Case numbers instead of paths, in the manifest and in names.")
@click.option(
    "--store",
    "store_at",
    metavar="[URL]",
    help="Store DICOM SEG at this DICOMweb address, or back where INPUT is from.",
)
@web_options
def segment(
    *,
    source: str,
    output: Path,
    formats: tuple[tuple[str, ...], ...],
    run: RunOptions,
    rules: list[str],
    seg_kind: str | None,
    threshold: float | None,
    smallest_part: float | None,
    extras: ResultOptions,
    structured_report: bool,
    irregular: str | None,
    no_paths: bool,
    store_at: str | None,
    web: WebOptions,
) -> int:
    """Outline what the task is about in INPUT, and write masks with the size and place of each image to OUT.

    INPUT is a picture, a NIfTI or DICOM file, a folder of such, a .zip, a DICOMDIR, a list (.csv, .json) or the
    DICOMweb address of a study or series (http://HOST/.../studies/UID). Pictures, NIfTI and DICOM may be mixed.
    manifest.json in OUT tells what became of every file.

    For research use, not a medical device.
    """
    chosen = list(dict.fromkeys(word for words in formats for word in words))
    address = _store_address(source, store_at)
    if address is not None:
        chosen = chosen or ["dicom-seg"]
        if "dicom-seg" not in chosen:
            raise click.UsageError("--store sends DICOM SEG; add dicom-seg to --format.")
    if structured_report and "dicom-seg" not in chosen:
        raise click.UsageError("--structured-report refers to DICOM SEG; add dicom-seg to --format.")
    if seg_kind is not None and "dicom-seg" not in chosen:
        raise click.UsageError("--seg-kind is a kind of DICOM SEG; add dicom-seg to --format.")
    _check_optional_packages(chosen)

    changes: dict[str, Any] = {
        "format": ",".join(chosen) or None,
        "seg_kind": seg_kind,
        "threshold": threshold,
        "smallest_part": smallest_part,
        "irregular": irregular,
        "series": rules or None,
        "no_paths": no_paths or None,
        "structured_report": structured_report or None,
    }
    given = {name: value for name, value in changes.items() if value is not None} | extras.changes
    if structured_report:
        given["measurements"] = True
    check_input(source)
    _check_place(source, output)
    plan = make_plan(run, given, output=output)
    _check_threshold(plan)
    if address is not None:
        check_service(address, web)
    with local_input(source, web, quiet=run.quiet) as found:
        outcome = run_plan(plan, found.path)
        page = write_page(outcome, extras, images=found.path, quiet=run.quiet)
    code = max(say_outcome(outcome, quiet=run.quiet), page, DONE if found.complete else SOME_FAILED)
    if address is None or outcome.interrupted:
        return code
    return max(code, _store(outcome, address, web, quiet=run.quiet))


def _store(outcome: Outcome, address: str, web: WebOptions, *, quiet: bool) -> int:
    if not outcome.seg_files:
        print_warning("there is no DICOM SEG to store.")
        return DONE
    folder = shown(outcome.output_dir)
    later = f"the results stay in {folder}; 'banet store {folder} {address}' sends them later"
    return DONE if store_files(outcome.seg_files, address, web, later=later, quiet=quiet) else SOME_FAILED


def _store_address(source: str, store_at: str | None) -> str | None:
    if store_at is None:
        return None
    if not store_at and not is_address(source):
        raise click.UsageError("--store needs a DICOMweb address (http://HOST/...), because INPUT is not from one.")
    return service_address(store_at or source)


def _check_optional_packages(formats: Sequence[str]) -> None:
    if "dicom-seg" in formats and importlib.util.find_spec("highdicom") is None:
        raise click.UsageError('DICOM SEG needs more packages: pip install "banet-monai[dicom]"')


def _check_place(source: str, output: Path) -> None:
    """Refuse an output folder inside the input that holds images of it: what lies there is left out."""
    inside = output.is_dir() and Path(source).resolve() in output.resolve().parents
    if not inside or is_result_folder(output):
        return
    files = (path.name for path in output.rglob("*") if path.name.lower().endswith(IMAGE_ENDS))
    if images := [name for name in files if not RESULT.search(name)]:
        raise click.UsageError(
            f"-o '{output}' holds {len(images)} images of INPUT, such as '{min(images)}', which would be left out; "
            "give another folder."
        )


def _check_threshold(plan: Plan) -> None:
    """Refuse what only a threshold needs for a task in which classes exclude each other."""
    used = json.dumps(plan.task.config())
    if unused := [name for name in ("threshold", "smallest_part") if name in plan.changes and f'"@{name}"' not in used]:
        raise click.UsageError(
            f"the task '{plan.task.name}' has several classes, of which the likeliest wins; no {unused[0]} is used."
        )
