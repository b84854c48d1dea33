"""Addresses of DICOMweb (PS3.18 section 8.2) and the UIDs in them; messages quote neither."""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import urlsplit

__all__ = ["DicomWebAddress", "check_uid", "is_uid", "is_web_address", "names_study", "split_address"]

UID = re.compile(r"[0-9]+(\.[0-9]+)*")  # PS3.5 section 9.1, but leading zeros, which archives hold, are let through
MAX_UID = 64
IN_STUDY = re.compile(r"(?P<prefix>.*)/studies/(?P<study>[^/]*)(?:/series/(?P<series>[^/]*))?(?P<rest>/.*)?")
EXAMPLE = "http(s)://host[:port]/prefix/studies/<StudyInstanceUID>[/series/<SeriesInstanceUID>]"


def is_web_address(value: str) -> bool:
    """Whether an input is meant as an address and not as a path."""
    return value.lower().startswith(("http://", "https://"))


@dataclasses.dataclass(frozen=True)
class DicomWebAddress:
    """Where a study or a series is found.

    Args:
        base: address of the DICOMweb service, such as ``http://127.0.0.1:8042/dicom-web``.
        study: StudyInstanceUID; like the next not shown in messages.
        series: SeriesInstanceUID, None for all image series of the study.
    """

    base: str
    study: str = dataclasses.field(repr=False)
    series: str | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> DicomWebAddress:
        """Take ``http(s)://host[:port]/prefix/studies/<uid>[/series/<uid>]`` apart.

        Raises:
            ValueError: for another form, no UIDs in it, or a user name or password in it.
        """
        scheme_and_host, path = split_address(url)
        match = IN_STUDY.fullmatch(path.rstrip("/"))
        if match is None or match["rest"]:
            raise ValueError(f"the address names no study or series; what is needed is {EXAMPLE}.")
        study, series = match["study"], match["series"]
        check_uid(study, "behind /studies/")
        if series is not None:
            check_uid(series, "behind /series/")
        return cls(scheme_and_host + match["prefix"], study, series)


def split_address(url: str) -> tuple[str, str]:
    """``scheme://host[:port]`` and path.

    Raises:
        ValueError: for what is no address of a service; the message quotes none of it, for it may hold secrets.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"the address cannot be taken apart; what is needed is {EXAMPLE}.") from None
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(f"this is no web address; what is needed is {EXAMPLE}.")
    if "@" in parts.netloc:
        raise ValueError(
            "the address holds a user name or password, which would stand in logs and in the shell's history; leave "
            "them out and use a bearer token or a client certificate."
        )
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError(f"the address holds a question mark or a fragment; what is needed is {EXAMPLE}.")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{'' if port is None else f':{port}'}", parts.path


def names_study(path: str) -> bool:
    """Whether the path of an address leads to studies or into one, and so below the service."""
    match = IN_STUDY.fullmatch(path.rstrip("/") + "/")
    return path.rstrip("/").endswith("/studies") or (match is not None and is_uid(match["study"]))


def is_uid(value: str) -> bool:
    """Whether a value has the form of a UID."""
    return len(value) <= MAX_UID and UID.fullmatch(value) is not None


def check_uid(value: str, where: str) -> None:
    """Refuse what has not the form of a UID.

    Raises:
        ValueError: naming the place, not the value.
    """
    if not is_uid(value):
        raise ValueError(f"what is {where} is no DICOM UID: digits and dots, at most {MAX_UID} of them, are needed.")
