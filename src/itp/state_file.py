"""Files of what a partitioner has learnt: JSON with a checksum, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from itp._core.decider import Decider
from itp._core.learnt import learnt, restore
from itp._util.files import write_text
from itp._util.messages import brief
from itp.errors import StateError

FORMAT = "itp state"
VERSION = 1
MAX_BYTES = 2**20
"""A file has some kilobytes."""


def save_state(path: str | os.PathLike[str], decider: Decider) -> None:
    """Write what `decider` has learnt.

    Raises
    ------
    StateError
        The file cannot be written; what stood there stands.
    """
    state = learnt(decider)
    whole = {"format": FORMAT, "version": VERSION, "sha256": _sha256(state), "state": state}
    try:
        write_text(path, json.dumps(whole, indent=1, allow_nan=False) + "\n")
    except (OSError, ValueError) as error:
        raise StateError(f"{os.fspath(path)}: the state cannot be written: {_reason(error)}") from error


def restore_state(path: str | os.PathLike[str], decider: Decider) -> bool:
    """Have `decider` start with what a file holds; False, and a fresh start, where there is no file.

    Raises
    ------
    StateError
        The file cannot be read, is damaged, of a later version, or of another site. Nothing is changed.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise StateError(f"{name}: the state cannot be read: {_reason(error)}") from error
    try:
        restore(decider, _checked(content))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise StateError(
            f"{name}: no state to start with: {brief(error)}; remove the file, or leave out restore=, "
            "for a fresh start"
        ) from error
    return True


def _checked(content: bytes) -> Any:
    """The state that a file's content holds; ValueError where that is damaged."""
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    whole = json.loads(content)
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ValueError("not a state file")
    version = whole.get("version")
    if version != VERSION:
        raise ValueError(f"of version {brief(repr(version), 40)}; this itp reads version {VERSION}")
    state = whole.get("state")
    if whole.get("sha256") != _sha256(state):
        raise ValueError("the checksum does not match: the file is damaged")
    return state


def _sha256(state: Any) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _reason(error: OSError | ValueError) -> str:
    return brief(getattr(error, "strerror", None) or error)
