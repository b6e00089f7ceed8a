# The fast path without Python: from a task and the state of the streams to a decision, and what became of it.
#
# All of it is `nogil` over plain structs. A Core is used by one thread at a time: with Python about, by the
# one that holds the GIL. C and C++ reach the same through `itp.h`.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.alloc cimport Rule
from itp._core.calibration cimport Reliability, Tables
from itp._core.decision cimport Plan
from itp._core.heuristic cimport Demand, Policy
from itp._core.qnet cimport qnet, qnet_forward
from itp._core.reward cimport Outcome, Terms
from itp._core.rng cimport Rng
from itp._core.state cimport Network, Paths

cdef enum:
    MODEL_STREAMS = 4           # of schema 1
    MODEL_STATE = 20
    N_ACTIONS = 15

cdef extern from "itp.h" nogil:
    enum Status "itp_status":
        ITP_OK
        ITP_NO_STREAM_UP
        ITP_TOO_FEW_STREAMS
        ITP_NO_MEMORY
        ITP_INVALID

    # Whether an action that is planned to miss the deadline is closed: see the header.
    enum Deadlines "itp_deadlines":
        AS_DECLARED "ITP_DEADLINES_DECLARED"    # by the heuristic: see `hard_by_rule`
        HARD "ITP_DEADLINES_HARD"
        SOFT "ITP_DEADLINES_SOFT"

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

# A model: how its Q-values are computed, and how it wants to be served.
ctypedef struct Learned:
    qnet_forward forward        # NULL: the Q-values come from elsewhere
    const qnet* net
    const Tables* tables        # NULL: planned times and confidence stand as they are
    bint hard_deadlines         # it wants those actions closed that are planned to miss the deadline
    bint has_guard
    Policy guard_policy         # its action is taken where the model's plan takes more than
    double guard_threshold      # so many times as long

# Of True, False, or None: as declared.
cdef Deadlines deadlines_of(object hard) except *

# How actions are chosen, in production and in the simulator alike.
ctypedef struct Chooser:
    const Learned* model        # NULL: the heuristic decides
    Policy policy               # the heuristic
    int order                   # in which the streams serve
    Deadlines deadlines
    double epsilon              # share of decisions drawn uniformly from the open actions

# What was chosen, and how.
ctypedef struct Choice:
    uint32_t mask
    int split                   # of alloc's Rule, or the simulator's PULL
    int source                  # of enum itp_source
    bint by_model               # there were Q-values to choose by
    bint explored               # drawn, not chosen
    double propensity           # probability with which this action was taken

# Two numbers of a uniform distribution over [0, 1): whether to explore, and which action.
ctypedef struct Draw:
    double whether
    double which

# Choose an action for a task. `q_values` of NULL, or not finite: the heuristic chooses. `turn` is round
# robin's memory; `draw` is read where epsilon > 0, and may be NULL elsewhere.
cdef void choose(const Chooser* chooser, int source, const float* q_values, const Paths* paths,
                 const Demand* demand, int* turn, const Draw* draw, Choice* out) noexcept nogil

# Epsilon-greedy around what has been chosen: `choice` comes with the greedy action.
cdef void explore(const Chooser* chooser, const Paths* paths, const Demand* demand, const Draw* draw,
                  Choice* choice) noexcept nogil

# All that a decision reads and writes.
ctypedef struct Core:
    Network* network
    const Learned* model        # NULL: the heuristic decides
    Policy policy               # the heuristic
    Deadlines deadlines
    int turn                    # round robin's memory
    double epsilon
    int64_t min_chunk_bytes
    Rng rng
    Terms weights               # of the reward's terms
    Counters counters
    Reliability reliability
    Times times


# Decide for plan.demand: all of the plan is filled in, and its chunks are in the ledger. Anything but ITP_OK
# leaves the ledger as it was.
cdef Status decide_task(Core* core, Plan* plan) noexcept nogil

# The same in two steps, for Q-values that come from elsewhere. NULL, or values that are not finite: the
# heuristic decides.
cdef Status observe_task(Core* core, Plan* plan) noexcept nogil
cdef Status settle_task(Core* core, const Learned* model, int source, const float* q_values,
                        Plan* plan) noexcept nogil

# Join an outcome, its figures checked, to a plan that is in the ledger; returns the reward.
# outcome.imbalance is set here.
cdef double report_task(Core* core, Plan* plan, Outcome* outcome) noexcept nogil

# Take a plan back as if it had not been made.
cdef void retract_task(Core* core, Plan* plan) noexcept nogil

# Fill in mask, chunks, expected time and raw confidence for plan.action_mask.
cdef void split_task(Plan* plan, Rule split, const double* success_rate) noexcept nogil


# The rule that decides where a model's plan takes more than `threshold` times as long as the rule's.
cdef class Guard:
    cdef Policy policy
    cdef readonly double threshold
