"""Who is still running."""

import os
import subprocess


def group_of(leader):
    """The live processes of a process group, as numbers."""
    # What is preloaded, a sanitizer perhaps, is meant for Python.
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = ["ps", "-eo", "pid=,pgid=,stat="]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    rows = [line.split() for line in found.stdout.splitlines()]
    return [int(pid) for pid, group, state in rows if int(group) == leader and not state.startswith("Z")]
