"""Files that are written whole, or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """As `write_bytes`, in UTF-8; what that cannot hold, as of undecodable file names, by its code."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: str | os.PathLike[str], *pieces: bytes | memoryview) -> None:
    """Write a file beside its place, flush it to the disk and move it there; errors name its place.

    A symbolic link stays one: the file it leads to is replaced. What is no regular file, as ``/dev/null`` or
    a named pipe, is written to as it is.
    """
    try:
        if _is_special(path):
            with open(path, "wb") as file:
                file.writelines(pieces)
        else:
            _write_beside(Path(os.path.realpath(path)), pieces)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _is_special(path: str | os.PathLike[str]) -> bool:
    """Whether there is something that is no regular file; a directory is for `os.replace` to refuse."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _write_beside(target: Path, pieces: Iterable[bytes | memoryview]) -> None:
    # The name is short: one that the target has no room beside must not fail for its length.
    descriptor, temporary = tempfile.mkstemp(prefix=".itp-", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a report gets the permissions any new file would.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
