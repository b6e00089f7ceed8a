# The fast path: from a task and the state of the streams to a Decision.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.alloc cimport Rule
from itp._core.calibration cimport Reliability
from itp._core.heuristic cimport Candidates, Demand, Policy
from itp._core.reward cimport RewardWeights
from itp._core.rng cimport Rng
from itp._core.state cimport NetworkState, Paths
from itp._core.task cimport Task

cdef enum:
    N_ACTIONS = 15              # of schema 1

ctypedef struct Plan:
    Paths paths                 # what was seen
    Demand demand
    uint32_t action_mask        # what was chosen ...
    uint32_t mask               # ... and the streams of it that keep a chunk
    int64_t chunks[16]
    double expected_time_s
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


ctypedef struct Counters:
    uint64_t decisions
    uint64_t by_model
    uint64_t explored
    uint64_t infeasible
    uint64_t outcomes
    uint64_t successes
    uint64_t bytes_decided
    uint64_t retransmitted_bytes
    double reward_sum


cdef class Decider:
    cdef readonly NetworkState network
    cdef readonly RewardWeights weights
    cdef readonly double epsilon
    cdef readonly int64_t min_chunk_bytes
    cdef Policy policy
    cdef int turn               # round robin's memory
    cdef Rng rng
    cdef Counters counters
    cdef Reliability reliability
    cdef Decision last          # its next state is the next decision's
    cdef list ids_of_mask

    cdef Decision _observe(self, Task task)
    cdef void _explore_or(self, Plan* plan, const Candidates* candidates, uint32_t greedy) noexcept nogil
    cdef int _by_rule(self, Decision decision) except -1
    cdef int _check_unsettled(self, Decision decision) except -1
    cdef int _settle(self, Decision decision, Rule split) except -1


# A mask's number among all non-empty subsets of n streams, by size, then by sorted members.
cdef int action_of_mask(uint32_t mask, int n) noexcept nogil

# Fill in mask, chunks, expected time and raw confidence for plan.action_mask.
cdef void split_task(Plan* plan, Rule split, const double* success_rate) noexcept nogil
