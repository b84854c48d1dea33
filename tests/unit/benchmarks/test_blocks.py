"""Blocks of a document are written from results."""

import pytest

from benchmarks.blocks import fill_blocks

DOCUMENT = "before\n<!-- speed: one -->\nstale\n<!-- end -->\n<!-- other: one -->\nkept\n<!-- end -->\nafter\n"


def test_a_block_is_replaced_and_the_rest_stays():
    text = fill_blocks(DOCUMENT, "speed", {"one": "new"})
    assert text == DOCUMENT.replace("\nstale\n", "\n\nnew\n\n")
    assert fill_blocks(text, "speed", {"one": "new"}) == text


def test_figures_that_look_like_a_reference_to_a_group_are_written_as_they_are():
    assert "1\\1 \\g<name>" in fill_blocks(DOCUMENT, "speed", {"one": "1\\1 \\g<name>"})


def test_a_document_without_a_block_or_with_an_unknown_one_is_refused():
    with pytest.raises(ValueError, match="the document has no block '<!-- speed: NAME"):
        fill_blocks("text", "speed", {"one": "new"})
    with pytest.raises(ValueError, match="asks for the block 'speed: one', the results give: three, two"):
        fill_blocks(DOCUMENT, "speed", {"two": "", "three": ""})
