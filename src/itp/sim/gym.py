"""Gymnasium environments over the simulator: ``itp/Partition-v0`` and ``-v1``, single and vectorized.

A step decides for one task; its reward is the sum of the rewards of all tasks that are completed
before the next decision. An episode ends (terminated) when all its tasks are completed. The versions
differ in what agents see and choose: see ``itp.sim.views``.
``itp.sim.registration`` says how Gymnasium gets to know them; the extra ``gym`` installs Gymnasium.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp._core.rng import process
from itp._util.extras import extra
from itp.sim.registration import register
from itp.sim.scenario import Scenario
from itp.sim.simulator import Simulator
from itp.sim.views import SetView, StateView, View, first_of

with extra("itp.sim.gym needs", "gym"):
    import gymnasium
    from gymnasium.utils.seeding import np_random
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space

__all__ = ["PartitionEnv", "PartitionVectorEnv", "SetPartitionEnv", "SetPartitionVectorEnv"]

Observation = Any
"""float32[state_dim] of v0, a dict of arrays of v1; of many environments with a leading dimension."""
Info = dict[str, Any]
AnyScenario = str | os.PathLike[str] | Mapping[str, Any] | Scenario

# Seeds of worlds are drawn below this: the generators of Gymnasium's environments draw 63 bits.
_WORLDS = 2**63


class _Origin:
    """The process in which a generator was seeded; a copy of it by a fork draws other worlds."""

    def __init__(self) -> None:
        self._process = process()

    def world(self, generator: np.random.Generator) -> int:
        """The seed of the next world: as the generator draws it, another one in a forked child."""
        return int(generator.integers(_WORLDS)) ^ (self._distance() % _WORLDS)

    def _distance(self) -> int:
        return self._process ^ process()

    # A pickle draws the same worlds wherever it is loaded.
    def __getstate__(self) -> dict[str, int]:
        return {"distance": self._distance()}

    def __setstate__(self, state: dict[str, int]) -> None:
        self._process = process() ^ state["distance"]


class PartitionEnv(gymnasium.Env[Observation, np.int64]):
    """One environment; every episode is another world of the scenario.

    Parameters
    ----------
    scenario, service_order, load, tasks
        As for ``itp.Simulator``.

    Notes
    -----
    Observations are the state vector (float32[4 n + 4], in [0, 1]), zeros after the last decision.
    Actions are numbered as in ``itp.actions``; streams that are down are left out of one.

    ``info`` holds ``action_mask`` (int8[n_actions], 1: every stream of the action is up), as
    ``env.action_space.sample(mask=...)`` takes it, and ``seed``, the world's.

    ``copy.deepcopy`` and ``pickle`` take the state along: a copy answers the same actions with the same
    observations, rewards and masks, and draws the same worlds afterwards. A child forked from the process
    draws other worlds than its parent, until it is given a seed itself.

    Attributes
    ----------
    simulator : Simulator
        Of one environment: ``simulator.completed()`` are the tasks completed during the last step.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        scenario: AnyScenario = "mixed",
        *,
        service_order: str | None = None,
        load: float | None = None,
        tasks: int | None = None,
    ) -> None:
        sim = Simulator(scenario, service_order=service_order, load=load, tasks=tasks)
        self._open(sim, StateView(sim))

    def _open(self, sim: Simulator, view: View) -> None:
        self.simulator, self._view = sim, view
        self.observation_space, self.action_space = view.observation_space, view.action_space
        self._origin = _Origin()

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002 (there are none)
    ) -> tuple[Observation, Info]:
        super().reset(seed=seed)
        if seed is not None:
            self._origin = _Origin()
        self.simulator.reset([self._origin.world(self.np_random)])
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, Info]:
        reward = float(self._view.step(self.simulator, np.array([action]))[0])
        over = bool(self.simulator.done[0])
        return self._observation(), reward, over, False, self._info()

    def action_masks(self) -> NDArray[np.bool_]:
        """bool[n_actions]: the actions open to the waiting task; sb3-contrib's maskable agents call this."""
        mask: NDArray[np.bool_] = self._view.action_masks(self.simulator)[0]
        return mask

    def _observation(self) -> Observation:
        return first_of(self._view.observe(self.simulator))

    def _info(self) -> Info:
        return {"action_mask": self.action_masks().view(np.int8), "seed": int(self.simulator.seeds[0])}


class PartitionVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """Many environments, stepped by one call into compiled code.

    Parameters
    ----------
    num_envs : int
    scenario, service_order, load, tasks, threads
        As for ``itp.Simulator``.

    Notes
    -----
    Each behaves as a `PartitionEnv` of its own: ``reset(seed=s)`` seeds them with s, s + 1, and so on,
    ``reset(seed=[...])`` one by one. An environment whose episode is over begins the next one with the
    following step, whose action it does not read (``AutoresetMode.NEXT_STEP``). ``infos`` are those of
    single environments with a leading dimension; ``envs.action_space.sample`` takes the masks as
    ``mask=tuple(infos["action_mask"])``. Copies, pickles and forks as for a single environment.

    Attributes
    ----------
    simulator : Simulator
        ``simulator.completed()`` are the tasks completed during the last step, of all environments.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        scenario: AnyScenario = "mixed",
        *,
        service_order: str | None = None,
        load: float | None = None,
        tasks: int | None = None,
        threads: int = 1,
    ) -> None:
        sim = Simulator(
            scenario, n_envs=num_envs, service_order=service_order, load=load, tasks=tasks, threads=threads
        )
        self._open(sim, StateView(sim))

    def _open(self, sim: Simulator, view: View) -> None:
        self.simulator, self._view = sim, view
        self.num_envs = num_envs = sim.n_envs
        self.single_observation_space, self.single_action_space = view.observation_space, view.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [(np_random()[0], _Origin()) for _ in range(num_envs)]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002 (there are none)
    ) -> tuple[Observation, Info]:
        if seed is None:
            seeds: Sequence[int | None] = [None] * self.num_envs
        elif isinstance(seed, (int, np.integer)):
            super().reset(seed=int(seed))
            seeds = range(int(seed), int(seed) + self.num_envs)
        else:
            seeds = seed
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed: expected {self.num_envs} seeds, one an environment; got {len(seeds)}")
        for env, one in enumerate(seeds):
            if one is not None:
                self._generators[env] = np_random(one)[0], _Origin()
        self._begin(np.ones(self.num_envs, dtype=np.bool_))
        return self._view.observe(self.simulator), self._info()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Info]:
        over = self.simulator.done
        rewards = self._view.step(self.simulator, actions)
        if over.any():
            self._begin(over)
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        return self._view.observe(self.simulator), rewards, self.simulator.done, truncated, self._info()

    def _begin(self, which: NDArray[np.bool_]) -> None:
        """Begin another episode in some environments, each in a world that its own generator draws."""
        seeds = self.simulator.seeds.copy()
        for env in np.flatnonzero(which):
            generator, origin = self._generators[env]
            seeds[env] = origin.world(generator)
        self.simulator.reset(seeds, only=which)

    def _info(self) -> Info:
        masks = self._view.action_masks(self.simulator).view(np.int8)
        info: Info = {"action_mask": masks, "seed": self.simulator.seeds.copy()}
        # Gymnasium's wrappers ask which environments have something to say.
        return info | {f"_{key}": np.ones(self.num_envs, dtype=np.bool_) for key in info}


class SetPartitionEnv(PartitionEnv):
    """``itp/Partition-v1``: an agent sees what a set model sees, and chooses a set of streams.

    Parameters
    ----------
    scenario, service_order, load, tasks, n_streams
        As for ``itp.Simulator``.
    prefer : {"typical", "balanced", "bulk"} or float
        The preference that the context shows, from 0 (typical) to 1 (bulk). Rewards do not depend on it.
    objective : {"reward", "slowdown"}
        What a step returns of each task completed in it: its reward, or minus the logarithm of its slowdown.

    Notes
    -----
    ``itp.sim.views.SetView`` says what observations and actions are. Shapes are the same for any number of
    streams, so that one agent can serve different scenarios. `info`, copies, pickles and forks are those of
    `PartitionEnv`.
    """

    def __init__(
        self,
        scenario: AnyScenario = "mixed",
        *,
        service_order: str | None = None,
        load: float | None = None,
        tasks: int | None = None,
        n_streams: int | None = None,
        prefer: str | float = "balanced",
        objective: str = "reward",
    ) -> None:
        sim = Simulator(scenario, service_order=service_order, load=load, tasks=tasks, n_streams=n_streams)
        self._open(sim, SetView(sim, prefer=prefer, objective=objective))


class SetPartitionVectorEnv(PartitionVectorEnv):
    """``itp/Partition-v1``, many environments, stepped by one call into compiled code.

    Parameters
    ----------
    num_envs : int
    scenario, service_order, load, tasks, n_streams, prefer, objective
        As for `SetPartitionEnv`.
    threads : int
        As for ``itp.Simulator``.

    Notes
    -----
    Otherwise it is as `PartitionVectorEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        scenario: AnyScenario = "mixed",
        *,
        service_order: str | None = None,
        load: float | None = None,
        tasks: int | None = None,
        n_streams: int | None = None,
        prefer: str | float = "balanced",
        objective: str = "reward",
        threads: int = 1,
    ) -> None:
        sim = Simulator(
            scenario,
            n_envs=num_envs,
            service_order=service_order,
            load=load,
            tasks=tasks,
            n_streams=n_streams,
            threads=threads,
        )
        self._open(sim, SetView(sim, prefer=prefer, objective=objective))


register()
