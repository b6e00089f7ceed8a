"""Train an agent of Stable-Baselines3 in `itp/Partition-v1`, and compare it with a rule.

    pip install 'itp[gym]' stable-baselines3 sb3-contrib
    python examples/sb3_agents.py [--agent masked_ppo] [--steps 50000] [--scenario mixed] [--streams 4]

`masked_ppo` is sb3-contrib's MaskablePPO, which draws from the candidates alone. `dqn` knows no masks: what
it takes beyond the candidates counts on from the first. Both see padded features, so that one agent decides
over any number of streams.
"""

import argparse
import math

import gymnasium
import numpy as np
import torch

from itp.policies import make, run
from itp.sim.outcomes import mean_log_slowdown
from itp.sim.simulator import Simulator

RULE = "least_completion_time"
TRAINING_TASKS = 100


def environment(scenario: str, n_streams: int | None, **options: object) -> gymnasium.Env:
    return gymnasium.make("itp.sim.gym:itp/Partition-v1", scenario=scenario, n_streams=n_streams, **options)


def trained(agent: str, env: gymnasium.Env, steps: int):
    """A model of either library, with a small network."""
    if agent == "dqn":
        from stable_baselines3 import DQN

        options = {"learning_starts": min(1000, steps // 2), "buffer_size": 20_000, "gamma": 0.95}
        model = DQN("MultiInputPolicy", env, device="cpu", seed=0, **options)
    else:
        from sb3_contrib import MaskablePPO

        options = {"n_steps": min(1024, steps), "batch_size": 64, "gamma": 0.95}
        model = MaskablePPO("MultiInputPolicy", env, device="cpu", seed=0, **options)
    return model.learn(steps)


def slowdown_of(agent: str, model, env: gymnasium.Env, seeds: range) -> tuple[float, list[int]]:
    """Geometric-mean slowdown over an episode for each seed, and the seeds of the worlds."""
    logs, worlds = [], []
    for seed in seeds:
        seen, info = env.reset(seed=seed)
        worlds.append(info["seed"])
        over, outcomes = False, []
        while not over:
            masks = {"action_masks": env.unwrapped.action_masks()} if agent == "masked_ppo" else {}
            action, _ = model.predict(seen, deterministic=True, **masks)
            seen, _, over, _, _ = env.step(int(action))
            outcomes.append(env.unwrapped.simulator.completed())
        logs.append(mean_log_slowdown(np.concatenate(outcomes)))
    return math.exp(np.mean(logs)), worlds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agent", choices=("masked_ppo", "dqn"), default="masked_ppo")
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--scenario", default="mixed")
    parser.add_argument("--streams", type=int, help="default: as many as the scenario has")
    parser.add_argument("--episodes", type=int, default=10, help="to compare in")
    args = parser.parse_args()
    if args.steps < 2 or args.episodes < 1:
        parser.error("--steps: at least 2; --episodes: at least 1")
    torch.set_num_threads(1)
    env = environment(args.scenario, args.streams, objective="slowdown", tasks=TRAINING_TASKS)
    env.reset(seed=0)
    model = trained(args.agent, env, args.steps)
    judged = environment(args.scenario, args.streams)
    slowdown, worlds = slowdown_of(args.agent, model, judged, range(1000, 1000 + args.episodes))
    sim = Simulator(args.scenario, seeds=worlds, n_streams=args.streams)
    rule = make(RULE)
    rule.begin(sim)
    print(f"{args.agent}, {args.steps} steps: slowdown {slowdown:.2f}")
    print(f"{RULE}: slowdown {math.exp(mean_log_slowdown(run(sim, rule))):.2f}")


if __name__ == "__main__":
    main()
