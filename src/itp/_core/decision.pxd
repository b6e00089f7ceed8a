# What was decided for a task, and what was known when deciding.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.features cimport Features, Situation
from itp._core.heuristic cimport Candidates, Demand
from itp._core.setnet cimport SetNet
from itp._core.state cimport EstimateSource, Network, NetworkState, Paths, StreamMetrics
from itp._core.task cimport Task
from itp._core.workload cimport Workload

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

# What a set model's inputs follow from, as it was when deciding, so that they can be explained later.
ctypedef struct Seen:
    Situation situation         # its pointers are not to be followed: Decision.features sets them
    Workload workload           # without the task
    EstimateSource source[16]
    StreamMetrics metrics[16]   # the last field: there is memory for those that there are


cdef class Decision:
    cdef Plan plan
    cdef Valued valued          # by a set model
    cdef Seen* seen             # NULL: no set model was in use; else the network is its own, and
    cdef readonly SetNet set_net
    cdef readonly dict support  # the inputs that it decides by: Support.accepted; None: any
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
    cdef int _begin_seeing(self) except -1
    cdef void _keep_seen(self, const Situation* situation) noexcept


# An empty one, to be filled in by whoever decides.
cdef Decision new_decision()

cdef tuple members(uint32_t mask)

# The inputs of a set model as NumPy arrays: see Decider.features.
cdef dict feature_arrays(const Features* found, const Candidates* c)

# A mask's number among all non-empty subsets of n streams, by size, then by sorted members.
cdef int action_of_mask(uint32_t mask, int n) noexcept nogil
