"""What DICOMweb servers answer in DICOM JSON (PS3.18 annex F), read without trust in its form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

__all__ = [
    "DUPLICATE",
    "INSTANCE_NUMBER",
    "SERIES_UID",
    "SOP_UID",
    "failure_codes",
    "failure_words",
    "first_value",
    "instance_count",
    "integer",
    "items",
    "modality",
    "names_instance",
    "store_reply",
]

SERIES_UID, SOP_UID, INSTANCE_NUMBER = "0020000E", "00080018", "00200013"
MODALITY, NUMBER_OF_INSTANCES = "00080060", "00201209"
FAILED, REFERENCED, REFERENCED_UID, FAILURE_REASON = "00081198", "00081199", "00081155", "00081197"
CODE = re.compile(r"[A-Z0-9]{1,16}")
DUPLICATE = 0x0111  # FailureReason: an object with this UID is there already (PS3.7 annex C)
FAILURES = {
    0x0110: "it failed to process it",
    0x0111: "it says that it has it, and does not show it",
    0x0117: "its UID is not valid there",
    0x0122: "it does not take this kind of object",
    0x0124: "this user or token may not store",
    0xC122: "it does not take this transfer syntax",
}
FAILURE_GROUPS = {0xA7: "it has no space or memory left", 0xA9: "the object does not fit its SOP class"}

Item = dict[str, Any]


def items(answer: Any) -> list[Item]:
    """The objects that a search lists.

    Raises:
        ValueError: when the answer is no list of objects.
    """
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        raise ValueError("no list of objects")
    return answer


def first_value(item: Item, tag: str) -> str | int | float:
    """The first value of an attribute, "" where there is none."""
    values = _values(item, tag)
    return values[0] if values and isinstance(values[0], (str, int, float)) else ""


def integer(value: str | int | float, default: int = 0) -> int:
    """A value as an integer; it may come as a number or as a string."""
    try:
        return int(value)
    except (ValueError, OverflowError):
        return default


def instance_count(item: Item) -> int | None:
    """How many instances a series has, None where the server does not say."""
    number = integer(first_value(item, NUMBER_OF_INSTANCES), -1)
    return number if number >= 0 else None


def modality(item: Item) -> str:
    """Code of the modality, "unknown" where it is absent or no code."""
    value = str(first_value(item, MODALITY))
    return value if CODE.fullmatch(value) else "unknown"


def store_reply(response: requests.Response) -> Item:
    """What a server says of objects that were sent; {} where it says it otherwise than in JSON."""
    try:
        reply = response.json()
    except (ValueError, RecursionError):
        return {}
    if isinstance(reply, list):
        reply = reply[0] if reply else {}
    return reply if isinstance(reply, dict) else {}


def names_instance(reply: Item, sop: str) -> bool:
    """Whether a reply lists an instance as stored."""
    return any(
        first_value(item, REFERENCED_UID) == sop for item in _values(reply, REFERENCED) if isinstance(item, dict)
    )


def failure_codes(reply: Item) -> list[int]:
    """The FailureReason of each object that a reply lists as not stored."""
    return [integer(first_value(item, FAILURE_REASON)) for item in _values(reply, FAILED) if isinstance(item, dict)]


def failure_words(code: int) -> str:
    """A FailureReason in words (PS3.18 table I.2-2, PS3.4 annex B.2.3)."""
    other = "it cannot understand it" if code >> 12 == 0xC else "for a reason that it does not explain"
    return f"{FAILURES.get(code) or FAILURE_GROUPS.get(code >> 8, other)} (code {code:04X})"


def _values(item: Item, tag: str) -> list[Any]:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
