"""Text from outside, fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with a question mark for every control character, line break and broken encoding in it."""
    return "".join(c if c.isprintable() else "?" for c in text)
