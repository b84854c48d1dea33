"""``banet store``: results of an earlier run to a PACS."""

from __future__ import annotations

from pathlib import Path

import click

from banet_monai.commands.grammar import DONE, SOME_FAILED
from banet_monai.commands.options import WebOptions, web_options
from banet_monai.commands.pacs import check_service, is_address, store_files

__all__ = ["store"]


@click.command(short_help="Send the DICOM SEG of an earlier run to a PACS.")
@click.argument("folder", metavar="OUT", type=click.Path(exists=True, path_type=Path))
@click.argument("url", metavar="URL")
@web_options
@click.option("--quiet", is_flag=True, help="No closing line.")
def store(*, folder: Path, url: str, web: WebOptions, quiet: bool) -> int:
    """Send the DICOM SEG objects in OUT (*_mask.dcm) that are not there yet to the DICOMweb server at URL."""
    if not is_address(url):
        raise click.UsageError(f"URL must be a DICOMweb address (http://HOST/...), got '{url}'.")
    files = sorted(folder.rglob("*_mask.dcm")) if folder.is_dir() else [folder]
    files = [file for file in files if not file.name.startswith(".")]
    if not files:
        raise click.UsageError(f"'{folder}' holds no *_mask.dcm; segment with --format dicom-seg first.")
    check_service(url, web)
    later = f"they stay in {folder}, and the same command sends what is missing"
    return DONE if store_files(files, url, web, later=later, quiet=quiet) else SOME_FAILED
