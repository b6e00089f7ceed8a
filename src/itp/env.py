"""Gymnasium environments over the simulator: ``itp/Partition-v0``, single and vectorised.

A step decides for one task; its reward is the sum of the rewards of all tasks that are completed
before the next decision. An episode ends (terminated) when all its tasks are completed. Registered
when Gymnasium looks for plug-ins, so that ``gymnasium.make("itp/Partition-v0")`` needs no import;
the extra ``gym`` installs Gymnasium.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from itp.scenario import Scenario
from itp.simulator import Simulator

State = NDArray[np.float32]
Info = dict[str, Any]
AnyScenario = str | os.PathLike[str] | Mapping[str, Any] | Scenario


def _spaces(sim: Simulator) -> tuple[Box, Discrete]:
    return Box(0.0, 1.0, (sim.state_dim,), np.float32), Discrete(sim.n_actions)


class PartitionEnv(gymnasium.Env[State, np.int64]):
    """One environment; every episode is another world of the scenario.

    Parameters
    ----------
    scenario, service_order, load, tasks
        As for ``itp.Simulator``.

    Notes
    -----
    Observations are the state vector (float32[4 n + 4], in [0, 1]), after the last decision zeros.
    ``info`` holds ``action_mask`` (bool[n_actions]), ``seed`` (of the world), and ``completed``, the
    outcomes (OUTCOME) of the tasks completed during the step.
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
        self._sim = Simulator(scenario, service_order=service_order, load=load, tasks=tasks)
        self.observation_space, self.action_space = _spaces(self._sim)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[State, Info]:
        super().reset(seed=seed)
        self._sim.reset([int(self.np_random.integers(2**63))])
        return self._sim.states[0].copy(), self._info()

    def step(self, action: np.int64) -> tuple[State, float, bool, bool, Info]:
        reward = float(self._sim.step(np.array([action]))[0])
        return self._sim.states[0].copy(), reward, bool(self._sim.done[0]), False, self._info()

    def _info(self) -> Info:
        return {
            "action_mask": self._sim.action_masks[0],
            "seed": int(self._sim.seeds[0]),
            "completed": self._sim.completed(),
        }


class PartitionVectorEnv(VectorEnv[State, NDArray[np.int64], NDArray[np.int64]]):
    """Many environments, stepped by one call into compiled code.

    Parameters
    ----------
    num_envs : int
    scenario, service_order, load, tasks, threads
        As for ``itp.Simulator``.

    Notes
    -----
    An environment whose episode is over begins the next one with the following step, whose action it
    does not read (``AutoresetMode.NEXT_STEP``). ``infos`` as for a single environment, with a leading
    dimension, and ``completed`` for all environments together.
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
        self._sim = Simulator(
            scenario, n_envs=num_envs, service_order=service_order, load=load, tasks=tasks, threads=threads
        )
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = _spaces(self._sim)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[State, Info]:
        if isinstance(seed, int) or seed is None:
            super().reset(seed=seed)
            worlds = self.np_random.integers(2**63, size=self.num_envs)
        else:
            if len(seed) != self.num_envs:
                raise ValueError(f"seed: expected {self.num_envs} seeds, one an environment; got {len(seed)}")
            worlds = np.array([np.random.default_rng(one).integers(2**63) for one in seed])
        self._sim.reset(worlds)
        return self._sim.states.copy(), self._info()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[State, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Info]:
        over = self._sim.done
        rewards = self._sim.step(actions)
        completed = self._sim.completed()
        if over.any():
            self._sim.reset_done(over)
        never = np.zeros(self.num_envs, dtype=np.bool_)
        return self._sim.states.copy(), rewards, self._sim.done, never, self._info(completed)

    def _info(self, completed: NDArray[np.void] | None = None) -> Info:
        return {
            "action_mask": self._sim.action_masks,
            "seed": self._sim.seeds.copy(),
            "completed": self._sim.completed() if completed is None else completed,
        }


def register() -> None:
    """Make ``itp/Partition-v0`` known; Gymnasium calls it by itself for installed packages."""
    if "itp/Partition-v0" not in gymnasium.registry:
        gymnasium.register(
            "itp/Partition-v0",
            entry_point="itp.env:PartitionEnv",
            vector_entry_point="itp.env:PartitionVectorEnv",
        )
