import pytest

from banet_monai.dicom.jpeg import check_jpeg_header

SHAPE, BITS = (61, 53, 1), 16  # rows, columns, samples
START, FILL = b"\xff\xd8", b"\xff"
FRAME = b"\xff\xc3\x00\x0b\x10\x00\x3d\x00\x35\x01\x01\x11\x00"  # 16 bits, 61 x 53, one sample
TABLE = b"\xff\xc4\x00\x15\x00\x01\x01" + bytes(14) + b"\x00\x01"  # a code of one bit and one of two
SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00"


def changed(segment, place, value):
    return segment[:place] + bytes([value]) + segment[place + 1 :]


@pytest.mark.parametrize("stream", [START + FRAME + TABLE + SCAN, START + TABLE + FILL + FRAME + SCAN + b"data"])
def test_a_sound_header_passes(stream):
    check_jpeg_header(stream, SHAPE, BITS)


@pytest.mark.parametrize(
    "stream",
    [
        START,
        START + FRAME + SCAN,
        START + TABLE + SCAN,
        START + FRAME + TABLE,
        START + changed(FRAME, 4, 17) + TABLE + SCAN,
        START + changed(FRAME, 6, 60) + TABLE + SCAN,
        START + changed(FRAME, 8, 52) + TABLE + SCAN,
        START + changed(FRAME, 9, 3) + TABLE + SCAN,
        START + changed(FRAME, 11, 0x51) + TABLE + SCAN,
        START + changed(FRAME, 3, 10) + TABLE + SCAN,
        START + FRAME + changed(TABLE, 5, 9) + SCAN,
        START + FRAME + changed(TABLE, 2, 9) + SCAN,
    ],
    ids=[
        "nothing else",
        "no table",
        "no frame",
        "no scan",
        "precision",
        "rows",
        "columns",
        "samples",
        "sampling factor",
        "length of the frame",
        "codes of a table",
        "length of a table",
    ],
)
def test_a_damaged_header_is_refused(stream):
    with pytest.raises(ValueError, match="damaged header of a JPEG stream"):
        check_jpeg_header(stream, SHAPE, BITS)


def test_what_is_no_jpeg_is_refused():
    with pytest.raises(ValueError, match="no JPEG stream"):
        check_jpeg_header(b"\xff\x4f\xff\x51", SHAPE, BITS)
