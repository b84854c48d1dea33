import io
import re
import stat
import tarfile
import zipfile

import pytest

from banet_monai.data import official_files
from banet_monai.data.official_files import DamagedFileError, open_sources
from banet_monai.dicom.archives import ArchiveError
from tests.official_archives import make_tar, make_zip

OFFICIAL = re.compile("Official")
MEMBERS = {"Set/a.txt": b"one", "Set/deep/b.txt": b"two", "Set/._a.txt": b"x"}


def contents(*sources):
    with open_sources(sources, archives=OFFICIAL) as files:
        return {file.name: file.read() for file in files if not file.is_hidden}


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_reads_like_a_folder_of_its_name(tmp_path, make):
    archive = make(tmp_path / f"Official.{make.__name__[5:]}", MEMBERS)
    assert contents(archive) == {"Official/Set/a.txt": b"one", "Official/Set/deep/b.txt": b"two"}


def test_a_folder_reads_under_its_name(tmp_path):
    for name, content in MEMBERS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert contents(tmp_path / "Set") == {"Set/a.txt": b"one", "Set/deep/b.txt": b"two"}


def test_archives_in_a_folder_are_opened_where_their_names_are_official(tmp_path):
    make_zip(tmp_path / "Official (1).zip", {"a.txt": b"one"})
    make_zip(tmp_path / "private.zip", {"b.txt": b"two"})
    assert set(contents(tmp_path)) == {"Official (1)/a.txt", f"{tmp_path.name}/private.zip"}


def test_paths_that_begin_with_a_dot_and_a_slash_are_not_hidden(tmp_path):
    assert contents(make_tar(tmp_path / "Set.tar", {"./a.txt": b"one", "./._a.txt": b"x"})) == {"Set/a.txt": b"one"}


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "C:/evil.txt", "a\\evil.txt"])
def test_an_archive_with_an_unsafe_name_is_refused(tmp_path, make, name):
    archive = make(tmp_path / f"a.{make.__name__[5:]}", {"fine.txt": b"1", name: b"evil"})
    with pytest.raises(ArchiveError, match="one of its entries has an unsafe name") as caught:
        contents(archive)
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_tar_with_a_link_or_device_is_refused(tmp_path, kind):
    entry = tarfile.TarInfo("link")
    entry.type, entry.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(entry)
    with pytest.raises(ArchiveError, match="one of its entries is a link or a device"):
        contents(tmp_path / "a.tar")


def test_a_zip_with_a_link_is_refused(tmp_path):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(ArchiveError, match="one of its entries is a link or a device"):
        contents(tmp_path / "a.zip")


def test_a_zip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(official_files, "HARMLESS_BYTES", 1000)
    archive = make_zip(tmp_path / "a.zip", {"zeros": bytes(10**6)})
    with pytest.raises(ArchiveError, match="as zip bombs do"):
        contents(archive)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_that_is_cut_short_is_refused(tmp_path, make):
    archive = make(tmp_path / f"a.{make.__name__[5:]}", {"a": b"1" * 5000, "b": b"2" * 5000, "c": b"3" * 20000})
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 3])
    with pytest.raises(ArchiveError, match="cut short or damaged; copy it again"):
        contents(archive)


def test_a_packed_tar_is_no_tar(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz"):
        pass
    with pytest.raises(ArchiveError, match=r"cannot be opened \(ReadError\)"):
        contents(tmp_path / "a.tar")


def test_a_damaged_entry_is_refused_when_it_is_read(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "intact")
    archive.write_bytes(archive.read_bytes().replace(b"intact", b"INTACT"))
    with pytest.raises(DamagedFileError, match=r"cannot be read \(BadZipFile\)"):
        contents(archive)


def test_a_file_is_read_up_to_a_limit(tmp_path):
    with (
        open_sources([make_zip(tmp_path / "a.zip", {"a": bytes(2 << 20)})], archives=OFFICIAL) as files,
        pytest.raises(DamagedFileError, match="is larger than 1 MB"),
    ):
        files[0].copy(io.BytesIO(), at_most=1 << 20)


def test_other_files_and_missing_ones_are_no_sources(tmp_path):
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(ValueError, match=r"'a\.rar' is neither a folder nor an archive"):
        contents(tmp_path / "a.rar")
    with pytest.raises(FileNotFoundError, match=r"'b\.zip' does not exist"):
        contents(tmp_path / "b.zip")
