"""Libraries behind a terminal: loaded quickly, without their logs, without words of theirs that may quote files."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from banet_monai.commands.grammar import DEBUG_VARIABLE, debugging

__all__ = ["in_words", "loading", "quiet_libraries"]


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No logs and warnings of any library, which may quote what files hold; all of them with BANET_DEBUG=1."""
    if debugging():
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        yield
        return
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def loading() -> Iterator[None]:
    """While libraries load, Python looks for no garbage: there is none, and to look takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def in_words(error: BaseException) -> str:
    """A message of this package; of another library's error only its kind and place."""
    from banet_monai.data.failures import explanation

    text = explanation(error, {})
    return f"{text}; {DEBUG_VARIABLE}=1 shows more." if type(error).__name__ in text else text
