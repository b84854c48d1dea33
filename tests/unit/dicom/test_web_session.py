import logging
import shutil
import ssl
import subprocess
import sys

import numpy as np
import pytest

from banet_monai.dicom.web import DicomWeb, PacsError
from tests.dicom_objects import SERIES, STUDY, series, write_all
from tests.fake_pacs import FakePacs, status

pytest.importorskip("dicomweb_client")

OPENSSL = shutil.which("openssl")
SECRETS = ("Doe", "ID-SECRET", "19700102", STUDY, SERIES, "hunter2")


def make_certificate(folder, name, host):
    """A self-signed certificate and its key, PEM."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    words = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={host}"]
    subprocess.run([*words, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60)
    return certificate, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    if OPENSSL is None:
        pytest.skip("certificates are made with the openssl command")
    folder = tmp_path_factory.mktemp("certificates")
    return {
        "server": make_certificate(folder, "server", "IP:127.0.0.1"),
        "other": make_certificate(folder, "other", "DNS:pacs.example"),
        "client": make_certificate(folder, "client", "DNS:client.example"),
    }


@pytest.fixture
def files(tmp_path):
    return write_all(series(np.arange(40, dtype=np.uint16).reshape(2, 4, 5)), tmp_path / "own")


@pytest.fixture
def pacs(files):
    with FakePacs(files) as server:
        yield server


def served(certificate, files, *, client=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if client is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client)
    return FakePacs(files, context=context)


def connect(server, **options):
    return DicomWeb(server.url, **{"timeout": 2, "retries": 1, "backoff": 0, **options})


def retrieve(server, folder, **options):
    with connect(server, **options) as web:
        return web.retrieve(STUDY, SERIES, folder=folder)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


# ---- TLS -------------------------------------------------------------------------------------------------------------


def test_certificate_of_a_given_authority_is_trusted(certificates, files, tmp_path):
    with served(certificates["server"], files) as server:
        assert len(retrieve(server, tmp_path / "in", ca_bundle=certificates["server"][0])) == 2


def test_certificate_of_an_unknown_authority_is_refused_at_once(certificates, files, tmp_path):
    with served(certificates["server"], files) as server:
        with pytest.raises(PacsError, match=r"no trusted TLS connection: .*ca_bundle") as caught:
            retrieve(server, tmp_path / "in")
        assert "attempts" not in str(caught.value)
        assert caught.value.hopeless
        assert not server.seen


def test_certificate_for_another_name_is_refused(certificates, files, tmp_path):
    with (
        served(certificates["other"], files) as server,
        pytest.raises(PacsError, match="no trusted TLS connection"),
    ):
        retrieve(server, tmp_path / "in", ca_bundle=certificates["other"][0])


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_authority_of_the_environment_is_trusted_when_none_is_given(
    certificates, files, tmp_path, monkeypatch, variable
):
    monkeypatch.setenv(variable, str(certificates["server"][0]))
    with served(certificates["server"], files) as server:
        assert len(retrieve(server, tmp_path / "in")) == 2


def test_what_is_asked_for_counts_before_the_environment(certificates, files, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates["other"][0]))
    with served(certificates["server"], files) as server:
        assert len(retrieve(server, tmp_path / "one", ca_bundle=certificates["server"][0])) == 2
        assert len(retrieve(server, tmp_path / "two", verify=False)) == 2
        with pytest.raises(PacsError, match="no trusted TLS connection"):
            retrieve(server, tmp_path / "three")


def test_checking_can_be_switched_off_which_the_log_says(certificates, files, tmp_path, caplog):
    with served(certificates["server"], files) as server:
        assert len(retrieve(server, tmp_path / "in", verify=False)) == 2
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "its certificate is not checked" in said[0]


@pytest.mark.parametrize("joined", [True, False])
def test_client_certificate_is_shown_to_a_server_that_wants_one(certificates, files, tmp_path, joined):
    certificate, key = certificates["client"]
    options = {"client_cert": certificate, "client_key": key}
    if joined:
        both = tmp_path / "both.pem"
        both.write_bytes(certificate.read_bytes() + key.read_bytes())
        options = {"client_cert": both}
    with served(certificates["server"], files, client=certificate) as server:
        trusted = {"ca_bundle": certificates["server"][0]}
        assert len(retrieve(server, tmp_path / "in", **trusted, **options)) == 2
        with pytest.raises(PacsError, match=r"no trusted TLS connection|it was cut"):
            retrieve(server, tmp_path / "out", **trusted)


def test_server_without_tls_at_an_https_address_is_named(files, tmp_path):
    with FakePacs(files) as server:
        server.scheme = "https"
        with pytest.raises(PacsError, match="speaks http only"):
            retrieve(server, tmp_path / "in")


# ---- token, proxy, waits


@pytest.fixture
def proxy():
    with FakePacs() as server:
        yield server


def test_waits_double_and_follow_the_server_within_reason(pacs, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("banet_monai.dicom.web_session.time.sleep", waits.append)
    asks = [status(503), status(503), status(503, Retry_After="7"), status(429, Retry_After="86400"), status(502)]
    pacs.faults["series"] += [*asks, status(504, Retry_After="tomorrow")]
    with DicomWeb(pacs.url, timeout=1, retries=6, backoff=0.5) as web:
        web.retrieve(STUDY, SERIES, folder=tmp_path / "in")
    assert waits == [0.5, 1.0, 7.0, 30.0, 8.0, 16.0]


def test_token_goes_with_each_request_and_into_no_message(pacs, files, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    pacs.faults["object"] += [status(503), status(403)]
    with connect(pacs, token="hunter2") as web:
        with pytest.raises(PacsError, match="this user or token may not") as caught:
            web.retrieve(STUDY, SERIES, folder=tmp_path / "in")
        web.store(files)
    assert pacs.seen
    assert all(headers["Authorization"] == "Bearer hunter2" for _, headers in pacs.seen)
    assert all(headers["Host"] == f"127.0.0.1:{pacs.server_port}" for _, headers in pacs.seen)
    said = "\n".join([caplog.text, str(caught.value), repr(web)])
    assert "attempt 2 of 2 follows" in said
    assert not [secret for secret in SECRETS if secret in said]


def test_libraries_stay_free_to_log_outside_of_our_requests(pacs, tmp_path, caplog):
    import requests

    caplog.set_level(logging.DEBUG)
    retrieve(pacs, tmp_path / "in")
    assert "urllib3" not in caplog.text
    requests.get(pacs.url + "/other", timeout=1).close()
    assert "GET /dicom-web/other" in caplog.text


def test_stored_password_of_the_user_is_not_sent(pacs, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login anna password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    retrieve(pacs, tmp_path / "in")
    assert not any("Authorization" in headers for _, headers in pacs.seen)


def test_proxy_of_the_environment_is_used_unless_the_host_is_exempt(proxy, pacs, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/dicom-web"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PacsError, match="no such series"):
        retrieve(pacs, tmp_path / "in")
    assert proxy.seen
    assert not pacs.seen
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert len(retrieve(pacs, tmp_path / "in")) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 0}, "timeout must be above 0"),
        ({"timeout": float("nan")}, "timeout must be above 0"),
        ({"retries": -1}, "retries and backoff at least 0"),
        ({"token": "two words"}, "the token is empty or holds spaces"),
        ({"token": "a\nX-Other: b"}, "the token is empty or holds spaces"),
        ({"token": ""}, "the token is empty"),
        ({"client_key": __file__}, "client_key needs client_cert"),
        ({"ca_bundle": __file__, "verify": False}, "contradict each other"),
    ],
)
def test_settings_that_cannot_work_are_refused(pacs, options, said):
    with pytest.raises(ValueError, match=said) as caught:
        connect(pacs, **options)
    assert "X-Other" not in str(caught.value)


@pytest.mark.parametrize("option", ["ca_bundle", "client_cert"])
def test_missing_certificate_file_is_named(pacs, tmp_path, option):
    with pytest.raises(FileNotFoundError, match=rf"no file '.*gone.pem' for {option}"):
        connect(pacs, **{option: tmp_path / "gone.pem"})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h/dicom-web/studies/1.2.3", "ends before /studies"),
        ("http://anna:hunter2@h/dicom-web", "user name or password"),
        ("h/dicom-web", "no web address"),
    ],
)
def test_base_address_that_is_none_is_refused(url, said):
    with pytest.raises(ValueError, match=said):
        DicomWeb(url)


def test_missing_package_is_named_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dicomweb_client", None)
    monkeypatch.setitem(sys.modules, "dicomweb_client.session_utils", None)
    with pytest.raises(ImportError, match=r'pip install "banet-monai\[dicom\]"'):
        DicomWeb("http://h")


def test_token_without_encryption_is_warned_of_except_on_this_machine(caplog):
    DicomWeb("http://127.0.0.1:1/x", token="hunter2").close()
    DicomWeb("https://pacs.example/x", token="hunter2").close()
    assert not caplog.records
    DicomWeb("http://pacs.example/x", token="hunter2").close()
    assert "the token is sent without encryption, use https" in caplog.text
    assert "hunter2" not in caplog.text
