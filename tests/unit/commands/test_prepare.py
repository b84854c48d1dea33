import errno
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from banet_monai.cli import cli
from tests.official_archives import (
    KVASIR_NAMES,
    hippocampus_archive,
    isic_archives,
    kvasir_archive,
    make_zip,
    shenzhen_archives,
)


@pytest.fixture
def downloads(tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def banet(*words):
    return CliRunner().invoke(cli, ["prepare", *(str(word) for word in words)])


def only_error(result, code=2):
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    return lines[0].removeprefix("banet: error: ")


@pytest.mark.parametrize("words", [[], ["-h"], ["isic2017", "-h"], ["kvasir", "-h"], ["shenzhen", "-h"], ["msd", "-h"]])
def test_every_data_set_explains_itself(words):
    result = banet(*words)
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_what_was_done_and_left_out_is_said(downloads, out):
    result = banet("isic2017", *isic_archives(downloads), "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "ISIC 2017, cases: train 2 (official 2000), val 1 (official 150)",
        "images: largest centred square, scaled to 512 x 512 (pictures bicubic with antialiasing; in masks a pixel is "
        "inside where at least half of what falls into it is), JPEG quality 75",
        "left out, named in prepared.json: superpixel maps (3), other files (2)",
        f"results: {out}",
    ]


def test_fewer_cases_than_official_are_a_warning_unless_a_list_was_given(downloads, out, tmp_path):
    archives = isic_archives(downloads)
    (tmp_path / "train.txt").write_text("# listed\nISIC_0000000\n")
    (tmp_path / "val.txt").write_text("ISIC_0001769\n")
    lists = ("--only", tmp_path / "train.txt", "--only", tmp_path / "val.txt")
    result = banet("isic2017", *archives, "-o", out / "listed", *lists)
    assert result.stderr == ""
    assert result.stdout.startswith("ISIC 2017, cases: train 1 (official 2000), val 1")
    result = banet("isic2017", *archives, "-o", out / "all")
    assert result.exit_code == 0
    assert "warning: 'train' has 2 cases, the official set 2000." in result.stderr


def sizes(folder):
    found = set()
    for path in [*folder.rglob("*.png"), *folder.rglob("*.jpg")]:
        with Image.open(path) as picture:
            found.add(picture.size)
    return found


@pytest.mark.parametrize(
    ("words", "expected"), [([], {(512, 512)}), (["--crop", "48"], {(48, 48)}), (["--full-size"], {(64, 32)})]
)
def test_isic_pictures_are_squares_of_512_pixels_unless_asked_otherwise(downloads, out, words, expected):
    assert banet("isic2017", *isic_archives(downloads), "-o", out, *words).exit_code == 0
    assert sizes(out) == expected


@pytest.mark.parametrize(
    ("words", "expected"), [([], {(512, 512)}), (["--stretch", "48"], {(48, 48)}), (["--full-size"], {(64, 40)})]
)
def test_shenzhen_pictures_are_stretched_to_512_pixels_unless_asked_otherwise(downloads, out, words, expected):
    result = banet("shenzhen", *shenzhen_archives(downloads), "-o", out, *words)
    assert result.exit_code == 0, result.output
    assert "pictures without a mask (1)" in result.stdout
    assert sizes(out) == expected


def test_kvasir_keeps_its_sizes(downloads, out):
    assert banet("kvasir", kvasir_archive(downloads), "-o", out).exit_code == 0
    assert sizes(out) == {(64, 32)}


def test_a_task_of_the_decathlon_is_prepared(downloads, out):
    result = banet("msd", hippocampus_archive(downloads), "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "Medical Segmentation Decathlon, Hippocampus, cases: train 2 (official 2)",
        "images: as they are",
        "left out, named in prepared.json: hidden files (3), test images without a mask (1)",
        f"results: {out}",
    ]


def test_quiet_says_nothing(downloads, out):
    result = banet("msd", hippocampus_archive(downloads), "-o", out, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


# what is typed, with IN, OUT and FULL as stand-ins, and what the answer holds
MISTAKES = {
    "data set": ("isic2018 IN -o OUT", "there is no command 'isic2018' (did you mean 'isic2017'?)"),
    "no source": ("kvasir -o OUT", "Missing argument 'SOURCE...'"),
    "no output": ("kvasir IN", "Missing option '-o'"),
    "missing source": ("kvasir INN -o OUT", "does not exist (did you mean"),
    "address": ("kvasir https://datasets.example/kvasir-seg.zip -o OUT", "nothing is downloaded"),
    "sizes": ("isic2017 IN -o OUT --crop 64 --full-size", "--crop and --full-size exclude each other."),
    "tiny size": ("isic2017 IN -o OUT --crop 3", "3 is not in the range x>=32"),
    "size of another set": ("kvasir IN -o OUT --crop 64", "there is no option '--crop'"),
    "wrong archive": ("isic2017 IN -o OUT", "'kvasir-seg.zip' holds nothing of ISIC 2017. Expected are ISIC-2017_Trai"),
    "no task": ("msd IN -o OUT", "'kvasir-seg.zip' holds no task of the Decathlon."),
    "full folder": ("kvasir IN -o FULL", "is not empty; give a new or an empty folder."),
    "unknown list": ("kvasir IN -o OUT --only nothing.txt", "'nothing.txt' does not exist"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_the_remedy_and_nothing_is_written(name, downloads, out):
    line, message = MISTAKES[name]
    archive = kvasir_archive(downloads)
    words = [
        {"IN": archive, "INN": f"{archive}x", "OUT": out, "FULL": downloads}.get(word, word) for word in line.split()
    ]
    assert message in only_error(banet(*words))
    assert [path.name for path in downloads.parent.iterdir()] == ["downloads"]
    assert [path.name for path in downloads.iterdir()] == ["kvasir-seg.zip"]


def test_damaged_files_are_named_and_the_exit_code_is_1(downloads, out):
    archive = kvasir_archive(downloads, dict.fromkeys(KVASIR_NAMES, b"torn"))
    error = only_error(banet("kvasir", archive, "-o", out), code=1)
    assert error.startswith(f"2 of 2 cases cannot be used: {KVASIR_NAMES[0]}.jpg is truncated, corrupt or no picture")
    assert error.endswith("Nothing was written.")
    assert not out.exists()


def test_a_zip_that_is_none_is_refused(downloads, out):
    (downloads / "kvasir-seg.zip").write_bytes(b"<html>not found</html>")
    assert "it is no zip file, cut short or damaged" in only_error(
        banet("kvasir", downloads / "kvasir-seg.zip", "-o", out)
    )


def test_a_full_disk_is_said_and_nothing_is_left(downloads, out, monkeypatch):
    def full(self, path, *args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = kvasir_archive(downloads)
    monkeypatch.setattr(Image.Image, "save", full)
    error = only_error(banet("kvasir", archive, "-o", out), code=1)
    assert error == f"No space left on device; nothing is left in '{out}'."
    assert [path.name for path in out.parent.iterdir()] == ["downloads"]


def test_ctrl_c_leaves_nothing(downloads, out, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    archive = kvasir_archive(downloads)
    monkeypatch.setattr("banet_monai.data.preparing.decode_mask", stop)
    result = banet("kvasir", archive, "-o", out)
    assert result.exit_code == 130
    assert result.stderr.strip() == "banet: error: interrupted."
    assert [path.name for path in out.parent.iterdir()] == ["downloads"]


def test_preparing_does_not_load_torch(downloads, out):
    archive = make_zip(downloads / "wrong.zip", {"a.txt": np.zeros(2).tobytes()})
    code = (
        "import sys\nfrom banet_monai.cli import cli\n"
        f"cli.main(['prepare', 'kvasir', {str(archive)!r}, '-o', {str(out)!r}], standalone_mode=False)\n"
        "sys.exit('torch was loaded' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "holds nothing of Kvasir-SEG" in done.stderr
