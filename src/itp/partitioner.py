"""TaskPartitioner: the object through which a data-plane process decides."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from itp._core.arguments import as_array
from itp._core.decide import time_edges_s
from itp._core.decider import Decider, FastPath, Served
from itp._core.decision import Decision
from itp._core.heuristic import AUTO
from itp._core.reward import RewardWeights
from itp._core.state import ManualClock, NetworkState
from itp._core.task import Task
from itp.schema import MIN_CHUNK_BYTES, STATE_DIM
from itp.state_file import restore_state, save_state

# Models, the log and explanations are imported where they are first used: `import itp` stays light.
if TYPE_CHECKING:
    import numpy.typing as npt

    from itp.evaluation.performance import Performance
    from itp.experience.log import ExperienceLog
    from itp.explain import Explanation

ENGINES = ("auto", "native", "onnxruntime", "heuristic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Counts and means over a partitioner's life."""

    total_decisions: int
    model_decisions: int
    guarded_decisions: int
    """Model decisions in which the guard took a rule's action: the model's was planned to take far longer."""
    unsupported_decisions: int
    """Decisions by the rule for cases that the set model was not trained on; also in ``model_decisions``."""
    heuristic_decisions: int
    explored_decisions: int
    infeasible_decisions: int
    in_flight: int
    """Decisions without an outcome yet. One that its caller no longer holds does not count."""
    total_outcomes: int
    total_successes: int
    success_rate: float
    """Successes over outcomes. NaN before the first outcome, like the two means below."""
    avg_reward: float
    expected_time_error: float
    """Mean |log(actual / expected completion time)| over successes."""
    total_bytes: int
    retransmitted_bytes: int
    lost_records: int
    """Of the experience log, for which the disk was too slow or full."""
    model_version: str | None
    reliability: tuple[tuple[float, int, int], ...]
    """Reliability curve of the confidence: (lower edge of the raw score's bin, outcomes, those within
    1.25 times the expected time)."""
    decision_seconds_buckets: tuple[tuple[float, int], ...]
    """Cumulative histogram: (upper edge in seconds, decisions that took at most that long); the last edge is
    infinite."""
    decision_seconds_sum: float

    def as_dict(self) -> dict[str, Any]:
        """The figures by name. JSON has no NaN: replace it first."""
        return asdict(self)


class StreamOutcome(NamedTuple):
    """What one stream of a decision did; a plain tuple of the same figures will do as well."""

    bytes: int
    """Delivered by this stream, 0 to the task's size."""
    seconds: float
    """From the decision to the stream's last byte, waiting included; finite, >= 0."""
    retransmitted_bytes: int = 0
    """Sent more than once on this stream."""


class TaskPartitioner(FastPath):
    """Decides, for every transfer task, which streams carry it and how many bytes each gets.

    Parameters
    ----------
    model : str, path or None
        "default": the shipped model for 1 to 16 streams; or another shipped model's name, or the path of an
        ONNX file. A variant for the service order is taken where there is one. None: the heuristic decides.
    engine : {"auto", "native", "onnxruntime", "heuristic"}
        What runs the model. "native" is the compiled forward pass, which takes chains of dense layers;
        "auto" is native where the model allows it, and onnxruntime elsewhere; "heuristic" loads no model.
    n_streams : int
        1 to 16. A model of schema 1, as "dqn_v1" is, needs 4.
    service_order : {"fifo", "srpt"}
        How the caller's streams serve their chunks: in order of arrival, or least remaining first; see
        ``NetworkState``.
    hard_deadlines : bool, optional
        Whether actions that are planned to miss a task's deadline are closed while another one meets it.
        None: as the model's metadata say; of the heuristics, those close them that gain by it: all but
        "least_marginal_cost" and, under "fifo", "single_best" and "first_policy_iteration".
    prefer : {"typical", "balanced", "bulk"} or float
        What a model of schema 2 decides for, from 0 ("typical": most tasks are fast for their size) to 1
        ("bulk": the mean completion time is short, so large tasks count); it can be set later, too. A model's
        metadata may give the names other numbers. Of the rules, "auto" and "least_marginal_cost" go by it;
        models of schema 1 do not.
    epsilon : float
        Share of decisions drawn uniformly from the actions open to the task, 0 to 1.
    seed : int, optional
        Seed of the exploration, 0 to 2**64 - 1. Without one, every partitioner explores differently.
    experience_log : path, optional
        Folder in which every decision with a reported outcome is kept (docs/experience.md). It is made where
        it does not exist.
    experience_interval_s : float
        What was reported longer ago than this is on the disk. No report waits for it.
    heuristic : str
        The rule that decides where no model does. "auto", or None: the one that measures best, at present
        "least_marginal_cost" under both service orders (docs/rivals.md). The others are
        "first_policy_iteration", "adaptive_size_interval", "least_completion_time",
        "least_completion_time_proportional", "single_best", "score", "min_rtt", "round_robin",
        "proportional", "equal_split" and "pull", which plans over all streams that are up. A rule gives way
        where it breaks a task's bandwidth floor, or a deadline that closes actions, and another action does
        not.
    min_chunk_bytes : int
        A stream whose share would be smaller gets no chunk.
    reward_weights : RewardWeights, optional
    restore : path, optional
        A file that ``save`` has written: what was learnt of workload and streams is there again, older by the
        time that has passed. Where there is no such file, nothing is known yet.
    clock : ManualClock, optional
        What time it is, for tests, replays and simulated worlds; None: the system's clocks.

    Raises
    ------
    ModelError
        The model's file is missing, damaged, or not a model for these streams.
    SchemaError
        The model was made for another state schema.
    LogError
        The log's folder cannot be made or written.
    StateError
        The file to restore from is damaged, of a later version, or of a site with other streams.
    ValueError, TypeError
        An argument is not as above.

    Notes
    -----
    Thread safety: all methods may be called from several threads. A decision holds the GIL from start to end,
    so no other thread makes it wait; onnxruntime releases the GIL while the model runs.

    Forks: parent and child decide independently from then on, each with its own ledger. The child explores by
    a stream of random numbers of its own, which follows from the generator's state and from the number of the
    fork in its parent: a seeded program that forks in the same order explores the same way again.

    A partitioner cannot be pickled or copied: make one in every process that is spawned.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        engine: str = "auto",
        n_streams: int = 4,
        service_order: str = "fifo",
        hard_deadlines: bool | None = None,
        prefer: str | float = "balanced",
        epsilon: float = 0.0,
        seed: int | None = None,
        experience_log: str | os.PathLike[str] | None = None,
        experience_interval_s: float = 1.0,
        heuristic: str | None = AUTO,
        min_chunk_bytes: int = MIN_CHUNK_BYTES,
        reward_weights: RewardWeights | None = None,
        restore: str | os.PathLike[str] | None = None,
        clock: ManualClock | None = None,
    ) -> None:
        if engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}; got {engine!r}")
        if engine in ("native", "onnxruntime") and model is None:
            raise ValueError(f"engine={engine!r} needs a model; pass model=, or engine='heuristic'")
        self._closed = False
        decider = Decider(
            NetworkState(n_streams, service_order, clock),
            policy=heuristic,
            epsilon=epsilon,
            hard_deadlines=hard_deadlines,
            seed=seed,
            min_chunk_bytes=min_chunk_bytes,
            weights=reward_weights,
            prefer=prefer,
        )
        self._heuristic = decider.policy
        self._hard_deadlines = hard_deadlines
        self._wanted_engine = engine
        if model is not None and engine != "heuristic":
            decider.serve(_served(model, decider.network, engine))
        if restore is not None:
            restore_state(restore, decider)
        self._log = None
        if experience_log is not None:
            self._log = _opened_log(experience_log, decider.network, experience_interval_s)
        self._open(decider)

    # --- streams ---

    @property
    def n_streams(self) -> int:
        """Number of streams."""
        return self._decider.network.n_streams

    @property
    def network(self) -> NetworkState:
        """The streams' metrics and the ledger of bytes in flight."""
        return self._decider.network

    @property
    def engine(self) -> str:
        """What decides: "native", "onnxruntime" or "heuristic"."""
        served = self._decider.served
        return "heuristic" if served is None else served.engine

    @property
    def heuristic(self) -> str:
        """The rule that decides where no model does: "auto", or the one that was named."""
        return self._decider.policy

    @property
    def prefer(self) -> str | float:
        """What a model of schema 2 decides for: a name, or a number from 0 (typical) to 1 (bulk).

        It may be set; the next decision goes by it.
        """
        return self._decider.prefer

    @prefer.setter
    def prefer(self, given: str | float) -> None:
        self._decider.prefer = given

    # --- decisions ---

    def partition_batch(self, tasks: Iterable[Task]) -> list[Decision]:
        """Decide for several tasks in turn; each decision sees the bytes of those before it.

        All or none: where one fails as ``partition_task`` would, those before it are retracted.

        Raises
        ------
        NoStreamError
            Too few streams are up for one of the tasks.
        TypeError
            One of `tasks` is not a Task.
        """
        decider = self._decider
        tasks = list(tasks)
        for task in tasks:
            if not isinstance(task, Task):
                raise TypeError(f"tasks must be Task objects; got {task!r}")
        decisions: list[Decision] = []
        before = decider.mark()
        try:
            for task in tasks:
                decisions.append(self.partition_task(task))  # noqa: PERF401 (kept if one fails)
        except BaseException:
            decider.retract(decisions, before)
            raise
        return decisions

    def q_values(self, states: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Q-values of many states at once: to the bit what a decision sees in each state.

        Parameters
        ----------
        states : array_like
            float32[n, 20].

        Returns
        -------
        ndarray
            float32[n, 15]. The Q-values of a state that is not finite may not be finite either.

        Raises
        ------
        ValueError, TypeError
            There is no model, it is of schema 2, or `states` has another shape.
        ModelError
            onnxruntime fails on a state.
        """
        served = self._decider.served
        if served is None:
            raise ValueError("there are no Q-values without a model; pass model=")
        return served.q_values(as_array("states", states, "f", np.float32, (None, STATE_DIM)))

    def report_outcome(
        self,
        decision: Decision,
        throughput_mbps: float,
        latency_s: float,
        success: bool,
        retransmitted_bytes: int = 0,
        *,
        streams: Mapping[int, tuple[int, float] | tuple[int, float, int]] | None = None,
    ) -> float:
        """Join a task's outcome to its decision. Outcomes may come in any order, each once.

        The estimates of the streams that carried the task follow what happened, except where the caller's own
        measurements (``update_stream``) are fresh: docs/estimates.md.

        Parameters
        ----------
        decision : Decision
            As ``partition_task`` returned it.
        throughput_mbps : float
            Goodput of the transfer, in Mbit/s; finite, >= 0.
        latency_s : float
            Time from the decision to completion, in seconds; finite, >= 0.
        success : bool
            Whether the task was delivered.
        retransmitted_bytes : int
            Bytes that were sent more than once. Where `streams` tell of more, those count.
        streams : mapping of int to StreamOutcome, optional
            What streams of the decision did: ``{stream: (bytes, seconds)}`` or ``(bytes, seconds,
            retransmitted_bytes)``; see ``StreamOutcome``. The estimates of streams that are left out stay.
            Where all are there, the reward's imbalance is 1 - first finish / last finish; otherwise the
            planned one stands in. None: the estimates follow the whole task's figures, as far as these tell.

        Returns
        -------
        float
            The reward.

        Raises
        ------
        OutcomeError
            Another partitioner made the decision, or its outcome was reported before. Nothing is changed.
        ValueError, TypeError
            A figure is not as above, a stream is none of the decision's, or the streams' bytes add up to more
            than the task has (of copies, each more). Nothing is changed.
        """
        reward = self._decider.report(
            decision, throughput_mbps, latency_s, success, retransmitted_bytes, streams
        )
        if self._log is not None:
            self._log.add(decision)
        return reward

    def explain(self, decision: Decision) -> Explanation:
        """Explain a decision as it was made, whatever has happened since.

        Returns
        -------
        Explanation
            Every action with its planned time, its value, and why it was not taken. Of decisions with a set
            model in use also the inputs that carried the choice, and what was believed of the workload
            (docs/fast-path.md).

        Raises
        ------
        TypeError
            `decision` is not a Decision.
        ClosedError
        """
        self._decider  # noqa: B018 (ClosedError)
        if not isinstance(decision, Decision):
            raise TypeError(f"decision must be a Decision; got {decision!r}")
        from itp.explain import explain

        return explain(decision)

    # --- figures and models ---

    def metrics(self) -> Metrics:
        """Counts and means of what was decided and reported so far."""
        decider = self._decider
        served = decider.served
        counts = decider.counts()
        outcomes = counts["outcomes"]
        times, seconds = decider.times()
        return Metrics(
            total_decisions=counts["decisions"],
            model_decisions=counts["by_model"],
            guarded_decisions=counts["guarded"],
            unsupported_decisions=counts["unsupported"],
            heuristic_decisions=counts["decisions"] - counts["by_model"],
            explored_decisions=counts["explored"],
            infeasible_decisions=counts["infeasible"],
            in_flight=decider.network.queue_depth,
            total_outcomes=outcomes,
            total_successes=counts["successes"],
            success_rate=counts["successes"] / outcomes if outcomes else float("nan"),
            avg_reward=counts["reward_sum"] / outcomes if outcomes else float("nan"),
            expected_time_error=decider.expected_time_error(),
            total_bytes=counts["bytes_decided"],
            retransmitted_bytes=counts["retransmitted_bytes"],
            lost_records=0 if self._log is None else self._log.lost_records,
            model_version=None if served is None else served.version,
            reliability=tuple(decider.reliability_curve()),
            decision_seconds_buckets=tuple(zip(time_edges_s(), accumulate(times), strict=True)),
            decision_seconds_sum=seconds,
        )

    def swap_model(self, model: str | os.PathLike[str]) -> None:
        """Serve another model from the next decision on.

        Parameters
        ----------
        model : str or path
            As for ``TaskPartitioner``.

        Raises
        ------
        ModelError
            The file is no model that can serve here. The old model stays in use.
        ValueError
            The partitioner was made with ``engine="heuristic"``, or the model is of schema 1 and there are
            other than four streams.
        """
        decider = self._decider
        if self._wanted_engine == "heuristic":
            raise ValueError("engine='heuristic' serves no model; make the partitioner with engine='auto'")
        decider.serve(_served(model, decider.network, self._wanted_engine))

    def evaluate(self, episodes: int = 100, scenario: str = "mixed") -> Performance:
        """What its policy achieves in the simulator, under its service order; nothing of it is touched.

        The model with its guard, or else the heuristic, with deadlines as hard and the preference as here;
        without exploration. `itp evaluate` tells far more.

        Raises
        ------
        ScenarioError
            There is no such scenario, or none of it with so many paths.
        """
        from itp.evaluation.performance import measure

        served = self._decider.served
        return measure(
            self._heuristic if served is None else served,
            n_streams=self.n_streams,
            hard_deadlines=self._hard_deadlines,
            prefer=self._decider.preference,
            scenario=scenario,
            service_order=self.network.service_order,
            episodes=episodes,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was learnt of workload and streams to a file, for ``TaskPartitioner(restore=path)``.

        The file is written whole or not at all. It holds the memory of the workload, what is known of every
        stream, and the reliability of the confidence; no tasks in flight, and no model.

        Raises
        ------
        StateError
            It cannot be written; what stood there stands.
        """
        save_state(path, self._decider)

    # --- the end ---

    def close(self) -> None:
        """Write the rest of the experience log and release the model. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        self._shut()
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> TaskPartitioner:
        self._decider  # noqa: B018 (ClosedError)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _served(model: str | os.PathLike[str], network: NetworkState, engine: str) -> Served:
    from itp.models.load import load_model
    from itp.models.serving import serve

    return serve(load_model(model, network.service_order, engine=engine))


def _opened_log(folder: str | os.PathLike[str], network: NetworkState, interval_s: float) -> ExperienceLog:
    from itp.experience.log import ExperienceLog

    return ExperienceLog(
        folder, network.n_streams, interval_s=interval_s, service_order=network.service_order
    )
