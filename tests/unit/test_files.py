from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from banet_monai.files import write_beside, write_text_beside


def test_a_file_gets_its_name_only_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "mask.nii.gz"
    seen = []

    def write(partial):
        seen.append(partial)
        partial.write_text("whole")
        assert not target.exists()

    assert write_beside(target, write) == target
    assert target.read_text() == "whole"
    assert seen[0].parent == target.parent
    assert seen[0].name.startswith(".")
    assert seen[0].name.endswith(".nii.gz")
    assert list(target.parent.iterdir()) == [target]


def test_a_failing_write_leaves_the_older_file_and_nothing_else(tmp_path):
    target = tmp_path / "mask.png"
    target.write_text("old")

    def write(partial):
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_beside(target, write)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_name_as_long_as_the_disk_takes_is_written(tmp_path):
    target = tmp_path / ("n" * 251 + ".png")
    assert write_beside(target, lambda partial: partial.write_text("whole")).read_text() == "whole"


def test_names_that_begin_alike_can_be_written_at_the_same_time(tmp_path):
    names = [f"1.2.840.113619.2.182.108086123139219.1409757398.1234{number}.png" for number in range(4)]
    all_wrote = Barrier(len(names))

    def write(partial, name):
        partial.write_text(name)
        all_wrote.wait(timeout=30)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: write_beside(tmp_path / name, lambda partial: write(partial, name)), names))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: name for name in names}


def test_text_is_written_in_utf_8_with_escapes_for_names_that_are_none(tmp_path):
    write_text_beside(tmp_path / "new" / "a.json", '"Mélanome \udcff"\n')
    assert (tmp_path / "new" / "a.json").read_bytes() == b'"M\xc3\xa9lanome \\udcff"\n'
