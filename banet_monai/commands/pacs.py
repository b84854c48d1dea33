"""Images from a DICOMweb server, and results back to it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from banet_monai.bundles import with_hint
from banet_monai.commands.grammar import HTTP, WorkError, print_error
from banet_monai.commands.options import WebOptions
from banet_monai.commands.silence import quiet_libraries

if TYPE_CHECKING:
    from banet_monai.dicom.web import DicomWeb, DicomWebAddress

__all__ = ["LocalInput", "check_input", "check_service", "is_address", "local_input", "service_address", "store_files"]

OF_STUDIES = re.compile(r"(?<=[^/:])/studies(?:/.*)?$")  # behind a host, as a whole part of the path


@dataclass(frozen=True)
class LocalInput:
    """An input on this machine.

    Attributes:
        path: file or folder.
        complete: whether all of it arrived; False where a server gave some series of a study and failed at others.
    """

    path: Path
    complete: bool = True


def is_address(source: str) -> bool:
    """Whether an input is the address of a server."""
    return source.lower().startswith(HTTP)


def check_input(source: str, *, addresses: bool = True) -> None:
    """Refuse a file that does not exist, with the nearest one in its folder, and an address of no study.

    Args:
        source: what was given.
        addresses: whether the command takes addresses.

    Raises:
        click.UsageError: for either.
    """
    if is_address(source) and not addresses:
        raise click.UsageError("this command takes files, no address; save the study as files first.")
    if is_address(source):
        _study_address(source)
        return
    path = Path(source)
    if not path.exists():
        siblings = [str(entry) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise click.UsageError(with_hint(f"'{source}' does not exist", str(path), siblings))


def check_service(url: str, web: WebOptions) -> None:
    """Refuse an address, certificate or token that cannot work, before anything is computed.

    Raises:
        click.UsageError: saying which.
    """
    _service(service_address(url), web).close()


@contextmanager
def local_input(source: str, web: WebOptions, *, quiet: bool) -> Iterator[LocalInput]:
    """The input as a path; what an address names is fetched into a folder that lasts as long as the context.

    Raises:
        click.UsageError: when the address is none of a study, or an option cannot work.
        WorkError: when the server gives nothing.
    """
    if not is_address(source):
        yield LocalInput(Path(source))
        return
    from banet_monai.dicom.web import PacsError

    address = _study_address(source)
    with tempfile.TemporaryDirectory(prefix="banet-") as temporary:
        folder = Path(temporary) / ("study" if address.series is None else "series")
        complete = True
        _service(address.base, web).close()  # what it warns of is told here, where the libraries are not silent
        try:
            _fetch(address, folder, web, quiet=quiet)
        except PacsError as error:
            if not error.retrieved:
                raise WorkError(str(error)) from error
            print_error(f"{str(error).rstrip('.')}; going on with what arrived.")
            complete = False
        yield LocalInput(folder, complete)


def service_address(url: str) -> str:
    """The address of the server, out of that of a study in it."""
    from banet_monai.dicom.web_address import DicomWebAddress, names_study

    try:
        return DicomWebAddress.parse(url).base
    except ValueError:  # that of a server, then, or one that is refused in words later
        return OF_STUDIES.sub("", url) if names_study(url) else url


def store_files(files: Sequence[Path], url: str, web: WebOptions, *, later: str, quiet: bool) -> bool:
    """Store results, and say how many arrived.

    Args:
        files: DICOM SEG objects.
        url: address of the server, or of a study there.
        web: how to speak with it.
        later: what to say about the files where it fails.
        quiet: say nothing where it works.

    Returns:
        Whether all of them are there now.

    Raises:
        click.UsageError: for an address or an option that cannot work.
    """
    with quiet_libraries(), _service(service_address(url), web) as service:
        report = service.store(files)
    if not quiet:
        click.echo(f"PACS: {report}")
    if report.failed:
        reason = report.failed[0].reason.rstrip(".")
        print_error(f"{len(report.failed)} of {len(files)} results were not stored: {reason}; {later}.")
    return not report.failed


def _service(base: str, web: WebOptions) -> DicomWeb:
    from banet_monai.dicom.web import DicomWeb

    token = os.environ.get(web.token_env) if web.token_env else None
    if web.token_env and not token:
        raise click.UsageError(f"--token-env {web.token_env}: there is no such environment variable, or it is empty.")
    try:
        return DicomWeb(
            base,
            timeout=web.timeout,
            retries=web.retries,
            ca_bundle=web.ca_bundle,
            verify=not web.no_verify,
            client_cert=web.client_cert,
            token=token,
        )
    except ImportError as error:
        raise click.UsageError('DICOMweb needs more packages: pip install "banet-monai[dicom]"') from error
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def _study_address(source: str) -> DicomWebAddress:
    from banet_monai.dicom.web_address import DicomWebAddress

    try:
        return DicomWebAddress.parse(source)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _fetch(address: DicomWebAddress, folder: Path, web: WebOptions, *, quiet: bool) -> None:
    from tqdm import tqdm

    with quiet_libraries(), _service(address.base, web) as service, tqdm(disable=quiet or None) as bar:

        def show(done: int, total: int) -> None:
            bar.set_description("fetching", refresh=False)
            bar.total, bar.n = total, done
            bar.refresh()

        service.retrieve(address.study, address.series, folder=folder, progress=show)
