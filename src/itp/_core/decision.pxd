# What was decided for a task, and what was known when deciding.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.heuristic cimport Demand
from itp._core.state cimport NetworkState, Paths
from itp._core.task cimport Task

cdef extern from "itp.h" nogil:
    enum:
        ITP_HEURISTIC
        ITP_NATIVE
        ITP_ONNXRUNTIME
        ITP_GUARD

    # What was decided, and what was known when deciding: see the header.
    ctypedef struct Plan "itp_decision":
        Demand demand "task"
        uint32_t mask "streams"
        uint32_t action_mask "action_streams"
        int64_t chunks "chunk_bytes" [16]
        double expected_time_s
        double fastest_s
        double slowest_s
        double confidence
        double propensity
        int source
        bint explored
        bint feasible
        bint has_q "has_q_values"
        float q_values[15]
        float state[68]
        uint64_t number
        double decided_at_s
        Paths paths
        double observed_s
        double reference_time_s
        double imbalance            # 1 - first planned finish / last planned finish
        double raw_confidence
        bint in_ledger
        const void* owner           # the C decider that made it


# What a set model made of the candidates that enumerate_sets lists, in that order.
ctypedef struct Valued:
    int count                   # 0: it was not asked
    bint unsupported            # an input was outside of its ranges: the rule decided
    float values[63]


cdef class Decision:
    cdef Plan plan
    cdef Valued valued          # by a set model
    cdef float state_next[68]
    cdef bint has_next
    cdef readonly bint hard_deadline
    cdef readonly bint reported
    cdef readonly double reward
    cdef readonly double completed_at_s
    cdef NetworkState network
    cdef readonly Task task
    cdef readonly str model_version

    cdef object _value(self, uint32_t mask)


# An empty one, to be filled in by whoever decides.
cdef Decision new_decision()

cdef tuple members(uint32_t mask)

# A mask's number among all non-empty subsets of n streams, by size, then by sorted members.
cdef int action_of_mask(uint32_t mask, int n) noexcept nogil
