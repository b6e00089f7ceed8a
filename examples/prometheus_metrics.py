"""A partitioner that decides, and a server that answers Prometheus.

    python examples/prometheus_metrics.py [--port 9464] [--seconds 60]

Then: curl http://127.0.0.1:9464/metrics
"""

import argparse
import random
import time

import itp
from itp import telemetry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=9464)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    with itp.TaskPartitioner("dqn_v1") as partitioner, telemetry.Server(partitioner, args.port) as server:
        print(f"http://127.0.0.1:{server.port}/metrics, for {args.seconds:g} s", flush=True)
        until_s = time.monotonic() + args.seconds
        while time.monotonic() < until_s:
            decision = partitioner.partition_task(itp.Task("task", random.randint(10_000, 10_000_000)))
            # As if it had been sent, a little slower or faster than expected.
            taken_s = decision.expected_time_s * random.uniform(0.8, 1.3)
            partitioner.report_outcome(decision, 8e-6 * decision.task.size_bytes / taken_s, taken_s, True)
            time.sleep(0.01)


if __name__ == "__main__":
    main()
