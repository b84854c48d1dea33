import gc
import os
import shutil
import stat
import struct
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest

from banet_monai.dicom import archives
from banet_monai.dicom.archives import ArchiveError, UnpackedFiles, is_zip, unpack_zip

CENTRAL, LOCAL = b"PK\x01\x02", b"PK\x03\x04"
FLAGS, METHOD, SIZE = (8, 6), (10, 8), (24, 22)  # offsets in the central and in the local header (APPNOTE section 4.3)


def make_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of names that stand there twice
        for name, content in members:
            archive.writestr(name, content)
    return path


def patch(path, offsets, form, value):
    """Write a field of the first entry into its central and its local header."""
    content = bytearray(path.read_bytes())
    for signature, offset in zip((CENTRAL, LOCAL), offsets, strict=True):
        struct.pack_into(form, content, content.index(signature) + offset, value)
    path.write_bytes(content)
    return path


def zeros_zip(path, megabytes, *, declared=None):
    """A valid zip of one file of zeros, whose deflated blocks of 1 MB are all the same, so that it is made at once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    data = first * megabytes + packer.flush(zlib.Z_FINISH)
    size = (megabytes << 20) if declared is None else declared
    long_sizes = struct.pack("<HHQQ", 1, 16, size, len(data))  # zip64 extra field
    fields = struct.pack("<HHHHIIIHH", 0, 8, 0, 33, 0, 0xFFFFFFFF, 0xFFFFFFFF, 9, len(long_sizes))
    local = LOCAL + struct.pack("<H", 45) + fields + b"zeros.dcm" + long_sizes
    central = CENTRAL + struct.pack("<HH", 45, 45) + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0)
    central += b"zeros.dcm" + long_sizes
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local) + len(data), 0)
    path.write_bytes(local + data + central + end)
    return path


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder in which temporary ones are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def everything_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_files_keep_their_paths_and_contents(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("ct/1.dcm", b"one"), ("./2 ä.dcm", b"two"), ("empty/", b"")])
    assert unpack_zip(path, tmp_path / "out") == 6
    assert everything_below(tmp_path / "out") == ["2 ä.dcm", "ct", "ct/1.dcm"]
    assert (tmp_path / "out/ct/1.dcm").read_bytes() == b"one"


def test_stored_files_are_unpacked_too(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("1.dcm", b"one")], zipfile.ZIP_STORED)
    assert unpack_zip(path, tmp_path / "out") == 3


def test_zip_is_known_by_its_suffix():
    assert is_zip(Path("a/Study.ZIP"))
    assert not is_zip(Path("zip"))


@pytest.mark.parametrize(
    "name",
    [
        "../evil.dcm",
        "a/../../evil.dcm",
        "..",
        "/etc/evil.dcm",
        "//server/share/evil.dcm",
        "C:/evil.dcm",
        "C:evil.dcm",
        "C:\\evil.dcm",
        "..\\evil.dcm",
        "a\\evil.dcm",
        "a\nb.dcm",
        "../",
    ],
)
def test_hostile_name_is_refused_and_nothing_is_written(tmp_path, temporary, name):
    path = make_zip(temporary.parent / "a.zip", [("fine.dcm", b"1"), (name, b"evil")])
    with pytest.raises(ArchiveError, match=r"'a\.zip' is not unpacked: entry 2 has an unsafe name") as caught:
        UnpackedFiles().add(path)
    assert "evil" not in str(caught.value)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["a.zip"]


def test_name_with_a_nul_is_refused(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("a.dcmX.txt", b"1")])
    path.write_bytes(path.read_bytes().replace(b"a.dcmX.txt", b"a.dcm\0.txt"))
    with pytest.raises(ArchiveError, match="entry 1 has an unsafe name"):
        unpack_zip(path, tmp_path / "out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    entry = zipfile.ZipInfo("link.dcm")
    entry.external_attr = (kind | 0o777) << 16
    path = make_zip(tmp_path / "a.zip", [(entry, b"/etc/passwd")])
    with pytest.raises(ArchiveError, match="entry 1 is a link or a device"):
        unpack_zip(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_encrypted_zip_is_refused(tmp_path):
    path = patch(make_zip(tmp_path / "a.zip", [("a.dcm", b"1")]), FLAGS, "<H", 0x1)
    with pytest.raises(
        ArchiveError, match=r"'a\.zip' is not unpacked: entry 1 is encrypted; unpack it with its password"
    ):
        unpack_zip(path, tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_method_that_unpacks_in_blocks_of_any_size_is_refused(tmp_path, method):
    path = make_zip(tmp_path / "a.zip", [("a.dcm", b"1")], method)
    with pytest.raises(ArchiveError, match=f"is compressed by method {method}; zip the files again"):
        unpack_zip(path, tmp_path / "out")


@pytest.mark.parametrize(
    "names", [("a.dcm", "a.dcm"), ("a.dcm", "./a.dcm"), ("b//a.dcm", "b/a.dcm"), ("a", "a/b.dcm"), ("a/b.dcm", "a")]
)
def test_two_entries_of_one_name_are_refused(tmp_path, names):
    path = make_zip(tmp_path / "a.zip", [(name, b"1") for name in names])
    with pytest.raises(ArchiveError, match="two of its entries have the same name"):
        unpack_zip(path, tmp_path / "out")


@pytest.mark.parametrize("members", [[], [("folder/", b"")]])
def test_zip_without_a_file_is_refused(tmp_path, members):
    path = make_zip(tmp_path / "a.zip", members)
    with pytest.raises(ArchiveError, match=r"'a\.zip' is an empty zip file"):
        unpack_zip(path, tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.9])
def test_zip_that_is_cut_short_is_refused(tmp_path, keep):
    whole = make_zip(tmp_path / "a.zip", [(f"{k}.dcm", os.urandom(500)) for k in range(5)]).read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: keep if keep > 1 else int(keep * len(whole))])
    with pytest.raises(ArchiveError, match=r"'a\.zip' cannot be unpacked .*no zip file, cut short or damaged"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")


def test_damaged_member_is_refused_and_leaves_nothing(tmp_path, temporary):
    path = make_zip(tmp_path / "a.zip", [("1.dcm", bytes(500)), ("2.dcm", b"intact")], zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"intact", b"INTACT"))
    with pytest.raises(ArchiveError, match=r"cannot be unpacked \(BadZipFile\)"):
        UnpackedFiles().add(path)
    assert not [entry for entry in temporary.rglob("*") if entry.is_file()]


def test_ten_gigabytes_of_zeros_are_refused_before_anything_is_written(tmp_path, temporary):
    path = zeros_zip(tmp_path / "a.zip", 10_000)
    assert path.stat().st_size < 20e6
    with pytest.raises(ArchiveError, match=r"'a\.zip' is not unpacked: it unpacks to more than .* as zip bombs do"):
        UnpackedFiles().add(path)
    assert not [entry for entry in temporary.rglob("*") if entry.is_file()]


def test_zeros_whose_size_is_understated_do_not_fill_the_disk(tmp_path):
    path = zeros_zip(tmp_path / "a.zip", 10_000, declared=1000)
    with pytest.raises(ArchiveError, match="cannot be unpacked"):
        unpack_zip(path, tmp_path / "out")
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file()) <= 1000


def test_bytes_are_counted_whatever_the_directory_says(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", [("1.dcm", bytes(600)), ("2.dcm", bytes(600))], zipfile.ZIP_STORED)
    honest = archives._check_size
    monkeypatch.setattr(
        archives, "_check_size", lambda *args: honest(*args) if (tmp_path / "out/1.dcm").exists() else None
    )
    with pytest.raises(ArchiveError, match="more than the 1e-06 GB that are left"):
        unpack_zip(path, tmp_path / "out", max_bytes=1000)
    assert (tmp_path / "out/2.dcm").stat().st_size == 0


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_bytes": 3000}, "more than the 3e-06 GB that are left"),
        ({"max_files": 3}, "holds 4 entries, more than 3"),
        ({"max_ratio": 2}, "as zip bombs do"),
    ],
)
def test_each_limit_holds(tmp_path, monkeypatch, limits, message):
    monkeypatch.setattr(archives, "HARMLESS_BYTES", 1000)
    path = make_zip(tmp_path / "a.zip", [(f"{k}.dcm", bytes(1000)) for k in range(4)])
    with pytest.raises(ArchiveError, match=message):
        unpack_zip(path, tmp_path / "out", **limits)
    assert unpack_zip(path, tmp_path / "good", max_bytes=4000, max_files=4, max_ratio=10) == 4000


def test_small_files_may_pack_well(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("mask.dcm", bytes(1 << 20))])
    assert path.stat().st_size * 500 < 1 << 20
    assert unpack_zip(path, tmp_path / "out") == 1 << 20


def test_full_disk_is_named_before_anything_is_written(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", [("a.dcm", bytes(2000))])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(5000, 4000, 1000))
    with pytest.raises(
        ArchiveError, match="1e-06 GB are free for temporary files; let the environment variable TMPDIR"
    ):
        unpack_zip(path, tmp_path / "out")


def test_limit_of_bytes_holds_for_all_zips_together(tmp_path, temporary):
    path = make_zip(tmp_path / "a.zip", [("a.dcm", bytes(600))])
    unpacked = UnpackedFiles(max_bytes=1000)
    folder = unpacked.add(path)
    with pytest.raises(ArchiveError, match="more than the 4e-07 GB that are left"):
        unpacked.add(path)
    assert everything_below(folder) == ["a.dcm"]
    unpacked.close()


def test_folder_is_private_and_goes_away_when_closed_or_forgotten(tmp_path, temporary):
    path = make_zip(tmp_path / "a.zip", [("a.dcm", b"1")])
    for end in (lambda unpacked: unpacked.close(), lambda unpacked: None):
        unpacked = UnpackedFiles()
        unpacked.add(path)
        assert stat.S_IMODE(unpacked.folder.stat().st_mode) == 0o700
        end(unpacked)
        del unpacked
        gc.collect()
        assert everything_below(temporary) == []


def test_folder_that_is_held_stays_until_it_is_closed(tmp_path, temporary):
    unpacked = UnpackedFiles()
    folder = unpacked.add(make_zip(tmp_path / "a.zip", [("a.dcm", b"1")]))
    unpacked.hold()
    close = unpacked.close
    del unpacked
    gc.collect()
    assert folder.is_dir()
    close()
    assert everything_below(temporary) == []


def test_another_process_does_not_remove_the_folder(tmp_path, temporary, monkeypatch):
    unpacked = UnpackedFiles()
    folder = unpacked.add(make_zip(tmp_path / "a.zip", [("a.dcm", b"1")]))
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: -1)
        unpacked.close()
    assert folder.is_dir()
