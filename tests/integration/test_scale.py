"""The Slurm recipe by hand: tasks divide a list, take it up where it was cut short, and end with the right code."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from banet_monai.data import make_demonstration_data
from tests.bundle_runs import ROOT, SECONDS

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "docs" / "recipes" / "slurm_array.sh"
# In place of the command: notes its options, then ends as the lines of its list say.
FAKE_BANET = """#!/usr/bin/env bash
set -eu
echo "$*" >> "$BANET_LOG"
list=$2 out=$4
mkdir -p "$out"
echo '{}' > "$out/manifest.json"
if grep -q wrong "$list"; then exit 2; fi
if grep -q killed "$list"; then exit 143; fi
if grep -q memory "$list"; then echo 'the run ended before its turn' > "$out/manifest.json"; exit 1; fi
if grep -q torn "$list"; then exit 1; fi
"""


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path)


class Cluster:
    """A folder with a list, and a ``banet`` that notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        (folder / "bin").mkdir()
        (folder / "bin" / "banet").write_text(FAKE_BANET)
        (folder / "bin" / "banet").chmod(0o755)

    def write_list(self, *lines: str) -> None:
        (self.folder / "list.txt").write_text("".join(f"{line}\n" for line in lines))

    def task(self, number: int = 0, count: int = 1, *options: str, size: int = 2, **variables: str):
        """Run one task of an array of ``count``; its exit code and what it said."""
        array = {"ID": number, "COUNT": count, "MIN": 0, "MAX": count - 1}
        environment = {
            **os.environ,
            **{f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in array.items()},
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "BANET_LOG": str(self.log),
            "PART_SIZE": str(size),
            **variables,
        }
        line = ["bash", str(SCRIPT), "list.txt", "out", *options]
        done = subprocess.run(line, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
        return done.returncode, done.stderr

    def calls(self) -> list[str]:
        """The parts that ``banet`` was called for since the last look."""
        calls = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [Path(call.split()[1]).stem for call in calls]

    def part(self, number: int) -> list[tuple[str, str]]:
        with (self.folder / "out" / ".parts" / f"part-{number:06d}.csv").open() as file:
            return [(row["image"], row["name"]) for row in csv.DictReader(file)]


def parts(*numbers: int) -> list[str]:
    return [f"part-{number:06d}" for number in numbers]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_line_goes_to_one_task_however_many_there_are(cluster, count):
    lines = [f"p{number}/scan.nii.gz" for number in range(7)]
    cluster.write_list(*lines)
    assert [cluster.task(number, count)[0] for number in range(count)] == [0] * count
    assert sorted(cluster.calls()) == parts(0, 1, 2, 3)
    images = [image for number in range(4) for image, _ in cluster.part(number)]
    assert images == [f"input/{line}" for line in lines]
    assert [len(cluster.part(number)) for number in range(4)] == [2, 2, 2, 1]


def test_results_are_called_by_their_path_and_stay_apart(cluster):
    cluster.write_list(
        "p1/a.png", "p2/a.png", "b.png", "b.JPG", "study/1.2.840.1", 'odd, "name"/é x.tif', "", "n.nii.gz"
    )
    assert cluster.task(size=100) == (0, "")
    assert cluster.part(0) == [
        ("input/p1/a.png", "p1/a"),
        ("input/p2/a.png", "p2/a"),
        ("input/b.png", "b.png"),
        ("input/b.JPG", "b.JPG"),
        ("input/study/1.2.840.1", "study/1.2.840.1"),
        ('input/odd, "name"/é x.tif', 'odd, "name"/é x'),
        ("input/n.nii.gz", "n"),
    ]


def test_options_are_handed_on(cluster):
    cluster.write_list("a.png")
    assert cluster.task(0, 1, "--format", "dicom-seg")[0] == 0
    assert (
        cluster.log.read_text() == "segment out/.parts/part-000000.csv -o out/part-000000 --quiet --format dicom-seg\n"
    )


def test_what_was_cut_short_is_done_again_and_nothing_else_is(cluster):
    cluster.write_list("a.png", "b.png", "killed.png", "d.png", "e.png", "f.png")
    code, told = cluster.task()
    assert (code, cluster.calls()) == (143, parts(0, 1))
    assert "part-000001 was cut short, banet ended with 143" in told
    (cluster.folder / "bin" / "banet").write_text(FAKE_BANET.replace("killed", "never"))
    assert [cluster.task(number, 2)[0] for number in (0, 1)] == [0, 0]  # with another number of tasks
    assert sorted(cluster.calls()) == parts(1, 2)
    assert cluster.task()[0] == 0
    assert cluster.calls() == []


def test_a_run_that_broke_off_is_no_end_of_its_part(cluster):
    cluster.write_list("memory.png")
    assert cluster.task()[0] == 1
    assert cluster.task()[0] == 1
    assert cluster.calls() == parts(0, 0)


def test_failed_cases_end_their_task_with_1_and_are_repeated_on_request(cluster):
    cluster.write_list("a.png", "torn.png", "c.png", "d.png")
    assert cluster.task()[0] == 1
    assert cluster.calls() == parts(0, 1)
    assert cluster.task()[0] == 1
    assert cluster.calls() == []
    assert cluster.task(RETRY="1")[0] == 1
    assert cluster.calls() == parts(0)


def test_wrong_use_ends_a_task_at_once(cluster):
    cluster.write_list("wrong.png", "b.png", "c.png", "d.png")
    assert cluster.task()[0] == 2
    assert cluster.calls() == parts(0)


@pytest.mark.parametrize(
    ("lines", "variables", "message"),
    [
        (["/data/a.png"], {}, "line 1:/data/a.png: paths must be relative"),
        (["a.png", "b/../../c.png"], {}, "line 2:b/../../c.png: paths must be relative"),
        (["a.png"], {"PART_SIZE": "many"}, "PART_SIZE is a number from 1, not 'many'"),
        (["a.png"], {"SLURM_ARRAY_TASK_MAX": "7"}, "submit an array without gaps"),
        ([], {}, "the list 'list.txt' is empty"),
    ],
)
def test_a_list_or_an_array_that_cannot_be_divided_is_refused(cluster, lines, variables, message):
    cluster.write_list(*lines)
    code, told = cluster.task(**variables)
    assert code == 2
    assert message in told
    assert cluster.calls() == []


def test_another_list_needs_another_folder(cluster):
    cluster.write_list("a.png")
    assert cluster.task()[0] == 0
    cluster.write_list("a.png", "b.png")
    code, told = cluster.task()
    assert code == 2
    assert "'out' was begun with another list or PART_SIZE; name a new folder" in told


def test_the_real_command_segments_a_part(cluster):
    demo = make_demonstration_data(cluster.folder / "demo", num_train=1, num_val=2, size=64)
    (cluster.folder / "torn.png").write_bytes(b"torn")
    cluster.write_list(
        *(f"demo/val/images/{path.name}" for path in sorted((demo / "val" / "images").iterdir())), "torn.png"
    )
    command = f'#!/usr/bin/env bash\nexec "{sys.executable}" -c "from banet_monai.cli import main; main()" "$@"\n'
    (cluster.folder / "bin" / "banet").write_text(command)
    variables = {"PYTHONPATH": str(ROOT), "SLURM_CPUS_PER_TASK": "1"}
    code, told = cluster.task(0, 1, "--set", "image_size=64", size=3, **variables)
    assert code == 1, told
    assert "failed: torn: torn.png is no picture" in told
    out = cluster.folder / "out" / "part-000000"
    assert len(list((out / "demo" / "val" / "images").glob("*_mask.png"))) == 2
    assert json.loads((out / "manifest.json").read_text())["counts"] == {"done": 2, "skipped": 0, "failed": 1}
