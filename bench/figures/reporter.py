"""Report outcomes while the disk under the experience log blocks: a program that prints JSON.

``slow_disk`` passes the text of this file to a fresh interpreter with the blocking disk preloaded.
"""

import ctypes
import json
import sys
import time

import itp

STREAMS = ((200, 10), (100, 40), (50, 80), (20, 150))


def main(folder: str, seconds: float, per_s: float) -> None:
    """Decide and report at a steady rate."""
    disk = ctypes.CDLL(None)
    disk.slow_disk_blocked.restype = ctypes.c_long
    clock = time.perf_counter_ns
    partitioner = itp.TaskPartitioner(model="dqn_v1", experience_log=folder)
    for stream, (bandwidth_mbps, latency_ms) in enumerate(STREAMS):
        partitioner.update_stream(
            stream, bandwidth_mbps=bandwidth_mbps, latency_ms=latency_ms, success_rate=0.99
        )
    task = itp.Task("report", 100 * 2**20, 0.8)
    for _ in range(1000):
        partitioner.report_outcome(partitioner.partition_task(task), 300.0, 1.0, True)
    disk.slow_disk_arm(folder.encode())
    taken_ns = []
    interval_ns = int(1e9 / per_s)
    stop = clock()
    end = stop + int(seconds * 1e9)
    while stop < end:
        due = stop + interval_ns
        decision = partitioner.partition_task(task)
        while (left_ns := due - clock()) > 0:
            time.sleep(left_ns * 1e-9)
        start = clock()
        partitioner.report_outcome(decision, 300.0, 1.0, True)
        stop = clock()
        taken_ns.append(stop - start)
    disk.slow_disk_arm(None)
    blocked = disk.slow_disk_blocked()
    partitioner.close()
    print(json.dumps({"taken_ns": taken_ns, "blocked": blocked}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
