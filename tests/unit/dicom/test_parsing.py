import logging
import threading
import warnings

import numpy as np
import pydicom
import pytest

from banet_monai.dicom import SeriesReader
from banet_monai.dicom.parsing import DicomReadError, in_threads, numbers, open_dataset, quiet_pydicom
from tests.dicom_objects import image, write


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


def test_missing_transfer_syntax_is_taken_from_the_encoding_and_said(tmp_path):
    path = write(image(np.zeros((8, 8), np.uint8)), tmp_path / "x.dcm")
    start = path.read_bytes().index(b"\x08\x00\x08\x00CS")  # the dataset without preamble and meta group
    path.write_bytes(path.read_bytes()[start:])
    with quiet_pydicom():
        dataset, repairs = open_dataset(path)
    assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert repairs == ["the transfer syntax is not stated: read as Explicit VR Little Endian"]


def test_pixel_data_stay_in_the_file_until_asked_for(tmp_path):
    path = write(image(np.arange(10000, dtype=np.uint16).reshape(100, 100)), tmp_path / "x.dcm")
    dataset, _ = open_dataset(path)
    path.unlink()
    with pytest.raises(OSError, match="missing"):
        len(dataset.PixelData)


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
