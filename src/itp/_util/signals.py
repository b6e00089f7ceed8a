"""Ctrl-C and SIGTERM: both raise KeyboardInterrupt, once."""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM raise KeyboardInterrupt, and ignore all later ones.

    Later ones stay ignored after the block, until the process ends: the interrupted code still has to clean
    up, report the interruption and choose the exit code. If a library turns the KeyboardInterrupt into
    another exception, as NumPy does while it compares dtypes, the block raises KeyboardInterrupt anyway.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupted = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            atexit.register(_ignore)
            raise KeyboardInterrupt

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    except Exception as error:
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            if not interrupted and signal.getsignal(number) is interrupt:
                signal.signal(number, handler)


def _ignore() -> None:
    # At exit the interpreter restores the default handlers: a late signal would decide the exit code.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def held_back() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM to the end of this block; in other threads than the main one, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {
        number: signal.signal(number, lambda given, _frame: arrived.append(given))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
