"""Yes or no from a command line, where ``--resume false`` arrives as text and text is true."""

from __future__ import annotations

__all__ = ["as_flag"]

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
