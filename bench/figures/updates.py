"""An update of the trainer's learner beside one of Stable-Baselines3's DQN, of the same network and batch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from figures import subjects
from itp_overhead.load import NotMeasured
from itp_overhead.networks import one_torch_thread
from itp_overhead.timing import Subject, interleave

ITP = "itp"
PEER = "stable_baselines3"
_NEEDED = ("torch", PEER, "gymnasium")
_STORED = 4_000
_CALLS = 100_000


def measure(batch_sizes: Sequence[int], *, seconds: float) -> dict[int, dict[str, float]]:
    """Microseconds of an update, by batch size and library.

    A tenth of the updates is faster. The median would favour short updates on a busy machine, where long ones
    are rarely over before another process takes the core.

    Raises
    ------
    NotMeasured
        A package is missing; the text says which.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise NotMeasured(f"{missing[0]} is not installed")
    times_us: dict[int, dict[str, float]] = {}
    with one_torch_thread():
        for size in batch_sizes:
            both = [
                Subject(name=ITP, call=subjects.update(size).call),
                Subject(name=PEER, call=stable_baselines3_update(size)),
            ]
            timings = interleave(both, seconds=seconds / len(batch_sizes), calls=_CALLS)
            times_us[size] = {t.name: float(np.quantile(t.times_ns, 0.1)) * 1e-3 for t in timings}
    return times_us


def stable_baselines3_update(batch_size: int) -> Callable[[], Any]:
    """A gradient step of its DQN on one batch, after some thousand steps of the environment."""
    import stable_baselines3

    from itp.sim.gym import PartitionEnv

    model = stable_baselines3.DQN(
        "MlpPolicy",
        PartitionEnv("mixed"),
        batch_size=batch_size,
        learning_starts=_STORED + 1,
        policy_kwargs={"net_arch": [128, 128, 64]},
        device="cpu",
    )
    model.learn(_STORED)
    return partial(model.train, 1, batch_size)
