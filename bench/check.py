"""The figures that ITP is held to, by one command; docs/bench.md says which there are.

python bench/check.py [NAME ...] [--quick] [--json]
python bench/check.py core --baseline WHEEL_OR_VENV
"""

import sys

from figures.cli import main

if __name__ == "__main__":
    sys.exit(main())
