"""What a run says at its end: failures and warnings one line each, the counts, and where the results lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from banet_monai.commands.grammar import (
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    print_error,
    print_failure,
    print_warning,
    printable,
    shown,
)
from banet_monai.commands.running import Outcome

__all__ = ["counted", "say_outcome"]

NAMED_AT_MOST = 3  # cases in one warning that concerns several; all of them stand in the manifest


def say_outcome(outcome: Outcome, *, quiet: bool) -> int:
    """Print the end of a run; quiet leaves failures and warnings.

    Returns:
        The exit code: 0 when all is done, 1 when something failed, 130 after Ctrl-C.
    """
    for text, names in _by_text(outcome.warnings).items():
        named = ", ".join(printable(name) for name in names[:NAMED_AT_MOST])
        more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
        print_warning(f"{named}{more}: {text}")
    if outcome.interrupted or outcome.broken_off:
        return _say_end_before_its_time(outcome)
    for name, reason in sorted(outcome.failures.items()):
        print_failure(name, reason)
    if not quiet:
        click.echo(counted(outcome.counts))
        click.echo(f"results and manifest.json: {shown(outcome.output_dir)}")
    return SOME_FAILED if outcome.failures else DONE


def counted(counts: Mapping[str, int]) -> str:
    """``12 done, 3 skipped, 1 failed``."""
    return ", ".join(f"{number} {word}" for word, number in counts.items())


def _say_end_before_its_time(outcome: Outcome) -> int:
    total = outcome.counts["done"] + outcome.counts["failed"]
    folder = shown(outcome.output_dir)
    kept = f"{outcome.counts['done']} of {total} cases are done and kept in {folder} (see manifest.json)"
    if outcome.interrupted:
        print_error(f"interrupted; {kept}.")
        return INTERRUPTED
    print_error(f"the run broke off: {outcome.broken_off.rstrip('.')}; {kept}.")
    return SOME_FAILED


def _by_text(warnings: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, texts in sorted(warnings.items()):
        for text in texts:
            names.setdefault(text, []).append(name)
    return names
