"""What every command does alike: exit codes, one line for a user's mistake, names from a list.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import difflib
import io
import os
import sys
from collections.abc import Callable, Sequence

from itp._util.terminal import printable
from itp.errors import ItpError


class UsageError(Exception):
    """Arguments that parse but make no sense together; exit code 2."""


def exit_code(name: str, run: Callable[[], int]) -> int:
    """Run a command; what ends it early, and is not a mistake of ours, becomes a line under its name."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As standard error has it: what the terminal's encoding lacks must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = run()
        sys.stdout.flush()
    except UsageError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter's last flush must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ItpError, OSError) as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return code


def check_name(option: str, name: str, known: Sequence[str]) -> None:
    """UsageError unless the name is known; the text says which ones are, and which may be meant."""
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"{option} {name}: {hint}there are {', '.join(known)}")
