"""What was decided for a task, and what was known when deciding."""
cimport cython
from libc.math cimport INFINITY, isnan
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

import numpy as np

from itp._core.features cimport (
    CANDIDATE_FEATURES,
    CONTEXT_FEATURES,
    STREAM_FEATURES,
    Features,
    Situation,
    assemble_features,
)
from itp._core.heuristic cimport (
    EXHAUSTIVE_STREAMS,
    Candidates,
    Demand,
    any_candidate_meets,
    enumerate_candidates,
    enumerate_sets,
)
from itp._core.state cimport (
    Network,
    Paths,
    StreamMetrics,
    estimate_source,
    network_release,
    popcount,
    stream_figures,
    workload_figures,
)


# The names of `enum itp_source`, by number.
SOURCES = ("heuristic", "native", "onnxruntime", "guard")

cdef uint32_t _BINOMIAL[17][17]


def _fill_binomials():
    for n in range(17):
        _BINOMIAL[n][0] = 1
        for k in range(1, 17):
            _BINOMIAL[n][k] = 0 if k > n else _BINOMIAL[n - 1][k - 1] + _BINOMIAL[n - 1][k]


_fill_binomials()


cdef int action_of_mask(uint32_t mask, int n) noexcept nogil:
    cdef int size = popcount(mask), rank = 0, i, left = size
    for i in range(1, size):
        rank += _BINOMIAL[n][i]
    rank += _BINOMIAL[n][size] - 1
    for i in range(n):
        if (mask >> i) & 1:
            rank -= _BINOMIAL[n - 1 - i][left]
            left -= 1
    return rank


# Set while a Decision is made: nobody else can, so that none is without task and state.
cdef bint _being_made = False


# A Decision holds a Task, tuples of numbers, strings, a NetworkState, and a model's network and ranges, none
# of which refers to anything: no cycle can go through it, and the collector need not walk it.
@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Decision:
    """Which streams carry a task, and how many bytes each; made by a partitioner alone.

    Attributes
    ----------
    task : Task
    stream_ids, chunk_sizes : tuple of int
        Parallel. The chunks are positive and sum to the task's size; with ``redundancy > 1``
        each is a whole copy.
    expected_time_s : float
        Estimated seconds from the decision to completion; infinite if nothing is known to move.
    expected_time_interval_s : (float, float) or None
        The task is through within it in 90 of 100 cases, as observed when the model was made; None
        without a model that tells.
    confidence : float
        P(success within 1.25 x expected_time_s), as observed so far for decisions of its kind.
    feasible : bool
        Whether this plan is estimated to meet the task's deadline and minimum bandwidth. Where deadlines are
        hard, False means that no action was.
    hard_deadline : bool
        Actions that were planned to miss the task's deadline were closed, if another one met it.
    action : int
        Number of the chosen set of streams; of the set's streams, one whose share fell under the
        minimum chunk is not in `stream_ids`.
    q_value : float or None
        The model's value of that set, greater is better; None where no model decided, or it was not asked.
    unsupported : bool
        The model was trained on no such case: the rule decided.
    explored : bool
        Drawn at random by epsilon-greedy exploration.
    propensity : float
        Probability with which this action was taken.
    source : str
        "native" (the compiled forward pass), "onnxruntime", "heuristic", or "guard": the model's action was
        planned to take so much longer than the best rule's that the rule's was taken, or the model was
        trained on no such case.
    model_version : str or None
    state, next_state : numpy.ndarray
        float32[4n + 4]; `next_state` is None until the next decision.
    number, decided_at_s : int, float
        Counts up from 1; Unix time.
    reported, reward, completed_at_s : bool, float, float
        Whether the outcome was reported; then its reward and Unix time.

    Notes
    -----
    Dropping a decision without reporting its outcome is allowed: its bytes then drain from the
    ledger at the stream's bandwidth.
    """

    def __cinit__(self):
        if not _being_made:
            raise TypeError("a Decision is made by TaskPartitioner.partition_task, not by hand")
        # Without a ledger entry there is nothing to give back in __dealloc__.
        self.plan.in_ledger = False
        self.valued.count = 0
        self.seen = NULL

    def __reduce__(self):
        raise TypeError("a Decision cannot be pickled or copied: its outcome is reported once; see as_dict()")

    def __dealloc__(self):
        if self.plan.in_ledger:
            network_release(&self.network.net, self.plan.number, self.plan.mask, True)
        free(self.seen)

    cdef int _begin_seeing(self) except -1:
        """Before the decision: memory for what it sees, and the workload, which the task will change."""
        cdef const Network* net = &self.network.net
        self.seen = <Seen*>malloc(sizeof(Seen) - (16 - net.n_streams) * sizeof(StreamMetrics))
        if self.seen == NULL:
            raise MemoryError("no memory for a decision")
        self.seen.workload = net.workload
        return 0

    cdef void _keep_seen(self, const Situation* situation) noexcept:
        """After the decision: all else that it saw, which deciding does not change."""
        cdef const Network* net = &self.network.net
        cdef int i
        self.seen.situation = situation[0]
        memcpy(self.seen.metrics, net.streams, net.n_streams * sizeof(StreamMetrics))
        for i in range(net.n_streams):
            self.seen.source[i] = estimate_source(&net.evidence[i])

    @property
    def number(self):
        return self.plan.number

    @property
    def decided_at_s(self):
        return self.plan.decided_at_s

    @property
    def stream_ids(self):
        return members(self.plan.mask)

    @property
    def chunk_sizes(self):
        cdef int i
        return tuple([self.plan.chunks[i] for i in range(16) if (self.plan.mask >> i) & 1])

    @property
    def source(self):
        return SOURCES[self.plan.source]

    @property
    def expected_time_s(self):
        return self.plan.expected_time_s

    @property
    def expected_time_interval_s(self):
        if isnan(self.plan.fastest_s):
            return None
        return (self.plan.fastest_s, self.plan.slowest_s)

    @property
    def confidence(self):
        return self.plan.confidence

    @property
    def feasible(self):
        return bool(self.plan.feasible)

    @property
    def explored(self):
        return bool(self.plan.explored)

    @property
    def propensity(self):
        return self.plan.propensity

    @property
    def action(self):
        return action_of_mask(self.plan.action_mask, self.plan.paths.n)

    @property
    def q_value(self):
        return self._value(self.plan.action_mask)

    @property
    def values(self):
        """The model's value of every set of streams that it was asked for: a dict by stream ids.

        Greater is better. A model of schema 1 gives all 15 actions its Q-values, a set model the sets whose
        streams all keep a chunk of the minimum size. None where no model decided.
        """
        cdef Candidates c
        cdef int k
        if self.plan.has_q:
            return {members(mask): self._value(mask) for mask in range(1, 1 << self.plan.paths.n)}
        if self.valued.count == 0:
            return None
        enumerate_sets(&self.plan.paths, &self.plan.demand, &c)
        return {members(c.mask[k]): self.valued.values[k] for k in range(self.valued.count)}

    @property
    def unsupported(self):
        return bool(self.valued.unsupported)

    cdef object _value(self, uint32_t mask):
        """The model's value of a set of streams, or None."""
        cdef Candidates c
        cdef int k
        if self.plan.has_q:
            return self.plan.q_values[action_of_mask(mask, self.plan.paths.n)]
        if self.valued.count > 0:
            enumerate_sets(&self.plan.paths, &self.plan.demand, &c)
            for k in range(self.valued.count):
                if c.mask[k] == mask:
                    return self.valued.values[k]
        return None

    @property
    def state(self):
        return _vector(self.plan.state, self.plan.paths.n)

    @property
    def next_state(self):
        return _vector(self.state_next, self.plan.paths.n) if self.has_next else None

    def estimates(self):
        """What was known when deciding.

        Returns
        -------
        list of (streams, completion_s, whole, meets, q_value)
            One per candidate action; `whole` is False if a share fell under the minimum chunk,
            `meets` if the task's demands are met.
        """
        cdef Candidates c
        cdef int k
        if self.valued.count > 0 and self.plan.paths.n > EXHAUSTIVE_STREAMS:
            enumerate_sets(&self.plan.paths, &self.plan.demand, &c)
        else:
            enumerate_candidates(&self.plan.paths, &self.plan.demand, &c)
        values = self.values or {}
        return [
            (streams, c.completion_s[k], bool(c.whole[k]), bool(c.meets[k]), values.get(streams))
            for k, streams in enumerate([members(c.mask[k]) for k in range(c.count)])
        ]

    def features(self):
        """What the set model saw: as ``Decider.features``, and which candidates meet the task's demands.

        Returns
        -------
        dict of str to ndarray, or None
            bool ``open`` [k] beside the arrays of ``Decider.features``. None where the model was not asked.
        """
        cdef Demand binding = self.plan.demand
        cdef Situation situation
        cdef Candidates c
        cdef Features found
        cdef bint only_meeting
        cdef int k
        if self.valued.count == 0:
            return None
        if not self.hard_deadline:
            binding.deadline_s = INFINITY
        situation = self.seen.situation
        situation.metrics = self.seen.metrics
        situation.workload = &self.seen.workload
        enumerate_sets(&self.plan.paths, &binding, &c)
        assemble_features(&situation, &self.plan.paths, &self.plan.demand, &c, &found)
        arrays = feature_arrays(&found, &c)
        only_meeting = any_candidate_meets(&c)
        arrays["open"] = np.array([bool(c.meets[k]) or not only_meeting for k in range(c.count)])
        return arrays

    def beliefs(self):
        """What was believed of workload and streams when deciding with a set model in use.

        Returns
        -------
        dict, or None
            As ``NetworkState.workload`` of the task's size; ``in_flight``, tasks decided and not yet through;
            ``preference``; ``streams``, a list of ``NetworkState.stream``. None without a set model.
        """
        cdef const Situation* situation
        cdef int i
        if self.seen == NULL:
            return None
        situation = &self.seen.situation
        return {
            **workload_figures(&self.seen.workload, self.plan.demand.size_bytes, situation.now_s),
            "in_flight": <int>situation.in_flight,
            "preference": situation.preference,
            "streams": [stream_figures(&self.seen.metrics[i], (self.plan.paths.up >> i) & 1,
                                       self.seen.source[i], situation.now_s)
                        for i in range(self.plan.paths.n)],
        }

    def paths(self):
        """The streams as this decision saw them: one dict a stream."""
        cdef const Paths* p = &self.plan.paths
        return [
            {"up": bool((p.up >> i) & 1), "rate_mbps": p.rate_Bps[i] / 125000.0,
             "work_ahead_s": p.work_ahead_s[i], "delay_s": p.delay_s[i], "congestion": p.congestion[i]}
            for i in range(p.n)
        ]

    def as_dict(self):
        """The decision as plain values, ready for JSON."""
        return {
            "task_id": self.task.id, "size_bytes": self.task.size_bytes, "number": self.number,
            "stream_ids": list(self.stream_ids), "chunk_sizes": list(self.chunk_sizes),
            "expected_time_s": self.expected_time_s,
            "expected_time_interval_s": self.expected_time_interval_s, "confidence": self.confidence,
            "feasible": self.feasible, "action": self.action, "q_value": self.q_value,
            "unsupported": self.unsupported,
            "explored": self.explored, "propensity": self.propensity, "source": self.source,
            "model_version": self.model_version, "decided_at_s": self.decided_at_s,
        }

    def __repr__(self):
        return (f"Decision(task={self.task.id!r}, stream_ids={self.stream_ids}, "
                f"chunk_sizes={self.chunk_sizes}, expected_time_s={self.expected_time_s:.6g}, "
                f"confidence={self.confidence:.3f}, source={self.source!r}"
                f"{'' if self.feasible else ', feasible=False'})")


cdef object _vector(const float* values, int n_streams):
    cdef int i, length = 4 * n_streams + 4
    out = np.empty(length, dtype=np.float32)
    cdef float[::1] view = out
    for i in range(length):
        view[i] = values[i]
    return out


cdef tuple members(uint32_t mask):
    cdef int i
    return tuple([i for i in range(16) if (mask >> i) & 1])


cdef dict feature_arrays(const Features* found, const Candidates* c):
    streams = np.array(<float[:found.n_streams * STREAM_FEATURES]>found.streams)
    candidates = np.array(<float[:c.count * CANDIDATE_FEATURES]>found.candidates)
    return {
        "streams": streams.reshape(-1, STREAM_FEATURES),
        "context": np.array(<float[:CONTEXT_FEATURES]>found.context),
        "candidates": candidates.reshape(-1, CANDIDATE_FEATURES),
        "members": np.array(<uint32_t[:c.count]>found.members),
        "masks": np.array(<uint32_t[:c.count]>c.mask),
    }


cdef Decision new_decision():
    global _being_made
    _being_made = True
    try:
        return Decision.__new__(Decision)
    finally:
        _being_made = False


def action_number(streams, n_streams):
    """Number of a set of streams among all non-empty subsets of n: by size, then by members."""
    cdef uint32_t mask = 0
    for i in streams:
        if not 0 <= i < n_streams <= 16:
            raise ValueError(f"streams must be from 0 to {n_streams - 1} of at most 16; got {streams!r}")
        mask |= <uint32_t>1 << <int>i
    if mask == 0:
        raise ValueError("streams must name at least one stream")
    return action_of_mask(mask, n_streams)
