# The fast path without Python: from a task and the state of the streams to a decision, and what became of it.
#
# All of it is `nogil` over plain structs. A Core is used by one thread at a time: with Python about, by the
# one that holds the GIL. C and C++ reach the same through `itp.h`.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.alloc cimport Rule
from itp._core.calibration cimport Reliability
from itp._core.choose cimport Deadlines, Learned
from itp._core.decision cimport Plan, Valued
from itp._core.estimates cimport Delivered
from itp._core.features cimport Situation
from itp._core.heuristic cimport Policy
from itp._core.reward cimport Outcome, Terms
from itp._core.rng cimport Rng
from itp._core.state cimport Network

cdef extern from "itp.h" nogil:
    enum Status "itp_status":
        ITP_OK
        ITP_NO_STREAM_UP
        ITP_TOO_FEW_STREAMS
        ITP_NO_MEMORY
        ITP_INVALID

    enum:
        N_TIMES "ITP_N_TIMES"

    # What was done, and how long decisions took: see the header.
    ctypedef struct Counters "itp_counters":
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

    ctypedef struct Times "itp_times":
        uint64_t count[98]
        double sum_s

# All that a decision reads and writes.
ctypedef struct Core:
    Network* network
    const Learned* model        # NULL: the heuristic decides
    Policy policy               # the heuristic
    Deadlines deadlines
    int turn                    # round robin's memory
    double epsilon
    double preference           # of a set model: 0 typical, 1 bulk
    int64_t min_chunk_bytes
    Rng rng
    Terms weights               # of the reward's terms
    Counters counters
    uint64_t unsupported        # decisions whose inputs were outside of the model's ranges
    Reliability reliability
    Times times
    Valued valued               # what a set model made of the decision made last
    Situation situation         # in which it was made


# Decide for plan.demand: all of the plan is filled in, its chunks are in the ledger, and the task is in the
# memory of the workload. Anything but ITP_OK leaves ledger and memory as they were.
cdef Status decide_task(Core* core, Plan* plan) noexcept nogil

# The same in two steps, for Q-values that come from elsewhere. NULL, or values that are not finite: the
# heuristic decides. The situation is that of the streams and the workload at this moment; it points into the
# network.
cdef Status observe_task(Core* core, Plan* plan, Situation* situation) noexcept nogil
cdef Status settle_task(Core* core, const Learned* model, int source, const float* q_values,
                        const Situation* situation, Plan* plan) noexcept nogil

# Join an outcome, its figures checked, to a plan that is in the ledger, and learn from it; returns the
# reward. outcome.imbalance is set here. delivered: what each stream did, or NULL.
cdef double report_task(Core* core, Plan* plan, Outcome* outcome, const Delivered* delivered) noexcept nogil

# Take a plan back as if it had not been made; the memory of the workload stays as it is.
cdef void retract_task(Core* core, Plan* plan) noexcept nogil

# Fill in mask, chunks, expected time and raw confidence for plan.action_mask.
cdef void split_task(Plan* plan, Rule split, const double* success_rate) noexcept nogil
