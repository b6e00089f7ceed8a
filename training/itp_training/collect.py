"""Episodes in the simulator, and what there is to learn from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from itp import Simulator, policies
from itp.sim import scenario
from itp.sim.choice import Choice
from itp.sim.outcomes import log_slowdowns
from itp.sim.scenario import Scenario
from itp_training.config import TEACHERS, TrainingConfig
from itp_training.errors import TrainingError
from itp_training.network import QNetwork

OWN = {path.stem: path for path in Path(__file__).parent.glob("*.toml")}
"""Scenarios that are for training alone."""

# Of the seeds that are left to training (those below policies.TEST_SEED), the last ones are kept for these.
VALIDATION_SEED = 900_000
CALIBRATION_SEED = 950_000


@dataclass(frozen=True, slots=True)
class Experiences:
    """Decisions of complete episodes, joined with what became of them; all arrays [decisions, ...].

    Attributes
    ----------
    state, next_state : ndarray
        float32[., 20]; the next is that of the decision `n_step` later.
    action : ndarray
        int64.
    reward : ndarray
        float64: discounted sum of the `n_step` tasks' returns.
    done : ndarray
        bool: the episode ends within these.
    returns : ndarray
        float32[., 15]: what every action would have returned, NaN where it was not tried.
    """

    state: NDArray[np.float32]
    action: NDArray[np.int64]
    reward: NDArray[np.float64]
    next_state: NDArray[np.float32]
    done: NDArray[np.bool_]
    returns: NDArray[np.float32]

    def only(self, which: NDArray[np.bool_]) -> Experiences:
        """Some of them."""
        return Experiences(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


class Collector:
    """Runs rounds of episodes under the policy that is being trained.

    Round r of a run sees the same worlds and the same random numbers however it is reached.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.scenario = training_scenario(config)

    def collect(
        self, number: int, network: QNetwork, epsilon: float, tick: Callable[[int], None] | None = None
    ) -> tuple[Experiences, float, float]:
        """The experiences of a round, the mean reward and the mean log slowdown of its tasks.

        Parameters
        ----------
        number : int
            Of the round.
        network : QNetwork
            In evaluation mode; it decides, and in look-ahead too.
        epsilon : float
            Share of decisions drawn at random from the open actions.
        tick : callable, optional
            Called with the number of decisions just taken; it may raise to leave.

        Raises
        ------
        TrainingError
            No task was completed.
        """
        c = self.config
        envs = min(c.envs, c.episodes - number * c.envs)
        rng = np.random.default_rng([c.seed, number])
        seeds = rng.integers(policies.TRAINING_SEED, VALIDATION_SEED, envs)
        taught = number * c.envs < c.teacher_episodes
        sim = Simulator(self.scenario, seeds=seeds, keep_states=True)
        shape = (envs, c.tasks)
        state = np.zeros((*shape, sim.state_dim), dtype=np.float32)
        returns = np.full((*shape, sim.n_actions), np.nan, dtype=np.float32)
        action, gain, reward = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
        log_slowdown, success = np.zeros(shape), np.zeros(shape, np.bool_)
        for task in range(c.tasks):
            # In all environments at once: large batches are cheap.
            if rng.random() < c.look_ahead_share:
                returns[:, task] = self.look_ahead(sim, task, None if taught else network)
            chosen = self._by_rule(sim) if taught else self._by_network(sim, network)
            sim.step_masks(*sim.explore(chosen, epsilon))
            # Outcomes arrive in any order, and belong to the decisions they come from.
            outcomes, records = sim.completed(), sim.experiences()
            at = outcomes["env"], records["number"]
            state[at], action[at], reward[at] = records["state"], records["action"], records["reward"]
            log_slowdown[at], success[at] = log_slowdowns(outcomes), outcomes["success"]
            gain[at] = self._gain(outcomes)
            if tick is not None:
                tick(envs)
        if not success.any():
            raise TrainingError(
                f"no task of {envs * c.tasks} was completed in time or at all: the scenario cannot be learnt "
                "from; look at it with `itp simulate`"
            )
        if not (np.isfinite(gain).all() and np.isfinite(reward).all()):
            raise TrainingError(
                f"round {number + 1}: a task's {c.objective} is not finite: look at the scenario with "
                "`itp simulate`; the last checkpoint stands"
            )
        experiences = _join(state, action, gain, returns, c)
        if c.td_weight == 0.0:
            experiences = experiences.only(np.asarray(~np.isnan(experiences.returns).all(axis=1)))
        return experiences, float(reward.mean()), float(log_slowdown.mean())

    def look_ahead(self, sim: Simulator, task: int, network: QNetwork | None) -> NDArray[np.float32]:
        """What every action of the waiting tasks returns, float32[envs, 15]; NaN: not open.

        Each is tried in a copy of the world in which the network, or else the teacher, decides for the
        next tasks. All copies of a world have the same future, so differences between actions have none
        of its noise. Discounts count from the waiting one on, number `task` of its episode; tasks in flight
        have none.
        """
        c = self.config
        effective = sim.effective_actions
        row, action = np.nonzero(effective == np.arange(sim.n_actions))
        future = sim.branch(row, c.look_ahead_tasks)
        total = np.zeros(len(row))
        future.step(action)
        while True:
            outcomes = future.completed()
            env = outcomes["env"]
            ahead = np.maximum(outcomes["task"] - task, 0)
            total += np.bincount(env, self._gain(outcomes) * c.gamma**ahead, minlength=len(row))
            if future.done.all():
                break
            future.step_masks(
                *(self._by_rule(future) if network is None else self._by_network(future, network))
            )
        found = np.full(effective.shape, np.nan, dtype=np.float32)
        found[row, action] = total
        # An action that comes to another one returns what that one does.
        same = np.take_along_axis(found, np.maximum(effective, 0), axis=1)
        return np.where(effective >= 0, same, np.float32(np.nan))

    def _by_rule(self, sim: Simulator) -> Choice:
        return sim.choose(TEACHERS[self.config.service_order])

    def _by_network(self, sim: Simulator, network: QNetwork) -> Choice:
        with torch.inference_mode():
            values = network(torch.from_numpy(sim.states).to(self.device)).cpu().numpy()
        return sim.decide(values)

    def _gain(self, outcomes: NDArray[np.void]) -> NDArray[np.float64]:
        if self.config.objective == "reward":
            return np.asarray(outcomes["reward"], dtype=np.float64)
        return -log_slowdowns(outcomes)


def training_scenario(config: TrainingConfig) -> Scenario:
    """Worlds of all the configuration's scenarios, at loads from its range."""
    low, high = config.load
    mixture = {
        "name": "training",
        "families": [str(OWN.get(name, name)) for name in config.scenarios],
        "workload": {"load": {"uniform": [low, high]}},
    }
    loaded = scenario.load(mixture).with_options(service_order=config.service_order, tasks=config.tasks)
    if loaded.n_streams != 4:
        raise TrainingError(f"the scenarios have {loaded.n_streams} paths; a model decides over 4")
    return loaded


def _join(
    state: NDArray[np.float32],
    action: NDArray[np.int64],
    gain: NDArray[np.float64],
    returns: NDArray[np.float32],
    config: TrainingConfig,
) -> Experiences:
    """n-step transitions of complete episodes [envs, tasks]."""
    n, tasks = config.n_step, gain.shape[1]
    reward = np.zeros_like(gain)
    for k in range(min(n, tasks)):
        reward[:, : tasks - k] += config.gamma**k * gain[:, k:]
    next_state = np.zeros_like(state)
    next_state[:, : max(tasks - n, 0)] = state[:, n:]
    done = np.broadcast_to(np.arange(tasks) + n >= tasks, gain.shape)
    return Experiences(
        state.reshape(-1, state.shape[2]),
        action.reshape(-1),
        reward.reshape(-1),
        next_state.reshape(-1, state.shape[2]),
        done.reshape(-1),
        returns.reshape(-1, returns.shape[2]),
    )
