#!/usr/bin/env python3
"""How far a model's expected times and confidences can be trusted, family by family, in test worlds.

python3 training/reliability.py [--model dqn_v1] [--worlds 30]
"""

from __future__ import annotations

import argparse

import numpy as np

from itp import policies
from itp.models.load import load_model
from itp.policies.served import ModelPolicy
from itp.schema import SERVICE_ORDERS
from itp.sim import scenario
from itp_training import calibration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="dqn_v1", help="a shipped name or an .onnx file")
    parser.add_argument("--worlds", type=int, default=30, help="of each family")
    args = parser.parse_args()
    seeds = np.arange(policies.TEST_SEED, policies.TEST_SEED + args.worlds, dtype=np.uint64)
    print("| order, family | median error of the time | in the 90 % interval | error of the confidence |")
    print("| --- | ---: | ---: | ---: |")
    for order in SERVICE_ORDERS:
        tables = load_model(args.model, order).metadata["calibration"]
        found = []
        for family in scenario.FAMILIES:
            worlds = scenario.load(family).with_options(service_order=order)
            found.append(calibration.plans(worlds, ModelPolicy(args.model), seeds))
            show(f"{order}, {family}", calibration.measure(tables, found[-1]))
        show(f"**{order}, all**", calibration.measure(tables, np.concatenate(found)))


def show(name: str, figures: dict[str, float]) -> None:
    error, inside = 100 * figures["median_time_error"], 100 * figures["interval_coverage"]
    print(f"| {name} | {error:.1f} % | {inside:.1f} % | {figures['confidence_error']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
