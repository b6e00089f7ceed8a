"""Policies that are fitted to a scenario on training seeds: size intervals and a linear bandit."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from itp.policies.base import TRAINING_SEED
from itp.policies.episodes import mean_log_slowdown, run, steps
from itp.policies.rules import Rule
from itp.sim.choice import Choice
from itp.sim.simulator import Simulator, masks_of_actions

_WATER_FILLING = 0


class SizeInterval:
    """Each stream serves an interval of sizes; which, is tuned.

    The cut-offs give every stream a share of the work in proportion to (its rate) ** `skew`; small
    tasks go to the fastest stream or to the slowest. Both are chosen on training seeds for the least
    mean log slowdown.
    """

    name = "size_interval"
    skews = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)

    def __init__(self) -> None:
        self.skew = 1.0
        self.small_to_fast = True
        self._sizes: NDArray[np.float64] = np.empty(0)
        self._work: NDArray[np.float64] = np.empty(0)

    def begin(self, sim: Simulator) -> None:
        sizes = run(training(sim), Rule("single_best"))["size_bytes"]
        self._sizes = np.sort(sizes).astype(np.float64)
        self._work = np.cumsum(self._sizes) / self._sizes.sum()
        results = {}
        for knobs in product(self.skews, (True, False)):
            self.skew, self.small_to_fast = knobs
            results[knobs] = mean_log_slowdown(run(training(sim), self))
        self.skew, self.small_to_fast = min(results, key=results.__getitem__)

    def act(self, sim: Simulator) -> Choice:
        waiting = sim.waiting()
        up = (waiting["up"][:, None] >> np.arange(sim.n_streams, dtype=np.uint32)) & 1
        weight = np.where(up == 1, np.maximum(waiting["rate_Bps"], 1.0) ** self.skew, 0.0)
        order = np.argsort(-weight if self.small_to_fast else np.where(up == 1, weight, np.inf), axis=1)
        # Streams that are down have no interval: their share of the work is nothing.
        shares = np.take_along_axis(weight, order, axis=1)
        bounds = np.cumsum(shares, axis=1) / shares.sum(axis=1, keepdims=True)
        rank = np.searchsorted(self._sizes, waiting["size_bytes"], side="right") - 1
        position = self._work[np.clip(rank, 0, len(self._work) - 1)]
        last = (shares > 0.0).sum(axis=1) - 1
        slot = np.minimum((position[:, None] > bounds).sum(axis=1), last)
        stream = order[np.arange(sim.n_envs), slot]
        masks = np.uint32(1) << stream.astype(np.uint32)
        return Choice(masks, np.full(sim.n_envs, _WATER_FILLING, dtype=np.int32))


class LinUcb:
    """Linear upper confidence bounds, a ridge regression of the reward for every arm.

    Its arms are all subsets of up to six streams; of more, each stream alone and all together. Trained by its
    own decisions on training seeds, for each of several widths of the bounds; evaluated without exploration,
    with the width that ended best.
    """

    name = "linucb"
    widths = (0.1, 0.5, 2.0)

    def __init__(self) -> None:
        self._theta: NDArray[np.float64] = np.empty((0, 0))
        self._inverse: NDArray[np.float64] = np.empty((0, 0, 0))
        self._arms: NDArray[np.uint32] = np.empty(0, np.uint32)
        self._width = 0.0

    def begin(self, sim: Simulator) -> None:
        self._arms = _arms(sim.n_streams)
        results = []
        for width in self.widths:
            self._learn(sim, width)
            self._width = 0.0
            score = mean_log_slowdown(run(training(sim, first=_TRAINING_ENVS), self))
            results.append((score, self._theta))
        self._theta = min(results, key=lambda result: result[0])[1]

    def _learn(self, sim: Simulator, width: float) -> None:
        world = training(sim, keep_states=True)
        size = world.state_dim + 1
        self._width = width
        gram = np.tile(np.eye(size), (len(self._arms), 1, 1))
        moment = np.zeros((len(self._arms), size))
        self._inverse = gram.copy()
        self._theta = np.zeros((len(self._arms), size))
        for _ in steps(world, self):
            outcomes = world.experiences()
            features = _features(outcomes["state"])
            arms = self._arms_of(masks_of_actions(sim.n_streams)[outcomes["action"]])
            for arm in np.unique(arms):
                mine = arms == arm
                gram[arm] += features[mine].T @ features[mine]
                moment[arm] += features[mine].T @ outcomes["reward"][mine]
            self._inverse = np.linalg.inv(gram).astype(np.float64)
            self._theta = np.einsum("aij,aj->ai", self._inverse, moment)

    def _arms_of(self, masks: NDArray[np.uint32]) -> NDArray[np.intp]:
        """The arm of each mask; what is none is what all streams came to, some with too small a share."""
        is_arm = masks[:, None] == self._arms[None, :]
        return np.where(is_arm.any(axis=1), is_arm.argmax(axis=1), len(self._arms) - 1)

    def act(self, sim: Simulator) -> Choice:
        features = _features(sim.states)
        value = features @ self._theta.T
        if self._width:
            spread = np.einsum("ei,aij,ej->ea", features, self._inverse, features)
            value += self._width * np.sqrt(np.maximum(spread, 0.0))
        value[(self._arms[None, :] & ~sim.waiting()["up"][:, None]) != 0] = -np.inf
        masks = self._arms[value.argmax(axis=1)]
        return Choice(masks, np.full(sim.n_envs, _WATER_FILLING, dtype=np.int32))


_TRAINING_ENVS = 32
_MOST_STREAMS = 6


def _arms(n_streams: int) -> NDArray[np.uint32]:
    """The masks to choose among, that of all streams last."""
    if n_streams <= _MOST_STREAMS:
        return masks_of_actions(n_streams)
    alone = np.uint32(1) << np.arange(n_streams, dtype=np.uint32)
    return np.append(alone, np.uint32((1 << n_streams) - 1))


def _features(states: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.concatenate([states.astype(np.float64), np.ones((len(states), 1))], axis=1)


def training(sim: Simulator, *, first: int = 0, keep_states: bool = False) -> Simulator:
    """A simulator of the same scenario on training seeds."""
    seeds = np.arange(_TRAINING_ENVS, dtype=np.uint64) + np.uint64(TRAINING_SEED + first)
    return Simulator(sim.scenario, seeds=seeds, keep_states=keep_states)
