"""Options that arrive as text: yes or no, where ``--resume false`` is text and so true, and numbers."""

from __future__ import annotations

import math

__all__ = ["as_flag", "as_number", "as_whole"]

FLAGS = {"true": True, "false": False}


def as_flag(value: bool | str, name: str) -> bool:
    """``value`` as a boolean.

    Args:
        value: a boolean, or "true" or "false" in any case.
        name: of the option, for the message.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, bool):
        return value
    flag = FLAGS.get(str(value).lower())
    if flag is None:
        raise ValueError(f"{name} must be true or false, got '{value}'.")
    return flag


def as_number(value: float | str, name: str) -> float:
    """``value`` as a number; text that is one works too, as annotation clients send it.

    Args:
        value: a number, or a number in words.
        name: of the option, for the message.

    Raises:
        ValueError: for anything else, NaN and infinities among it.
    """
    try:
        number = value if isinstance(value, int | float) else float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number, got {value!r}.") from error
    if not math.isfinite(number):  # nothing is at or above NaN: every mask would be empty
        raise ValueError(f"{name} must be a finite number, got {number}.")
    return number


def as_whole(value: float | str, name: str, *, least: int = 1) -> int:
    """``value`` as a whole number of at least ``least``; text that is one works too.

    Args:
        value: a number, or a number in words.
        name: of the option, for the message.
        least: the smallest that is taken.

    Raises:
        ValueError: for anything else.
    """
    number = as_number(value, name)
    if number != int(number) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value}.")
    return int(number)
