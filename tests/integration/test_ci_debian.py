"""`.ci/debian` on machines that are made up: a PATH that holds nothing but what a test puts there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "debian"
BASH = shutil.which("bash")


@pytest.fixture
def machine(tmp_path):
    """Run the script's text with other folders for the tools; ``stubs``: command -> its shell text."""

    def run(stubs, plugin=False):
        tools = tmp_path / "bin"
        tools.mkdir()
        for name in ("env", "rm", "tee", "chmod", "cat"):
            (tools / name).symlink_to(shutil.which(name))
        for name, text in stubs.items():
            (tools / name).write_text(f"#!{BASH}\n{text}\n")
            (tools / name).chmod(0o755)
        library = tmp_path / "plugin.so"
        if plugin:
            library.touch()
        text = SCRIPT.read_text()
        for place, other in {
            'PATH="$PATH:/usr/sbin:/sbin"': "",
            "/usr/share/orthanc/plugins/libOrthancDicomWeb.so": str(library),
            "/usr/sbin/policy-rc.d": str(tmp_path / "policy-rc.d"),
            "/run/systemd/system": str(tmp_path / "systemd"),
        }.items():
            assert place in text
            text = text.replace(place, other)
        (tmp_path / "debian").write_text(text)
        done = subprocess.run(
            [BASH, tmp_path / "debian"], env={"PATH": str(tools)}, capture_output=True, text=True, timeout=30
        )
        return done.returncode, done.stdout, done.stderr

    return run


ROOT, USER = {"id": "echo 0"}, {"id": "echo 1000"}
APT = {"apt-get": 'echo "apt-get $DEBIAN_FRONTEND $*"'}
THERE = {"dciodvfy": ":", "Orthanc": ":", "chromium": ":"}


def test_nothing_is_installed_where_everything_is_there(machine):
    code, output, errors = machine(THERE | APT | ROOT, plugin=True)
    assert (code, errors) == (0, "")
    assert "apt-get" not in output


def test_only_what_is_missing_is_installed_without_questions_and_without_starting_a_service(machine, tmp_path):
    asks_policy = {"apt-get": f'echo "apt-get $DEBIAN_FRONTEND $*"; "{tmp_path}/policy-rc.d" || echo "policy says $?"'}
    code, output, errors = machine({"dciodvfy": ":", "google-chrome": ":"} | asks_policy | ROOT)
    assert (code, errors) == (0, "")
    assert "apt-get noninteractive -q -y" in output
    assert "install --no-install-recommends orthanc orthanc-dicomweb\n" in output
    assert "policy says 101" in output
    assert not (tmp_path / "policy-rc.d").exists()


def test_sudo_without_a_password_is_used_where_it_is_there(machine):
    code, output, errors = machine(THERE | APT | USER | {"sudo": 'shift; echo "as root:"; "$@"', "true": ":"})
    assert (code, errors) == (0, "")
    assert "as root:\napt-get noninteractive" in output


@pytest.mark.parametrize(
    ("stubs", "reason"),
    [
        (ROOT, "no apt-get"),
        (APT | USER, "needs root"),
        (APT | USER | {"sudo": "exit 1"}, "needs root"),
        ({"apt-get": "exit 100"} | ROOT, "apt-get install failed"),
    ],
)
def test_where_it_cannot_install_it_says_what_will_fail_and_ends_well(machine, tmp_path, stubs, reason):
    code, _, errors = machine(stubs)
    assert code == 0
    assert "CANNOT INSTALL dicom3tools orthanc orthanc-dicomweb chromium" in errors
    assert reason in errors
    assert "test_dicom_judges.py, test_pacs.py and test_report_browser.py" in errors
    assert not (tmp_path / "policy-rc.d").exists()
