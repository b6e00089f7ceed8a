"""Who is still running, and what a forked child answers."""

import os
import pickle
import signal
import subprocess
import traceback


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


def in_child(call):
    """What a call returns in a forked child; the child has half a minute."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            os.close(reading)
            with open(writing, "wb") as answer:
                pickle.dump(call(), answer)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as answer:
        content = answer.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return pickle.loads(content)
