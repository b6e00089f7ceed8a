"""What is compared between two versions of ITP: calls through public names, or names of every version.

Imports nothing of ITP until a subject is made, so that it works beside any installed version.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

MODEL = "dqn_v1"
STATES = 20
ACTIONS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call to be timed; the fields are those of ``itp_overhead.timing.Subject``."""

    call: Callable[[], Any]
    after: Callable[[Any], object] = lambda _: None
    times_ns: Callable[[int, int], Any] | None = None


def decision() -> Call:
    """A decision by the compiled forward pass over four idle streams."""
    import itp

    partitioner = itp.TaskPartitioner(model=MODEL, engine="native")
    for stream, (bandwidth_mbps, latency_ms) in enumerate(((200, 10), (100, 40), (50, 80), (20, 150))):
        partitioner.update_stream(
            stream, bandwidth_mbps=bandwidth_mbps, latency_ms=latency_ms, success_rate=0.99
        )
    return Call(
        call=partial(partitioner.partition_task, itp.Task("bench", 100 * 2**20, 0.8)),
        after=lambda decided: partitioner.report_outcome(decided, 300.0, 1.0, True),
    )


def forward_pass() -> Call:
    """The compiled forward pass alone, timed in C."""
    net = _first_of("itp.models.load", "itp.model").load_model(MODEL).net
    states = np.random.default_rng(0).random((256, STATES), dtype=np.float32)
    return Call(call=partial(net, states[:1]), times_ns=partial(net.time_ns, states))


def buffer_cycle() -> Call:
    """Sampling of 256 out of a million transitions, and the update of their priorities."""
    import itp

    n, rng = 1_000_000, np.random.default_rng(0)
    buffer = itp.PrioritizedReplayBuffer(n, state_dim=STATES, alpha=0.6, seed=0)
    states = rng.random((n, STATES), dtype=np.float32)
    buffer.add_batch(
        state=states,
        action=rng.integers(0, ACTIONS, n),
        reward=rng.random(n, dtype=np.float32),
        next_state=states,
        done=rng.random(n) < 0.05,
        priority=rng.random(n) + 0.01,
    )
    priorities = rng.random(256) + 0.01

    def cycle() -> None:
        batch = buffer.sample(256, 0.4)
        buffer.update_priorities(batch["indexes"], priorities)

    return Call(call=cycle)


def simulator_step() -> Call:
    """A step of 1,024 environments with random actions: as many simulated decisions."""
    import itp

    sim = itp.Simulator("mixed", n_envs=1024, tasks=1_000_000, service_order="fifo", load=0.6)
    actions = np.random.default_rng(0).integers(0, ACTIONS, (64, 1024))
    stepped = 0

    def step() -> None:
        nonlocal stepped
        sim.step(actions[stepped % len(actions)])
        stepped += 1

    for _ in range(50):
        step()
    return Call(call=step)


def update(batch_size: int, **settings: Any) -> Call:
    """An update of the trainer's learner on one thread; `settings` differ from the default configuration."""
    import torch

    from itp_training.collect import Experiences
    from itp_training.config import TrainingConfig
    from itp_training.learner import Learner

    torch.set_num_threads(1)
    n, rng = 20_000, np.random.default_rng(0)
    learner = Learner(TrainingConfig(batch_size=batch_size, **settings), torch.device("cpu"))
    # Older learners keep the buffer themselves.
    buffer: Any = getattr(learner, "replay", learner)
    buffer.store(
        Experiences(
            state=rng.random((n, STATES), dtype=np.float32),
            action=rng.integers(0, ACTIONS, n),
            reward=rng.normal(size=n),
            next_state=rng.random((n, STATES), dtype=np.float32),
            done=rng.random(n) < 0.005,
            returns=rng.normal(size=(n, ACTIONS)).astype(np.float32),
        )
    )
    return Call(call=learner.update)


SUBJECTS: dict[str, Callable[[], Call]] = {
    "decision": decision,
    "forward_pass": forward_pass,
    "buffer_cycle": buffer_cycle,
    "simulator_step": simulator_step,
    "update_32": partial(update, 32),
    "update_256": partial(update, 256),
}


def _first_of(*modules: str) -> Any:
    """The first of these modules that this version has."""
    for name in modules:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    raise ModuleNotFoundError(f"none of {', '.join(modules)}")
