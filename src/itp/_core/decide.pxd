# The fast path: from a task and the state of the streams to a Decision.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.alloc cimport Rule
from itp._core.calibration cimport Calibration, Reliability
from itp._core.decision cimport Decision, Plan
from itp._core.heuristic cimport Candidates, Policy
from itp._core.reward cimport RewardWeights
from itp._core.rng cimport Rng
from itp._core.state cimport NetworkState
from itp._core.task cimport Task

cdef enum:
    N_ACTIONS = 15              # of schema 1

ctypedef struct Counters:
    uint64_t decisions
    uint64_t by_model
    uint64_t guarded
    uint64_t explored
    uint64_t infeasible
    uint64_t outcomes
    uint64_t successes
    uint64_t bytes_decided
    uint64_t retransmitted_bytes
    double reward_sum


# The rule that decides where a model's plan takes more than `threshold` times as long as the rule's.
cdef class Guard:
    cdef Policy policy
    cdef readonly double threshold

    cdef int rules(self, const Candidates* candidates, int chosen) noexcept nogil


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
    cdef int _settle(self, Decision decision, Rule split, Calibration calibration) except -1


# Fill in mask, chunks, expected time and raw confidence for plan.action_mask.
cdef void split_task(Plan* plan, Rule split, const double* success_rate) noexcept nogil
