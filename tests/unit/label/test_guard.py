from __future__ import annotations

import asyncio
import json

import pytest

from banet_monai.label.app.banet_guard import OwnPagesOnly, is_plain_name, listed, refusal

HERE = {"127.0.0.1", "localhost", "::1"}


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8000"},  # a program: 3D Slicer, curl
        {"host": "LOCALHOST:8000"},
        {"host": "[::1]:8000"},
        {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"},  # a page of the server: OHIF
        {"host": "localhost:8000", "origin": "http://localhost:8000"},
        {"host": "127.0.0.1:8000", "origin": "http://viewer.hospital:3000"},  # allowed by name
        {"host": "127.0.0.1:8000", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},  # somebody's link
        {"host": "127.0.0.1:8000", "sec-fetch-site": "same-origin", "sec-fetch-mode": "no-cors"},  # a picture of OHIF's
    ],
)
def test_programs_own_pages_and_pages_that_were_named_may_ask(headers):
    assert refusal(headers, HERE, {"http://viewer.hospital:3000"}) == ""


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"host": "127.0.0.1:8000", "origin": "https://elsewhere.example"}, "web page 'https://elsewhere.example'"),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:3000"}, "BANET_LABEL_ORIGINS=http://127.0.0.1:3000"),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000.elsewhere.example"}, "web page"),
        ({"host": "127.0.0.1:8000", "origin": "null"}, "web page 'null'"),
        ({"host": "127.0.0.1:8000", "origin": "http://[broken"}, "web page"),
        (
            {"host": "elsewhere.example:8000"},
            "'elsewhere.example:8000', only as 127.0.0.1, ::1, localhost",
        ),
        ({"host": "elsewhere.example", "origin": "http://elsewhere.example"}, "not asked as"),
        ({"host": "[broken"}, "not asked as"),
        ({}, "not asked as ''"),
        (
            {"host": "127.0.0.1:8000", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
            "another web page may not show what lies here",
        ),
    ],
)
def test_other_pages_and_other_names_are_refused(headers, words):
    assert words in refusal(headers, HERE, ())


def test_a_server_for_other_machines_is_asked_by_any_name_but_not_by_other_pages():
    assert refusal({"host": "label.hospital"}, (), ()) == ""
    assert "web page" in refusal({"host": "label.hospital", "origin": "http://elsewhere.example"}, (), ())


def ask(kind, *headers):
    """What the application sends, and whether the one behind it was asked."""
    sent, asked = [], []

    async def behind(scope, receive, send):
        asked.append(scope["type"])

    async def send(message):
        sent.append(message)

    asyncio.run(OwnPagesOnly(behind, HERE)({"type": kind, "headers": list(headers)}, None, send))
    return sent, asked


def test_a_refused_request_reaches_nothing_and_is_told_why():
    (start, body), asked = ask("http", (b"Host", b"localhost"), (b"Origin", b"http://elsewhere.example"))
    assert (start["status"], asked) == (403, [])
    assert "web page 'http://elsewhere.example'" in json.loads(body["body"])["detail"]
    assert ask("websocket", (b"host", b"elsewhere.example"))[0] == [{"type": "websocket.close", "code": 1008}]


def test_everything_else_is_handed_on():
    assert ask("http", (b"host", b"localhost:8000")) == ([], ["http"])
    assert ask("lifespan") == ([], ["lifespan"])


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "..", ".", "/etc/x", "a\0b"])
def test_names_that_lead_elsewhere_are_not_plain(name):
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", ["", "final", "1.2.840.10008", "a..b", "Läsion 3"])
def test_other_names_are_plain(name):
    assert is_plain_name(name)


def test_variables_list_names_with_commas():
    assert listed(" http://One:3000/ , two,") == {"http://one:3000", "two"}
    assert listed("") == frozenset()
