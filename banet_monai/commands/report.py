"""``banet report``: a page of the results of an earlier run."""

from __future__ import annotations

from pathlib import Path

import click

from banet_monai.commands.grammar import DONE, WorkError, shown
from banet_monai.commands.silence import in_words, quiet_libraries

__all__ = ["report"]


@click.command(short_help="Write a page of the results in OUT.")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="INPUT",
    help="What the run was given.  [default: the place that manifest.json names]",
)
@click.option(
    "--truth", type=click.Path(path_type=Path), metavar="FOLDER", help="True masks by the names of the cases."
)
@click.option("--title", default="", metavar="TEXT", help="Heading of the page.")
@click.option(
    "--pictures",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    metavar="N",
    help="Cases with pictures; the others stand in the table.",
)
@click.option("--no-pngs", is_flag=True, help="Only the page, no PNG files beside it.")
@click.option("--patient-data", is_flag=True, help="Show names, numbers and dates of DICOM patients on the page.")
@click.option("--quiet", is_flag=True, help="No closing line.")
def report(
    *,
    folder: Path,
    images: Path | None,
    truth: Path | None,
    title: str,
    pictures: int,
    no_pngs: bool,
    patient_data: bool,
    quiet: bool,
) -> int:
    """Write OUT/report.html: outlines, figures and histograms of the results in OUT, in one file for any browser.

    OUT is a folder of 'banet segment' or 'banet evaluate'. The page loads nothing from elsewhere; each case is also
    drawn as OUT/report/NAME.png. Cases come least certain first or, with truth, worst first.
    """
    with quiet_libraries():
        from tqdm import tqdm

        from banet_monai.report.page import write_report

        bar = tqdm(desc="drawing", unit="case", disable=True if quiet else None)  # None: only on a terminal

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            page = write_report(
                folder,
                images=images,
                truth=truth,
                title=title,
                pictures=pictures,
                pngs=not no_pngs,
                patient_data=patient_data,
                progress=progress,
            )
        except (ValueError, FileNotFoundError) as error:
            raise click.UsageError(in_words(error)) from error
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise WorkError(
                f"the report cannot be written: {why}; free some space or make the folder writable"
            ) from error
        finally:
            bar.close()
    if not quiet:
        click.echo(f"report: {shown(page)}")
    return DONE
