import numpy as np
import pytest

from banet_monai.dicom import SeriesReader
from banet_monai.dicom.series import open_object
from banet_monai.dicom.volumes import read_frames
from tests.dicom_objects import image, run_length_packed, series, write, write_all


def load(path, **options):
    reader = SeriesReader(**options)
    return reader.get_data(reader.read(path))


@pytest.mark.parametrize("slices", [1, 2, 31, 33, 70])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_voxel_arrives_whatever_the_blocks_and_threads(tmp_path, slices, workers):
    data = np.random.default_rng(slices).integers(-1000, 1000, (slices, 11, 5), dtype=np.int16)
    paths = write_all(series(data), tmp_path)
    objects = [open_object(path) for path in paths]
    order = np.random.default_rng(1).permutation(slices)
    values = read_frames(objects, order.tolist(), (0, 0), workers)
    np.testing.assert_array_equal(values, data[order].transpose(2, 1, 0))
    assert values.flags.c_contiguous
    assert values.dtype == np.float32


def test_colour_clip_is_the_same_on_one_and_on_several_threads(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 9, 6, 3), dtype=np.uint8)
    path = write(image(pixels, modality="US", frames=50), tmp_path / "x.dcm")
    for workers in (1, 4):
        array, _ = load(path, workers=workers)
        np.testing.assert_array_equal(array, pixels.transpose(2, 1, 0, 3))
        assert array.flags.c_contiguous


def test_frames_of_several_compressed_objects_are_sorted_together(tmp_path):
    data = np.random.default_rng(0).integers(0, 100, (6, 8, 9), dtype=np.int16)
    paths = [
        write(run_length_packed(ds), tmp_path / f"{9 - k}.dcm", syntax="1.2.840.10008.1.2.5")
        for k, ds in enumerate(series(data))
    ]
    array, _ = load(sorted(paths), workers=3)
    np.testing.assert_array_equal(array, data.transpose(2, 1, 0))


def test_error_in_one_slice_names_its_file(tmp_path):
    paths = write_all(series(np.zeros((40, 8, 8), np.int16)), tmp_path)
    paths[33].write_bytes(paths[33].read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"'0033.dcm' is cut short: 108 of 128 bytes"):
        load(paths, workers=4)
