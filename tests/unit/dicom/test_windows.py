import numpy as np
import pytest
from pydicom.sequence import Sequence

from banet_monai.dicom import DicomReadError, SeriesReader
from banet_monai.dicom.windows import LookupTable, Window, lookup_table, stated_window
from tests.dicom_objects import enhanced, image, item, series, write, write_all

GRID = {"orientation": (1, 0, 0, 0, 1, 0), "origin": (0, 0, 0), "spacing": (1, 1), "step": 1}


def windowed(values, window):
    values = np.array(values, np.float32)
    window.apply(values)
    return values


def load(path, **options):
    reader = SeriesReader(**options)
    return reader.get_data(reader.read(path))


def table(entries, first=0, bits=16):
    found = item()
    found.add_new("LUTDescriptor", "US", [len(entries), first % 65536, bits])
    found.add_new("LUTData", "US", list(entries))
    return found


@pytest.fixture(scope="module")
def hd():
    """The oracle; it needs pydicom 3, the reader does not."""
    return pytest.importorskip("highdicom", exc_type=ImportError)


# The values of the examples of PS3.3 section C.11.2.1.2.1: centre 2048 and 4096 values, of which 0 and 4095 are ends.
@pytest.mark.parametrize(
    ("window", "values", "expected"),
    [
        (Window(2048, 4096), [-1, 0, 4095, 4096], [0, 0, 1, 1]),
        (Window(2048, 1), [2047, 2048], [0, 1]),
        (Window(0, 100), [-50, 49, -0.5], [0, 1, 0.5]),
        (Window(0, 100, "LINEAR_EXACT"), [-50, 50, 0, 25], [0, 1, 0.5, 0.75]),
        (Window(0, 100, "SIGMOID"), [0, -1e6, 1e6], [0.5, 0, 1]),
        (Window(10, 4, "SIGMOID"), [11], [1 / (1 + np.exp(-1))]),
    ],
)
def test_windows_follow_the_standards_formulas(window, values, expected):
    np.testing.assert_allclose(windowed(values, window), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.5), "as LINEAR, a width of at least 1"),
        ((0, 0, "SIGMOID"), "as SIGMOID, a width > 0"),
        ((float("nan"), 5), "finite centre"),
        ((0, 5, "CUBIC"), r"must be one of .*got 'CUBIC'"),
    ],
)
def test_window_that_cannot_be_applied_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Window(*arguments)


def test_table_takes_its_ends_for_values_outside_it():
    found = LookupTable(-1, np.array([5, 7, 9]))
    assert found.look_up(np.array([-9, -1, 0, 1, 9])).tolist() == [5, 5, 7, 9, 9]
    assert found.look_up(np.array([-0.6, 0.4])).tolist() == [5, 7]


def test_signed_first_value_and_packed_bytes_of_a_table_are_read():
    packed = item()
    packed.add_new("LUTDescriptor", "US", [4, 65534, 8])
    packed.add_new("LUTData", "OW", bytes([1, 2, 3, 4]))
    found = lookup_table(packed, "x.dcm", is_signed=True)
    assert (found.first, found.entries.tolist()) == (-2, [1, 2, 3, 4])
    words = item()
    words.add_new("LUTDescriptor", "US", [2, 0, 16])
    words.add_new("LUTData", "OW", np.array([300, 500], "<u2").tobytes())
    assert lookup_table(words, "x.dcm", is_signed=False).entries.tolist() == [300, 500]


@pytest.mark.parametrize(("bits", "entries"), [(16, [300, 500, 7]), (8, [1, 2, 3])])
def test_words_of_a_big_endian_table_are_turned(bits, entries):
    found = item()
    found.add_new("LUTDescriptor", "US", [3, 0, bits])
    data = np.array(entries, ">u2").tobytes() if bits == 16 else bytes([2, 1, 0, 3])
    found.add_new("LUTData", "OW", data)
    assert lookup_table(found, "x.dcm", is_signed=False, big_endian=True).entries.tolist() == entries


def test_words_of_a_table_that_is_cut_short_are_not_taken_for_bytes():
    cut = item()
    cut.add_new("LUTDescriptor", "US", [256, 0, 16])
    cut.add_new("LUTData", "OW", bytes(510))
    with pytest.raises(DicomReadError, match=r"lookup table of 255 entries where 256 are announced"):
        lookup_table(cut, "x.dcm", is_signed=False)


def test_table_that_is_too_short_is_named():
    short = table([1, 2, 3])
    short.LUTDescriptor = [9, 0, 16]
    with pytest.raises(DicomReadError, match=r"'x.dcm' has a lookup table of 3 entries where 9 are announced"):
        lookup_table(short, "x.dcm", is_signed=False)


def test_values_are_kept_unless_a_window_is_asked_for(tmp_path):
    path = write(image(np.array([[0, 500]], np.uint16), WindowCenter="100", WindowWidth="50"), tmp_path / "x.dcm")
    array, meta = load(path)
    assert array.T.tolist() == [[0, 500]]
    assert meta["window"] == [100, 50]


def test_chosen_window_is_applied_after_the_rescale(tmp_path):
    ds = image(np.array([[0, 1024, 1049, 9999]], np.uint16), RescaleSlope="1", RescaleIntercept="-1024")
    array, meta = load(write(ds, tmp_path / "x.dcm"), window=(50, 101))
    np.testing.assert_allclose(array.T, [[0, 0.005, 0.255, 1]], atol=1e-6)  # (x - (50 - 50.5)) / 100
    assert array.dtype == np.float32
    assert meta["value_range"] == [0, 1]
    assert "window" not in meta


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_stated_window_gives_what_highdicom_gives(tmp_path, hd, function, photometric):
    pixels = np.random.default_rng(0).integers(0, 4096, (8, 9), dtype=np.uint16)
    ds = image(pixels, modality="DX", photometric=photometric, BitsStored=12, HighBit=11)
    ds.WindowCenter, ds.WindowWidth = ["1800", "7"], ["900", "7"]
    # A slope of 1: highdicom scales the window to stored values, where the standard's "width - 1" is another number.
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", "-100", "US"
    if function:
        ds.VOILUTFunction = function
    path = write(ds, tmp_path / "x.dcm")
    expected = hd.imread(path).get_frame(1, dtype=np.float64, apply_voi_transform=True)
    np.testing.assert_allclose(load(path, window="voi")[0].T, expected, atol=1e-5)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("first", [0, 3])
def test_voi_table_gives_what_highdicom_gives(tmp_path, hd, photometric, first):
    entries = np.random.default_rng(1).permutation(200)[:60] + 7
    pixels = np.random.default_rng(0).integers(0, 64, (8, 9), dtype=np.uint16)
    ds = image(
        pixels, modality="DX", photometric=photometric, VOILUTSequence=Sequence([table(entries.tolist(), first)])
    )
    ds.WindowCenter, ds.WindowWidth = "10", "5"
    path = write(ds, tmp_path / "x.dcm")
    expected = hd.imread(path).get_frame(1, dtype=np.float64, apply_voi_transform=True)
    np.testing.assert_allclose(load(path, window="voi")[0].T, expected, atol=1e-6)


def test_each_slice_is_shown_by_its_own_window(tmp_path):
    objects = series(np.full((3, 4, 4), 10, np.int16))
    for ds, centre in zip(objects, ["10.5", "0", "100"], strict=True):
        ds.WindowCenter, ds.WindowWidth = centre, "11"
    array, _ = load(write_all(objects, tmp_path), window="voi")
    np.testing.assert_allclose(array[0, 0], [0.5, 1, 0], atol=1e-6)


def test_window_of_an_enhanced_object_is_found_in_its_functional_groups(tmp_path):
    ds = enhanced(np.full((2, 4, 4), 30, np.int16), **GRID, order=[0, 1])  # 30 * 2 - 10 = 50, window 50 of 100
    array, _ = load(write(ds, tmp_path / "x.dcm"), window="voi")
    np.testing.assert_allclose(array, (50 - 0) / 99, atol=1e-6)
    assert stated_window(ds, 1, "x.dcm") == Window(50, 100)


def test_file_without_a_window_is_named(tmp_path):
    path = write(image(np.zeros((8, 8), np.uint16), WindowCenter="1", WindowWidth="0"), tmp_path / "x.dcm")
    with pytest.raises(DicomReadError, match=r"'x.dcm' states neither a usable window nor a VOI LUT"):
        load(path, window="voi")


def test_colour_has_no_window(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    array, meta = load(write(image(pixels, modality="XC"), tmp_path / "x.dcm"), window="voi")
    np.testing.assert_array_equal(array, pixels.transpose(1, 0, 2))
    assert meta["value_range"] == [0, 255]


@pytest.mark.parametrize("window", ["auto", (40,), (1, 2, 3)])
def test_window_option_is_checked(window):
    with pytest.raises(ValueError, match=r"window must be None, 'voi' or \(centre, width\)"):
        SeriesReader(window=window)


@pytest.mark.parametrize(
    ("photometric", "shape", "expected"),
    [
        ("MONOCHROME1", "INVERSE", [255, 250]),
        ("MONOCHROME2", "IDENTITY", [0, 5]),
        ("MONOCHROME2", "INVERSE", [255, 250]),
        ("MONOCHROME1", "IDENTITY", [255, 250]),
    ],
)
def test_polarity_follows_photometric_and_presentation_shape(tmp_path, photometric, shape, expected):
    ds = image(np.array([[0, 5]], np.uint8), modality="DX", photometric=photometric, PresentationLUTShape=shape)
    array, meta = load(write(ds, tmp_path / "x.dcm"))
    assert array.T.tolist() == [expected]
    fits = (photometric, shape) in [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")]
    assert ("does not fit" in meta["repairs"]) is not fits
