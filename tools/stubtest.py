"""Check every stub of the compiled core against the module it describes."""

import sys
from pathlib import Path

from mypy.stubtest import parse_options, test_stubs

root = Path("src")
names = sorted(
    ".".join(path.relative_to(root).with_suffix("").parts) for path in root.glob("itp/_core/**/*.pyi")
)
if not names:
    sys.exit("no stubs found: run this from the repository's root")
allowlist = str(Path(__file__).with_name("stubtest-allow.txt"))
sys.exit(test_stubs(parse_options([*names, "--allowlist", allowlist, "--concise"])))
