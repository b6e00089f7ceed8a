"""The simulator: many worlds of one scenario, stepped side by side in compiled code."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itp import actions as action_sets
from itp._core.choose import Guard, WorkloadSupport, rule_is_hard
from itp._core.decider import Served
from itp._core.heuristic import AUTO, POLICIES, most_sets
from itp._core.replay.replay import PrioritizedReplayBuffer
from itp._core.reward import RewardWeights
from itp._core.rng import process
from itp._core.setnet import SetNet
from itp._core.sim.batch import OUTCOME, SPLITS, TIMELINE, Batch
from itp.experience.record import record_dtype
from itp.schema import (
    CANDIDATE_FEATURES,
    CONTEXT_FEATURES,
    MIN_CHUNK_BYTES,
    MODEL_STREAMS,
    N_ACTIONS,
    SOURCES,
    STREAM_FEATURES,
    state_dim,
)
from itp.sim.arguments import check_memory, count, first_seed, integer, seed_array
from itp.sim.choice import Choice
from itp.sim.scenario import Scenario, Worlds, load
from itp.sim.sets import SetCosts, SetFeatures

__all__ = ["OUTCOME", "RULES", "SPLITS", "TIMELINE", "Simulator", "masks_of_actions"]

RULES = (AUTO, *POLICIES)
"""Names of the rules that `Simulator.choose` knows."""

_GUARD = SOURCES.index("guard")
_BALANCED = 0.5
_ENVS_AT_A_TIME = 4
"""Environments that a thread looks ahead in before it takes the next ones: their costs differ tenfold."""


@cache
def _version() -> str:
    from importlib.metadata import version

    return version("itp")


@cache
def masks_of_actions(n_streams: int) -> NDArray[np.uint32]:
    """The stream mask of every action, as ``itp.actions`` numbers them."""
    masks = [sum(1 << stream for stream in streams) for streams in action_sets.stream_sets(n_streams)]
    table = np.array(masks, dtype=np.uint32)
    table.flags.writeable = False
    return table


class Simulator:
    """Environments that each simulate one world of a scenario, from decision to decision.

    A world is a pure function of the scenario and a seed: arrivals, sizes, links, faults and errors
    of measurement never depend on what is decided, nor on the other environments. docs/physics.md
    tells what is modelled.

    Parameters
    ----------
    scenario : str, path, mapping or Scenario
        A shipped family (``itp.sim.scenario.FAMILIES`` or ``WORKLOADS``), a file, or its content.
    n_envs : int
        How many environments.
    seed : int
        Environment i begins with world ``seed + i``; its next episodes are those of ``seed + i + n_envs``
        and so on.
    seeds : sequence of int, optional
        The worlds, instead of `n_envs` and `seed`.
    service_order : {"fifo", "srpt"}, optional
        Instead of the scenario's own; ``srpt`` streams also steal work from each other.
    load, tasks, n_streams : optional
        Instead of the scenario's own: offered load as a share of capacity (a number or a distribution, as in
        a file), tasks an episode, number of
        paths (of a scenario whose `paths` is a number).
    threads : int
        The environments are divided among so many threads; results do not depend on it.
    min_chunk_bytes : int
        A stream whose share would be smaller is left out of a decision.
    reward_weights : RewardWeights, optional
    keep_states : bool
        Remember the states of the tasks in flight, for `experiences` and `store`.
    record_timeline : bool
        Keep what the streams of environment 0 serve, for `timeline`.

    Raises
    ------
    ScenarioError
        The scenario is wrong.
    MemoryError
        So many environments would not fit into memory.

    Notes
    -----
    Thread safety: none; one thread at a time.

    ``copy.deepcopy`` and ``pickle`` take the state along: a copy goes on exactly as the original would.
    A pickle is loaded by the same version of itp alone, on the same kind of machine.

    Attributes
    ----------
    states : ndarray
        float32[n_envs, 4 n_streams + 4]: the states that decisions are waited for in; a view.
    seeds : ndarray
        uint64[n_envs]: the worlds that run now; a view.
    """

    def __init__(
        self,
        scenario: str | os.PathLike[str] | Mapping[str, Any] | Scenario = "mixed",
        n_envs: int = 1,
        seed: int = 0,
        *,
        seeds: ArrayLike | None = None,
        service_order: str | None = None,
        load: float | Mapping[str, Any] | None = None,
        tasks: int | None = None,
        n_streams: int | None = None,
        threads: int = 1,
        min_chunk_bytes: int = MIN_CHUNK_BYTES,
        reward_weights: RewardWeights | None = None,
        keep_states: bool = False,
        record_timeline: bool = False,
    ) -> None:
        self.scenario = _scenario(scenario).with_options(
            service_order=service_order, load=load, tasks=tasks, n_streams=n_streams
        )
        if seeds is None:
            n_envs = count("n_envs", n_envs)
            seed = first_seed(seed, n_envs)
            check_memory(n_envs, self.scenario.n_streams)
            first = np.arange(seed, seed + n_envs, dtype=np.uint64)
        else:
            first = seed_array(seeds)
            check_memory(len(first), self.scenario.n_streams)
        if not 1 <= integer("threads", threads) <= 256:
            raise ValueError(f"threads = {threads!r}: expected 1 to 256")
        worlds = self.scenario.sample(first)
        self.n_tasks = worlds.n_tasks
        self.keep_states = keep_states
        batch = Batch(
            worlds.links,
            worlds.paths,
            worlds.workload,
            worlds.seeds,
            worlds.rows,
            worlds.outages,
            worlds.tasks,
            worlds.sizes,
            n_tasks=worlds.n_tasks,
            n_clients=worlds.n_clients,
            service_order=worlds.service_order,
            stealing=worlds.stealing,
            min_chunk_bytes=count("min_chunk_bytes", min_chunk_bytes),
            weights=reward_weights or RewardWeights(),
            keep_states=keep_states,
            record_timeline=record_timeline,
        )
        self._hold(batch, worlds.paths.shape[1], threads)
        self.prefer(_BALANCED)
        self._each(self._batch.begin)

    def _hold(self, batch: Batch, n_streams: int, threads: int) -> None:
        self._batch = batch
        self.n_envs = batch.n_envs
        self.n_streams = n_streams
        self.state_dim = state_dim(n_streams)
        self.n_actions = (1 << n_streams) - 1
        self.states = batch.states
        self.seeds = batch.seeds
        self._masks = np.zeros(self.n_envs, dtype=np.uint32)
        self._splits = np.zeros(self.n_envs, dtype=np.int32)
        self._certain = np.ones(self.n_envs)
        self._not_drawn = np.zeros(self.n_envs, dtype=np.uint8)
        self._by_heuristic = np.zeros(self.n_envs, dtype=np.uint8)
        self._ranges = _ranges(self.n_envs, threads)
        self._pool: ThreadPoolExecutor | None = None
        self._pool_of = process()

    def __getstate__(self) -> dict[str, Any]:
        return {
            "version": _version(),
            "scenario": self.scenario,
            "n_tasks": self.n_tasks,
            "keep_states": self.keep_states,
            "batch": self._batch,
            "n_streams": self.n_streams,
            "threads": len(self._ranges),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["version"] != _version():
            raise ValueError(f"the simulator was pickled by itp {state['version']}; this is {_version()}")
        self.scenario, self.n_tasks = state["scenario"], state["n_tasks"]
        self.keep_states = state["keep_states"]
        self._hold(state["batch"], state["n_streams"], state["threads"])

    def __deepcopy__(self, memo: dict[int, Any]) -> Simulator:
        # The scenario and its tables never change: copies share them.
        copied = object.__new__(Simulator)
        copied.__setstate__(self.__getstate__() | {"batch": deepcopy(self._batch, memo)})
        return copied

    # --- episodes ---

    @property
    def done(self) -> NDArray[np.bool_]:
        """bool[n_envs]: all tasks of the episode are completed."""
        return self._batch.over()

    def reset(self, seeds: ArrayLike | None = None, *, only: NDArray[np.bool_] | None = None) -> None:
        """Begin the episodes anew: of the same worlds, or of those of `seeds` (one an environment).

        With `only` (bool[n_envs]) the others stay as they are.
        """
        fresh = self.seeds.copy() if seeds is None else seed_array(seeds)
        if len(fresh) != self.n_envs:
            raise ValueError(f"seeds: expected {self.n_envs}, one an environment; got {len(fresh)}")
        which = np.arange(self.n_envs) if only is None else np.flatnonzero(only)
        if len(which):
            self._begin(which, fresh[which])

    def reset_done(self, only: NDArray[np.bool_] | None = None) -> int:
        """Begin the next episode in the environments whose episode is over; returns how many.

        The next world's seed is the present one plus `n_envs`. With `only` (bool[n_envs]) the others
        stay as they are.
        """
        over = np.flatnonzero(self.done if only is None else self.done & only)
        if len(over):
            self._begin(over, self.seeds[over] + np.uint64(self.n_envs))
        return len(over)

    def _begin(self, which: NDArray[np.int64], seeds: NDArray[np.uint64]) -> None:
        worlds: Worlds = self.scenario.sample(seeds)
        self._batch.replace(which, worlds.links, worlds.paths, worlds.workload, worlds.seeds)

    # --- decisions ---

    @property
    def action_masks(self) -> NDArray[np.bool_]:
        """bool[n_envs, n_actions]: the actions open to the waiting tasks: all of their streams are up."""
        closed = ~self._batch.up()
        blocked = masks_of_actions(self.n_streams)[None, :] & closed[:, None]
        return np.asarray(blocked == 0, dtype=np.bool_)

    @property
    def effective_actions(self) -> NDArray[np.int64]:
        """int64[n_envs, n_actions]: the action that each one comes to for the waiting task.

        Streams that are down are left out, and without stealing those whose share would be smaller than
        the least chunk; -1 if none is left.
        """
        actions = masks_of_actions(self.n_streams)
        masks = np.empty((self.n_envs, self.n_actions), dtype=np.uint32)
        self._batch.effective_masks(actions, masks)
        return _actions_of_masks(self.n_streams)[masks]

    def expected_times(self, masks: NDArray[np.uint32]) -> NDArray[np.float64]:
        """When the waiting tasks would be through by water-filling, as far as the estimates go.

        Parameters
        ----------
        masks : ndarray
            uint32[n_envs, k]: of streams; those that are down are left out.

        Returns
        -------
        ndarray
            float64[n_envs, k]: seconds from now; infinite where no stream is left, or the episode is over.
        """
        if masks.dtype != np.uint32 or masks.ndim != 2 or len(masks) != self.n_envs:
            raise ValueError(
                f"masks: expected uint32[{self.n_envs}, k]; got {masks.dtype}{list(masks.shape)}"
            )
        times = np.empty(masks.shape)
        self._batch.expected_times(np.ascontiguousarray(masks), times)
        return times

    def step(
        self,
        actions: ArrayLike,
        split: str = "water_filling",
        *,
        propensities: ArrayLike | None = None,
        explored: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Decide in every environment and run each to its next decision, or to the end of its episode.

        Parameters
        ----------
        actions : array_like of int
            [n_envs], numbered as in ``itp.actions``. Streams that are down are left out; if none is
            left, all that are up are taken. What stands for an environment that is done is not read.
        split : {"water_filling", "proportional", "equal", "pull"}
            How chunk sizes are found; ``pull``: idle streams take over what others have left.
        propensities : array_like of float, optional
            [n_envs], of the actions; 1 without.
        explored : array_like of bool, optional
            [n_envs]: which actions were drawn and not chosen; none without.

        Returns
        -------
        rewards : ndarray
            float64[n_envs]: of the tasks that were completed during the step.
        """
        chosen = np.asarray(actions)
        if chosen.shape != (self.n_envs,) or chosen.dtype.kind not in "iu":
            raise ValueError(
                f"actions: expected {self.n_envs} integers; got {chosen.dtype}{list(chosen.shape)}"
            )
        if split not in SPLITS:
            raise ValueError(f"split = {split!r}: expected one of {', '.join(SPLITS)}")
        if not ((chosen >= 0) & (chosen < self.n_actions)).all():
            raise ValueError(
                f"actions: expected 0 to {self.n_actions - 1}; got {chosen.min()} to {chosen.max()}"
            )
        np.take(masks_of_actions(self.n_streams), chosen, out=self._masks)
        self._splits[:] = SPLITS.index(split)
        return self.step_masks(self._masks, self._splits, propensities=propensities, explored=explored)

    def step_masks(
        self,
        masks: NDArray[np.uint32],
        splits: NDArray[np.int32],
        propensities: ArrayLike | None = None,
        explored: ArrayLike | None = None,
        sources: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """As `step`, with the members of a `Choice`: ``sim.step_masks(*choice)``."""
        if masks.dtype != np.uint32 or splits.dtype != np.int32:
            raise TypeError(f"masks, splits: expected uint32 and int32; got {masks.dtype} and {splits.dtype}")
        given, drawn, chosen_by = self._certain, self._not_drawn, self._by_heuristic
        if propensities is not None:
            given = np.ascontiguousarray(propensities, dtype=np.float64)
        if explored is not None:
            drawn = np.ascontiguousarray(explored, dtype=np.bool_).view(np.uint8)
        if sources is not None:
            chosen_by = np.ascontiguousarray(sources, dtype=np.uint8)
        arrays = (masks, splits, given, drawn, chosen_by)
        if any(array.shape != (self.n_envs,) for array in arrays):
            raise ValueError(
                f"masks, splits, propensities, explored and sources: expected [{self.n_envs}] each"
            )
        if splits.min() < 0 or splits.max() >= len(SPLITS):
            raise ValueError(f"splits: expected 0 to {len(SPLITS) - 1}")
        if chosen_by.max() >= len(SOURCES):
            raise ValueError(f"sources: expected 0 to {len(SOURCES) - 1}")
        rewards = np.empty(self.n_envs)
        self._each(lambda first, last: self._batch.step(*arrays, rewards, first, last))
        return rewards

    # --- choosing ---

    def choose(self, rule: str, *, hard_deadlines: bool | None = False) -> Choice:
        """What a classical rule (one of RULES) would do now; the next call overwrites the arrays.

        With `hard_deadlines` a rule of production gives way to the least completion time where it breaks a
        deadline that some action is planned to meet; None: as a ``TaskPartitioner`` would without being told.
        """
        masks, splits = self._masks, self._splits
        self._each(lambda first, last: self._batch.choose(rule, hard_deadlines, masks, splits, first, last))
        hard = rule_is_hard(rule, self.scenario.service_order, hard_deadlines)
        return Choice(masks, splits).made_by("heuristic", hard_deadlines=hard)

    def decide(
        self,
        q_values: NDArray[np.float32],
        *,
        guard: Guard | None = None,
        support: WorkloadSupport | None = None,
        hard_deadlines: bool = False,
        source: str = "native",
    ) -> Choice:
        """What a ``TaskPartitioner`` would decide now by these Q-values: its compiled decision.

        Parameters
        ----------
        q_values : ndarray
            float32[n_envs, 15]. A row that is not finite leaves its decision to the rule "auto".
        guard : Guard, optional
        support : WorkloadSupport, optional
            The workloads in which the model decides; in others the best rule of the service order does.
        hard_deadlines : bool
            Close the actions that are planned to miss the deadline while another one meets it.
        source : str
            Of ``itp.schema.SOURCES``: what computed the values.

        Raises
        ------
        ValueError
            The values have another shape, or the environments have other than 4 streams.
        """
        values = np.ascontiguousarray(q_values, dtype=np.float32)
        if self.n_streams != MODEL_STREAMS or values.shape != (self.n_envs, N_ACTIONS):
            raise ValueError(
                f"q_values: expected [{self.n_envs}, {N_ACTIONS}] over {MODEL_STREAMS} streams; "
                f"got {list(values.shape)} over {self.n_streams}"
            )
        masks, splits = np.zeros(self.n_envs, dtype=np.uint32), np.zeros(self.n_envs, dtype=np.int32)
        sources = np.zeros(self.n_envs, dtype=np.uint8)
        if source not in SOURCES:
            raise ValueError(f"source = {source!r}: expected one of {', '.join(SOURCES)}")
        if not isinstance(hard_deadlines, bool):
            raise TypeError(f"hard_deadlines = {hard_deadlines!r}: expected True or False")
        number = SOURCES.index(source)
        self._each(
            lambda first, last: self._batch.decide(
                values, guard, support, hard_deadlines, number, masks, splits, sources, first, last
            )
        )
        return Choice(masks, splits, sources=sources).made_by(source, hard_deadlines=hard_deadlines)

    def explore(self, choice: Choice, epsilon: float) -> Choice:
        """Epsilon-greedy around a choice, by production's compiled code.

        An action is drawn uniformly from those open to the task (around a set model's choice, from its
        candidates), as hard as the choice takes deadlines, by world and number of the task alone. The
        propensities are those of the actions taken.

        Raises
        ------
        ValueError, TypeError
            `epsilon` is no probability.
        """
        if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float, np.number)):
            raise TypeError(f"epsilon = {epsilon!r}: expected a number")
        if not 0.0 <= epsilon <= 1.0:
            raise ValueError(f"epsilon = {epsilon!r}: expected 0 to 1")
        hard_deadlines, by_set = choice.hard_deadlines, choice.by_set
        masks, splits = choice.masks.copy(), choice.splits.copy()
        propensities, explored = np.ones(self.n_envs), np.zeros(self.n_envs, dtype=np.uint8)
        self._each(
            lambda first, last: self._batch.explore(
                epsilon, hard_deadlines, by_set, masks, splits, propensities, explored, first, last
            )
        )
        drawn = explored.view(np.bool_)
        sources = choice.sources
        if sources is not None:
            # What the guard would have done, it has not done where the action was drawn.
            engine = SOURCES.index(choice.engine)
            sources = np.where(drawn & (sources == _GUARD), engine, sources).astype(np.uint8)
        explored_choice = Choice(masks, splits, propensities, drawn, sources)
        return explored_choice.made_by(choice.engine, hard_deadlines=hard_deadlines, by_set=by_set)

    def look_ahead(self, horizon: int, rule: str) -> Choice:
        """What a clairvoyant would do now; the next call overwrites the arrays.

        Every action is tried in a copy of the world, which goes on with `rule` for the next `horizon` - 1
        tasks and until all in flight are through; the least sum of log slowdowns wins. Beyond six streams the
        candidates of a set model are tried.
        """
        if integer("horizon", horizon) < 1:
            raise ValueError(f"horizon = {horizon!r}: expected at least 1 task")
        masks, splits = self._masks, self._splits
        splits[:] = 0
        self._each(
            lambda first, last: self._batch.look_ahead(masks, horizon, rule, first, last), _ENVS_AT_A_TIME
        )
        return Choice(masks, splits)

    # --- set models ---

    def prefer(self, preferences: ArrayLike) -> None:
        """Say what set models decide for: 0 typical (mean log slowdown) to 1 bulk (mean completion time).

        Parameters
        ----------
        preferences : array_like of float
            One number for all environments, or [n_envs]. It holds until the next call; at first it is 0.5.

        Raises
        ------
        ValueError
            A number is not within 0 to 1.
        """
        given = np.asarray(preferences, dtype=np.float64)
        if given.shape not in ((), (self.n_envs,)):
            raise ValueError(f"preferences: expected a number or [{self.n_envs}]; got {list(given.shape)}")
        if not ((given >= 0.0) & (given <= 1.0)).all():
            raise ValueError(f"preferences = {preferences!r}: expected 0 to 1")
        self._batch.prefer(np.ascontiguousarray(np.broadcast_to(given, self.n_envs)))

    def features(self) -> SetFeatures:
        """The inputs of a set model for the waiting tasks, in new arrays; 0 where an episode is over."""
        n_envs, k = self.n_envs, most_sets(self.n_streams)
        found = SetFeatures(
            np.empty((n_envs, self.n_streams, STREAM_FEATURES), np.float32),
            np.empty((n_envs, CONTEXT_FEATURES), np.float32),
            np.empty((n_envs, k, CANDIDATE_FEATURES), np.float32),
            np.empty((n_envs, k), np.uint32),
            np.empty((n_envs, k), np.uint32),
        )
        self._each(lambda first, last: self._batch.features(*found, first, last))
        return found

    def decide_sets(self, model: Served | SetNet, *, hard_deadlines: bool = False) -> Choice:
        """What a ``TaskPartitioner`` would decide now by a set model, for the preference in force.

        Parameters
        ----------
        model : Served or SetNet
            A model of schema 2 in use, or a network alone, with the cap that it has by default.
        hard_deadlines : bool
            Close the candidates that are planned to miss the deadline while another one meets it.
        """
        if not isinstance(hard_deadlines, bool):
            raise TypeError(f"hard_deadlines = {hard_deadlines!r}: expected True or False")
        masks, splits = np.zeros(self.n_envs, dtype=np.uint32), np.zeros(self.n_envs, dtype=np.int32)
        sources = np.zeros(self.n_envs, dtype=np.uint8)
        self._each(
            lambda first, last: self._batch.decide_sets(
                model, hard_deadlines, masks, splits, sources, first, last
            )
        )
        choice = Choice(masks, splits, sources=sources)
        return choice.made_by("native", hard_deadlines=hard_deadlines, by_set=True)

    def look_ahead_costs(self, model: Served | SetNet | None, horizons: ArrayLike) -> SetCosts:
        """What would happen if the waiting tasks went over each candidate set of streams.

        Each candidate is tried in a copy of the world, which goes on for as many tasks as the horizon says,
        the waiting one included, and until all in flight are through. Tasks in flight now count too.

        Parameters
        ----------
        model : Served, SetNet or None
            Decides for the tasks after the waiting one, for the preference in force; None: the best rule of
            the service order does.
        horizons : array_like of int
            One number for all environments, or [n_envs]; at least 1.

        Raises
        ------
        MemoryError
            There is none for the copies.
        """
        given = np.asarray(horizons)
        if given.dtype.kind not in "iu" or given.shape not in ((), (self.n_envs,)):
            raise TypeError(f"horizons = {horizons!r}: expected an integer, or [{self.n_envs}] of them")
        if given.min() < 1 or given.max() > np.iinfo(np.int32).max:
            raise ValueError(f"horizons = {horizons!r}: expected 1 to 2**31 - 1 tasks")
        tasks = np.ascontiguousarray(np.broadcast_to(given, self.n_envs), np.int32)
        masks = self.features().masks
        costs = SetCosts(masks, np.full(masks.shape, np.nan), np.full(masks.shape, np.nan))
        self._each(
            lambda first, last: self._batch.look_ahead_sets(model, tasks, *costs, first, last),
            _ENVS_AT_A_TIME,
        )
        return costs

    def branch(self, envs: ArrayLike, horizon: int) -> Simulator:
        """Another simulator that goes on from here: what would happen if?

        Parameters
        ----------
        envs : array_like of int
            The environments to copy, each as often as it stands there.
        horizon : int
            The copies' episodes end after so many more tasks, the waiting one included.

        Returns
        -------
        Simulator
            One environment for each of `envs`, in the same world, at the same moment, with the same
            future; on one thread, without kept states.
        """
        which = np.ascontiguousarray(envs, dtype=np.int64)
        if which.ndim != 1 or not len(which) or which.min() < 0 or which.max() >= self.n_envs:
            raise ValueError(f"envs: expected at least one number from 0 to {self.n_envs - 1}")
        if integer("horizon", horizon) < 1:
            raise ValueError(f"horizon = {horizon!r}: expected at least 1 task")
        check_memory(len(which), self.n_streams)
        copies = object.__new__(Simulator)
        copies.scenario, copies.n_tasks, copies.keep_states = self.scenario, self.n_tasks, False
        copies._hold(self._batch.branch(which, min(horizon, self.n_tasks)), self.n_streams, 1)
        return copies

    # --- what can be seen ---

    @property
    def now_s(self) -> NDArray[np.float64]:
        """float64[n_envs]: simulated time."""
        return self._batch.now_s()

    def waiting(self) -> dict[str, NDArray[Any]]:
        """The waiting tasks and what they see of the streams, in physical units.

        size_bytes, priority, deadline_s (infinite: none), arrived_at_s, up (mask): [n_envs];
        bandwidth_Bps, success_rate, rate_Bps (their product), latency_s, work_ahead_s: [n_envs, n_streams],
        as estimated.
        """
        return self._batch.waiting()

    def world(self) -> dict[str, NDArray[Any]]:
        """The truth at present: capacity_Bps[n_envs, n_links] and outage[n_envs, n_streams]."""
        return self._batch.world()

    def counters(self) -> dict[str, NDArray[Any]]:
        """Since the episodes began: delivered_bytes, resent_bytes, sent_bytes, in_flight (tasks), [n_envs];
        carried_bytes[n_envs, n_streams], the integral of each stream's rate."""
        return self._batch.counters()

    def completed(self) -> NDArray[np.void]:
        """OUTCOME[.]: the tasks completed during the last step, by environment, then by time."""
        return self._batch.completed()

    def timeline(self) -> NDArray[np.void]:
        """TIMELINE[.]: what each stream of environment 0 served, and when, in this episode."""
        return self._batch.service_intervals()

    def memory_bytes(self) -> int:
        """What the environments occupy."""
        return self._batch.memory_bytes()

    # --- experiences ---

    def experiences(self) -> NDArray[np.void]:
        """The decisions whose tasks were completed during the last step, each with its own outcome.

        Returns
        -------
        ndarray
            Of ``itp.experience.record.record_dtype``, the record that production's log keeps; by environment,
            then by time, as `completed`. ``task_id`` is the world's seed and the task's number, ``7/12``.

        Raises
        ------
        ValueError
            The simulator was made without keep_states.
        """
        return self._batch.experiences(record_dtype(self.n_streams))

    def store(self, buffer: PrioritizedReplayBuffer) -> int:
        """Put the `experiences` into a replay buffer; returns how many there are."""
        return len(buffer.extend(self.experiences()))

    # --- threads ---

    def _each(self, call: Callable[[int, int], None], at_a_time: int | None = None) -> None:
        """Call for ranges of environments: one a thread, or so many at a time by the next free thread."""
        if len(self._ranges) == 1:
            call(0, self.n_envs)
            return
        # A forked child has none of its parent's threads.
        if self._pool is None or self._pool_of != process():
            self._pool, self._pool_of = ThreadPoolExecutor(len(self._ranges)), process()
        ranges = self._ranges
        if at_a_time is not None:
            ranges = _ranges(self.n_envs, -(-self.n_envs // at_a_time))
        # list() waits for all and raises what one of them raised.
        list(self._pool.map(lambda part: call(*part), ranges))

    def __repr__(self) -> str:
        name, order = self.scenario.name, self.scenario.service_order
        return f"Simulator({name!r}, n_envs={self.n_envs}, service_order={order!r})"


@cache
def _actions_of_masks(n_streams: int) -> NDArray[np.int64]:
    table = np.full(1 << n_streams, -1, dtype=np.int64)
    table[masks_of_actions(n_streams)] = np.arange((1 << n_streams) - 1)
    table.flags.writeable = False
    return table


def _scenario(scenario: str | os.PathLike[str] | Mapping[str, Any] | Scenario) -> Scenario:
    return scenario if isinstance(scenario, Scenario) else load(scenario)


def _ranges(n_envs: int, threads: int) -> list[tuple[int, int]]:
    bounds = [n_envs * k // threads for k in range(threads + 1)]
    return [(first, last) for first, last in pairwise(bounds) if last > first]
