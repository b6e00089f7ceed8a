"""Text for people: characters from outside, and errors of the system."""

from __future__ import annotations

import os


def printable(text: str) -> str:
    """The text with a question mark for every control character, line break and broken encoding in it."""
    return "".join(c if c.isprintable() else "?" for c in text)


def system_error(error: OSError) -> str:
    """The file, if the error names one, and what is wrong with it."""
    reason = error.strerror or str(error) or type(error).__name__
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"
