from pathlib import Path

import pytest

from banet_monai.dicom.finding import DicomCase
from banet_monai.dicom.selection import SeriesRule, is_chosen, parse_rules

LIVER = DicomCase((Path("a"),), "CT", 3, "Liver venous 2mm", series="1.2.3", study="1.9")


@pytest.mark.parametrize("nothing", [None, "", " ; ", [], (), {}])
def test_no_rules_choose_everything(nothing):
    assert parse_rules(nothing) == ()
    assert is_chosen(LIVER, parse_rules(nothing))


@pytest.mark.parametrize(
    "value",
    [
        "modality=CT,number=3",
        " Modality = CT , number = +3 ;",
        {"modality": "CT", "number": 3},
        [{"modality": "CT", "number": "3"}],
        SeriesRule(modality="CT", number=3),
    ],
)
def test_rule_is_understood_in_each_form(value):
    assert parse_rules(value) == (SeriesRule(modality="CT", number=3),)


@pytest.mark.parametrize("value", ["number=3;uid=1.2", ["number=3", {"uid": "1.2"}], [["number=3"], "uid=1.2"]])
def test_semicolons_and_lists_give_alternatives(value):
    assert parse_rules(value) == (SeriesRule(number=3), SeriesRule(uid="1.2"))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("modality=ct", True),
        ("modality=MR", False),
        ("description=*liver*", True),
        ("description=liver", False),
        ("description=LIVER VENOUS ?mm", True),
        ("description=*[ab]mm", False),
        ("number=3", True),
        ("number=4", False),
        ("uid=1.2.3", True),
        ("uid=1.2", False),
        ("uid=1.9", False),
        ("modality=CT,number=3,description=*venous*,uid=1.2.3", True),
        ("modality=CT,number=4", False),
        ("modality=MR;number=3", True),
    ],
)
def test_all_fields_of_one_of_the_rules_must_match(rule, expected):
    assert is_chosen(LIVER, parse_rules(rule)) is expected


@pytest.mark.parametrize("rule", ["modality=CT", "description=*", "number=0", "uid=0"])
def test_what_a_file_leaves_out_is_only_matched_by_any_text(rule):
    assert is_chosen(DicomCase((Path("a"),)), parse_rules(rule)) is (rule == "description=*")


def test_mapping_may_hold_commas():
    assert parse_rules({"description": "abdomen, late; 2"}) == (SeriesRule(description="abdomen, late; 2"),)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("modalty=CT", "no field 'modalty'; did you mean 'modality'"),
        ("xyz=CT", r"no field 'xyz'\. It has modality, description, number, uid"),
        ({"nr": 3}, "no field 'nr'"),
        ("CT", "'CT' is no part of a series rule; what works: 'modality=CT"),
        ("description=a,b", "'b' is no part of a series rule"),
        ("modality=", "the field 'modality' of a series rule is empty"),
        ({"number": None}, "the field 'number' of a series rule is empty"),
        ("number=three", "must be a whole number, got 'three'"),
        ({"number": True}, "must be a whole number, got 'True'"),
        ("number=3.5", "must be a whole number"),
        ("uid=1.2.x", "must be digits and dots, got '1.2.x'"),
        ("number=3,number=4", "states 'number' twice"),
        (3, "3 is no series rule"),
    ],
)
def test_rule_that_cannot_be_understood_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        parse_rules(value)


def test_rule_without_a_field_is_refused():
    with pytest.raises(ValueError, match="at least one field"):
        SeriesRule()
