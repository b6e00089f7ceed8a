"""``python -m itp_training``."""

import os
import sys

from itp_training.cli import MODULE, main

if __name__ == "__main__":
    # `itp train` becomes this process, and is what its user typed.
    sys.exit(main(prog=os.environ.get("ITP_PROG", MODULE)))
