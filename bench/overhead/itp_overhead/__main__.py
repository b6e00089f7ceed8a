"""``python -m itp_overhead``, which ``itp bench`` runs."""

import os
import sys

from itp._util.command import exit_code
from itp._util.extras import extra

PROG = os.environ.get("ITP_PROG", "python -m itp_overhead")


def main() -> int:
    """Measure; returns the exit code."""
    with extra("the benchmark needs", "cli"):
        from itp_overhead import cli
    return cli.main(prog=PROG)


if __name__ == "__main__":
    sys.exit(exit_code(PROG, main))
