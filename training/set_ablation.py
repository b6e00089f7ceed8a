"""What each choice of the set models' trainer is worth; ``ablation.py --schema 2`` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from itp.policies.base import Policy
from itp.schema import SERVICE_ORDERS
from itp_training.config import TRAINING_FAMILIES, TrainingConfig
from itp_training.sets.collect import Part
from itp_training.sets.config import SetConfig
from itp_training.sets.learner import SetLearner
from itp_training.sets.network import SetNetwork
from itp_training.sets.replay import Decisions
from itp_training.sets.trainer import SetTrainer
from itp_training.sets.validation import SetValidation
from itp_training.sets.worlds import SetPolicy
from itp_training.trainer import Trainer
from itp_training.validation import NetworkPolicy

STREAMS = 4
FAMILIES = tuple(name for name in TRAINING_FAMILIES if name != "wide")
WORLDS = {"any workload": ("anything",), "shipped families": FAMILIES}
"""What every variant is scored in, on validation seeds."""

ONE_PREFERENCE = {"typical": 0.0, "halfway": 0.0, "bulk": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "schema 2": {},
    "narrow workloads": {"scenarios": FAMILIES, "load": (0.2, 0.9)},
    "typical alone": {**ONE_PREFERENCE, "typical": 1.0},
    "bulk alone": {**ONE_PREFERENCE, "bulk": 1.0},
}
BUDGET = SetConfig(
    streams=(STREAMS,), envs=(128,), batch_weights=(1.0,), rounds=3, updates=1500, validation_envs=64
)
"""About a minute a variant on two cores."""


class AttentionNetwork(SetNetwork):
    """A set network whose streams also look at each other, by one head of self-attention."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__(widths)
        self.project = nn.Linear(widths[1], 3 * widths[1], bias=False)

    def embed(self, streams: Tensor, of_context: Tensor, members: Tensor) -> Tensor:
        own = super().embed(streams, of_context, members)
        query, key, value = self.project(own).chunk(3, dim=-1)
        absent = members.amax(dim=1)[:, None] == 0.0
        scores = torch.bmm(query, key.transpose(1, 2)) / own.shape[-1] ** 0.5
        weights = torch.softmax(scores.masked_fill(absent, -1e9), dim=-1)
        return own + torch.bmm(weights, value)


def table(base: SetConfig, q_network: TrainingConfig, threads: int, seeds: int) -> Iterator[str]:
    """Lines of the tables, as they become known.

    Parameters
    ----------
    base : SetConfig
        Of the default variant.
    q_network : TrainingConfig
        Of the model of schema 1, for each service order.
    threads : int
    seeds : int
        Runs a variant; their scores are averaged.
    """
    judges = {name: SetValidation(replace(base, scenarios=scenarios)) for name, scenarios in WORLDS.items()}
    places = [f"{name}, {order}" for name in judges for order in SERVICE_ORDERS]
    yield f"| over the best simple rule | {' | '.join(places)} |"
    yield f"| --- |{' ---: |' * len(places)}"
    for name, changes in VARIANTS.items():
        trainers = [SetTrainer(replace(base, seed=seed, **changes), threads=threads) for seed in range(seeds)]
        for trainer in trainers:
            trainer.run()
        nets = [trainer.learner.network.packed() for trainer in trainers]
        for preference, value in (("typical", 0.0), ("balanced", base.balanced), ("bulk", 1.0)):
            if name.endswith(" alone") and preference not in name:
                continue
            shown = name if name.endswith(" alone") else f"{name}, {preference}"
            yield _row(shown, judges, [[SetPolicy(net, value)] * 2 for net in nets])
        if name == "schema 2":
            decisions = trainers[0].learner.replay.of(STREAMS)
            held_out, _ = trainers[0].collector.collect(base.rounds, Part(STREAMS, "fifo"), nets[0])
    yield _row("schema 1", judges, [_q_networks(replace(q_network, seed=seed)) for seed in range(seeds)])
    yield ""
    yield "| mean cost above the best candidate, held-out decisions | weights | regret |"
    yield "| --- | ---: | ---: |"
    assert decisions is not None  # for the type checker
    for name, kind in (("pooling", SetNetwork), ("attention", AttentionNetwork)):
        found = [_regret(kind, base, decisions, held_out, seed) for seed in range(seeds)]
        weights = sum(p.numel() for p in kind(base.widths).parameters())
        yield f"| {name} | {weights:,} | {np.mean(found):.4f} |"


def _row(name: str, judges: dict[str, SetValidation], runs: list[list[Policy]]) -> str:
    """Slowdown and mean time over the best rule's, averaged over runs; a policy for each service order."""
    cells = []
    for judge in judges.values():
        for number, order in enumerate(SERVICE_ORDERS):
            key = (STREAMS, order)
            best, scores = judge.best_rule(key), [judge.score(key, run[number]) for run in runs]
            slowdown = np.exp(np.mean([np.log(score.slowdown / best.slowdown) for score in scores]))
            mean_time = np.exp(np.mean([np.log(score.time / best.time) for score in scores]))
            cells.append(f"{100 * (slowdown - 1):+.1f} %, {100 * (mean_time - 1):+.1f} %")
    return f"| {name} | {' | '.join(cells)} |"


def _q_networks(config: TrainingConfig) -> list[Policy]:
    """Networks of schema 1, trained in wide workloads, one for each service order."""
    found: list[Policy] = []
    for order in SERVICE_ORDERS:
        trainer = Trainer(replace(config, service_order=order), torch.device("cpu"))
        trainer.run()
        found.append(NetworkPolicy(trainer.learner.network.eval(), torch.device("cpu")))
    return found


def _regret(
    kind: type[SetNetwork], base: SetConfig, decisions: Decisions, held_out: Decisions, seed: int
) -> float:
    """Mean cost of the greedy candidates above the best ones, after learning from other decisions."""
    learner = SetLearner(replace(base, seed=seed), kind)
    learner.replay.store(0, decisions)
    for _ in range(base.updates):
        learner.update()
    streams, context, candidates, members, _ = held_out.tensors()
    with torch.no_grad():
        values = learner.network(streams, context, candidates, members).numpy()
    chosen = np.where(np.isnan(held_out.returns), -np.inf, values).argmax(axis=1)
    best = np.nanmax(held_out.returns, axis=1)
    return float((best - held_out.returns[np.arange(len(best)), chosen]).mean())
