"""Rules that choose series: by modality, description, number or UID."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from banet_monai.dicom.finding import DicomCase

__all__ = ["NOT_CHOSEN", "SeriesRule", "is_chosen", "parse_rules"]

NOT_CHOSEN = "not chosen by the series rules"
UID = re.compile(r"[0-9]+(\.[0-9]+)*")
FORM = "'modality=CT,description=*liver*,number=3,uid=1.2.3', alternatives divided by ';'"

RuleValue = str | Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesRule:
    """What a series must be like; fields that are not given do not matter, all others must match.

    Args:
        modality: code such as ``CT``, in upper or lower case.
        description: pattern for the whole SeriesDescription, in upper or lower case: ``*`` stands for any text, ``?``
            for one character, ``[ab]`` for one of several (``*liver*`` finds the word anywhere).
        number: SeriesNumber.
        uid: SeriesInstanceUID.

    Raises:
        ValueError: when no field is given, or one that can never match.
    """

    modality: str = ""
    description: str = ""
    number: int | None = None
    uid: str = ""

    def __post_init__(self) -> None:
        if not (self.modality or self.description or self.uid) and self.number is None:
            raise ValueError(f"a series rule needs at least one field; what works: {FORM}.")
        if self.uid and not UID.fullmatch(self.uid):
            raise ValueError(f"the uid of a series rule must be digits and dots, got '{self.uid}'.")

    def matches(self, case: DicomCase) -> bool:
        """Whether a case is what the rule describes; what a file leaves out never matches."""
        return (
            (not self.modality or case.modality.casefold() == self.modality.casefold())
            and (not self.description or fnmatchcase(case.description.casefold(), self.description.casefold()))
            and (self.number is None or case.series_number == self.number)
            and (not self.uid or case.series == self.uid)
        )


FIELDS = tuple(field.name for field in dataclasses.fields(SeriesRule))


def is_chosen(case: DicomCase, rules: Sequence[SeriesRule]) -> bool:
    """Whether any rule matches; without rules every case is chosen."""
    return not rules or any(rule.matches(case) for rule in rules)


def parse_rules(value: RuleValue | SeriesRule | Sequence[RuleValue | SeriesRule] | None) -> tuple[SeriesRule, ...]:
    """Rules from what a command line or a configuration gives.

    Args:
        value: text such as ``"modality=CT,number=3"`` in which ``;`` divides alternatives; a mapping such as
            ``{"description": "abdomen, late"}``, which may hold commas; a list of these, each an alternative; or None
            or nothing, for no rules.

    Raises:
        ValueError: when it cannot be understood; names the nearest field to one that does not exist.
    """
    if value is None or (not isinstance(value, SeriesRule) and not isinstance(value, int) and not value):
        return ()
    if isinstance(value, SeriesRule):
        return (value,)
    if isinstance(value, str):
        parts = [part for part in value.split(";") if part.strip()]
        return tuple(_rule(_fields_of(part)) for part in parts)
    if isinstance(value, Mapping):
        return (_rule(value),)
    if isinstance(value, Sequence):
        return tuple(rule for item in value for rule in parse_rules(item))
    raise ValueError(f"{value!r} is no series rule; what works: {FORM}.")


def _fields_of(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.strip().casefold()
        if not equals:
            raise ValueError(f"'{part.strip()}' is no part of a series rule; what works: {FORM}.")
        if name in fields:
            raise ValueError(f"a series rule states '{name}' twice; divide alternatives by ';'.")
        fields[name] = value.strip()
    return fields


def _rule(fields: Mapping[str, Any]) -> SeriesRule:
    for name in fields:
        if name not in FIELDS:
            near = difflib.get_close_matches(str(name).casefold(), FIELDS, n=1, cutoff=0.4)
            meant = f"; did you mean '{near[0]}'?" if near else "."
            raise ValueError(f"a series rule has no field '{name}'{meant} It has {', '.join(FIELDS)}.")
    if empty := [name for name, value in fields.items() if value is None or str(value).strip() == ""]:
        raise ValueError(f"the field '{empty[0]}' of a series rule is empty; give a value or leave it out.")
    given = {name: str(value).strip() for name, value in fields.items() if name != "number"}
    return SeriesRule(
        modality=given.get("modality", ""),
        description=given.get("description", ""),
        number=_number(fields["number"]) if "number" in fields else None,
        uid=given.get("uid", ""),
    )


def _number(value: object) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[+-]?\d{1,12}", str(value).strip()):
        raise ValueError(f"the number of a series rule must be a whole number, got '{value}'.")
    return int(str(value))
