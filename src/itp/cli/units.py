"""Quantities as people read them."""

from __future__ import annotations


def size_text(size_bytes: float) -> str:
    """A size in the decimal unit that leaves one to three digits before the point."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def time_text(duration_s: float) -> str:
    """A duration in milliseconds or seconds."""
    return f"{duration_s * 1e3:.1f} ms" if duration_s < 1.0 else f"{duration_s:.2f} s"
