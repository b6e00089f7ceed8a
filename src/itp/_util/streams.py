"""Standard streams that never end a command: closed ones are opened on /dev/null, writes raise nothing."""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from itp._util.terminal import system_error

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT, _STDERR = 1, 2
_ERROR_HANDLER = "itp-plain"
# What ITP prints and many encodings lack, as typewriters have it.
_PLAIN = {
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{NO-BREAK SPACE}": " ",
    "\N{HORIZONTAL ELLIPSIS}": "~",
    "\N{MICRO SIGN}": "u",
}


class Output(io.RawIOBase):
    """A standard stream's descriptor, written without ever raising OSError.

    After a failure the rest is dropped, so that what arrived has no holes. A reader that has gone, as that of
    a closed pipe, wants no more; any other failure of standard output is reported once, on standard error.

    Attributes
    ----------
    lost : bool
        Something was dropped that somebody may still want, as on a full disk.
    """

    def __init__(self, descriptor: int, *, is_open: bool = True) -> None:
        super().__init__()
        self.name = f"<{'stdout' if descriptor == _STDOUT else 'stderr'}>"
        self.lost = False
        self._descriptor = descriptor
        self._is_open = is_open

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of the data, or drop it; returns its size either way."""
        view = memoryview(data).cast("B")
        size = len(view)
        try:
            while self._is_open and view:
                try:
                    view = view[os.write(self._descriptor, view) :]
                except BlockingIOError:  # another process has made the descriptor non-blocking
                    select.select([], [self._descriptor], [])
        except ConnectionError:
            self._is_open = False
        except OSError as error:
            self._is_open = False
            self.lost = True
            if self._descriptor == _STDOUT:
                print(f"itp: standard output is incomplete: {system_error(error)}", file=sys.stderr)
        except KeyboardInterrupt:
            # A reader that takes nothing now would hold up the exit.
            self._is_open = bool(select.select([], [self._descriptor], [], 0)[1])
            raise
        return size


@contextmanager
def standard_streams() -> Iterator[Output]:
    """Run a command with standard streams whose failures are not the command's.

    Descriptors 0 to 2 that were closed are opened on /dev/null: the next file to be opened would take their
    place, and receive what is printed. Characters that a stream's encoding lacks are replaced. Streams that
    another program has put in place of its own, as tests do, stay; so do those of a block around this one.

    Yields
    ------
    Output
        Standard output; `lost` is final when the block is left.
    """
    _open_closed()
    codecs.register_error(_ERROR_HANDLER, _plain)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _guarded(sys.stdout, _STDOUT), _guarded(sys.stderr, _STDERR)
    raw = _raw(sys.stdout)
    try:
        yield raw if isinstance(raw, Output) else Output(_STDOUT, is_open=False)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)


def _guarded(stream: TextIO | None, descriptor: int) -> TextIO:
    """The stream on an `Output`; as it is, if it is no standard stream."""
    if stream is None:
        # Closed when Python started. The descriptor may be another file's by now: nothing is written to it.
        return io.TextIOWrapper(Output(descriptor, is_open=False), encoding="utf-8")
    if not (isinstance(stream, io.TextIOWrapper) and isinstance(_raw(stream), io.FileIO)):
        return stream
    output = Output(descriptor)
    return io.TextIOWrapper(
        output if stream.write_through else io.BufferedWriter(output),
        encoding=stream.encoding,
        errors=_ERROR_HANDLER,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: TextIO) -> object:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Typography that an encoding lacks in ASCII; anything else as standard error has it, by its code."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    shown = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters)
    return "".join(shown), error.end
