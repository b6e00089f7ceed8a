# What was decided for a task, and what was known when deciding.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.heuristic cimport Demand
from itp._core.state cimport NetworkState, Paths
from itp._core.task cimport Task

ctypedef struct Plan:
    Paths paths                 # what was seen
    Demand demand
    uint32_t action_mask        # what was chosen ...
    uint32_t mask               # ... and the streams of it that keep a chunk
    int64_t chunks[16]
    double expected_time_s      # planned; corrected, where a model's tables say how
    double fastest_s            # 5 and 95 % quantiles of what it will be; NaN: not known
    double slowest_s
    double imbalance            # 1 - first planned finish / last planned finish
    double raw_confidence
    double confidence
    double propensity
    bint explored
    bint feasible


cdef class Decision:
    cdef Plan plan
    cdef float state_now[68]
    cdef float state_next[68]
    cdef float q_values[15]
    cdef bint has_q, has_next, in_ledger
    cdef readonly bint reported
    cdef readonly uint64_t number
    cdef readonly double decided_at_s
    cdef double reference_time_s
    cdef double observed_s      # monotonic
    cdef readonly double reward
    cdef readonly double completed_at_s
    cdef NetworkState network
    cdef readonly Task task
    cdef readonly tuple stream_ids
    cdef readonly tuple chunk_sizes
    cdef readonly str source
    cdef readonly str model_version


# An empty one, to be filled in by whoever decides.
cdef Decision new_decision()

cdef tuple members(uint32_t mask)

# A mask's number among all non-empty subsets of n streams, by size, then by sorted members.
cdef int action_of_mask(uint32_t mask, int n) noexcept nogil
