import re
import sys

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from banet_monai.dicom import segments as module
from banet_monai.dicom.segments import SEGMENTS, Code, Segment, described, load_highdicom, segments_of, stated
from banet_monai.report.overlays import PALETTE

ORGAN = ["91723000", "SCT", "Anatomical Structure"]
LIVER = {"label": "Liver", "type": ["10200004", "SCT", "Liver"], "category": ORGAN}


@pytest.fixture(scope="module")
def hd():
    return pytest.importorskip("highdicom", exc_type=ImportError)


@pytest.mark.parametrize("task", ["skin_lesion", "polyp", "lung", "hippocampus"])
def test_each_task_of_the_bundle_is_described_with_snomed_ct(task):
    for segment in segments_of(task):
        assert {code.scheme for code in (segment.type, segment.category)} == {"SCT"}


def test_codes_are_those_of_the_standards_tables(hd):
    # Polyp (41329004, a morphology) stands in no table of PS3.16, which pydicom carries.
    found = {
        (code.value, code.meaning)
        for task in SEGMENTS.values()
        for segment in task
        for code in (segment.type, segment.category, segment.modifier, segment.region)
        if code is not None
    }
    sct = codes.SCT
    known = (sct.AnatomicalStructure, sct.MorphologicallyAbnormalStructure, sct.SkinLesion, sct.Skin, sct.Lung)
    known += (sct.Hippocampus, sct.Anterior, sct.Posterior)
    assert found == {(code.value, code.meaning) for code in known} | {("41329004", "Polyp")}
    assert [part.modifier.meaning for part in SEGMENTS["hippocampus"]] == ["Anterior", "Posterior"]


def test_colours_are_those_of_the_overlays():
    for task in SEGMENTS.values():
        assert [segment.color for segment in task] == list(PALETTE[: len(task)])


def test_a_configuration_describes_segments_as_mappings():
    given = [{**LIVER, "color": [1, 2, 3]}, {**LIVER, "label": "Left", "modifier": ["7771000", "SCT", "Left"]}]
    liver, left = segments_of(given)
    assert liver == Segment("Liver", Code("10200004", "SCT", "Liver"), module.ANATOMY, color=(1, 2, 3))
    assert left.modifier == Code("7771000", "SCT", "Left")
    (named,) = segments_of([{**LIVER, "type": {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}}])
    assert named.type == liver.type


def test_segments_are_taken_as_they_are():
    (polyp,) = SEGMENTS["polyp"]
    assert segments_of([polyp]) == segments_of(polyp) == (polyp,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("skin_lesions", r"no task 'skin_lesions'; did you mean 'skin_lesion'\? Known tasks: skin_lesion, polyp"),
        ([], "at least one segment"),
        ([{**LIVER, "colour": [1, 2, 3]}], r"segment 1 has an unknown field 'colour'; did you mean 'color'\?"),
        ([LIVER, {"label": "Liver"}], "segment 2 lacks type, category"),
        ([{**LIVER, "type": ["10200004", "SCT"]}], r"the type of segment 1 must be a code of three parts"),
        ([{**LIVER, "type": "liver"}], r"the type of segment 1 must be a code of three parts"),
        (["liver"], "segment 1 must be a mapping"),
        ([{**LIVER, "label": "x" * 65}], "label must be 1 to 64 printable characters"),
        ([{**LIVER, "label": "a\\b"}], "without a backslash"),
        ([{**LIVER, "type": ["1" * 17, "SCT", "Liver"]}], "type value must be 1 to 16"),
        ([{**LIVER, "color": [0, 0, 256]}], "three numbers from 0 to 255"),
    ],
)
def test_what_is_wrong_with_a_description_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        segments_of(given)


def test_items_of_the_segment_sequence_name_the_algorithm_and_number_from_one(hd):
    items = described(SEGMENTS["hippocampus"], version="1.2.3")
    assert [item.SegmentNumber for item in items] == [1, 2]
    for item in items:
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert (item.SegmentAlgorithmName, algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (
            "BA-Net",
            "BA-Net",
            "1.2.3",
        )
        family = algorithm.AlgorithmFamilyCodeSequence[0]
        assert (family.CodeValue, family.CodingSchemeDesignator) == ("123110", "DCM")
        assert "TrackingUID" not in item
    modifiers = [item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence for item in items]
    assert [modifier[0].CodeValue for modifier in modifiers] == ["255549009", "255551008"]


def test_tracking_gives_each_segment_an_identifier_of_its_own(hd):
    items = described(SEGMENTS["hippocampus"], version="1", tracking=True)
    assert len({item.TrackingUID for item in items}) == len({item.TrackingID for item in items}) == 2


@pytest.mark.parametrize("task", SEGMENTS)
def test_what_is_described_reads_back(hd, task):
    back = tuple(stated(item) for item in described(SEGMENTS[task], version="1"))
    assert [(s.label, s.type, s.category, s.modifier, s.region) for s in back] == [
        (s.label, s.type, s.category, s.modifier, s.region) for s in SEGMENTS[task]
    ]
    for one, other in zip(back, SEGMENTS[task], strict=True):  # colours go through 16-bit CIELab
        assert one.color == pytest.approx(other.color, abs=2)


def test_reading_takes_items_that_leave_things_out_or_write_too_much():
    item = Dataset()
    item.SegmentNumber = 1
    assert stated(item) == Segment("not stated", module.UNKNOWN, module.UNKNOWN)
    item.SegmentLabel = "long " * 12
    assert stated(item).label == ("long " * 12)[:64].strip()


def test_missing_highdicom_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ImportError, match=re.escape('pip install "banet-monai[dicom]"')):
        load_highdicom()


def test_old_pydicom_says_what_to_install(monkeypatch):
    monkeypatch.setattr(pydicom, "__version__", "2.4.4")
    with pytest.raises(ImportError, match=r"pydicom 2\.4\.4 is too old here.*banet-monai\[dicom\]"):
        load_highdicom()
