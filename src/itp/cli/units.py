"""Quantities as people and programs read them."""

from __future__ import annotations

import json
import math
from typing import Any


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


def json_text(value: Any) -> str:
    """JSON in one line, with null for NaN and infinities, which JSON does not know."""
    return json.dumps(_known(value), allow_nan=False, default=str)


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
