"""Keeps web pages of others away from the server, and what it writes in its own folders.

A browser lets every page that somebody opens send requests to this machine, and MONAI Label answers them all. This file
is copied into an application folder; it needs nothing but Python.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

__all__ = ["HOSTS", "ORIGINS", "OwnPagesOnly", "is_plain_name", "listed", "refusal"]

HOSTS = "BANET_LABEL_HOSTS"  # names that the server may be asked by; empty: any
ORIGINS = "BANET_LABEL_ORIGINS"  # other pages that may ask, such as http://localhost:3000

FORBIDDEN = 403
POLICY_VIOLATION = 1008  # of a web socket

Message = MutableMapping[str, Any]


class OwnPagesOnly:
    """An ASGI application that hands on what comes from its own pages, or from programs that are no browser.

    Args:
        app: takes what is handed on.
        hosts: names that the server may be asked by. A page whose name somebody points at this machine asks by its
            own. Empty: any.
        origins: further pages that may ask.
    """

    def __init__(
        self, app: Callable[..., Awaitable[None]], hosts: Collection[str] = (), origins: Collection[str] = ()
    ) -> None:
        self.app = app
        self.hosts = hosts
        self.origins = origins

    async def __call__(self, scope: Message, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        """One request."""
        why = ""
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            why = refusal(headers, self.hosts, self.origins)
        if not why:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        else:
            kind = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": FORBIDDEN, "headers": kind})
            await send({"type": "http.response.body", "body": json.dumps({"detail": why}).encode()})


def refusal(headers: Mapping[str, str], hosts: Collection[str], origins: Collection[str]) -> str:
    """Why a request with these headers is refused; "" where it is not."""
    host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
    if hosts and _name(host) not in hosts:
        return f"this server is not asked as '{host}', only as {', '.join(sorted(hosts))}; {HOSTS}=NAME allows others."
    if origin and origin not in origins and _place(origin) != host:
        return f"requests of the web page '{origin}' are refused; {ORIGINS}={origin} allows them."
    if not origin and headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
        return "another web page may not show what lies here."  # a picture or script: no origin is told with it
    return ""


def is_plain_name(name: str) -> bool:
    """Whether a name stays in the folder that it is joined to."""
    return name not in (".", "..") and not any(sign in name for sign in "/\\\0")


def listed(text: str) -> frozenset[str]:
    """What an environment variable lists, separated by commas."""
    return frozenset(word.strip().lower().rstrip("/") for word in text.split(",") if word.strip())


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
