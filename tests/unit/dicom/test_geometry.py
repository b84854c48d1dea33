import dataclasses

import numpy as np
import pytest

from banet_monai.dicom.geometry import (
    DicomGeometryError,
    Plane,
    picture_affine,
    plane_affine,
    slice_order,
    stack_planes,
)
from tests.dicom_objects import AXIAL, turned

OBLIQUE = turned(25, 10, -40)


def planes(depths=(0, 1, 2, 3, 4), orientation=OBLIQUE, step=2.5):
    """Planes at multiples of ``step`` mm along their normal."""
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        Plane(
            name=f"{k}.dcm",
            shape=(512, 400),
            position=tuple(np.array([10.0, -20.0, 30.0]) + depth * step * normal),
            orientation=orientation,
            spacing=(0.8, 0.5),
            frame_of_reference="1.2",
        )
        for k, depth in enumerate(depths)
    ]


def changed(k, **what):
    found = planes()
    found[k] = dataclasses.replace(found[k], **what)
    return found


def shifted(offset_of):
    """Planes moved sideways along their rows by ``offset_of(slice)`` mm."""
    row = np.array(OBLIQUE[:3])
    return [
        dataclasses.replace(plane, position=tuple(np.array(plane.position) + offset_of(k) * row))
        for k, plane in enumerate(planes())
    ]


def test_axial_identity_becomes_ras_with_two_flips():
    stack = stack_planes(planes(orientation=AXIAL))
    expected = [[-0.5, 0, 0, -10], [0, -0.8, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(stack.affine, expected, atol=1e-12)
    assert not np.signbit(stack.affine[stack.affine == 0]).any()


def test_order_follows_positions():
    assert stack_planes(planes((3, 0, 4, 1, 2))).order == [1, 3, 4, 0, 2]
    assert stack_planes(planes((1.0, 0.0))).order == [1, 0]


def test_single_plane_is_as_thick_as_told():
    affine = plane_affine(planes((0,))[0], thickness=7.0)
    assert np.linalg.norm(affine[:3, 2]) == pytest.approx(7.0)


def test_picture_affine_has_the_column_distance_first_and_runs_to_the_left_and_back():
    np.testing.assert_array_equal(picture_affine((0.8, 0.5)), np.diag([-0.5, -0.8, 1, 1]))
    np.testing.assert_array_equal(picture_affine(()), np.diag([-1, -1, 1, 1]))


@pytest.mark.parametrize(
    ("depths", "message"),
    [
        ((0, 1, 3, 4), r"missing slices: 1 of 5 \(first gap of 5 mm between '1.dcm' and '2.dcm', usual: 2.5 mm\)"),
        ((0, 1, 3), "missing slices: 1 of 4"),
        ((0, 1, 2, 6, 7, 9), "missing slices: 4 of 10"),
        ((0, 1, 1, 2), "repeated slices: 1 of 4 images lie where another one lies"),
        ((0, 0, 1, 1, 2, 2), "repeated slices: 3 of 6 images"),
        ((0, 0, 0), "repeated slices: 2 of 3 images"),
        ((0, 1, 2, 2.05, 3), "repeated slices: 1 of 5"),
        ((0, 1, 2, 3.2, 4.2), r"uneven slices: distances range from 2.5 to 3 mm \(first odd one between '2.dcm'"),
        ((0, 1, 2, 3.02, 4), "uneven slices"),
    ],
)
def test_irregular_distances_are_named(depths, message):
    with pytest.raises(DicomGeometryError, match=message):
        stack_planes(planes(depths))


def test_more_than_ten_thousand_slices_form_a_volume():
    assert np.linalg.norm(stack_planes(planes(range(10_003))).affine[:3, 2]) == pytest.approx(2.5)


def test_distances_within_a_percent_are_even():
    assert stack_planes(planes((0, 1.004, 2, 2.996, 4))).order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"position": ()}, r"1 of 5 images have no ImagePositionPatient \(first: '2.dcm'\)"),
        ({"orientation": (), "spacing": ()}, "have no ImageOrientationPatient, PixelSpacing"),
        ({"shape": (256, 256)}, r"2 sizes: 512 x 400 \(4\), 256 x 256 \(1\) \[rows x columns\]"),
        ({"spacing": (0.8, 0.6)}, r"2 pixel spacings: 0.8 x 0.5 \(4\), 0.8 x 0.6 \(1\) \[mm\]"),
        ({"spacing": (0.0, 0.5)}, "PixelSpacing must be two positive numbers"),
        ({"frame_of_reference": "1.3"}, r"2 frames of reference \(4, 1 images\)"),
        ({"orientation": AXIAL}, r"2 orientations \(4, 1 images\)"),
        ({"orientation": (1, 0, 0, 1, 0, 0)}, "'2.dcm': ImageOrientationPatient must hold two unit vectors"),
        ({"orientation": (2, 0, 0, 0, 2, 0)}, "'2.dcm': ImageOrientationPatient must hold two unit vectors"),
        ({"position": (0.0, float("nan"), 0.0)}, "ImagePositionPatient finite numbers"),
    ],
)
def test_one_odd_plane_is_named(what, message):
    with pytest.raises(DicomGeometryError, match=message):
        stack_planes(changed(2, **what))


def test_unknown_frame_of_reference_is_no_second_one():
    assert stack_planes(changed(2, frame_of_reference="")).repairs == []


def test_orientation_that_differs_in_the_seventh_digit_is_rounding():
    odd = tuple(np.array(OBLIQUE) + 3e-7)
    assert stack_planes(changed(2, orientation=odd)).repairs == [
        "ImageOrientationPatient differs by rounding: the first image's is used"
    ]


def test_gantry_tilt_is_named_with_its_angle():
    with pytest.raises(DicomGeometryError, match=r"gantry tilt: slices are stacked at 15\.00 degrees"):
        stack_planes(shifted(lambda k: k * 2.5 * np.tan(np.radians(15))))


def test_rounded_positions_are_no_tilt():
    rounded = [dataclasses.replace(p, position=tuple(np.round(p.position, 2))) for p in planes()]
    assert stack_planes(rounded).order == [0, 1, 2, 3, 4]


def test_slices_shifted_sideways_are_named():
    with pytest.raises(DicomGeometryError, match=r"shifted sideways by up to 3 mm"):
        stack_planes(shifted(lambda k: 3.0 * (k == 2)))


def test_what_is_wrong_is_said_in_a_few_words_without_names():
    with pytest.raises(DicomGeometryError, match="missing slices") as error:
        stack_planes(planes((0, 1, 3)))
    assert (error.value.kind, error.value.slices_work) == ("missing slices", True)


def test_several_sizes_cannot_be_stacked_even_without_a_volume():
    with pytest.raises(DicomGeometryError, match="2 sizes") as error:
        stack_planes(changed(2, shape=(256, 256)))
    assert not error.value.slices_work


def test_loose_slices_follow_their_positions_whatever_their_numbers():
    assert slice_order(planes((3, 0, 7, 1)), [1, 2, 3, 4]) == [1, 3, 0, 2]


def test_slices_at_one_place_follow_their_numbers():
    assert slice_order(planes((1, 0, 1, 0)), [1, 4, 2, 3]) == [3, 1, 0, 2]


def test_orientations_follow_each_other_as_their_first_numbers_do():
    mixed = planes((1, 0), AXIAL) + planes((1, 0), OBLIQUE)
    assert slice_order(mixed, [3, 4, 1, 2]) == [3, 2, 1, 0]


def test_slices_without_positions_follow_their_numbers_or_stay_as_given():
    assert slice_order(changed(2, position=()), [5, 4, 3, 2, 1]) == [4, 3, 2, 1, 0]
    assert slice_order(changed(2, position=()), [0, 0, 0, 0, 0]) == [0, 1, 2, 3, 4]
