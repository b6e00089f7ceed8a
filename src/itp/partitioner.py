"""TaskPartitioner: what a data-plane process holds."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from itp._core.decide import Decider
from itp._core.decision import Decision
from itp._core.reward import RewardWeights
from itp._core.state import NetworkState
from itp._core.task import Task
from itp.agent import DQNAgent
from itp.engine import ENGINES, OnnxRuntimeEngine
from itp.errors import ClosedError, NoStreamError, OutcomeError
from itp.explanation import Explanation, explain
from itp.model import load_model
from itp.online.log import ExperienceLog

if TYPE_CHECKING:
    from itp.performance import Performance


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a partitioner has done since it was made."""

    total_decisions: int
    model_decisions: int
    guarded_decisions: int
    """Of the model's: a rule's action was taken, as the model's was planned to take far longer."""
    heuristic_decisions: int
    explored_decisions: int
    infeasible_decisions: int
    in_flight: int
    """Decided, not yet reported."""
    total_outcomes: int
    success_rate: float
    """Successes over outcomes; NaN before the first outcome, as the two means below."""
    avg_reward: float
    expected_time_error: float
    """Mean |log(actual / expected completion time)| over successes."""
    total_bytes: int
    retransmitted_bytes: int
    model_version: str | None
    reliability: tuple[tuple[float, int, int], ...]
    """Of the confidence: (lower edge of the raw score's bin, outcomes, as good as expected)."""

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, ready for JSON but for NaN."""
        return asdict(self)


class TaskPartitioner:
    """Decides, for every transfer task, which streams carry it and how many bytes each gets.

    Parameters
    ----------
    model : str, path or None
        A shipped model's name, or the path of an ONNX file: input ``state`` float32[batch, 20],
        output ``q_values`` float32[batch, 15]; its variant for the service order, if it has one. None: the
        heuristic decides.
    engine : {"auto", "onnxruntime", "heuristic"}
        "auto" is onnxruntime with a model and the heuristic without; "heuristic" loads no model.
    n_streams : int
        1 to 16; a model needs 4.
    service_order : {"fifo", "srpt"}
        How the caller's streams serve their chunks; see ``NetworkState``.
    epsilon : float
        Share of decisions drawn at random from the actions open to the task.
    seed : int, optional
        Of that exploration.
    experience_log : path, optional
        A folder, made if need be, where every joined experience is kept.
    heuristic : str
        "least_completion_time", "score", "single_best", "round_robin", "proportional" or
        "equal_split".
    min_chunk_bytes : int
        A stream whose share would be smaller is left out of a decision.
    reward_weights : RewardWeights, optional

    Raises
    ------
    ModelError, SchemaError, LogError, ValueError, TypeError

    Notes
    -----
    Thread safety: all methods may be called from several threads. Without a model a decision holds
    the GIL from start to end; with onnxruntime the GIL is given away while the model runs.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        engine: str = "auto",
        n_streams: int = 4,
        service_order: str = "fifo",
        epsilon: float = 0.0,
        seed: int | None = None,
        experience_log: str | os.PathLike[str] | None = None,
        heuristic: str = "least_completion_time",
        min_chunk_bytes: int = 64 * 1024,
        reward_weights: RewardWeights | None = None,
    ) -> None:
        if engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}; got {engine!r}")
        if engine == "onnxruntime" and model is None:
            raise ValueError("engine='onnxruntime' needs a model; pass model=, or engine='heuristic'")
        self._network = NetworkState(n_streams, service_order)
        self._decider = Decider(
            self._network,
            policy=heuristic,
            epsilon=epsilon,
            seed=seed,
            min_chunk_bytes=min_chunk_bytes,
            weights=reward_weights,
        )
        self._heuristic = heuristic
        self._agent = DQNAgent(self._decider)
        self._engine_name = engine
        if model is not None and engine != "heuristic":
            self._agent.serve(self._load(model))
        self._log = None if experience_log is None else ExperienceLog(experience_log, n_streams)
        # Reported decisions that wait for the next decision's state.
        self._incomplete: deque[Decision] = deque()
        self._log_lock = threading.Lock()
        self._closed = False

    def _load(self, model: str | os.PathLike[str]) -> OnnxRuntimeEngine:
        if self._network.n_streams != 4:
            raise ValueError(f"a model needs n_streams=4 (state schema 1); got {self._network.n_streams}")
        return OnnxRuntimeEngine(load_model(model, self._network.service_order))

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the partitioner is closed")

    # --- streams ---

    @property
    def n_streams(self) -> int:
        """Number of streams."""
        return self._network.n_streams

    @property
    def network(self) -> NetworkState:
        """The streams' metrics and the ledger of bytes in flight."""
        self._check_open()
        return self._network

    def update_stream(
        self,
        stream: int,
        bandwidth_mbps: float | None = None,
        latency_ms: float | None = None,
        congestion: float | None = None,
        success_rate: float | None = None,
    ) -> None:
        """Take in fresh measurements of a stream; see ``NetworkState.update_stream``."""
        self._check_open()
        self._network.update_stream(stream, bandwidth_mbps, latency_ms, congestion, success_rate)

    def set_stream_up(self, stream: int, up: bool) -> None:
        """Say whether a stream works; one that is down gets no chunk."""
        self._check_open()
        self._network.set_stream_up(stream, up)

    def report_progress(self, stream: int, delivered_bytes: int) -> None:
        """Say how many bytes a stream has delivered since its last report; optional."""
        self._check_open()
        self._network.report_progress(stream, delivered_bytes)

    # --- decisions ---

    def partition_task(self, task: Task) -> Decision:
        """Decide for one task.

        Raises
        ------
        NoStreamError
            All streams are down, or fewer are up than the task asks copies for.
        """
        if self._closed:
            raise ClosedError("the partitioner is closed")
        try:
            return self._agent.decide(task)
        except LookupError as error:
            raise NoStreamError(str(error)) from None

    def partition_batch(self, tasks: Iterable[Task]) -> list[Decision]:
        """Decide for several tasks in turn, each seeing the bytes of those before it.

        All or none: where one fails, as ``partition_task`` would, those before it are taken back.
        """
        self._check_open()
        tasks = list(tasks)
        for task in tasks:
            if not isinstance(task, Task):
                raise TypeError(f"tasks must be Task objects; got {task!r}")
        decisions: list[Decision] = []
        try:
            for task in tasks:
                decisions.append(self.partition_task(task))  # noqa: PERF401 (kept if one fails)
        except BaseException:
            for decision in decisions:
                self._decider.retract(decision)
            raise
        return decisions

    def report_outcome(
        self,
        decision: Decision,
        throughput_mbps: float,
        latency_s: float,
        success: bool,
        retransmitted_bytes: int = 0,
    ) -> float:
        """Join what became of a task to its decision; in any order, each once.

        Parameters
        ----------
        decision : Decision
            As ``partition_task`` returned it.
        throughput_mbps, latency_s : float
            Goodput achieved, and time from decision to completion; finite, >= 0.
        success : bool
        retransmitted_bytes : int
            Bytes that had to be sent again.

        Returns
        -------
        float
            The reward.

        Raises
        ------
        OutcomeError
            The decision is another partitioner's, or was reported before. Nothing is changed.
        """
        self._check_open()
        try:
            reward = self._decider.report(decision, throughput_mbps, latency_s, success, retransmitted_bytes)
        except LookupError as error:
            raise OutcomeError(str(error)) from None
        if self._log is not None:
            with self._log_lock:
                self._incomplete.append(decision)
                self._log_complete(self._log)
        return reward

    def _log_complete(self, log: ExperienceLog) -> None:
        for _ in range(len(self._incomplete)):
            decision = self._incomplete.popleft()
            if decision.next_state is None:
                self._incomplete.append(decision)
            else:
                log.append(decision, done=False)

    def explain(self, decision: Decision) -> Explanation:
        """Every action of a decision: predicted time, Q-value, and why it was not taken."""
        self._check_open()
        if not isinstance(decision, Decision):
            raise TypeError(f"decision must be a Decision; got {decision!r}")
        return explain(decision)

    # --- figures and models ---

    def metrics(self) -> Metrics:
        """What was decided and reported so far."""
        self._check_open()
        counts = self._decider.counts()
        outcomes = counts["outcomes"]
        engine = self._agent.engine
        return Metrics(
            total_decisions=counts["decisions"],
            model_decisions=counts["by_model"],
            guarded_decisions=counts["guarded"],
            heuristic_decisions=counts["decisions"] - counts["by_model"],
            explored_decisions=counts["explored"],
            infeasible_decisions=counts["infeasible"],
            in_flight=self._network.queue_depth,
            total_outcomes=outcomes,
            success_rate=counts["successes"] / outcomes if outcomes else float("nan"),
            avg_reward=counts["reward_sum"] / outcomes if outcomes else float("nan"),
            expected_time_error=self._decider.expected_time_error(),
            total_bytes=counts["bytes_decided"],
            retransmitted_bytes=counts["retransmitted_bytes"],
            model_version=None if engine is None else engine.model.version,
            reliability=tuple(self._decider.reliability_curve()),
        )

    def swap_model(self, model: str | os.PathLike[str]) -> None:
        """Serve another model from the next decision on.

        Raises
        ------
        ModelError
            The file is bad; the old model goes on serving.
        """
        self._check_open()
        if self._engine_name == "heuristic":
            raise ValueError("engine='heuristic' serves no model; make the partitioner with engine='auto'")
        self._agent.serve(self._load(model))

    def evaluate(self, episodes: int = 100, scenario: str = "mixed") -> Performance:
        """What its policy achieves in the simulator, under its service order; nothing of it is touched.

        The model with its guard, or else the heuristic; without exploration. It needs four streams.
        `itp evaluate` tells far more.
        """
        from itp import baselines, performance  # here, so that `import itp` stays light
        from itp.policies import ModelPolicy

        self._check_open()
        if self.n_streams != 4:
            raise ValueError(f"the simulated scenarios have 4 streams; this partitioner has {self.n_streams}")
        engine = self._agent.engine
        policy = baselines.make(self._heuristic) if engine is None else ModelPolicy(engine.model.path)
        return performance.measure(
            policy, name=scenario, service_order=self._network.service_order, episodes=episodes
        )

    # --- the end ---

    def close(self) -> None:
        """Write the rest of the experience log and let go; closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        if self._log is not None:
            with self._log_lock:
                self._log_complete(self._log)
                for decision in self._incomplete:
                    self._log.append(decision, done=True)
            self._log.close()

    def __enter__(self) -> TaskPartitioner:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
