"""``python -m itp_overhead``: what ``itp bench`` becomes."""

import os
import sys

from itp_overhead.cli import MODULE, main

if __name__ == "__main__":
    sys.exit(main(prog=os.environ.get("ITP_PROG", MODULE)))
