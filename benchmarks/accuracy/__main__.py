"""``python -m benchmarks.accuracy run``, ``tables``, ``threshold`` and ``teach``."""

from __future__ import annotations

import sys

COMMANDS = ("run", "tables", "threshold", "teach")


def main() -> int:
    """Hand the rest of the command line to the command."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print(f"usage: python -m benchmarks.accuracy {{{','.join(COMMANDS)}}} ...", file=sys.stderr)
        return 2
    if sys.argv[1] == "run":
        from benchmarks.accuracy.run import main as command
    elif sys.argv[1] == "threshold":
        from benchmarks.accuracy.threshold import main as command
    elif sys.argv[1] == "teach":
        from benchmarks.accuracy.teach import main as command
    else:
        from benchmarks.accuracy.tables import main as command
    return command(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
