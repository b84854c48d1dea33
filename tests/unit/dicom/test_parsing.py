import logging
import threading
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from banet_monai.dicom import SeriesReader, parsing
from banet_monai.dicom.parsing import (
    DicomReadError,
    forget,
    in_threads,
    integer,
    numbers,
    open_dataset,
    parse_file,
    quiet_pydicom,
)
from tests.dicom_objects import image, item, run_length_packed, write


def test_reading_a_faulty_attribute_leaks_nothing_into_logs_and_warnings(tmp_path, caplog, recwarn):
    path = write(image(np.zeros((8, 8), np.uint8), SeriesInstanceUID="1.2.3.4444"), tmp_path / "x.dcm")
    path.write_bytes(path.read_bytes().replace(b"1.2.3.4444", b"Doe^Secret"))
    reader = SeriesReader()
    with caplog.at_level(logging.DEBUG):
        reader.get_data(reader.read(path))
    assert not caplog.records
    assert not list(recwarn)


def test_quiet_is_over_when_the_last_of_several_threads_leaves():
    both_inside = threading.Barrier(2)

    def enter(_):
        with quiet_pydicom():
            both_inside.wait(timeout=10)
            assert logging.getLogger("pydicom").disabled

    before = list(warnings.filters)
    in_threads(enter, [0, 1], workers=2)
    assert warnings.filters == before
    assert not logging.getLogger("pydicom").disabled


def test_threads_keep_the_order_of_items():
    assert in_threads(lambda k: k * k, range(20), workers=4) == [k * k for k in range(20)]


def test_first_item_that_fails_in_threads_is_the_one_that_is_named():
    begun = []

    def fail_from_two(k):
        begun.append(k)
        if k >= 2:
            raise ValueError(f"item {k}")
        return k

    with pytest.raises(ValueError, match=r"^item 2$"):
        in_threads(fail_from_two, range(1000), workers=4)
    assert len(begun) < 20


def test_missing_transfer_syntax_is_taken_from_the_encoding_and_said(tmp_path):
    path = write(image(np.zeros((8, 8), np.uint8)), tmp_path / "x.dcm")
    start = path.read_bytes().index(b"\x08\x00\x08\x00CS")  # the dataset without preamble and meta group
    path.write_bytes(path.read_bytes()[start:])
    with quiet_pydicom():
        dataset, repairs = open_dataset(path)
    assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert repairs == ["the transfer syntax is not stated: read as Explicit VR Little Endian"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_pixel_data_stay_in_the_file_and_their_place_is_known(tmp_path, syntax):
    pixels = np.arange(100, dtype=np.uint16).reshape(10, 10)
    with quiet_pydicom():
        path = write(image(pixels), tmp_path / "x.dcm", syntax=syntax)
    parsed = parse_file(path)
    assert "PixelData" not in parsed.dataset
    place = parsed.pixels
    assert (place.keyword, place.length) == ("PixelData", 200)
    assert path.read_bytes()[place.offset :] == pixels.tobytes()


def test_compressed_pixel_data_have_no_stated_length(tmp_path):
    path = write(run_length_packed(image(np.zeros((8, 8), np.uint8))), tmp_path / "x.dcm", syntax=RLELossless)
    assert parse_file(path).pixels.length is None


def test_header_is_read_whole_wherever_its_first_block_ends(tmp_path, monkeypatch):
    ds = image(np.zeros((8, 8), np.uint8))
    ds.OtherPatientIDsSequence = Sequence([item(PatientID="1", TypeOfPatientID="TEXT")])
    path = write(ds, tmp_path / "x.dcm")
    offset = path.stat().st_size - 64
    for size in range(133, offset):
        monkeypatch.setattr(parsing, "HEAD_SIZE", size)
        forget([path])
        parsed = parse_file(path)
        assert (parsed.pixels.offset, "PhotometricInterpretation" in parsed.dataset) == (offset, True)


def test_deflated_file_of_more_than_the_first_block_is_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 2**16, (200, 200), dtype=np.uint16)
    path = write(image(pixels), tmp_path / "x.dcm", syntax=DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size > parsing.HEAD_SIZE
    reader = SeriesReader()
    np.testing.assert_array_equal(reader.get_data(reader.read(path))[0], pixels.T)


def test_transfer_syntax_that_is_none_is_named(tmp_path):
    path = write(image(np.zeros((8, 8), np.uint8)), tmp_path / "x.dcm")
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840\\10008.1.2.1\0"))
    with pytest.raises(DicomReadError, match=r"'x.dcm' cannot be parsed as DICOM \(ValueError\)"):
        parse_file(path)


def test_file_without_pixel_data_has_no_place_for_them(tmp_path):
    assert parse_file(write(image(np.zeros((8, 8), np.uint8), PixelData=None), tmp_path / "x.dcm")).pixels is None


def test_file_is_parsed_once_until_it_changes_or_is_forgotten(tmp_path, monkeypatch):
    count = []
    original = parsing.read_partial

    def counted(*arguments, **options):
        count.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(parsing, "read_partial", counted)
    path = write(image(np.zeros((8, 8), np.uint8)), tmp_path / "x.dcm")
    (tmp_path / "link.dcm").symlink_to(path)
    first, _ = open_dataset(path)
    assert open_dataset(tmp_path / "link.dcm")[0] is first
    assert len(count) == 1
    forget([tmp_path / "link.dcm"])
    open_dataset(path)
    assert len(count) == 2
    write(image(np.zeros((9, 9), np.uint8)), path)
    assert open_dataset(path)[0].Rows == 9
    assert len(count) == 3


def test_threads_that_want_one_file_at_once_share_one_parse(tmp_path):
    path = write(image(np.zeros((8, 8), np.uint8)), tmp_path / "x.dcm")
    found = in_threads(lambda _: open_dataset(path)[0], range(16), workers=8)
    assert len({id(dataset) for dataset in found}) == 1


def test_repairs_of_a_kept_file_cannot_be_changed_by_a_caller(tmp_path):
    path = write(image(np.zeros((8, 8), np.uint8)), tmp_path / "x.dcm")
    open_dataset(path)[1].append("mine")
    assert open_dataset(path)[1] == []


def test_store_keeps_the_files_used_last_within_both_bounds(tmp_path):
    paths = [write(image(np.zeros((8, 8), np.uint8), number=k), tmp_path / f"{k}.dcm") for k in range(4)]
    store = parsing.ParsedFiles(max_files=2, max_bytes=10**9)
    first = store.parse(paths[0])
    store.parse(paths[1])
    assert store.parse(paths[0]) is first
    store.parse(paths[2])
    assert (len(store), store.parse(paths[0]) is first) == (2, True)
    store = parsing.ParsedFiles(max_files=100, max_bytes=first.header_size * 2 + 10)
    for path in paths:
        store.parse(path)
    assert len(store) == 2
    store.forget(paths)
    assert len(store) == 0


def test_forked_process_does_not_wait_for_threads_that_it_does_not_have(tmp_path):
    path = write(image(np.zeros((8, 8), np.uint8)), tmp_path / "x.dcm")
    store = parsing.ParsedFiles(max_files=2, max_bytes=10**9)
    first = store.parse(path)
    store._lock.acquire()  # what a thread may hold at the moment of a fork
    store.renew_locks()
    assert store.parse(path) is first


def test_file_that_cannot_be_parsed_is_not_kept(tmp_path):
    path = tmp_path / "x.dcm"
    path.write_bytes(b"this is no image " * 20)
    store = parsing.ParsedFiles(max_files=2, max_bytes=10**9)
    with pytest.raises(DicomReadError, match="cannot be parsed"):
        store.parse(path)
    assert len(store) == 0


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted where Linux lists them")
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted where Linux lists them")
def test_no_file_stays_open(tmp_path):
    descriptors = Path("/proc/self/fd")
    descriptors = Path("/proc/self/fd")
    path = write(image(np.zeros((64, 64), np.uint16)), tmp_path / "x.dcm")
    reader = SeriesReader()
    before = len(list(descriptors.iterdir()))
    for _ in range(3):
        reader.get_data(reader.read(path))
    assert len(list(descriptors.iterdir())) == before


@pytest.mark.parametrize(("value", "expected"), [(None, ()), ("", ()), ("3", (3.0,)), (["1", "2.5"], (1.0, 2.5))])
def test_numbers_are_a_tuple_whatever_their_count(value, expected):
    dataset = pydicom.Dataset()
    dataset.WindowCenter = value
    assert numbers(dataset, "WindowCenter", "x.dcm") == expected
    assert numbers(dataset, "WindowWidth", "x.dcm") == ()


def test_wrong_count_of_numbers_is_named():
    dataset = pydicom.Dataset()
    dataset.ImagePositionPatient = ["1", "2"]
    with pytest.raises(DicomReadError, match=r"'x.dcm': ImagePositionPatient must hold 3 numbers, it holds 2"):
        numbers(dataset, "ImagePositionPatient", "x.dcm", 3)


def test_integer_that_is_not_finite_is_named():
    dataset = pydicom.Dataset()
    dataset.WindowCenter = float("inf")
    with pytest.raises(DicomReadError, match=r"'x.dcm': WindowCenter must be a finite number"):
        integer(dataset, "WindowCenter", "x.dcm", 0)
