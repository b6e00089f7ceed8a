"""What was decided for a task, and what was known when deciding."""
cimport cython
from libc.math cimport isnan
from libc.stdint cimport uint32_t

import numpy as np

from itp._core.heuristic cimport Candidates, enumerate_candidates
from itp._core.state cimport Paths, network_release, popcount


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


# A Decision holds a Task, tuples of numbers, strings and a NetworkState, none of which refers
# to anything: no cycle can go through it, and the collector need not walk it.
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
    explored : bool
        Drawn at random by epsilon-greedy exploration.
    propensity : float
        Probability with which this action was taken.
    source : str
        "native" (the compiled forward pass), "onnxruntime", "heuristic", or "guard": the model's action was
        planned to take so much longer than the best rule's that the rule's was taken.
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

    def __reduce__(self):
        raise TypeError("a Decision cannot be pickled or copied: its outcome is reported once; see as_dict()")

    def __dealloc__(self):
        if self.plan.in_ledger:
            network_release(&self.network.net, self.plan.number, self.plan.mask, True)

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
        if not self.plan.has_q:
            return None
        return self.plan.q_values[action_of_mask(self.plan.action_mask, self.plan.paths.n)]

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
        enumerate_candidates(&self.plan.paths, &self.plan.demand, &c)
        return [
            (members(c.mask[k]), c.completion_s[k], bool(c.whole[k]), bool(c.meets[k]),
             self.plan.q_values[action_of_mask(c.mask[k], self.plan.paths.n)] if self.plan.has_q else None)
            for k in range(c.count)
        ]

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
