"""The fast path for Python: a Task becomes a Decision in one compiled call.

A decision by the heuristic or the compiled forward pass keeps the GIL from start to end: no other thread can
make it wait, or change what it reads. It allocates nothing but the Decision, which comes from a free list.
"""
cimport cython
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

import os
from collections.abc import Mapping

import numpy as np

from itp._core.alloc cimport LEAST_CHUNK_BYTES
from itp._core.arguments cimport byte_count, integer, real_between
from itp._core.calibration cimport BINS, Calibration
from itp._core.choose cimport (
    MODEL_STATE,
    MODEL_STREAMS,
    N_ACTIONS,
    Cap,
    Guard,
    Learned,
    Support,
    WorkloadSupport,
    deadline_closes,
    deadlines_of,
    default_limits,
)
from itp._core.decide cimport (
    ITP_NO_MEMORY,
    ITP_NO_STREAM_UP,
    ITP_OK,
    N_TIMES,
    Status,
    decide_task,
    observe_task,
    report_task,
    retract_task,
    settle_task,
)
from itp._core.decision cimport (
    ITP_HEURISTIC,
    ITP_ONNXRUNTIME,
    Decision,
    feature_arrays,
    members,
    new_decision,
)
from itp._core.estimates cimport Delivered, delivered_fits
from itp._core.features cimport Features, Situation, assemble_features
from itp._core.heuristic cimport Candidates, enumerate_sets, policy_number
from itp._core.order cimport ServiceOrder
from itp._core.qnet cimport QNet
from itp._core.reward cimport Outcome, RewardWeights
from itp._core.rng cimport rng_seed
from itp._core.setnet cimport SetNet
from itp._core.state cimport Network, NetworkState, network_unix_s, popcount
from itp._core.task cimport Task

from itp._core.heuristic import AUTO as _AUTO
from itp._util.messages import brief
from itp.errors import ClosedError, ModelError, NoStreamError, OutcomeError

STATE_DIM = MODEL_STATE
PREFERENCES = {"typical": 0.0, "balanced": 0.5, "bulk": 1.0}


@cython.final
cdef class Slot:
    """Buffers for one state and its Q-values, and the call that fills in the latter.

    Parameters
    ----------
    state, q_values : ndarray
        float32[20] and float32[15], C-contiguous: what `run` reads and writes.
    run : callable
        Without arguments.

    Notes
    -----
    Thread safety: one thread at a time uses it.
    """

    def __cinit__(self, float[::1] state not None, float[::1] q_values not None, run):
        if state.shape[0] != MODEL_STATE or q_values.shape[0] != N_ACTIONS:
            raise ValueError(f"expected float32[{STATE_DIM}] and float32[{N_ACTIONS}]; "
                             f"got [{state.shape[0]}] and [{q_values.shape[0]}]")
        self.state = state
        self.q_values = q_values
        self.run = run

    def __call__(self, const float[:, ::1] states not None):
        """Q-values float32[n, 15] of states float32[n, 20], one run for each state."""
        cdef float[:, ::1] found = np.empty((states.shape[0], N_ACTIONS), np.float32)
        cdef Py_ssize_t i
        if states.shape[1] != MODEL_STATE:
            raise ValueError(f"states has {states.shape[1]} columns: expected {STATE_DIM}")
        for i in range(states.shape[0]):
            memcpy(&self.state[0], &states[i, 0], MODEL_STATE * sizeof(float))
            self.run()
            memcpy(&found[i, 0], &self.q_values[0], N_ACTIONS * sizeof(float))
        return np.asarray(found)


# Never cleared while it can be reached: `learned` points into what it holds.
@cython.final
@cython.no_gc_clear
cdef class Served:
    """A model in use: all that deciding by it takes, computed by the compiled forward pass or by onnxruntime.

    Parameters
    ----------
    version : str
        Decisions made with the model carry it.
    net : QNet, optional
        The compiled forward pass: 20 inputs, 15 outputs. Without it, onnxruntime computes, in Slots.
    set_net : SetNet, optional
        The compiled forward pass of a set model, schema 2.
    make_slot : callable, optional
        Returns a new Slot; called whenever no idle one is left.
    run_batch : callable, optional
        Q-values float32[n, 15] of states float32[n, 20], the same bits as a Slot gives state by state.
        Without it, a batch is computed state by state.
    on_failure : callable, optional
        Called with the exception of a run that failed; the heuristic then decides.
    calibration : Calibration, optional
    guard : Guard, optional
    hard_deadlines : bool
        Actions that are planned to miss a deadline are to be closed while another one meets it.
    cap : Cap, optional
        How much longer than the fastest candidate a set model may plan; without, ``Cap()``.
    support : Support, optional
        The inputs that a set model was trained on; without, it decides by any.
    workload : WorkloadSupport, optional
        The workloads that a model of schema 1 was trained on; without, it decides in any.
    preferences : mapping of str to float, optional
        What the names of preferences stand for with this set model; without, ``PREFERENCES``.

    Notes
    -----
    Thread safety: immutable, but for the idle Slots, each of which one thread uses at a time.
    """

    def __cinit__(self, str version not None, *, QNet net=None, SetNet set_net=None, make_slot=None,
                  run_batch=None, on_failure=None, Calibration calibration=None, Guard guard=None,
                  bint hard_deadlines=False, Cap cap=None, Support support=None,
                  WorkloadSupport workload=None, preferences=None):
        if [net, set_net, make_slot].count(None) != 2:
            raise ValueError("either net, set_net or make_slot must be given")
        if net is not None:
            inputs, *_, outputs = net.widths
            if (inputs, outputs) != (STATE_DIM, N_ACTIONS):
                raise ValueError(f"net has {inputs} inputs and {outputs} outputs: "
                                 f"expected {STATE_DIM} and {N_ACTIONS}")
        self.version = version
        self.net = net
        self.set_net = set_net
        self.make_slot = make_slot
        self.run_batch = run_batch
        self.on_failure = on_failure
        self.calibration = calibration
        self.guard = guard
        self.idle = []
        self.cap = cap
        self.support = support
        self.workload = workload
        self.preferences = {name: real_between(name, number, 0.0, 1.0, "from 0 to 1")
                            for name, number in (PREFERENCES | (preferences or {})).items()}
        memset(&self.learned, 0, sizeof(self.learned))
        if net is not None:
            self.learned.forward = net.forward
            self.learned.net = &net.net
        if set_net is not None:
            self.learned.set_forward = set_net.forward
            self.learned.set_net = &set_net.net
        self.learned.limits = default_limits() if cap is None else cap.limits
        self.learned.ranges = NULL if support is None else &support.ranges
        self.learned.balanced = self.preferences["balanced"]
        self.learned.known = NULL if workload is None else &workload.known
        self.learned.tables = NULL if calibration is None else &calibration.tables
        self.learned.hard_deadlines = hard_deadlines
        self.learned.has_guard = guard is not None
        if guard is not None:
            self.learned.guard_policy = guard.policy
            self.learned.guard_threshold = guard.threshold

    def __reduce__(self):
        raise TypeError("a served model cannot be pickled: load it again")

    @property
    def hard_deadlines(self):
        """Whether the model asks for actions that miss a deadline to be closed."""
        return bool(self.learned.hard_deadlines)

    @property
    def schema(self):
        """1: Q-values of the 15 actions of four streams. 2: values of sets of 1 to 16 streams."""
        return 1 if self.set_net is None else 2

    @property
    def engine(self):
        """What computes its answers: "native" or "onnxruntime"."""
        return "native" if self.make_slot is None else "onnxruntime"

    def q_values(self, states):
        """Q-values float32[n, 15] of states float32[n, 20]: to the bit what a decision sees in each state.

        Raises
        ------
        ModelError
            onnxruntime computes, and fails.
        ValueError
            It is a set model.
        """
        cdef Slot slot
        if self.set_net is not None:
            raise ValueError(f"{self.version} has schema 2: it has no Q-values of states; "
                             "Decision.values has a decision's values")
        if self.net is not None:
            return self.net(states)
        try:
            if self.run_batch is not None:
                return self.run_batch(states)
            slot = self._take_slot()
            found = slot(states)
        except Exception as error:  # onnxruntime's own exceptions derive from Exception alone
            raise ModelError(f"model {self.version} failed: {brief(error)}") from error
        self.idle.append(slot)
        return found

    cdef Slot _take_slot(self):
        """An idle Slot, or a new one; it goes back to `idle` after a run that did not fail."""
        return self.idle.pop() if self.idle else self.make_slot()


@cython.final
cdef class Mark:
    """A decider before a batch of decisions, for ``Decider.retract``."""


# Nor this one: `core` points into network and model.
@cython.final
@cython.no_gc_clear
cdef class Decider:
    """Decides for one set of streams, keeps its ledger, joins outcomes.

    Parameters
    ----------
    network : NetworkState
    policy : str, optional
        One of ``heuristic.POLICIES``: the rule that decides when no model does; "auto", or None: the one that
        measures best.
    epsilon : float
        Share of decisions drawn uniformly from the actions open to the task.
    hard_deadlines : bool or None
        Whether actions that are planned to miss a deadline are closed while another one meets it; None: as
        the served model wants it, and as measured best for the heuristic.
    seed : int, optional
        Of the exploration, 0 to 2**64 - 1; without, one is taken from the system. A forked child explores by
        a stream of its own, which follows from the generator's state and from the number of the fork.
    min_chunk_bytes : int
    weights : RewardWeights
    prefer : {"typical", "balanced", "bulk"} or float
        What a set model decides for; see ``prefer``.

    Notes
    -----
    Thread safety: every method holds the GIL from start to end, but for a decision through onnxruntime,
    which gives it away while the model runs; that one has its state by then, and enters the ledger after.
    """

    def __cinit__(self, NetworkState network not None, *, policy=_AUTO, epsilon=0.0, hard_deadlines=None,
                  seed=None, min_chunk_bytes=LEAST_CHUNK_BYTES, RewardWeights weights=None,
                  prefer="balanced"):
        memset(&self.core, 0, sizeof(self.core))
        self.core.deadlines = deadlines_of(hard_deadlines)
        self.core.epsilon = real_between("epsilon", epsilon, 0.0, 1.0, "0 to 1")
        self.core.min_chunk_bytes = byte_count("min_chunk_bytes", min_chunk_bytes, 1)
        if seed is None:
            seed = int.from_bytes(os.urandom(8), "little")
        seed = integer("seed", seed)
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"seed = {seed!r}: expected 0 to 2**64 - 1")
        if network.has_decider:
            raise ValueError("network has a Decider already: one alone joins outcomes to its flights")
        network.has_decider = True
        self.network = network
        self.core.network = &network.net
        self.weights = RewardWeights() if weights is None else weights
        self.core.weights.throughput = self.weights.throughput
        self.core.weights.latency = self.weights.latency
        self.core.weights.imbalance = self.weights.imbalance
        self.core.weights.completion = self.weights.completion
        self.core.weights.retransmission = self.weights.retransmission
        policy = _AUTO if policy is None else policy
        self.core.policy = policy_number(policy, <ServiceOrder>network.net.order)
        self.policy = policy
        self.prefer = prefer
        rng_seed(&self.core.rng, seed)

    def __reduce__(self):
        raise TypeError("a Decider cannot be pickled or copied: it holds the ledger of one process")

    @property
    def epsilon(self):
        """Share of decisions drawn at random."""
        return self.core.epsilon

    @property
    def min_chunk_bytes(self):
        """A stream whose share would be smaller is left out."""
        return self.core.min_chunk_bytes

    @property
    def prefer(self):
        """What a set model decides for: a name, or a number from 0 to 1.

        0, "typical": that most tasks are fast for their size. 1, "bulk": that the mean completion time is
        short, so that large tasks count. "balanced" is between. A model's metadata may say which number a
        name stands for; elsewhere it is 0, 0.5 or 1.
        """
        return self._prefer

    @prefer.setter
    def prefer(self, given):
        expected = "'typical', 'balanced', 'bulk', or a number from 0 to 1"
        if isinstance(given, (bool, np.bool_)):
            raise TypeError(f"prefer = {given!r}: expected {expected}")
        if not isinstance(given, str):
            real_between("prefer", given, 0.0, 1.0, expected)
        elif given not in PREFERENCES:
            raise ValueError(f"prefer = {given!r}: expected {expected}")
        self._prefer = given
        self.core.preference = self._preference(self.served)

    @property
    def preference(self):
        """The number that ``prefer`` comes to with the model in use."""
        return self.core.preference

    cdef double _preference(self, Served served) except -1.0:
        if not isinstance(self._prefer, str):
            return self._prefer
        return (PREFERENCES if served is None else served.preferences)[self._prefer]

    def serve(self, Served served not None):
        """Decide by this model from the next decision on.

        Raises
        ------
        ValueError
            It is of schema 1, and there are not four streams.
        """
        cdef double preference = self._preference(served)
        if served.schema == 1 and self.core.network.n_streams != MODEL_STREAMS:
            raise ValueError(f"{served.version} is of schema 1: its {N_ACTIONS} actions are those of "
                             f"{MODEL_STREAMS} streams, not of {self.core.network.n_streams}; "
                             f"pass n_streams={MODEL_STREAMS}, or a model of schema 2, which serves 1 to 16")
        # `served` owns what `core` points into. In this order: the last line may free the old model.
        self.core.model = &served.learned
        self.core.preference = preference
        self.served = served

    # --- deciding ---

    def decide(self, Task task not None):
        """Decide for one task.

        Raises
        ------
        NoStreamError
            Too few streams are up.
        MemoryError
            There is none for one more task in flight. Nothing is changed.
        """
        return self._decide(task)

    cdef Decision _decide(self, Task task):
        cdef Decision d = self._begin(task)
        # Read after what may run code of others (a collection, when the Decision is made).
        cdef Served served = self.served
        if served is not None and served.make_slot is not None:
            return self._by_runtime(d, served)
        if served is not None and served.set_net is not None:
            d._begin_seeing()
        self._check(decide_task(&self.core, &d.plan), task)
        if d.seen != NULL:
            d.set_net = served.set_net
            d.support = None if served.support is None else served.support.accepted
            d._keep_seen(&self.core.situation)
        self._finish(d, served)
        return d

    def features(self, Task task not None):
        """What a set model would see if it decided for a task now; nothing is changed.

        Returns
        -------
        dict of str to ndarray
            float32 ``streams`` [m, 12] of the streams that are up, ``context`` [22], ``candidates`` [k, 10];
            uint32 ``members`` [k], bit masks over these streams, and ``masks`` [k] over all.

        Raises
        ------
        NoStreamError
            Too few streams are up.
        """
        cdef Decision d = self._begin(task)
        cdef Situation situation
        cdef Candidates c
        cdef Features found
        self._check(observe_task(&self.core, &d.plan, &situation), task)
        enumerate_sets(&d.plan.paths, &d.plan.demand, &c)
        assemble_features(&situation, &d.plan.paths, &d.plan.demand, &c, &found)
        return feature_arrays(&found, &c)

    cdef Decision _begin(self, Task task):
        cdef Decision d = new_decision()
        d.task = task
        d.network = self.network
        d.plan.demand.size_bytes = task.size_bytes
        d.plan.demand.priority = task.priority
        d.plan.demand.deadline_s = task.deadline
        d.plan.demand.min_bandwidth_Bps = task.min_bandwidth_mbps * 125000.0
        d.plan.demand.redundancy = task.redundancy
        return d

    cdef int _check(self, Status status, Task task) except -1:
        if status == ITP_OK:
            return 0
        n_streams = self.core.network.n_streams
        if status == ITP_NO_MEMORY:
            raise MemoryError("no memory for one more task in flight")
        if status == ITP_NO_STREAM_UP:
            raise NoStreamError(f"no stream can carry task {task.id!r}: all {n_streams} are down; "
                                "set_stream_up(stream, True) brings one back")
        raise NoStreamError(f"task {task.id!r} asks for {task.redundancy} copies on disjoint streams, "
                            f"but {popcount(self.core.network.up)} of {n_streams} streams are up")

    cdef int _finish(self, Decision d, Served served) except -1:
        """What a settled decision holds beyond its plan; the one before gets its next state."""
        cdef const Learned* model = NULL
        if d.plan.source != ITP_HEURISTIC:
            d.model_version = served.version
            model = &served.learned
        d.valued.count = self.core.valued.count
        d.valued.unsupported = self.core.valued.unsupported
        memcpy(d.valued.values, self.core.valued.values, d.valued.count * sizeof(float))
        d.hard_deadline = deadline_closes(model, self.core.policy, self.core.network.order,
                                          self.core.deadlines)
        if self.last is not None:
            memcpy(self.last.state_next, d.plan.state, sizeof(d.plan.state))
            self.last.has_next = True
        self.last = d
        return 0

    cdef Decision _by_runtime(self, Decision d, Served served):
        """Decide by onnxruntime; the GIL may go while it runs, so all that must not change is in `d`."""
        cdef Slot slot
        cdef const float* q_values = NULL
        cdef Situation situation
        self._check(observe_task(&self.core, &d.plan, &situation), d.task)
        try:
            slot = served._take_slot()
            memcpy(&slot.state[0], d.plan.state, MODEL_STATE * sizeof(float))
            slot.run()
            q_values = &slot.q_values[0]
        except Exception as error:  # onnxruntime's own exceptions derive from Exception alone
            if served.on_failure is not None:
                served.on_failure(error)
        self._check(settle_task(&self.core, &served.learned, ITP_ONNXRUNTIME, q_values, &situation, &d.plan),
                    d.task)
        if q_values != NULL:
            served.idle.append(slot)
        self._finish(d, served)
        return d

    def mark(self):
        """A Mark to which ``retract`` can go back."""
        cdef Mark mark = Mark.__new__(Mark)
        mark.last = self.last
        mark.workload = self.core.network.workload
        return mark

    def retract(self, list decisions not None, Mark before not None):
        """Take decisions back whose tasks will not be sent: out of ledger, counters, next states, workload.

        Where another thread has decided since `before`, the tasks stay in the memory of the workload: it
        keeps means, and no single task can be taken out of them.

        Parameters
        ----------
        decisions : list of Decision
            In the order in which they were made.
        before : Mark
            Made before the first of them.
        """
        cdef Decision decision
        cdef Network* net = self.core.network
        if net.workload.count == before.workload.count + len(decisions):
            net.workload = before.workload
        for decision in decisions:
            if decision.network is self.network and decision.plan.in_ledger:
                retract_task(&self.core, &decision.plan)
                self.core.unsupported -= decision.valued.unsupported
                decision.reported = True
        # Unless another thread has decided since, the next state of the one before is not known yet.
        if decisions and self.last is decisions[len(decisions) - 1]:
            self.last = before.last
            if self.last is not None:
                self.last.has_next = False

    # --- outcomes ---

    def report(self, Decision decision not None, throughput_mbps, latency_s, success, retransmitted_bytes,
               streams=None):
        """Join an outcome to its decision and return the reward.

        `streams` maps streams of the decision to (bytes, seconds) or (bytes, seconds, retransmitted bytes).

        Raises
        ------
        OutcomeError
            The decision is another decider's, or its outcome was reported before.
        ValueError, TypeError
            A figure is not finite or negative. Nothing is changed.
        """
        cdef Outcome outcome
        cdef Delivered delivered
        # Conversions may run code of the caller's, which may report too: convert first, then check.
        outcome.throughput_mbps = real_between("throughput_mbps", throughput_mbps, 0.0, 1e300, "0 to 1e300")
        outcome.latency_s = real_between("latency_s", latency_s, 0.0, 1e300, "0 to 1e300")
        outcome.retransmitted_bytes = byte_count("retransmitted_bytes", retransmitted_bytes, 0)
        if not isinstance(success, (bool, np.bool_)):
            raise TypeError(f"success = {success!r}: expected True or False")
        outcome.success = bool(success)
        if decision.network is not self.network:
            raise OutcomeError("the decision was not made by this partitioner")
        if streams is not None:
            _read_delivered(streams, decision, &delivered)
        if decision.reported:
            raise OutcomeError(f"task {decision.task.id!r}: the outcome was reported before")
        if not decision.plan.in_ledger:
            raise OutcomeError(f"task {decision.task.id!r}: the decision is not settled yet")
        decision.reward = report_task(&self.core, &decision.plan, &outcome,
                                      NULL if streams is None else &delivered)
        decision.completed_at_s = network_unix_s(&self.network.net)
        decision.reported = True
        return decision.reward

    # --- figures ---

    def counts(self):
        """The counters, by name."""
        return {**self.core.counters, "unsupported": self.core.unsupported}

    def times(self):
        """How long decisions took: (tuple of counts, sum in seconds); see ``decide.time_edges_s``."""
        return tuple([self.core.times.count[k] for k in range(N_TIMES)]), self.core.times.sum_s

    def reliability_curve(self):
        """List of (bin's lower edge, outcomes, observed hits), ten bins of the raw score."""
        return [(<double>k / BINS, int(self.core.reliability.count[k]), int(self.core.reliability.hits[k]))
                for k in range(BINS)]

    def expected_time_error(self):
        """Mean |log(actual / expected time)| over successes; NaN without any."""
        if self.core.reliability.error_count == 0.0:
            return float("nan")
        return self.core.reliability.error_sum / self.core.reliability.error_count


cdef int _read_delivered(object streams, Decision decision, Delivered* out) except -1:
    """What the caller says of a decision's streams, checked."""
    cdef uint32_t bit
    cdef int i
    out.streams = 0
    if not isinstance(streams, Mapping):
        raise TypeError(f"streams = {streams!r}: expected a mapping of streams to (bytes, seconds)")
    for stream, figures in streams.items():
        i = decision.network.stream_index(stream)
        bit = <uint32_t>1 << i
        if not decision.plan.mask & bit:
            raise ValueError(f"streams has stream {i}, which carries nothing of task {decision.task.id!r}: "
                             f"expected streams of {members(decision.plan.mask)}")
        if not isinstance(figures, tuple) or not 2 <= len(figures) <= 3:
            raise TypeError(f"streams[{i}] = {figures!r}: expected (bytes, seconds) or "
                            "(bytes, seconds, retransmitted_bytes)")
        out.bytes[i] = byte_count("a stream's bytes", figures[0], 0)
        out.seconds[i] = real_between("a stream's seconds", figures[1], 0.0, 1e300, "0 to 1e300")
        out.retransmitted_bytes[i] = (byte_count("a stream's retransmitted_bytes", figures[2], 0)
                                      if len(figures) == 3 else 0)
        out.streams |= bit
    if not delivered_fits(out, &decision.plan):
        raise ValueError(f"streams have more bytes than the {decision.task.size_bytes} of task "
                         f"{decision.task.id!r}")
    return 0


cdef class FastPath:
    """The calls of the data plane, without the interpreter between: what ``TaskPartitioner`` inherits."""

    def __reduce__(self):
        raise TypeError(f"a {type(self).__name__} cannot be pickled or copied: "
                        "it holds the ledger of one process; make one in each")

    def _open(self, Decider decider not None):
        self.decider = decider

    def _shut(self):
        self.decider = None

    @property
    def _decider(self):
        """The decider; ClosedError where there is none."""
        if self.decider is None:
            raise ClosedError("the partitioner is closed")
        return self.decider

    def partition_task(self, Task task not None):
        """Decide for one task: one compiled call, which holds the GIL from start to end.

        With onnxruntime as the engine the GIL is given away while the model runs. Keep the decision until its
        outcome is reported: the bytes of one that is dropped drain before all others.

        Raises
        ------
        NoStreamError
            All streams are down, or fewer are up than the task asks copies for.
        ClosedError
        """
        # Held, for another thread may close the partitioner while onnxruntime runs.
        cdef Decider decider = self.decider
        if decider is None:
            raise ClosedError("the partitioner is closed")
        return decider._decide(task)

    def update_stream(self, stream, bandwidth_mbps=None, latency_ms=None, congestion=None, success_rate=None):
        """Take in fresh measurements of a stream; see ``NetworkState.update_stream``."""
        if self.decider is None:
            raise ClosedError("the partitioner is closed")
        self.decider.network.update_stream(stream, bandwidth_mbps, latency_ms, congestion, success_rate)

    def set_stream_up(self, stream, up):
        """Say whether a stream works; one that is down gets no chunk."""
        if self.decider is None:
            raise ClosedError("the partitioner is closed")
        self.decider.network.set_stream_up(stream, up)

    def report_progress(self, stream, delivered_bytes):
        """Say how many bytes a stream has delivered since its last report; optional."""
        if self.decider is None:
            raise ClosedError("the partitioner is closed")
        self.decider.network.report_progress(stream, delivered_bytes)
