"""Deflated DICOM files that would fill the memory are refused before anything inflates them."""

import functools
import io
import struct
import zlib

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from banet_monai.data import probe as probing
from banet_monai.data.probe import UnreadableFileError, probe
from banet_monai.dicom import parsing, sr_segments
from banet_monai.dicom.deflated import deflated_from, refuse_bomb
from banet_monai.dicom.parsing import DicomReadError, parse_file
from banet_monai.dicom.sr_segments import open_seg
from tests.dicom_objects import image, write

SMALL = functools.partial(refuse_bomb, harmless=1000, max_ratio=2)  # zeros pack better than twice


@pytest.fixture
def deflated(tmp_path):
    """A picture of zeros, deflated."""
    return write(image(np.zeros((64, 64), np.uint16)), tmp_path / "x.dcm", syntax=DeflatedExplicitVRLittleEndian)


def group_length(data):
    """Of the file meta information, as its first element states it: bytes after that element."""
    assert data[128:140] == b"DICM\x02\x00\x00\x00UL\x04\x00"
    return struct.unpack_from("<I", data, 140)[0]


def test_the_deflated_part_begins_after_the_file_meta_information(deflated):
    data = deflated.read_bytes()
    start = deflated_from(io.BytesIO(data))
    assert start == 144 + group_length(data)
    assert b"\x28\x00\x10\x00US" in zlib.decompress(data[start:], -zlib.MAX_WBITS)  # Rows


@pytest.mark.parametrize("stated", [0, 10, 100_000])
def test_a_wrong_group_length_hides_nothing(deflated, stated):
    data = deflated.read_bytes()
    start = 144 + group_length(data)
    assert deflated_from(io.BytesIO(data[:140] + struct.pack("<I", stated) + data[144:])) == start


def test_neither_does_a_missing_preamble_nor_missing_types(deflated):
    data = deflated.read_bytes()
    assert deflated_from(io.BytesIO(data[132:])) == 12 + group_length(data)
    name = DeflatedExplicitVRLittleEndian.encode()
    untyped = b"\x02\x00\x10\x00" + struct.pack("<I", len(name)) + name
    assert deflated_from(io.BytesIO(bytes(128) + b"DICM" + untyped + b"\x4b\x04")) == 132 + 8 + len(name)


def test_a_length_that_spells_a_type_is_a_length_where_the_first_element_has_none():
    def untyped(element, value):
        return b"\x02\x00" + struct.pack("<HI", element, len(value)) + value

    size = int.from_bytes(b"UI", "little")
    syntax = untyped(0x10, DeflatedExplicitVRLittleEndian.encode())
    meta = untyped(0, bytes(4)) + untyped(2, bytes(size)) + syntax
    assert deflated_from(io.BytesIO(bytes(128) + b"DICM" + meta + b"\x4b\x04")) == 132 + len(meta)


def test_a_single_element_may_lack_its_type():
    typed = b"\x02\x00\x02\x00UI" + struct.pack("<H", 2) + b"1\0"
    name = DeflatedExplicitVRLittleEndian.encode()
    meta = typed + b"\x02\x00\x10\x00" + struct.pack("<I", len(name)) + name
    assert deflated_from(io.BytesIO(bytes(128) + b"DICM" + meta)) == 132 + len(meta)


def test_files_of_other_syntaxes_and_other_files_are_left_alone(tmp_path):
    plain = write(image(np.zeros((8, 8), np.uint8)), tmp_path / "x.dcm", syntax=ExplicitVRLittleEndian).read_bytes()
    for data in (plain, b"", b"no DICOM", bytes(300), DeflatedExplicitVRLittleEndian.encode()):
        assert deflated_from(io.BytesIO(data)) is None
        SMALL(io.BytesIO(data), "x")


def test_a_beginning_that_ends_within_the_meta_information_says_so(deflated):
    data = deflated.read_bytes()
    with pytest.raises(EOFError):
        deflated_from(io.BytesIO(data[: 144 + group_length(data) - 5]))


def test_an_element_of_undefined_length_is_refused():
    endless = b"\x02\x00\x02\x01OB\x00\x00" + b"\xff" * 4
    with pytest.raises(ValueError, match="undefined length"):
        deflated_from(io.BytesIO(bytes(128) + b"DICM" + endless))


def test_size_is_measured_against_the_file_and_against_what_is_harmless(deflated):
    with deflated.open("rb") as file:
        refuse_bomb(file, "x.dcm")  # 8 kB are harmless
        refuse_bomb(file, "x.dcm", harmless=0, max_ratio=100)
        with pytest.raises(
            DicomReadError, match=r"'x.dcm' is deflated and grows beyond 1,000 bytes .* \(dcmconv \+te\)"
        ):
            refuse_bomb(file, "x.dcm", harmless=1000, max_ratio=1)


def test_a_bomb_is_refused_wherever_a_file_is_opened(deflated, monkeypatch):
    assert parse_file(deflated).dataset.Rows == 64
    assert probe(deflated).size == (64, 64)
    for module in (parsing, sr_segments, probing):
        monkeypatch.setattr(module, "refuse_bomb", SMALL)
    parsing.forget([deflated])
    for opened in (parse_file, functools.partial(open_seg, source=None)):
        with pytest.raises(DicomReadError, match=r"'x\.dcm' is deflated and grows beyond"):
            opened(deflated)
    with pytest.raises(UnreadableFileError, match="is deflated and grows larger than an image would"):
        probe(deflated)


def test_a_real_bomb_does_not_fill_the_memory(tmp_path, deflated):
    data = deflated.read_bytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    path = tmp_path / "bomb.dcm"
    path.write_bytes(data[: 144 + group_length(data)] + 1100 * block + packer.flush(zlib.Z_FINISH))
    assert path.stat().st_size < 2 << 20
    with pytest.raises(DicomReadError, match=r"'bomb\.dcm' is deflated and grows beyond 1,000,000,000 bytes"):
        parse_file(path)
