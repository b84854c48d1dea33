import copy
import datetime
import logging
import re
import sys
import warnings

import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

from banet_monai import __version__
from banet_monai.dicom import SeriesReader
from banet_monai.dicom.parsing import DicomReadError, open_dataset
from banet_monai.dicom.seg import write_seg
from banet_monai.dicom.segments import SEGMENTS, described
from tests import dicom_samples as samples
from tests.dicom_objects import decimal, image, series, write_all


@pytest.fixture(scope="module")
def hd():
    return pytest.importorskip("highdicom", exc_type=ImportError)


@pytest.fixture(autouse=True)
def _needs_highdicom(hd):
    """Everything here writes."""


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    """Files of a CT series, not in the order of its slices: 5 slices of 18 columns and 23 rows."""
    folder = tmp_path_factory.mktemp("ct")
    paths = samples.write_samples(samples.ct_series(), folder / "made")
    return [path.rename(folder / f"{name}.dcm") for path, name in zip(paths, (3, 0, 4, 1, 2), strict=True)]


def read(files, **options):
    reader = SeriesReader(**options)
    return reader.get_data(reader.read(list(files)))


def ids_like(shape, *, labels=2):
    """Label ids without symmetry; the first slice is empty."""
    ids = np.random.default_rng(1).integers(0, labels + 1, shape).astype(np.uint8)
    ids[..., 0] = 0
    return ids


def written(path):
    return pydicom.dcmread(path)


def frame_sources(seg):
    """Of each frame: segment, instance and frame number it was made from."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    found = []
    for group in seg.PerFrameFunctionalGroupsSequence:
        segment = (group.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence)[0]
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        number = source.get("ReferencedFrameNumber")
        found.append((segment.ReferencedSegmentNumber, source.ReferencedSOPInstanceUID, number))
    return found


# ---- what it says ----------------------------------------------------------------------------------------------------


def test_patient_and_study_are_those_of_the_source(ct, tmp_path):
    seg = written(write_seg(ids_like((18, 23, 5)), ct, tmp_path / "seg.dcm", task="hippocampus"))
    source = written(ct[0])
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID"):
        assert seg[keyword].value == source[keyword].value
    for keyword in ("AccessionNumber", "StudyDate", "StudyTime", "FrameOfReferenceUID", "ReferringPhysicianName"):
        assert seg[keyword].value == source[keyword].value
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID


def test_it_names_itself_as_a_research_result_of_this_software(ct, tmp_path):
    seg = written(write_seg(ids_like((18, 23, 5), labels=1), ct, tmp_path / "seg.dcm", task="lung"))
    assert (seg.Modality, seg.SegmentationType) == ("SEG", "BINARY")
    assert seg.SeriesDescription == "Lung by BA-Net (research)"
    assert seg.ContentLabel == "LUNG"
    assert seg.SeriesNumber == 1000 + written(ct[0]).SeriesNumber
    assert (seg.ManufacturerModelName, seg.SoftwareVersions) == ("banet-monai", __version__)
    (segment,) = seg.SegmentSequence
    assert segment.SegmentLabel == "Lung"
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == __version__


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Night run", "Night run (research)"),
        ("Night run (research)", "Night run (research)"),
        ("x" * 80, "x" * 53 + " (research)"),
        ("a\\b", "a/b (research)"),
    ],
)
def test_any_series_description_ends_in_research(ct, tmp_path, given, expected):
    ids = ids_like((18, 23, 5), labels=1)
    seg = written(write_seg(ids, ct, tmp_path / "seg.dcm", task="lung", series_description=given))
    assert seg.SeriesDescription == expected
    assert len(expected) <= 64


def test_options_go_into_the_object(ct, tmp_path):
    options = {"series_number": 7, "content_label": "NIGHT RUN 1", "algorithm_version": "9.8", "tracking": True}
    seg = written(write_seg(ids_like((18, 23, 5), labels=1), ct, tmp_path / "seg.dcm", task="lung", **options))
    assert (seg.SeriesNumber, seg.ContentLabel) == (7, "NIGHT RUN 1")
    assert seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "9.8"
    assert seg.SegmentSequence[0].TrackingUID


def test_the_same_study_gives_the_same_object_but_for_uids_and_times(ct, tmp_path):
    ids = ids_like((18, 23, 5))
    one, other = (written(write_seg(ids, ct, tmp_path / f"{k}.dcm", task="hippocampus")) for k in (1, 2))
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    allowed = {"SOPInstanceUID", "SeriesInstanceUID", "DimensionOrganizationUID"}

    def differences(left, right):
        assert list(left.keys()) == list(right.keys())
        for a, b in zip(left, right, strict=True):
            if a.VR == "SQ":
                for c, d in zip(a.value, b.value, strict=True):
                    yield from differences(c, d)
            elif a.value != b.value:
                yield a.keyword

    found = set(differences(one, other))
    assert {keyword for keyword in found if not re.search(r"(Date|Time)$", keyword)} == allowed


def test_it_is_what_highdicom_writes_from_the_series_itself(hd, ct, tmp_path):
    ids = ids_like((18, 23, 5))
    ids[..., 3] = 0
    ours = written(write_seg(ids, ct, tmp_path / "ours.dcm", task="hippocampus"))
    datasets = [written(path) for path in ct]
    normal = np.cross(datasets[0].ImageOrientationPatient[:3], datasets[0].ImageOrientationPatient[3:])
    datasets.sort(key=lambda ds: float(normal @ np.array(ds.ImagePositionPatient, dtype=float)))
    pixels = np.ascontiguousarray(ids.transpose(2, 1, 0))
    segments = described(SEGMENTS["hippocampus"], version=__version__)
    uids = (hd.UID(), ours.SeriesNumber, hd.UID(), 1)
    machine = (ours.Manufacturer, ours.ManufacturerModelName, ours.SoftwareVersions, ours.DeviceSerialNumber)
    theirs = hd.seg.Segmentation(datasets, pixels, "BINARY", segments, *uids, *machine)
    theirs.save_as(tmp_path / "theirs.dcm")
    theirs = written(tmp_path / "theirs.dcm")

    assert ours.PixelData == theirs.PixelData
    for keyword in ("SegmentSequence", "PerFrameFunctionalGroupsSequence", "ReferencedSeriesSequence"):
        assert ours[keyword].value == theirs[keyword].value
    ours_only = {element.keyword for element in ours} - {element.keyword for element in theirs}
    assert ours_only == {"SeriesDescription", "SeriesDate", "SeriesTime", "ContentCreatorName"}
    assert {element.keyword for element in theirs} <= {element.keyword for element in ours}
    (mine,), (other,) = ours.SharedFunctionalGroupsSequence, theirs.SharedFunctionalGroupsSequence
    for sequence, keyword in (
        ("PlaneOrientationSequence", "ImageOrientationPatient"),
        ("PixelMeasuresSequence", "PixelSpacing"),
        ("PixelMeasuresSequence", "SpacingBetweenSlices"),
        ("PixelMeasuresSequence", "SliceThickness"),
    ):
        np.testing.assert_allclose(mine[sequence][0][keyword].value, other[sequence][0][keyword].value, atol=1e-9)


# ---- references and frames -------------------------------------------------------------------------------------------


def test_every_source_instance_is_referred_to_and_each_frame_names_its_own(ct, tmp_path):
    ids = np.zeros((18, 23, 5), np.uint8)
    ids[3, 4, 1], ids[5, 6, 1], ids[7, 8, 3] = 1, 2, 2
    seg = written(write_seg(ids, ct, tmp_path / "seg.dcm", task="hippocampus"))
    in_order = [written(path).SOPInstanceUID for path in read(ct)[1]["series_files"].split("\n")]
    (listed,) = seg.ReferencedSeriesSequence
    assert listed.SeriesInstanceUID == written(ct[0]).SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in listed.ReferencedInstanceSequence} == set(in_order)
    assert len(seg.SourceImageSequence) == 5
    assert seg.NumberOfFrames == 3
    expected = [(1, in_order[1], None), (2, in_order[1], None), (2, in_order[3], None)]
    assert sorted(frame_sources(seg), key=str) == sorted(expected, key=str)


def test_frames_of_a_multi_frame_source_are_named_by_their_number(tmp_path):
    (path,) = samples.write_samples(samples.enhanced_mr(order=(3, 0, 4, 1, 2)), tmp_path / "mr")
    ids = np.zeros((24, 18, 5), np.uint8)
    ids[3, 4, 0], ids[5, 6, 4] = 1, 1
    seg = written(write_seg(ids, path, tmp_path / "seg.dcm", task="lung"))
    instance = written(path).SOPInstanceUID
    assert sorted(frame_sources(seg)) == [(1, instance, 2), (1, instance, 3)]


@pytest.mark.parametrize(("all_frames", "expected"), [(False, 4 + 4), (True, 5 + 5)])
def test_frames_without_content_are_left_out_unless_wanted(ct, tmp_path, all_frames, expected):
    seg = write_seg(ids_like((18, 23, 5)), ct, tmp_path / "seg.dcm", task="hippocampus", all_frames=all_frames)
    assert written(seg).NumberOfFrames == expected


@pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
def test_an_empty_mask_is_one_empty_frame_of_each_segment(hd, ct, tmp_path, kind):
    mask = np.zeros((1, 18, 23, 5), np.float32 if kind == "fractional" else np.uint8)
    path = write_seg(mask, ct, tmp_path / "seg.dcm", task="lung", kind=kind)
    assert written(path).NumberOfFrames == 1
    assert not hd.seg.segread(path).pixel_array.any()


def test_probabilities_that_round_to_nothing_are_empty(hd, ct, tmp_path):
    path = write_seg(np.full((18, 23, 5), 0.4 / 255), ct, tmp_path / "seg.dcm", task="lung", kind="fractional")
    assert written(path).NumberOfFrames == 1
    assert not hd.seg.segread(path).pixel_array.any()


# ---- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda ids: ids.astype(np.int64),
        lambda ids: ids.astype(np.float32),
        lambda ids: ids[None],
        lambda ids: np.asfortranarray(ids),
        torch.from_numpy,
        lambda ids: torch.from_numpy(ids).bfloat16()[None],
        lambda ids: MetaTensor(torch.from_numpy(ids.astype(np.float32))[None]),
    ],
)
def test_label_ids_come_in_any_type_and_memory_order(ct, tmp_path, form):
    ids = ids_like((18, 23, 5))
    plain = write_seg(ids, ct, tmp_path / "plain.dcm", task="hippocampus")
    other = write_seg(form(ids), ct, tmp_path / "other.dcm", task="hippocampus")
    assert written(other).PixelData == written(plain).PixelData


def test_segments_may_overlap_when_each_has_a_channel(hd, ct, tmp_path):
    channels = np.random.default_rng(2).integers(0, 2, (2, 18, 23, 5)).astype(np.uint8)
    path = write_seg(channels, ct, tmp_path / "seg.dcm", task="hippocampus")
    volume = hd.seg.segread(path).get_volume(combine_segments=False)
    assert written(path).SegmentsOverlap == "YES"
    assert volume.array.sum() == channels.sum()


def test_probabilities_are_stored_in_steps_of_one_255th(hd, ct, tmp_path):
    probabilities = np.random.default_rng(3).random((18, 23, 5))
    probabilities[0, 0, 0] = 1 + 1e-6  # as interpolation leaves it
    path = write_seg(probabilities, ct, tmp_path / "seg.dcm", task="lung", kind="fractional")
    seg = written(path)
    assert (seg.SegmentationFractionalType, seg.MaximumFractionalValue) == ("PROBABILITY", 255)
    assert seg.SegmentsOverlap == "NO"
    levels = np.rint(probabilities.astype(np.float32).clip(0, 1) * np.float32(255))
    np.testing.assert_array_equal(np.sort(hd.seg.segread(path).pixel_array.ravel()), np.sort(levels.ravel()))


def test_probabilities_of_several_segments_stay_with_their_segment(hd, ct, tmp_path):
    levels = np.random.default_rng(4).integers(0, 256, (2, 18, 23, 5))
    levels[0, ..., 1] = levels[1, ..., 3] = 0
    path = write_seg(levels / 255, ct, tmp_path / "seg.dcm", task="hippocampus", kind="fractional")
    seg = hd.seg.segread(path)
    assert (seg.NumberOfFrames, seg.SegmentsOverlap) == (8, "UNDEFINED")
    instances = [written(name).SOPInstanceUID for name in read(ct)[1]["series_files"].split("\n")]
    stored = seg.get_pixels_by_source_instance(instances, rescale_fractional=False)
    np.testing.assert_array_equal(stored, levels.transpose(3, 2, 1, 0))


def test_label_maps_keep_their_ids(hd, ct, tmp_path):
    ids = ids_like((18, 23, 5))
    path = write_seg(ids, ct, tmp_path / "seg.dcm", task="hippocampus", kind="labelmap")
    assert written(path).SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert np.bincount(hd.seg.segread(path).pixel_array.ravel())[1:].tolist() == np.bincount(ids.ravel())[1:].tolist()


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        (np.zeros((23, 18, 5)), {}, r"shape \(23, 18, 5\), its source \(18, 23, 5\).*rows and columns.*transpose"),
        (np.zeros((18, 23, 4)), {}, r"shape \(18, 23, 4\), its source \(18, 23, 5\) \(column, row, slice\)"),
        (np.zeros((1, 1, 18, 23, 5)), {}, "at most one channel axis"),
        (np.full((18, 23, 5), 2), {}, r"ids from 2 to 2, but the task describes 1 segments \(Lung\)"),
        (np.full((18, 23, 5), -1), {}, "must be 0"),
        (np.full((18, 23, 5), 0.5), {}, "not whole; probabilities need kind='fractional' or a threshold"),
        (np.zeros((2, 18, 23, 5)), {}, "2 channels from 0.0 to 0.0 does not fit kind 'binary' and 1 segments"),
        (np.zeros((18, 23, 5), "U1"), {}, "must hold numbers"),
        (np.zeros((2, 18, 23, 5)), {"kind": "fractional"}, "2 channels for 1 segments"),
        (np.full((18, 23, 5), 1.5), {"kind": "fractional"}, "from 0 to 1, got 1.5 to 1.5"),
        (np.full((18, 23, 5), np.nan), {"kind": "fractional"}, "from 0 to 1, got nan"),
        (np.zeros((18, 23, 5)), {"kind": "probability"}, "kind must be one of binary, fractional, labelmap"),
        (np.zeros((18, 23, 5)), {"task": "lungs"}, "did you mean 'lung'"),
        (np.zeros((18, 23, 5)), {"content_label": "night"}, "content_label must be 1 to 16 characters of A-Z"),
    ],
)
def test_a_mask_or_an_option_that_does_not_fit_is_named(ct, tmp_path, mask, options, message):
    with pytest.raises(ValueError, match=message):
        write_seg(mask, ct, tmp_path / "seg.dcm", **{"task": "lung", **options})
    assert not list(tmp_path.iterdir())


def test_a_mask_on_another_grid_is_refused(ct, tmp_path):
    array, meta = read(ct)
    affine = torch.as_tensor(meta["affine"])
    write_seg(MetaTensor(np.zeros(array.shape), affine=affine), ct, tmp_path / "right.dcm", task="lung")
    shifted = affine.clone()
    shifted[0, 3] += 0.4
    with pytest.raises(ValueError, match="does not lie on the grid of its source"):
        write_seg(MetaTensor(np.zeros(array.shape), affine=shifted), ct, tmp_path / "wrong.dcm", task="lung")


# ---- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["folder", "files", "meta", "tensor", "datasets"])
def test_the_source_may_be_given_in_any_form(ct, tmp_path, source):
    array, meta = read(ct)
    forms = {
        "folder": ct[0].parent,
        "files": [str(path) for path in ct],
        "meta": meta,
        "tensor": MetaTensor(array, meta=dict(meta)),
        "datasets": [pydicom.dcmread(path, stop_before_pixels=True) for path in ct],
    }
    ids = ids_like((18, 23, 5))
    seg = written(write_seg(ids, forms[source], tmp_path / "seg.dcm", task="hippocampus"))
    expected = written(write_seg(ids, ct, tmp_path / "expected.dcm", task="hippocampus"))
    assert seg.PixelData == expected.PixelData
    assert frame_sources(seg) == frame_sources(expected)


def test_the_source_is_not_changed(ct, tmp_path):
    datasets = [pydicom.dcmread(path) for path in ct]
    before = copy.deepcopy(datasets)
    shared = [str(open_dataset(path)[0]) for path in ct]
    write_seg(ids_like((18, 23, 5)), datasets, tmp_path / "seg.dcm", task="hippocampus")
    write_seg(ids_like((18, 23, 5)), ct, tmp_path / "seg.dcm", task="hippocampus")
    assert datasets == before
    assert [str(open_dataset(path)[0]) for path in ct] == shared


def test_files_of_a_series_that_is_no_image_or_not_one_series_are_refused(ct, tmp_path):
    seg = write_seg(ids_like((18, 23, 5)), ct, tmp_path / "seg.dcm", task="hippocampus")
    with pytest.raises(DicomReadError, match="is no image that can be segmented: non-image DICOM object"):
        write_seg(np.zeros((18, 23)), seg, tmp_path / "other.dcm", task="lung")
    (other,) = samples.write_samples(samples.xray(), tmp_path / "xray")
    with pytest.raises(DicomReadError, match="belong to 2 series"):
        write_seg(np.zeros((18, 23, 6)), [*ct, other], tmp_path / "other.dcm", task="lung")
    with pytest.raises(FileNotFoundError, match="there is no DICOM file"):
        write_seg(np.zeros((18, 23)), tmp_path / "missing.dcm", tmp_path / "other.dcm", task="lung")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="there is no DICOM image in"):
        write_seg(np.zeros((18, 23)), tmp_path / "empty", tmp_path / "other.dcm", task="lung")
    with pytest.raises(ValueError, match="do not say which DICOM files they come from"):
        write_seg(np.zeros((18, 23)), {"affine": np.eye(4)}, tmp_path / "other.dcm", task="lung")
    with pytest.raises(TypeError, match="must be a DICOM file, a folder"):
        write_seg(np.zeros((18, 23)), 5, tmp_path / "other.dcm", task="lung")


def xray_in_a_frame_of_reference():
    ds = samples.xray()
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = "1.2.3.4", ""
    return ds


@pytest.mark.parametrize("make", [samples.xray, xray_in_a_frame_of_reference, samples.dermoscopy, samples.endoscopy])
def test_a_picture_without_a_place_is_matched_pixel_to_pixel(tmp_path, make):
    (path,) = samples.write_samples(make(), tmp_path / "source")
    source = written(path)
    ids = ids_like((source.Columns, source.Rows), labels=1)
    seg = written(write_seg(ids, path, tmp_path / "seg.dcm", task="skin_lesion"))
    assert "FrameOfReferenceUID" not in seg
    assert seg.PatientOrientation == (source.get("PatientOrientation") or "")
    for group in (*seg.SharedFunctionalGroupsSequence, *seg.PerFrameFunctionalGroupsSequence):
        assert not {"PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence"} & set(group.dir())
    (reference,) = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert reference.SpatialLocationsPreserved == "YES"
    assert "ReferencedFrameNumber" not in reference


@pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
def test_frames_of_a_clip_are_matched_by_their_number(hd, tmp_path, kind):
    (path,) = samples.write_samples(samples.ultrasound(size=(6, 9, 7)), tmp_path / "source")
    ids = np.zeros((7, 9, 6), np.uint8)
    ids[1:3, 2:8, 1], ids[4, 5, 4] = 1, 1
    seg = written(write_seg(ids, path, tmp_path / "seg.dcm", task="polyp", kind=kind))
    groups = seg.PerFrameFunctionalGroupsSequence
    numbers = [g.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber for g in groups]
    assert numbers == [2, 5]
    assert [g.FrameContentSequence[0].FrameLabel for g in groups] == ["2", "5"]
    indices = [np.atleast_1d(g.FrameContentSequence[0].DimensionIndexValues)[-1] for g in groups]
    assert indices == [1, 2]
    pixels = hd.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_frame(
        seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID,
        [1, 2, 3, 4, 5, 6],
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(pixels[..., 0] > 0.5, ids.transpose(2, 1, 0) == 1)


def test_two_orientations_are_two_stacks_with_places_of_their_own(tmp_path):
    axial = series(np.zeros((2, 6, 5), np.int16), spacing=(1, 1), step=3)
    sagittal = series(np.zeros((3, 6, 5), np.int16), orientation=(0, 1, 0, 0, 0, -1), spacing=(1, 1), step=2)
    for k, ds in enumerate(sagittal):
        ds.SOPInstanceUID, ds.InstanceNumber = f"1.2.9.{k}", str(10 + k)
    files = write_all([*axial, *sagittal], tmp_path / "source", order=[4, 1, 0, 3, 2])
    array, meta = read(sorted(files), irregular="slices")
    ids = ids_like(array.shape, labels=1)
    seg = written(write_seg(ids, meta, tmp_path / "seg.dcm", task="lung"))
    assert "PlaneOrientationSequence" not in seg.SharedFunctionalGroupsSequence[0]
    found = []
    for group in seg.PerFrameFunctionalGroupsSequence:
        content = group.FrameContentSequence[0]
        orientation = [float(v) for v in group.PlaneOrientationSequence[0].ImageOrientationPatient]
        found.append((content.StackID, content.InStackPositionNumber, orientation == [1, 0, 0, 0, 1, 0]))
        assert list(content.DimensionIndexValues) == [1, int(content.StackID), content.InStackPositionNumber]
    assert found == [("1", 1, True), ("2", 1, False), ("2", 2, False), ("2", 3, False)]  # the first slice is empty
    sources = {written(path).SOPInstanceUID: written(path) for path in files}
    for group in seg.PerFrameFunctionalGroupsSequence:
        source = sources[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert group.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient


@pytest.mark.parametrize(("keyword", "value"), [("ImageOrientationPatient", [0] * 6), ("PixelSpacing", ["0", "0"])])
def test_slices_whose_stated_place_is_impossible_are_matched_pixel_to_pixel(tmp_path, keyword, value):
    objects = samples.ct_series(size=(3, 8, 6))
    for ds in objects:
        setattr(ds, keyword, value)
    array, meta = read(samples.write_samples(objects, tmp_path / "source"), irregular="slices")
    ids = np.ones(array.shape, np.uint8)
    seg = written(write_seg(ids, meta, tmp_path / "seg.dcm", task="lung"))
    assert "FrameOfReferenceUID" not in seg
    assert not any("PlanePositionSequence" in group for group in seg.PerFrameFunctionalGroupsSequence)
    assert {instance for _, instance, _ in frame_sources(seg)} == {ds.SOPInstanceUID for ds in objects}


# ---- repairs and privacy ---------------------------------------------------------------------------------------------


def old_archive(**changes):
    """Slices as old archives keep them, with the patient's name in one part and absent type 2 attributes."""
    attributes = {"PatientName": "SECRETNAME", "SpecificCharacterSet": "", "StudyDate": "1970.13.02", **changes}
    objects = series(np.zeros((3, 6, 5), np.int16))
    for ds in objects:
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
    return objects


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # of reading the odd date back here
def test_old_archives_are_repaired_and_the_repairs_told_without_values(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    pydicom_mode = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        objects = old_archive(StudyInstanceUID="", SeriesInstanceUID="", FrameOfReferenceUID="", PatientSex="unknown")
        files = write_all(objects, tmp_path / "source")
    finally:
        pydicom.config.settings.writing_validation_mode = pydicom_mode
    caplog.clear()
    told, ids = [], ids_like((5, 6, 3), labels=1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        path = write_seg(ids, files, tmp_path / "seg.dcm", task="lung", warn=told.append)
        write_seg(ids, files, tmp_path / "again.dcm", task="lung")
    said = " ".join([*told, caplog.text, *(str(warning.message) for warning in warned)])
    assert "StudyInstanceUID of the source is empty" in caplog.text
    assert not re.search(r"SECRET|1970|unknown", said)
    assert not any(ds.SOPInstanceUID in said for ds in objects)

    seg = written(path)
    assert (str(seg.PatientName), seg.PatientSex, seg.StudyDate) == ("SECRETNAME", "unknown", "1970.13.02")
    assert (seg.PatientBirthDate, seg.AccessionNumber, seg.StudyTime) == ("", "", "")
    assert len({seg.StudyInstanceUID, seg.ReferencedSeriesSequence[0].SeriesInstanceUID, seg.FrameOfReferenceUID}) == 3
    assert "SpecificCharacterSet" not in seg
    assert any("StudyInstanceUID" in line for line in told)
    assert any("SeriesInstanceUID" in line for line in told)
    assert any("FrameOfReferenceUID" in line for line in told)


@pytest.mark.parametrize("empty", [0, 2])
def test_one_image_without_a_frame_of_reference_takes_no_place_away(tmp_path, empty):
    objects = samples.ct_series()
    stated = objects[1].FrameOfReferenceUID
    objects[empty].FrameOfReferenceUID = ""
    told: list[str] = []
    files = samples.write_samples(objects, tmp_path / "source")
    seg = written(
        write_seg(ids_like((18, 23, 5), labels=1), files, tmp_path / "seg.dcm", task="lung", warn=told.append)
    )
    assert seg.FrameOfReferenceUID == stated
    assert all("PlanePositionSequence" in group for group in seg.PerFrameFunctionalGroupsSequence)
    assert any("FrameOfReferenceUID of some images is empty" in line for line in told)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # of setting the odd values here
def test_numbers_that_are_none_are_left_out_and_this_is_told(tmp_path, caplog):
    ds = samples.dermoscopy(jpeg=True)
    ds.LossyImageCompressionRatio, ds.PatientWeight, ds.SliceThickness = "11111", "22222", "33333"
    files = samples.write_samples([ds], tmp_path / "source")
    content = files[0].read_bytes()
    for value, malformed in ((b"11111", b"1:111"), (b"22222", b"22,22"), (b"33333", b"thick")):
        content = content.replace(value, malformed)
    files[0].write_bytes(content)
    seg = written(write_seg(np.ones((44, 32)), files[0], tmp_path / "seg.dcm", task="skin_lesion"))
    assert seg.LossyImageCompression == "01"
    assert "LossyImageCompressionRatio" not in seg
    assert "PatientWeight" not in seg
    assert "malformed attributes of the source are left out" in caplog.text


def test_empty_instance_uids_are_taken_from_the_files_own_meta_group(tmp_path):
    files = write_all(series(np.zeros((3, 6, 5), np.int16)), tmp_path / "source")
    stated = [written(path).SOPInstanceUID for path in files]
    for path in files:
        ds = written(path)
        ds.SOPInstanceUID = ""
        ds.save_as(path, enforce_file_format=False)
    told = []
    seg = written(write_seg(ids_like((5, 6, 3), labels=1), files, tmp_path / "seg.dcm", task="lung", warn=told.append))
    (listed,) = seg.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in listed.ReferencedInstanceSequence] == stated
    assert not any("SOPInstanceUID" in line for line in told)


def test_instance_uids_that_stand_nowhere_are_made_one_for_each_file(tmp_path):
    objects = series(np.zeros((3, 6, 5), np.int16))
    for ds in objects:
        ds.SOPInstanceUID = ""
    told = []
    seg = written(write_seg(ids_like((5, 6, 3), labels=1), objects, tmp_path / "a.dcm", task="lung", warn=told.append))
    (listed,) = seg.ReferencedSeriesSequence
    assert len({item.ReferencedSOPInstanceUID for item in listed.ReferencedInstanceSequence} - {""}) == 3
    assert any("SOPInstanceUID of the source is empty" in line for line in told)


@pytest.mark.parametrize(
    ("character_set", "name"), [("ISO_IR 100", "Müller^Jürgen"), ("ISO_IR 192", "山田^太郎"), (None, "Doe^Jane")]
)
@pytest.mark.parametrize("label", ["Lung", "Läsion Δ"])
def test_names_survive_whatever_characters_source_and_labels_use(tmp_path, character_set, name, label):
    objects = series(np.zeros((3, 6, 5), np.int16))
    for ds in objects:
        if character_set:
            ds.SpecificCharacterSet = character_set
        ds.PatientName, ds.StudyDescription = name, name.replace("^", " ")
    files = write_all(objects, tmp_path / "source")
    task = [{"label": label, "type": ["39607008", "SCT", "Lung"], "category": ["91723000", "SCT", "Anatomy"]}]
    seg = written(write_seg(ids_like((5, 6, 3), labels=1), files, tmp_path / "seg.dcm", task=task))
    assert (str(seg.PatientName), seg.StudyDescription) == (name, name.replace("^", " "))
    assert seg.SegmentSequence[0].SegmentLabel == label


def test_a_lossy_source_is_said_to_be_lossy(tmp_path):
    (path,) = samples.write_samples(samples.dermoscopy(jpeg=True), tmp_path / "source")
    seg = written(write_seg(ids_like((44, 32), labels=1), path, tmp_path / "seg.dcm", task="skin_lesion"))
    assert seg.LossyImageCompression == "01"
    assert seg.LossyImageCompressionMethod == written(path).LossyImageCompressionMethod


def test_orientation_that_differs_by_rounding_is_one_stack(tmp_path):
    objects = series(np.zeros((3, 6, 5), np.int16))
    objects[1].ImageOrientationPatient = decimal((1, 0.00001, 0, 0, 1, 0))
    files = write_all(objects, tmp_path / "source")
    seg = written(write_seg(ids_like((5, 6, 3), labels=1), files, tmp_path / "seg.dcm", task="lung"))
    assert "PlaneOrientationSequence" in seg.SharedFunctionalGroupsSequence[0]


def test_a_picture_with_one_channel_and_a_slice_axis_is_taken_as_a_picture(tmp_path):
    (path,) = write_all([image(np.zeros((6, 5), np.uint8), modality="DX")], tmp_path / "source")
    ids = ids_like((5, 6), labels=1)
    plain = written(write_seg(ids, path, tmp_path / "a.dcm", task="lung"))
    assert written(write_seg(ids[None, ..., None], path, tmp_path / "b.dcm", task="lung")).PixelData == plain.PixelData


def test_times_are_those_of_writing(ct, tmp_path):
    seg = written(write_seg(ids_like((18, 23, 5)), ct, tmp_path / "seg.dcm", task="hippocampus"))
    stated = datetime.datetime.strptime(f"{seg.SeriesDate}{str(seg.SeriesTime)[:6]}", "%Y%m%d%H%M%S")
    assert abs((datetime.datetime.now() - stated).total_seconds()) < 600


def test_missing_highdicom_is_said_before_anything_is_written(ct, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ImportError, match=re.escape('pip install "banet-monai[dicom]"')):
        write_seg(ids_like((18, 23, 5)), ct, tmp_path / "out" / "seg.dcm", task="hippocampus")
    assert not (tmp_path / "out").exists()


def test_frames_that_cannot_be_packed_are_refused_and_other_kinds_take_them(tmp_path):
    source = write_all(series(np.zeros((3, 1, 7), np.int16)), tmp_path / "series")
    mask = np.ones((7, 1, 3), np.uint8)
    with pytest.raises(ValueError, match="BINARY segmentation of 7 x 1 pixels cannot be packed without loss"):
        write_seg(mask, source, tmp_path / "seg.dcm", task="lung")
    seg = written(write_seg(mask, source, tmp_path / "seg.dcm", task="lung", kind="labelmap"))
    assert seg.pixel_array.sum() == 21


def test_nothing_of_the_source_gets_into_the_log(ct, tmp_path, caplog):
    with caplog.at_level(logging.DEBUG):
        write_seg(ids_like((18, 23, 5)), ct, tmp_path / "seg.dcm", task="hippocampus")
    source = written(ct[0])
    for value in (source.SOPInstanceUID, source.StudyInstanceUID, "Secret", "SECRET"):
        assert str(value) not in caplog.text
