"""DICOMweb: series from a PACS to a folder, results back into it (QIDO-RS, WADO-RS and STOW-RS of PS3.18)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from banet_monai.dicom import web_answers
from banet_monai.dicom.multipart import DICOM_MEDIA_TYPE, FileMessage, write_single_part
from banet_monai.dicom.parsing import DicomReadError, open_dataset, quiet_pydicom, text
from banet_monai.dicom.web_address import DicomWebAddress, check_uid, is_uid, is_web_address, names_study, split_address
from banet_monai.dicom.web_answers import INSTANCE_NUMBER, SERIES_UID, SOP_UID, first_value
from banet_monai.dicom.web_objects import Instance, StoreFailure, StoreReport
from banet_monai.dicom.web_session import PacsError, WebConnection, WebSecurity
from banet_monai.files import write_beside

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient

__all__ = ["DicomWeb", "DicomWebAddress", "PacsError", "StoreFailure", "StoreReport", "is_web_address"]

WHOLE_OBJECT = f'multipart/related; type="{DICOM_MEDIA_TYPE}"; transfer-syntax=*'  # as stored, nothing transcoded
DICOM_JSON = "application/dicom+json"
BLOCK = 256 * 1024  # bytes of an answer in memory at a time
MAX_OBJECT = 5 * 2**30  # bytes: pixel data of a stated length end at 4 GiB (PS3.5 section 7.1.1)
MAX_LISTED = 100_000  # instances of a series: more than the largest there are; ends a listing that never does
NEVER_TWICE = "Whether it holds the object could not be asked; storing again does not store it twice."

# Modalities whose objects are no images to segment (PS3.3 C.7.3.1.1.1); a study alone means its other series.
DOCUMENTS = (
    "ANN",
    "AU",
    "DOC",
    "ECG",
    "EPS",
    "FID",
    "HD",
    "KER",
    "KO",
    "LEN",
    "M3D",
    "OAM",
    "PR",
    "REG",
    "RESP",
    "RWV",
)
RESULTS = (
    "PLAN",
    "RTDOSE",
    "RTINTENT",
    "RTPLAN",
    "RTRAD",
    "RTRECORD",
    "RTSEGANN",
    "RTSTRUCT",
    "SEG",
    "SMR",
    "SR",
    "SRF",
)
NOT_IMAGES = frozenset({*DOCUMENTS, *RESULTS})

Progress = Callable[[int, int], object]


class DicomWeb:
    """A DICOMweb service; close it, or use it in a ``with`` block.

    Proxies are those of the environment, as requests takes them. Redirections are not followed.

    Args:
        base_url: address of the service, up to and without ``/studies``.
        timeout: seconds to wait for a connection, and for each piece of an answer.
        retries: further attempts after failures that may pass: no connection, a time-out, status 429, 502, 503, 504.
        backoff: seconds before the first further attempt, doubled for each one after it.
        ca_bundle: PEM file of the authorities to trust.
        verify: False accepts any certificate, which the log says.
        client_cert: PEM file with the client's certificate, and its key unless ``client_key`` holds that.
        client_key: PEM file.
        token: bearer token; it appears in no message.

    Raises:
        FileNotFoundError: a certificate file is not there.
        ImportError: dicomweb-client is not installed.
        ValueError: an address or a setting that cannot work.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        backoff: float = 0.5,
        ca_bundle: str | Path | None = None,
        verify: bool = True,
        client_cert: str | Path | None = None,
        client_key: str | Path | None = None,
        token: str | None = None,
    ) -> None:
        scheme_and_host, path = split_address(base_url)
        if names_study(path):
            raise ValueError("the address of a service ends before /studies; take the base of DicomWebAddress.parse.")
        security = WebSecurity(
            ca_bundle=_path(ca_bundle),
            verify=verify,
            client_cert=_path(client_cert),
            client_key=_path(client_key),
            token=token,
        )
        self.base_url = scheme_and_host + path.rstrip("/")
        self._web = WebConnection(self.base_url, security, timeout=timeout, retries=retries, backoff=backoff)
        self._client = _client(self._web)

    def __enter__(self) -> DicomWeb:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._web.close()

    # ---- retrieving --------------------------------------------------------------------------------------------------

    def retrieve(
        self, study: str, series: str | None = None, *, folder: str | Path, progress: Progress | None = None
    ) -> list[Path]:
        """Write a series, or all image series of a study, as they are stored; one object is on its way at a time.

        A series is on disk whole or not at all: the number of its instances is compared with what the server says,
        and each object is the one that was asked for.

        Args:
            study: StudyInstanceUID.
            series: SeriesInstanceUID; None for every series of the study that can hold images.
            folder: new or empty; gets ``0001.dcm`` ..., or ``series-0001/0001.dcm`` ... for a study.
            progress: called with the number of objects written and to write, of the series under way.

        Returns:
            The files, series by series, ordered by InstanceNumber as the server states it.

        Raises:
            FileExistsError: ``folder`` is not empty.
            PacsError: with ``retrieved``, the files of those series that arrived.
            ValueError: no UID.
        """
        check_uid(study, "given as study")
        if series is not None:
            check_uid(series, "given as series")
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"'{folder}' is not empty; give a new folder, so that no other files mix in.")

        wanted = self._series_of(study, series)
        paths: list[Path] = []
        failures: list[PacsError] = []
        for number, (found, stated) in enumerate(wanted, 1):
            place = folder if series is not None else folder / f"series-{number:04d}"
            try:
                paths += self._retrieve_series(study, found, stated, place, progress)
            except PacsError as error:
                failures.append(error)
                if error.hopeless:
                    break
        if failures:
            first, missing = failures[0], len(wanted) - len({path.parent for path in paths})
            several = f"{missing} of {len(wanted)} series were not retrieved; the first: " if len(wanted) > 1 else ""
            raise PacsError(f"{several}{first}", hopeless=failures[-1].hopeless, retrieved=tuple(paths))
        return paths

    def _series_of(self, study: str, series: str | None) -> list[tuple[str, int | None]]:
        """UID and stated number of instances (None where not stated) of a series, or of the study's image series."""
        filters = {} if series is None else {"SeriesInstanceUID": series}
        listed = self._listed(
            SERIES_UID,
            lambda options: self._client.search_for_series(study, search_filters=filters, **options),
            enough=None if series is None else 1,
        )
        if series is not None:
            listed = {key: item for key, item in listed.items() if key == series}  # a server may ignore the filter
        if not listed:
            what = "such study" if series is None else "such series in this study"
            raise PacsError(f"{self._web.server} has no {what}; check the UIDs and the DICOMweb prefix.")
        kinds = {key: web_answers.modality(item) for key, item in listed.items()}
        wanted = [key for key in listed if series is not None or kinds[key] not in NOT_IMAGES]
        if not wanted:
            codes = ", ".join(sorted(set(kinds.values())))
            raise PacsError(f"{self._web.server} has no image series in this study, only {codes}.")
        return [(key, web_answers.instance_count(listed[key])) for key in wanted]

    def _retrieve_series(
        self, study: str, series: str, stated: int | None, folder: Path, progress: Progress | None
    ) -> list[Path]:
        listed = self._listed(
            SOP_UID,
            lambda options: self._client.search_for_instances(study, series, **options),
            enough=stated,
        )
        if not listed or (stated is not None and len(listed) != stated):
            raise PacsError(
                f"{self._web.server} lists {len(listed)} instances of a series"
                f"{'' if stated is None else f' of {stated}'}; try again when it has taken in the whole series."
            )
        wanted = sorted(listed, key=lambda key: (web_answers.integer(first_value(listed[key], INSTANCE_NUMBER)), key))
        width = max(4, len(str(len(wanted))))
        paths: list[Path] = []
        try:
            for k, sop in enumerate(wanted, 1):
                path = folder / f"{k:0{width}d}.dcm"
                paths.append(path)
                self._retrieve_instance(Instance(study, series, sop), path, f"instance {k} of {len(wanted)}")
                if progress is not None:
                    progress(k, len(wanted))
        except BaseException:
            for path in paths:
                path.unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()  # if it is empty
            raise
        return paths

    def _retrieve_instance(self, asked: Instance, path: Path, name: str) -> None:
        url = f"{self.base_url}/studies/{asked.study}/series/{asked.series}/instances/{asked.sop}"
        try:
            self._web.run(lambda: write_beside(path, lambda partial: self._download(url, partial)))
        except PacsError as error:
            raise PacsError(f"{name}: {error}", hopeless=error.hopeless) from None
        try:
            with quiet_pydicom():
                dataset, _ = open_dataset(path)
        except DicomReadError:
            raise PacsError(f"{name}: {self._web.server} sent something that is no DICOM object.") from None
        if text(dataset, "SOPInstanceUID") != asked.sop or text(dataset, "SeriesInstanceUID") != asked.series:
            raise PacsError(f"{name}: {self._web.server} sent another object than the one asked for.")

    def _download(self, url: str, partial: Path) -> None:
        headers = {"Accept": WHOLE_OBJECT, "Accept-Encoding": "identity"}
        with self._web.session.get(url, headers=headers, stream=True, timeout=self._web.timeout) as response:
            response.raise_for_status()
            with partial.open("wb") as file:
                content_type = response.headers.get("Content-Type", "")
                write_single_part(response.iter_content(BLOCK), content_type, file, max_bytes=MAX_OBJECT)

    def _listed(
        self, key: str, search: Callable[[dict[str, Any]], Any], *, enough: int | None = None
    ) -> dict[str, dict[str, Any]]:
        """What a search lists, by UID, over all pages: a server may cut its answers short (PS3.18 section 8.3.4)."""
        found: dict[str, dict[str, Any]] = {}

        def page() -> list[dict[str, Any]]:
            return web_answers.items(search({"offset": len(found)} if found else {}))

        while len(found) <= MAX_LISTED:
            listed = {str(first_value(item, key)): item for item in self._web.run(page)}
            new = {value: item for value, item in listed.items() if value not in found and is_uid(value)}
            found.update(new)
            if not new or len(found) == enough:  # a server that knows no offset sends its first page again
                return found
        raise PacsError(f"{self._web.server} lists more than {MAX_LISTED} objects.")

    # ---- storing -----------------------------------------------------------------------------------------------------

    def store(self, paths: Iterable[str | Path], *, progress: Progress | None = None) -> StoreReport:
        """Store files, one per request, unless the PACS holds them already; never changes or deletes a file.

        Whether an object is there is asked before it is sent, and again before it is sent once more. After a failure
        that others would share, such as no connection, the remaining files are reported as failed without trying.

        Args:
            paths: DICOM files with the preamble of PS3.10.
            progress: called with the number of files dealt with, and of all.

        Returns:
            What became of each file; failures of the server are reported there and not raised.
        """
        files = [Path(path) for path in paths]
        stored: list[Path] = []
        present: list[Path] = []
        failed: list[StoreFailure] = []
        given_up = ""
        for k, path in enumerate(files, 1):
            try:
                if given_up:
                    raise PacsError(f"not tried after: {given_up}")
                (stored if self._store(path) else present).append(path)
            except PacsError as error:
                failed.append(StoreFailure(path, str(error)))
                if error.hopeless:
                    given_up = given_up or str(error)
            except OSError as error:  # of the file: those of the server are PacsErrors
                failed.append(StoreFailure(path, f"the file cannot be read ({type(error).__name__})."))
            if progress is not None:
                progress(k, len(files))
        return StoreReport(tuple(stored), tuple(present), tuple(failed))

    def _store(self, path: Path) -> bool:
        """True once the object is stored, False where it was there before."""
        instance = Instance.of_file(path)
        if self._is_there(instance):
            return False

        def has_arrived() -> bool | None:
            """True where an attempt that seemed to fail has stored the object after all."""
            try:
                return self._is_there(instance) or None
            except PacsError as error:
                raise PacsError(f"{error} {NEVER_TWICE}", hopeless=error.hopeless) from None

        try:
            return self._web.run(lambda: self._send(path, instance), before_retry=has_arrived)
        except PacsError as error:
            if error.ambiguous and has_arrived():
                return True
            raise

    def _is_there(self, instance: Instance) -> bool:
        import requests

        def ask() -> bool:
            filters = {"SOPInstanceUID": instance.sop}
            try:
                found = self._client.search_for_instances(instance.study, instance.series, search_filters=filters)
            except requests.HTTPError as error:
                if error.response is not None and error.response.status_code == 404:
                    return False  # so some servers answer where they do not know the study
                raise
            return any(first_value(item, SOP_UID) == instance.sop for item in web_answers.items(found))

        return self._web.run(ask)

    def _send(self, path: Path, instance: Instance) -> bool:
        """True once stored, False where the server says that it had the object."""
        message = FileMessage(path)
        headers = {"Content-Type": message.content_type, "Accept": DICOM_JSON}
        url = f"{self.base_url}/studies"
        response = self._web.session.post(url, data=message, headers=headers, timeout=self._web.timeout)
        reply = web_answers.store_reply(response) if response.status_code in (200, 202, 409) else {}
        if web_answers.names_instance(reply, instance.sop):
            return True
        codes = web_answers.failure_codes(reply)
        if web_answers.DUPLICATE in codes and self._is_there(instance):
            return False
        if codes:
            raise PacsError(f"{self._web.server} refuses the object: {web_answers.failure_words(codes[0])}.")
        response.raise_for_status()
        if self._is_there(instance):  # the reply is in XML, or there is none
            return True
        later = "for later, it may yet come" if response.status_code == 202 else "but has not stored it"
        raise PacsError(f"{self._web.server} answered {response.status_code} to the object {later}.")


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value).expanduser()


def _client(web: WebConnection) -> DICOMwebClient:
    from dicomweb_client.api import DICOMwebClient

    client = DICOMwebClient(web.base_url, session=web.session, timeout=web.timeout, permissive_uid=True)
    client.set_http_retry_params(retry=False)  # it would try anything again five times, a refused token included
    return client
