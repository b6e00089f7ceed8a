# Which action a task gets, from what it sees: the choice that production and the simulator share.
#
# No ledger, no clock, no random numbers of its own; `nogil` over plain structs.
from libc.stdint cimport uint32_t

from itp._core.calibration cimport Tables
from itp._core.decision cimport Valued
from itp._core.features cimport CANDIDATE_FEATURES, CONTEXT_FEATURES, STREAM_FEATURES, Situation
from itp._core.heuristic cimport Demand, Policy
from itp._core.qnet cimport qnet, qnet_forward
from itp._core.setnet cimport setnet, setnet_forward
from itp._core.state cimport Paths

cdef enum:
    MODEL_STREAMS = 4           # of schema 1
    MODEL_STATE = 20
    N_ACTIONS = 15

cdef extern from "itp.h" nogil:
    # Whether an action that is planned to miss the deadline is closed: see the header.
    enum Deadlines "itp_deadlines":
        AS_DECLARED "ITP_DEADLINES_DECLARED"    # by the heuristic: see `hard_by_rule`
        HARD "ITP_DEADLINES_HARD"
        SOFT "ITP_DEADLINES_SOFT"

# How much longer than the fastest candidate a set model may plan. A host is idle where nothing is in flight
# and hardly a task is expected before this one is through.
ctypedef struct Limits:
    double idle_arrivals        # expected meanwhile, at most
    double idle_factor          # on an idle host
    double factor               # elsewhere; both may be infinite: no cap

# The inputs that a set model decides by; the rule decides where one is outside.
ctypedef struct Ranges:
    float stream_low[12]
    float stream_high[12]
    float context_low[22]
    float context_high[22]
    float candidate_low[10]
    float candidate_high[10]

# The workloads that a model of schema 1 was trained on, which its state does not show: the rule decides where
# the memory of the workload is outside. Empty ranges: it decides in any.
ctypedef struct Known:
    double log2_bytes[2]        # of the mean log2 of recent sizes: lowest, highest
    double load[2]              # of what arrives over what the streams carry
    double tasks                # so many must have been seen

# A model: how its Q-values are computed, and how it wants to be served.
ctypedef struct Learned:
    qnet_forward forward        # NULL: the Q-values come from elsewhere
    const qnet* net
    setnet_forward set_forward  # NULL: the model is of schema 1
    const setnet* set_net
    const Tables* tables        # NULL: planned times and confidence stand as they are
    bint hard_deadlines         # it wants those actions closed that are planned to miss the deadline
    bint has_guard
    Policy guard_policy         # its action is taken where the model's plan takes more than
    double guard_threshold      # so many times as long
    Limits limits               # of a set model
    const Known* known          # of a model of schema 1; NULL: it decides in any workload
    const Ranges* ranges        # of a set model; NULL: it decides by any input
    double balanced             # the preference that a set model decides by, unless it is given another one

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
    Valued valued

# Two numbers of a uniform distribution over [0, 1): whether to explore, and which action.
ctypedef struct Draw:
    double whether
    double which

# Choose an action for a task. `q_values` of NULL, or not finite: the heuristic chooses. `turn` is round
# robin's memory; `draw` is read where epsilon > 0, and may be NULL elsewhere.
# `situation`: what a set model, or a rule that goes by the workload, knows beside the paths. Neither decides
# where it is NULL.
cdef void choose(const Chooser* chooser, int source, const float* q_values, const Situation* situation,
                 const Paths* paths, const Demand* demand, int* turn, const Draw* draw,
                 Choice* out) noexcept nogil

# Whether actions that are planned to miss the deadline are closed; `model` of NULL: the heuristic chooses.
cdef bint deadline_closes(const Learned* model, Policy policy, int order, Deadlines deadlines) noexcept nogil

# Epsilon-greedy around what has been chosen: `choice` comes with the greedy action. `by_set`: among the
# candidates of a set model.
cdef void explore(const Chooser* chooser, const Paths* paths, const Demand* demand, const Draw* draw,
                  bint by_set, Choice* choice) noexcept nogil

# A set model's limits unless its metadata say otherwise.
cdef Limits default_limits() noexcept nogil

# Of True, False, or None: as declared.
cdef Deadlines deadlines_of(object hard) except *


# The rule that decides where a model's plan takes more than `threshold` times as long as the rule's.
cdef class Guard:
    cdef Policy policy
    cdef readonly double threshold


cdef class Cap:
    cdef Limits limits


cdef class Support:
    cdef Ranges ranges
    cdef readonly dict accepted


cdef class WorkloadSupport:
    cdef Known known
