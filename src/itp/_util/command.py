"""Shared by all commands: exit codes, one line for a user's mistake, names from a list.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A closed standard stream, or a reader that has
gone, changes none of them; output that was lost, as on a full disk, makes 1 of 0.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence

from itp._util.streams import standard_streams
from itp._util.terminal import printable, system_error
from itp.errors import ItpError


class UsageError(Exception):
    """Arguments that parse but make no sense together; exit code 2."""


def exit_code(name: str, run: Callable[[], int]) -> int:
    """Run a command and return its exit code; a failure that is no defect becomes a line under its name."""
    with standard_streams() as output:
        code = _run(name, run)
    return 1 if code == 0 and output.lost else code


def _run(name: str, run: Callable[[], int]) -> int:
    try:
        code = run()
        sys.stdout.flush()
    except SystemExit as left:  # argparse has printed the help, the version or what is wrong
        return left.code if isinstance(left.code, int) else 1
    except UsageError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"{name}: out of memory: {printable(str(error))}", file=sys.stderr)
        return 1
    except ItpError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{name}: {printable(system_error(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return code


def check_name(option: str, name: str, known: Sequence[str]) -> None:
    """UsageError unless the name is known; the text lists the known ones, and one that may be meant."""
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"{option} {name}: {hint}there are {', '.join(known)}")
