"""Requests to a DICOMweb server: TLS and token, time-outs, which failures are tried again, and their plain words.

Messages name the server, never an address in it: addresses hold UIDs, and what a library says of a failure quotes them.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from banet_monai.dicom.multipart import MultipartError
from banet_monai.dicom.parsing import quiet_pydicom

if TYPE_CHECKING:
    import requests

__all__ = ["PacsError", "WebConnection", "WebSecurity", "quiet_libraries"]

logger = logging.getLogger(__name__)

PASSING_STATUS = (429, 502, 503, 504)  # too many requests, and gateways or servers that are busy or starting
MAX_WAIT = 30.0  # seconds between two attempts at most, whatever the server asks for
CHATTY_LOGGERS = ("dicomweb_client.web", "retrying", "urllib3.connectionpool", "urllib3.util.retry")
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
MEANING = {
    400: "it cannot make sense of the request",
    401: "it wants to know who asks: give a valid token",
    403: "this user or token may not do that",
    404: "it holds nothing there: check the address, the DICOMweb prefix and the UIDs",
    406: "it cannot answer in the form asked for",
    409: "it refuses the object",
    413: "the object is too large for it",
    415: "it does not take this kind of object",
    429: "too many requests",
    500: "it failed inside",
    502: "the gateway has no answer from it",
    503: "it is busy or starting",
    504: "the gateway has no answer from it in time",
}

T = TypeVar("T")


class PacsError(RuntimeError):
    """A DICOMweb server cannot be reached, refuses, or answers wrongly; no patient data, UIDs or credentials in it.

    Args:
        message: what happened and what would help.
        hopeless: whether other requests to the server would fail likewise.
        ambiguous: whether the server may have done what was asked all the same.
        retrieved: what :meth:`DicomWeb.retrieve` wrote before, whole series only.
    """

    def __init__(
        self, message: str, *, hopeless: bool = False, ambiguous: bool = False, retrieved: tuple[Path, ...] = ()
    ) -> None:
        super().__init__(message)
        self.hopeless = hopeless
        self.ambiguous = ambiguous
        self.retrieved = retrieved


@dataclasses.dataclass(frozen=True)
class WebSecurity:
    """How client and server trust each other.

    Args:
        ca_bundle: PEM file of the authorities to trust; by default ``REQUESTS_CA_BUNDLE``, or those of requests.
        verify: False accepts any certificate, for trying things out only; said in the log.
        client_cert: PEM file with the client's certificate and, unless ``client_key`` is given, its key.
        client_key: PEM file with the key alone.
        token: sent as ``Authorization: Bearer ...``.

    Raises:
        FileNotFoundError: for a file that is not there.
        ValueError: for settings that contradict each other, or a token that cannot be sent.
    """

    ca_bundle: Path | None = None
    verify: bool = True
    client_cert: Path | None = None
    client_key: Path | None = None
    token: str | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("ca_bundle", "client_cert", "client_key"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"there is no file '{path}' for {name}; give a file in PEM format.")
        if self.ca_bundle is not None and not self.verify:
            raise ValueError("ca_bundle and verify=False contradict each other: give the one or the other.")
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("client_key needs client_cert, the certificate that it belongs to.")
        if self.token is not None and not (self.token and all("!" <= letter <= "~" for letter in self.token)):
            raise ValueError("the token is empty or holds spaces, line breaks or letters outside ASCII; give it bare.")


class _Authorization:
    """Puts the token into each request to the server."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        request.headers.pop("Host", None)  # dicomweb-client's lacks the port; the right one is set when it is sent
        return request


class WebConnection:
    """A session with one server, and the rules for trying again.

    Args:
        base_url: address of the DICOMweb service, already checked.
        security: certificates and token.
        timeout: seconds to wait for a connection, and for each piece of an answer.
        retries: further attempts after failures that may pass: no connection, time-out, status 429, 502, 503, 504.
        backoff: seconds before the first further attempt, doubled for each one after it.

    Raises:
        ImportError: without dicomweb-client.
    """

    def __init__(
        self, base_url: str, security: WebSecurity, *, timeout: float = 30.0, retries: int = 3, backoff: float = 0.5
    ) -> None:
        if not timeout > 0 or retries < 0 or backoff < 0:
            raise ValueError(
                "timeout must be above 0, retries and backoff at least 0, "
                f"got timeout={timeout}, retries={retries} and backoff={backoff}."
            )
        self.base_url = base_url
        self.server = f"the server {urlsplit(base_url).netloc}"
        self.timeout = timeout
        self.retries = retries
        self.backoff = backoff
        self.session = _open_session(base_url, security)
        if not security.verify:
            logger.warning("%s: its certificate is not checked, anyone could pose as it", self.server)
        if security.token is not None and _is_open(base_url):
            logger.warning("%s: the token is sent without encryption, use https", self.server)

    def run(self, call: Callable[[], T], *, before_retry: Callable[[], T | None] | None = None) -> T:
        """Make a request, again after failures that may pass.

        Args:
            call: makes the request; what it raises is put into words.
            before_retry: asked before each further attempt whether the request was carried out all the same; what it
                returns, unless None, is the result.

        Raises:
            PacsError: when the request failed for good.
        """
        attempt = 0
        while True:
            try:
                with quiet_libraries():
                    return call()
            except PacsError:
                raise
            except Exception as error:
                failure = _failure(error, self.timeout)
                if failure is None:
                    raise
            if not failure.may_pass or attempt == self.retries:
                tried = f" ({attempt + 1} attempts)" if attempt else ""
                raise PacsError(
                    f"{self.server}: {failure.words}{tried}.", hopeless=failure.hopeless, ambiguous=failure.ambiguous
                )
            attempt += 1
            logger.warning(
                "%s: %s; attempt %d of %d follows", self.server, failure.words, attempt + 1, 1 + self.retries
            )
            time.sleep(min(MAX_WAIT, max(failure.wait, self.backoff * 2 ** (attempt - 1))))
            done = before_retry() if before_retry is not None else None
            if done is not None:
                return done

    def close(self) -> None:
        """Give the connections back."""
        self.session.close()


def _open_session(base_url: str, security: WebSecurity) -> requests.Session:
    try:
        from dicomweb_client.session_utils import add_certs_to_session, create_session_from_auth
        from requests.utils import get_environ_proxies
    except ImportError:
        raise ImportError(
            'speaking with a PACS needs the package dicomweb-client; install it with: pip install "banet-monai[dicom]"'
        ) from None

    session: requests.Session = create_session_from_auth(cast(Any, _Authorization(security.token)))
    # requests prefers REQUESTS_CA_BUNDLE to the session's own authorities and ~/.netrc to the session's token. What was
    # asked for counts first here, then the environment.
    session.trust_env = False
    session.proxies.update(get_environ_proxies(base_url, no_proxy=None))
    authorities = security.ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if not security.verify:
        session.verify = False
    elif authorities and Path(authorities).is_dir():  # requests takes a folder of hashed certificates too
        session.verify = str(authorities)
    else:
        add_certs_to_session(session, ca_bundle=str(authorities) if authorities else None)
    if security.client_cert is not None:
        add_certs_to_session(session, cert=str(security.client_cert))
        if security.client_key is not None:
            session.cert = (str(security.client_cert), str(security.client_key))
    session.max_redirects = 0  # a token or an object follows no redirection to who knows where
    return session


def _is_open(base_url: str) -> bool:
    parts = urlsplit(base_url)
    return parts.scheme == "http" and parts.hostname not in LOCAL_HOSTS


# ---- failures --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Failure:
    words: str
    may_pass: bool = False
    hopeless: bool = False
    ambiguous: bool = False
    wait: float = 0.0  # seconds that the server asks for


def _failure(error: Exception, timeout: float) -> _Failure | None:
    """What an exception means; None for those that have nothing to do with the server."""
    import requests
    import urllib3

    if isinstance(error, MultipartError):
        return _Failure(f"it sent {error}")
    if isinstance(error, requests.HTTPError):
        return _status_failure(error.response)
    if isinstance(error, requests.exceptions.SSLError):
        return _Failure(
            "no trusted TLS connection: its certificate is not signed by a known authority (give that one's file as "
            "ca_bundle), is for another name or has run out, or it wants a client certificate, or it speaks http only",
            hopeless=True,
        )
    lasting: dict[type[Exception], str] = {
        requests.TooManyRedirects: "it redirects elsewhere, which is not followed; give the final address",
        requests.exceptions.ContentDecodingError: "its answer cannot be unpacked",
        requests.exceptions.InvalidURL: "its address, or the proxy's, cannot be used",
    }
    passing: dict[type[Exception], str] = {  # the first that fits
        requests.exceptions.ProxyError: "the proxy does not let the request through",
        requests.exceptions.ConnectTimeout: f"no connection within {timeout:g} s",
        requests.Timeout: f"no answer within {timeout:g} s",
        requests.exceptions.ChunkedEncodingError: "the connection was cut within the answer",
        requests.ConnectionError: "no connection, or it was cut: is it running, and is the address right?",
    }
    for kind, words in lasting.items():
        if isinstance(error, kind):
            return _Failure(words, hopeless=True)
    for kind, words in passing.items():
        if isinstance(error, kind):
            return _Failure(words, may_pass=True, hopeless=True, ambiguous=True)
    if isinstance(error, urllib3.exceptions.HTTPError):  # that requests lets through
        return _Failure("the connection failed", hopeless=True, ambiguous=True)
    if isinstance(error, (requests.RequestException, ValueError, RecursionError)):
        return _Failure("its answer is not the DICOM JSON asked for; does the address belong to a DICOMweb service?")
    return None


def _status_failure(response: Any) -> _Failure:
    status = int(response.status_code)
    meaning = f": {MEANING[status]}" if status in MEANING else ""
    passing = status in PASSING_STATUS
    asked = response.headers.get("Retry-After", "")
    return _Failure(
        f"it answered {status}{meaning}",
        may_pass=passing,
        hopeless=passing or status in (401, 403),
        ambiguous=status >= 500,
        wait=float(asked) if asked.isascii() and asked.isdecimal() else 0.0,
    )


# ---- silence ---------------------------------------------------------------------------------------------------------


class _Hush(logging.Filter):
    """Drops log records of the threads that are in a request of ours; other use of the libraries stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.depth

    @property
    def depth(self) -> int:
        return getattr(self._thread, "depth", 0)

    @depth.setter
    def depth(self, value: int) -> None:
        self._thread.depth = value


_hush = _Hush()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep back what the libraries log and warn of: addresses with UIDs in them, and values that stand in answers."""
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).addFilter(_hush)  # added once, however often it is asked for
    _hush.depth += 1
    try:
        with quiet_pydicom():
            yield
    finally:
        _hush.depth -= 1
