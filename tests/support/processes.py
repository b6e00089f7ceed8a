"""Who is still running."""

import os
import subprocess


def group_of(leader):
    """The live processes of a process group, as numbers."""
    rows = _listed("pid=,pgid=,stat=")
    return [int(pid) for pid, group, state in rows if int(group) == leader and not state.startswith("Z")]


def children_of(parent):
    """The processes that a process has started, as numbers."""
    return [int(pid) for pid, of in _listed("pid=,ppid=") if int(of) == parent]


def _listed(columns):
    # What is preloaded, a sanitizer perhaps, is meant for Python: `ps` may hang with it.
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    found = subprocess.run(["ps", "-eo", columns], capture_output=True, text=True, check=True, env=plain)
    return [line.split() for line in found.stdout.splitlines()]
