from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from banet_monai.commands.silence import loading

ROOT = Path(__file__).resolve().parents[3]
COMMAND = """
import atexit, gc, sys
atexit.register(lambda: print("kept from the last search:", gc.get_freeze_count() > 1000))
from banet_monai.cli import main
sys.argv = ["banet", *sys.argv[1:]]
main()
"""


def test_garbage_is_not_searched_for_while_libraries_load_and_is_afterwards() -> None:
    assert gc.isenabled()
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_library_that_cannot_be_loaded_leaves_the_search_on() -> None:
    with pytest.raises(ImportError, match="of the library"), loading():
        raise ImportError("of the library")
    assert gc.isenabled()


def test_who_has_switched_the_search_off_finds_it_off() -> None:
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["sgment"], 2)], ids=["done", "refused"])
def test_a_command_ends_without_searching_its_libraries_for_garbage(arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code
    assert "kept from the last search: True" in done.stdout
