"""The shell scripts that run on the rented machine, with a stand-in for its Python."""

import json
import os
import subprocess
import sys
import tarfile

import pytest

from benchmarks.accuracy.definitions import ROOT

REPORTS = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
module=${4:-}; stem=${module##*.}
[ "${@: -2:1}" = --out ] || exit 0
echo '{}' >"${@: -1}/$stem.json"
[ "$stem" != "$FAILS" ]
"""
MASKS = """#!/usr/bin/env bash
if [ "$1" = - ]; then [ $# -ne 3 ] || exec "$REAL" "$@"; cat >/dev/null; exit 0; fi
while [ $# -gt 1 ]; do [ "$1" = --output_dir ] && out=$2; shift; done
case "$out" in *masks_*) mkdir -p "$out" && cp "$PICTURES/${out##*_}.png" "$out/a_mask.png" ;; esac
"""


@pytest.fixture
def run(tmp_path):
    """Run a script with a stand-in for Python; the lines that the stand-in was called with, and the process."""

    def start(stand_in, *words, **environment):
        python = tmp_path / "python"
        python.write_text(stand_in)
        python.chmod(0o755)
        places = {"PYTHON": python, "OUT": tmp_path / "out", "BANET_GPU_ROOT": tmp_path / "machine"}
        variables = {"CALLS": tmp_path / "calls", "REAL": sys.executable, "FAILS": "", **places, **environment}
        (tmp_path / "out").mkdir(exist_ok=True)
        return subprocess.run(
            ["bash", *words],
            cwd=ROOT,
            env={**os.environ, **{name: str(value) for name, value in variables.items()}},
            capture_output=True,
            text=True,
            check=False,
        )

    return start


def modules(tmp_path):
    """Names of the modules that the stand-in was asked for."""
    lines = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    return [words[words.index("-m") + 1] for words in lines if "benchmarks" in " ".join(words)]


def test_parts_of_speed_are_named_through_the_step_script(tmp_path, run):
    done = run(REPORTS, "benchmarks/gpu/step.sh", "speed", "rate", "windows")
    assert (done.returncode, done.stderr) == (0, "")
    timed = ["benchmarks.card_rate", "benchmarks.windows_speed", "benchmarks.pipeline_speed"]
    assert modules(tmp_path) == ["benchmarks.gpu", *timed]
    assert f"place --note {tmp_path / 'out'}" in (tmp_path / "calls").read_text()
    archives = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert archives == ["speed_rate.tar.gz", "speed_windows.tar.gz"]


def test_a_part_of_speed_that_fails_keeps_what_it_has_and_the_others_go_on(tmp_path, run):
    done = run(REPORTS, "benchmarks/gpu/speed.sh", "rate", "windows", FAILS="card_rate")
    assert done.returncode == 1
    assert "speed.sh: rate failed" in done.stderr
    for part, stems in (("rate", ["card_rate"]), ("windows", ["pipeline_speed", "windows_speed"])):
        with tarfile.open(tmp_path / "out" / f"speed_{part}.tar.gz") as tar:
            assert tar.getnames() == [f"{stem}.json" for stem in stems]


def test_all_parts_of_speed_leave_no_more_files_than_come_back(tmp_path, run):
    assert run(REPORTS, "benchmarks/gpu/step.sh", "speed").returncode == 0
    assert len(modules(tmp_path)) == 7
    assert len(list((tmp_path / "out").iterdir())) + len(["note", "so_far.json", "so_far.md"]) <= 8


def test_an_unknown_part_of_speed_is_refused_before_any_begins(tmp_path, run):
    done = run(REPORTS, "benchmarks/gpu/speed.sh", "rate", "nothing")
    assert done.returncode == 2
    assert "there is no part 'nothing'" in done.stderr
    assert not (tmp_path / "calls").exists()


def test_a_mask_that_differs_is_shown_and_the_call_goes_on(tmp_path, run):
    from PIL import Image

    for name, value in (("cpu", 0), ("cuda", 255)):
        Image.new("L", (4, 4), value).save(tmp_path / f"{name}.png")
    done = run(MASKS, "benchmarks/gpu/check.sh", PICTURES=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a_mask.png: 1.000000 of the pixels differ between CPU and cuda" in done.stdout
    assert "DIFFERS  a_mask.png between CPU and GPU" in done.stdout


def test_the_note_of_the_commit_is_written_for_speed(tmp_path):
    from benchmarks.gpu.__main__ import main
    from benchmarks.gpu.fetching import NOTE

    (tmp_path / "carry" / "base").mkdir(parents=True)
    note = {"commit": "abc1234", "version": "0.1.0", "sources": "other"}
    (tmp_path / "carry" / "base" / "note.json").write_text(json.dumps(note))
    places = {"carry": tmp_path / "carry", "root": tmp_path / "machine", "note": tmp_path}
    assert main(["place", *[word for key, value in places.items() for word in (f"--{key}", str(value))]]) == 0
    assert json.loads((tmp_path / NOTE).read_text()) == {"commit": "abc1234+", "version": "0.1.0"}
