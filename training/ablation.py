#!/usr/bin/env python3
"""What each choice of the trainer is worth: the default configuration with one thing changed at a time.

    python3 training/ablation.py [--service-order fifo] [--seeds 1] [--markdown FILE]
    python3 training/ablation.py --schema 2 [--seeds 1] [--markdown FILE]

Every variant trains as long as the default one; the score is the geometric-mean slowdown in worlds of the
training families that none learns in, against the best classical rule there. Of schema 2, slowdown and mean
completion time against the better of two simple rules, each at its best, on a reduced budget.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import set_ablation
from itp import policies
from itp._util.files import write_text
from itp_training.config import TrainingConfig, preset
from itp_training.trainer import Trainer
from itp_training.validation import Validation

ALONE = {
    "look_ahead_share": 0.0,
    "td_weight": 1.0,
    "gamma": 0.95,
    "teacher_episodes": 0,
    "epsilon": (1.0, 0.05),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "look-ahead of 10 tasks": {"look_ahead_tasks": 10},
    "look-ahead and Double DQN": {"td_weight": 0.1, "gamma": 0.97},
    "Double DQN alone": ALONE,
    "Double DQN alone, 5 steps": {**ALONE, "n_step": 5},
    "production reward as objective": {"objective": "reward"},
    "uniform replay": {"alpha": 0.0},
    "priorities with alpha 0.6": {"alpha": 0.6},
    "duelling heads": {"duelling": True},
    "batch norm, dropout 0.2": {"batch_norm": True, "dropout": 0.2},
}


def train(config: TrainingConfig) -> tuple[float, float]:
    """The last validation slowdown, and the seconds of learning."""
    trainer = Trainer(config, torch.device("cpu"))
    begin = time.process_time()
    trainer.run()
    return trainer.rounds[-1].validation_slowdown, time.process_time() - begin


def of_q_networks(args: argparse.Namespace) -> list[str]:
    """The table of schema 1; printed on the way."""
    order = args.service_order
    base = TrainingConfig(service_order=order)
    validation = Validation(base, torch.device("cpu"))
    scores = {name: validation.of_policy(policies.make(name)) for name in policies.CLASSICAL}
    rule = min(scores, key=lambda name: scores[name])
    lines = [
        f"| {order} | slowdown | against {rule.replace('_', ' ')} ({scores[rule]:.3f}) | CPU s |",
        "| --- | ---: | ---: | ---: |",
    ]
    print("\n".join(lines), flush=True)
    configs = {name: replace(base, **changes) for name, changes in VARIANTS.items()}
    configs["--preset mission"] = preset("mission", service_order=order)
    for name, config in configs.items():
        results = np.array([train(replace(config, seed=seed)) for seed in range(args.seeds)])
        slowdown, seconds = results.mean(axis=0)
        change = 100.0 * (slowdown / scores[rule] - 1.0)
        lines.append(f"| {name} | {slowdown:.3f} | {change:+.1f} % | {seconds:.0f} |")
        print(lines[-1], flush=True)
    return lines


def of_set_models(args: argparse.Namespace) -> list[str]:
    """The tables of schema 2; printed on the way."""
    q_network = TrainingConfig(scenarios=("anything",), load=(0.02, 1.0), episodes=200, updates=3200)
    lines = []
    for line in set_ablation.table(set_ablation.BUDGET, q_network, args.threads, args.seeds):
        lines.append(line)
        print(line, flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--schema", type=int, default=1, choices=(1, 2))
    parser.add_argument("--threads", type=int, default=2, help="of the simulator; for schema 2")
    parser.add_argument("--service-order", default="fifo", choices=("fifo", "srpt"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--markdown", metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = of_set_models(args) if args.schema == 2 else of_q_networks(args)
    if args.markdown:
        write_text(args.markdown, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
