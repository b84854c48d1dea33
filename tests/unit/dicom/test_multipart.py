import io

import pytest

from banet_monai.dicom.multipart import FileMessage, MultipartError, write_single_part
from tests.fake_pacs import multipart_body

RELATED = 'multipart/related; type="application/dicom"; boundary="b0undary"'


def written(body, *, block, content_type=RELATED, max_bytes=1000):
    file = io.BytesIO()
    size = write_single_part(
        (body[k : k + block] for k in range(0, len(body), block)), content_type, file, max_bytes=max_bytes
    )
    assert size == len(file.getvalue())
    return file.getvalue()


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("data", [b"DICM\r\n--b0und\r\n\r\nary--", b"\r\n", bytes(range(256))])
def test_part_is_written_byte_for_byte_however_the_message_is_cut_into_blocks(data, block):
    assert written(multipart_body(data), block=block) == data


def test_preamble_and_epilogue_are_left_out():
    assert written(b"hello\r\n" + multipart_body(b"data") + b"bye", block=5) == b"data"


def test_boundary_needs_no_quotes_and_the_part_no_headers():
    assert written(b"--x\r\n\r\ndata\r\n--x--", block=3, content_type="multipart/related; boundary=x") == b"data"


def test_object_without_a_multipart_message_is_taken_as_it_is():
    assert written(b"DICM", block=3, content_type="application/dicom; transfer-syntax=1.2") == b"DICM"


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"<html>", "text/html", "no DICOM message"),
        (b"", "", "no DICOM message"),
        (b"data", "multipart/related", "no DICOM message"),
        (b"", RELATED, "ends too early"),
        (b"data", RELATED, "ends too early"),
        (multipart_body(b"data")[:-6], RELATED, "ends too early"),
        (multipart_body(b"data", end=""), RELATED, "ends too early"),
        (multipart_body(b"data", end="\r\n"), RELATED, "several parts"),
        (multipart_body(b"one", b"two"), RELATED, "several parts"),
        (b"--b0undary--\r\n", RELATED, "without a part"),
        (multipart_body(b"0" * 1001), RELATED, "more than the 1000 bytes"),
        (b"--b0undary\r\nX: " + b"y" * 70_000 + b"\r\n\r\ndata\r\n--b0undary--", RELATED, "more than the 65536 bytes"),
        (multipart_body(b"data") + b"z" * 70_000, RELATED, "more than the 65536 bytes"),
        (b"0" * 1001, "application/dicom", "more than the 1000 bytes"),
    ],
)
def test_message_that_is_not_one_whole_object_is_refused(body, content_type, said):
    with pytest.raises(MultipartError, match=said):
        written(body, block=400, content_type=content_type)


def test_endless_object_is_refused_before_it_fills_the_memory():
    def endless():
        yield b"--b0undary\r\n\r\n"
        while True:
            yield bytes(1000)

    with pytest.raises(MultipartError, match="more than the 50000 bytes"):
        write_single_part(endless(), RELATED, io.BytesIO(), max_bytes=50_000)


def test_message_of_a_file_states_its_length_and_reads_back_as_the_file(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(bytes(range(256)) * 3000)
    message = FileMessage(path)
    body = b"".join(message)
    assert len(body) == len(message)
    assert b"".join(message) == body, "it can be sent again"
    assert max(map(len, message)) < path.stat().st_size, "it is read in blocks"
    assert written(body, block=1000, content_type=message.content_type, max_bytes=10**6) == path.read_bytes()


def test_two_messages_have_different_boundaries(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(b"x")
    assert FileMessage(path).content_type != FileMessage(path).content_type


def test_long_object_is_never_in_memory_as_a_whole():
    class Counting(io.BytesIO):
        longest = 0

        def write(self, data):
            self.longest = max(self.longest, len(data))
            return super().write(data)

    file = Counting()
    blocks = [b"--b0undary\r\n\r\n", *[bytes(1000)] * 500, b"\r\n--b0undary--"]
    assert write_single_part(blocks, RELATED, file, max_bytes=10**6) == 500_000
    assert file.longest <= 1000 + len("\r\n--b0undary")
