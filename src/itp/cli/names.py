"""Names that are chosen from a list."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from itp.cli import UsageError


def check_name(option: str, name: str, known: Sequence[str]) -> None:
    """UsageError unless the name is known; the text says which ones are, and which may be meant."""
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"{option} {name}: {hint}there are {', '.join(known)}")
