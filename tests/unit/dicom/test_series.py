import nibabel
import numpy as np
import pytest
import SimpleITK

from banet_monai.dicom import DicomGeometryError, DicomReadError, SeriesReader, meta_list
from banet_monai.dicom.series import open_object
from tests.dicom_objects import AXIAL, decimal, enhanced, image, series, turned, write, write_all

OBLIQUE = turned(20, -35, 50)
GRID = {"orientation": OBLIQUE, "origin": (-31.5, 12.25, 70.0), "spacing": (0.8, 0.5), "step": 2.5}


def numbered(slices):
    """A volume whose slice ``k`` holds ``k`` everywhere, (slice, row, column)."""
    return np.broadcast_to(np.arange(slices, dtype=np.int16)[:, None, None], (slices, 7, 9))


def load(path, **options):
    reader = SeriesReader(**options)
    return reader.get_data(reader.read(path))


def without(*gone):
    return [ds for k, ds in enumerate(series(numbered(6), **GRID)) if k not in gone]


def moved(shift_of):
    """The series with each slice moved along the patient's x axis by ``shift_of(slice)`` mm."""
    objects = series(numbered(5), step=2.5)
    for k, ds in enumerate(objects):
        ds.ImagePositionPatient = decimal(np.add(np.array(ds.ImagePositionPatient, float), [shift_of(k), 0, 0]))
    return objects


def two_orientations():
    axial, oblique = series(numbered(3)), series(numbered(3) + 10, **GRID)
    for k, ds in enumerate(oblique):
        ds.SOPInstanceUID, ds.InstanceNumber = f"1.2.3.{k + 1}", str(k + 4)
    return [*oblique, *axial]


def two_references():
    objects = series(numbered(4), **GRID)
    objects[3].FrameOfReferenceUID = "1.2.3.4"
    return objects


def lost_position():
    objects = series(numbered(4), **GRID)
    del objects[1].ImagePositionPatient
    return objects


IRREGULAR = [
    (lambda: without(2), "missing slices", [0, 1, 3, 4, 5]),
    (lambda: without(1, 2, 4), "missing slices|uneven", [0, 3, 5]),
    (lambda: moved(lambda k: k), "gantry tilt", [0, 1, 2, 3, 4]),
    (lambda: moved(lambda k: 3.0 * (k == 2)), "slices shifted sideways", [0, 1, 2, 3, 4]),
    (two_orientations, "several orientations", [0, 1, 2, 10, 11, 12]),
    (two_references, "several frames of reference", [0, 1, 2, 3]),
    (lost_position, "no positions", [0, 1, 2, 3]),
]


@pytest.mark.parametrize(("make", "kind", "expected"), IRREGULAR, ids=[kind for _, kind, _ in IRREGULAR])
def test_irregular_slices_are_read_without_a_volume_when_asked(tmp_path, make, kind, expected):
    objects = make()
    shuffled = np.random.default_rng(0).permutation(len(objects))
    write_all(objects, tmp_path, order=shuffled.tolist())
    with pytest.raises(DicomGeometryError, match=r'With irregular="slices" they are read slice by slice'):
        load(sorted(tmp_path.glob("*.dcm")))
    array, meta = load(sorted(tmp_path.glob("*.dcm")), irregular="slices")
    assert array[0, 0].tolist() == expected
    assert meta["layout"] == "slices"
    assert meta["irregular"] in kind.replace("uneven", "uneven slices").split("|")
    assert meta["affine"][2, 2] == 1
    names = [name.rsplit("/", 1)[1] for name in meta_list(meta["series_files"])]
    assert len(set(names)) == len(expected)


def test_affine_of_loose_slices_has_the_pixel_size_alone(tmp_path):
    _, meta = load(write_all(without(2), tmp_path), irregular="slices")
    np.testing.assert_allclose(meta["affine"], np.diag([-0.5, -0.8, 1, 1]))
    assert meta["spacing_unit"] == "mm"


def test_regular_series_stays_a_volume_whatever_is_asked_for(tmp_path):
    array, meta = load(write_all(series(numbered(4), **GRID), tmp_path), irregular="slices")
    assert meta["layout"] == "volume"
    assert "irregular" not in meta
    assert array.shape == (9, 7, 4)


def test_irregular_frames_of_an_enhanced_object_are_read_as_slices(tmp_path):
    ds = enhanced(numbered(4), **GRID, order=[2, 0, 3, 1])
    place = ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]  # slice 2 goes beyond the last one
    place.ImagePositionPatient = decimal(np.array(GRID["origin"]) + 40 * np.cross(OBLIQUE[:3], OBLIQUE[3:]))
    array, meta = load(write(ds, tmp_path / "x.dcm"), irregular="slices")
    assert array[0, 0].tolist() == [-10, -8, -4, -6]
    assert meta_list(meta["frame_numbers"]) == ["2", "4", "3", "1"]


def test_several_sizes_are_refused_even_as_slices(tmp_path):
    objects = series(numbered(3)) + series(np.zeros((1, 8, 9), np.int16), origin=(0, 0, 6))
    with pytest.raises(DicomGeometryError, match=r"2 sizes") as error:
        load(write_all(objects, tmp_path), irregular="slices")
    assert "irregular=" not in str(error.value)


def test_irregular_option_is_checked():
    with pytest.raises(ValueError, match=r"irregular must be one of .*got 'ignore'"):
        SeriesReader(irregular="ignore")


@pytest.mark.parametrize(
    "ds",
    [
        image(np.arange(12, dtype=np.uint16).reshape(3, 4), modality="DX", ImagerPixelSpacing=["0.2", "0.3"]),
        image(np.arange(36, dtype=np.uint8).reshape(3, 4, 3), modality="XC"),
        image(np.arange(12, dtype=np.uint8).reshape(3, 4), modality="US", PixelSpacing=["0.2", "0.3"]),
        image(np.arange(60, dtype=np.uint8).reshape(5, 3, 4), modality="US", frames=5),
    ],
    ids=["X-ray", "visible light", "ultrasound", "clip"],
)
def test_mask_of_a_picture_lies_where_simpleitk_sees_the_picture(tmp_path, ds):
    path = write(ds, tmp_path / "x.dcm")
    array, meta = load(path)
    shape = (*array.shape[:2], meta["spatial_shape"][2] if len(meta["spatial_shape"]) > 2 else 1)
    nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.uint8), meta["affine"]), tmp_path / "mask.nii.gz")
    picture, mask = SimpleITK.ReadImage(str(path)), SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    assert picture.GetSize() == mask.GetSize()
    for index in [(0, 0, 0), (3, 0, 0), (0, 2, 0), (3, 2, shape[2] - 1)]:
        there = picture.TransformIndexToPhysicalPoint(tuple(map(int, index)))
        np.testing.assert_allclose(mask.TransformIndexToPhysicalPoint(tuple(map(int, index))), there, atol=1e-6)


def test_header_of_what_is_no_image_is_handed_out(tmp_path):
    found = open_object(write(image(np.zeros((8, 8), np.uint8), modality="SEG"), tmp_path / "x.dcm"))
    assert "SEG" in found.not_an_image


@pytest.mark.parametrize("keyword", ["ImageOrientationPatient", "PixelSpacing"])
def test_missing_geometry_tag_is_named(tmp_path, keyword):
    objects = series(numbered(4), orientation=AXIAL)
    del objects[2][keyword]
    with pytest.raises(DicomGeometryError, match=rf"1 of 4 images have no {keyword} \(first: '0002.dcm'\)"):
        load(write_all(objects, tmp_path))


def test_files_with_the_same_instance_uid_are_read_and_named(tmp_path):
    objects = series(numbered(4), **GRID)
    objects[3].SOPInstanceUID = objects[0].SOPInstanceUID
    array, meta = load(write_all(objects, tmp_path))
    assert array[0, 0].tolist() == [0, 1, 2, 3]
    assert "1 files repeat the SOPInstanceUID of another one" in meta["repairs"]


@pytest.mark.parametrize("spacing", [["0", "0.5"], ["-1", "1"]])
def test_single_slice_with_an_impossible_spacing_is_refused(tmp_path, spacing):
    ds = series(numbered(1), **GRID)[0]
    ds.PixelSpacing = spacing
    with pytest.raises(DicomGeometryError, match=r"'x.dcm': PixelSpacing must be two positive numbers"):
        load(write(ds, tmp_path / "x.dcm"))


@pytest.mark.parametrize("gone", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_single_slice_without_its_place_is_read_and_this_is_said(tmp_path, gone):
    ds = series(numbered(1), **GRID)[0]
    del ds[gone]
    _, meta = load(write(ds, tmp_path / "x.dcm"))
    assert not meta["has_place"]
    assert f"{gone} absent: read without a place in the patient" in meta_list(meta["repairs"])


def test_enhanced_object_without_positions_is_read_as_frames_and_this_is_said(tmp_path):
    ds = enhanced(numbered(3), **GRID, order=[0, 1, 2])
    del ds.PerFrameFunctionalGroupsSequence
    _, meta = load(write(ds, tmp_path / "x.dcm"))
    assert meta["layout"] == "frames"
    assert "ImagePositionPatient absent: read without a place in the patient" in meta_list(meta["repairs"])


def test_frames_at_one_place_are_named_by_their_numbers(tmp_path):
    ds = enhanced(numbered(4), **GRID, order=[0, 1, 1, 2])
    with pytest.raises(DicomGeometryError, match=r"repeated slices.*'x.dcm, frame 2' and 'x.dcm, frame 3'"):
        load(write(ds, tmp_path / "x.dcm"))


def test_damaged_functional_groups_are_named(tmp_path):
    path = write(enhanced(numbered(2), **GRID, order=[0, 1]), tmp_path / "x.dcm")
    measures = b"\x28\x00\x10\x91SQ"  # PixelMeasuresSequence
    assert path.read_bytes().count(measures) == 1
    path.write_bytes(path.read_bytes().replace(measures, measures[:-1] + b"\x10"))
    with pytest.raises(DicomReadError, match=r"'x.dcm' holds attributes that cannot be read"):
        load(path)


def test_an_instance_number_that_is_none_plays_no_part(tmp_path):
    objects = series(numbered(3), **GRID)
    objects[1].InstanceNumber = "4711"
    files = write_all(objects, tmp_path)
    files[1].write_bytes(files[1].read_bytes().replace(b"4711", b"none"))
    array, _ = load(files)
    assert array[0, 0].tolist() == [0, 1, 2]
