"""Commands of ``python -m benchmarks.accuracy``: run, tables, threshold, teach, failures, background, parts."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = ("run", "tables", "threshold", "teach", "failures", "background", "parts")


def main() -> int:
    """Hand the rest of the command line to the command."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print(f"usage: python -m benchmarks.accuracy {{{','.join(COMMANDS)}}} ...", file=sys.stderr)
        return 2
    code: int = import_module(f"benchmarks.accuracy.{sys.argv[1]}").main(sys.argv[2:])
    return code


if __name__ == "__main__":
    sys.exit(main())
