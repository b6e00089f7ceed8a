"""Learning time until a learner is as good as the best classical rule: ITP's beside Stable-Baselines3's DQN.

    python bench/learning.py [--service-order fifo] [--limit 600] [--json]

Both learn in the same scenario, with the same network, on one core, and are judged in the same worlds, in
which neither learns. Judging does not count as learning time. Stable-Baselines3 has its own defaults except
for the network, the learning rate 0.001 and the batch size 32, as `--preset mission`. Each stops when it is
as good as the rule, or after --limit seconds of learning.
"""

import argparse
import contextlib
import json
import time

import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

from itp import policies
from itp.sim.gym import PartitionEnv
from itp_training.collect import training_scenario
from itp_training.config import TrainingConfig
from itp_training.trainer import Round, Trainer
from itp_training.validation import NetworkPolicy, Validation

CPU = torch.device("cpu")
JUDGED_EVERY_S = 2.0


class EnoughError(Exception):
    """The learner is as good as the best rule, or out of time."""


def best_classical(validation: Validation) -> tuple[str, float]:
    scores = {name: validation.of_policy(policies.make(name)) for name in policies.CLASSICAL}
    return min(scores.items(), key=lambda item: item[1])


def itp(config: TrainingConfig, goal: float, limit_s: float) -> list[tuple[float, float]]:
    """(seconds of learning, slowdown) of ITP's trainer after every round, until the goal."""
    trainer = Trainer(config, CPU)
    curve = []
    spent_s = 0.0

    def finished(done: Round) -> None:
        nonlocal spent_s
        spent_s += done.collect_s + done.learn_s
        curve.append((spent_s, done.validation_slowdown))
        if done.validation_slowdown <= goal or spent_s > limit_s:
            raise EnoughError

    with contextlib.suppress(EnoughError):
        trainer.run(finished=finished)
    return curve


def stable_baselines3(config: TrainingConfig, goal: float, limit_s: float) -> list[tuple[float, float]]:
    """The same of Stable-Baselines3's DQN, every few seconds."""
    validation = Validation(config, CPU)
    curve = []

    class Judge(BaseCallback):
        spent_s = 0.0
        judged_s = 0.0
        since = 0.0

        def _on_training_start(self) -> None:
            self.since = time.perf_counter()

        def _on_step(self) -> bool:
            spent_s = self.spent_s + time.perf_counter() - self.since
            if spent_s < self.judged_s + JUDGED_EVERY_S:
                return True
            self.model.policy.set_training_mode(False)
            slowdown = validation.of_policy(NetworkPolicy(self.model.q_net, CPU))
            self.spent_s = self.judged_s = spent_s
            curve.append((spent_s, slowdown))
            self.since = time.perf_counter()
            return slowdown > goal and spent_s < limit_s

    env = PartitionEnv(training_scenario(config))
    model = DQN(
        "MlpPolicy",
        env,
        learning_rate=1e-3,
        batch_size=32,
        gamma=0.95,
        learning_starts=1000,
        seed=config.seed,
        policy_kwargs={"net_arch": list(config.hidden)},
        device="cpu",
    )
    model.learn(100_000_000, callback=Judge())
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--service-order", default="fifo", choices=("fifo", "srpt"))
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of learning (default: 600)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainingConfig(service_order=args.service_order, seed=args.seed)
    rule, goal = best_classical(Validation(config, CPU))
    curves = {
        "itp": itp(config, goal, args.limit),
        "stable_baselines3": stable_baselines3(config, goal, args.limit),
    }
    found = {"service_order": args.service_order, "rule": rule, "goal": goal, "curves": curves}
    if args.json:
        print(json.dumps(found))
        return
    print(f"best classical rule, {args.service_order}: {rule}, geometric-mean slowdown {goal:.3f}")
    for name, curve in curves.items():
        seconds, slowdown = curve[-1]
        best = min(value for _, value in curve)
        there = f"there after {seconds:.1f} s" if slowdown <= goal else f"not there after {seconds:.0f} s"
        print(f"{name:<20}{there}; last {slowdown:.3f}, best {best:.3f}")
    print(f"ratio of times: {curves['stable_baselines3'][-1][0] / curves['itp'][-1][0]:.1f}")


if __name__ == "__main__":
    main()
