"""Addresses of PACS and what is said of a connection; servers are met in tests/integration."""

from __future__ import annotations

import logging

import click
import pytest
from click.testing import CliRunner

from banet_monai.cli import cli
from banet_monai.commands import pacs
from banet_monai.commands.grammar import WorkError, printable
from banet_monai.commands.options import WebOptions
from banet_monai.dicom.web import PacsError


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://pacs.example/dicom-web/studies/1.2.3/series/4.5", "https://pacs.example/dicom-web"),
        ("https://pacs.example/dicom-web/studies", "https://pacs.example/dicom-web"),
        ("https://pacs.example/dicom-web", "https://pacs.example/dicom-web"),
        ("https://studies.hospital.org/dicom-web/studies/1.2.3", "https://studies.hospital.org/dicom-web"),
        ("https://studies.hospital.org/dicom-web", "https://studies.hospital.org/dicom-web"),
        ("https://studies/rs", "https://studies/rs"),
        ("https://pacs/studies/dicom-web", "https://pacs/studies/dicom-web"),
        ("https://pacs/studies-archive/rs/studies/1.2.3", "https://pacs/studies-archive/rs"),
        ("https://pacs/studies-archive/rs", "https://pacs/studies-archive/rs"),
        ("https://pacs/studies/rs/studies/1.2.3", "https://pacs/studies/rs"),
    ],
)
def test_the_server_is_what_comes_before_the_study(url: str, base: str) -> None:
    assert pacs.service_address(url) == base


def test_a_token_in_clear_and_an_unchecked_certificate_are_said_when_a_study_is_fetched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bases = []

    def fetch(address: object, *_: object, **__: object) -> None:
        bases.append(getattr(address, "base", None))
        raise PacsError("nothing is there")

    monkeypatch.setattr(pacs, "_fetch", fetch)
    monkeypatch.setenv("PACS_TOKEN", "secret")
    web = WebOptions(no_verify=True, token_env="PACS_TOKEN")
    with (
        caplog.at_level(logging.WARNING, logger="banet_monai"),
        pytest.raises(WorkError, match="nothing is there"),
        pacs.local_input("http://127.0.0.2:1/dicom-web/studies/1.2.3", web, quiet=True),
    ):
        pass
    assert bases == ["http://127.0.0.2:1/dicom-web"]
    assert "the token is sent without encryption, use https" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("command", ["gallery", "evaluate", "robustness"])
def test_commands_that_take_files_alone_refuse_an_address_without_repeating_it(command: str) -> None:
    result = CliRunner().invoke(cli, [command, "https://pacs.example/studies/1.2.3", "-o", "out"])
    assert result.exit_code == click.UsageError.exit_code
    assert "takes files, no address" in result.stderr
    assert "1.2.3" not in result.stderr


def test_a_name_with_a_line_break_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    from banet_monai.commands.grammar import print_failure

    print_failure("a\nbanet: 9 done\x1b[2J", "it is\nbad")
    assert capsys.readouterr().err == "banet: failed: a?banet: 9 done?[2J: it is?bad\n"
    assert printable("ä.png") == "ä.png"
