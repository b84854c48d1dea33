"""One process alone: what several would say is tested with several (tests/integration)."""

from __future__ import annotations

from banet_monai.processes import gather, process_count, process_rank


def test_a_process_alone_is_the_first_of_one():
    assert (process_rank(), process_count()) == (0, 1)


def test_gathering_alone_gives_back_what_json_makes_of_it():
    value = {"a": [1, 0.1, None, "tab\there", "\udcff"], "b": (True,)}
    assert gather(value) == [{"a": [1, 0.1, None, "tab\there", "\udcff"], "b": [True]}]
