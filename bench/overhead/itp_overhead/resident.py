"""Memory of a process that decides: a program that measures itself and prints JSON.

``memory`` passes the text of this file to a fresh interpreter, so that nothing else is loaded in it.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np


def resident_bytes() -> int:
    """Resident set of this process; its peak where the system tells nothing else."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))


def main(model: str, experiences: int, decisions: int, seconds: float) -> None:
    """Load one part after the other, then decide for a while."""
    resident = [resident_bytes()]

    import itp

    resident.append(resident_bytes())
    partitioner = itp.TaskPartitioner(model=model)
    for stream in range(4):
        partitioner.update_stream(stream, 200.0 / (stream + 1), 10.0 * (stream + 1), None, 0.99)
    task = itp.Task("bench", 100 * 2**20, 0.8)

    def decide(n: int) -> None:
        for _ in range(n):
            partitioner.report_outcome(partitioner.partition_task(task), 300.0, 1.0, True)

    decide(1000)
    resident.append(resident_bytes())
    buffer = itp.PrioritizedReplayBuffer(experiences, state_dim=20)
    state = np.ones(20, np.float32)
    for _ in range(experiences):
        buffer.add(state=state, action=0, reward=1.0, next_state=state, done=False)
    resident.append(resident_bytes())
    blocks, before = sys.getallocatedblocks(), resident_bytes()
    made, end_s = 0, time.monotonic() + seconds
    while made < decisions and time.monotonic() < end_s:
        n = min(1000, decisions - made)
        decide(n)
        made += n
    growth = {
        "decisions": made,
        "blocks": sys.getallocatedblocks() - blocks,
        "resident_bytes": resident_bytes() - before,
    }
    print(json.dumps({"resident_bytes": resident, "engine": partitioner.engine, "growth": growth}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
