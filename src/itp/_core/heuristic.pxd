# Model-free policies: which streams carry a task, and by which rule it is split.
from libc.stdint cimport int64_t, uint32_t

from itp._core.alloc cimport Rule
from itp._core.order cimport ServiceOrder
from itp._core.state cimport Paths, StreamMetrics

cdef enum Policy:
    LEAST_COMPLETION_TIME = 0
    SCORE = 1
    SINGLE_BEST = 2
    ROUND_ROBIN = 3
    PROPORTIONAL_ALL = 4
    EQUAL_SPLIT = 5
    LEAST_COMPLETION_TIME_PROPORTIONAL = 6
    MIN_RTT = 7
    PULL_ALL = 8
    # These decide by what is remembered of the workload, in modules of their own.
    ADAPTIVE_SIZE_INTERVAL = 9
    FIRST_POLICY_ITERATION = 10
    LEAST_MARGINAL_COST = 11

cdef enum:
    EXHAUSTIVE_STREAMS = 6      # all subsets up to here, prefixes by finish time beyond

cdef extern from "itp.h" nogil:
    # What a task demands of an action: see the header.
    ctypedef struct Demand "itp_task":
        int64_t size_bytes
        double priority
        double deadline_s
        double min_bandwidth_Bps
        int redundancy
        int64_t min_chunk_bytes

# The actions open to a task, with their estimates.
ctypedef struct Candidates:
    int count
    uint32_t mask[63]
    double completion_s[63]     # water-filling; with redundancy the first copy's
    bint whole[63]              # every stream of the action keeps a chunk of the minimum size
    bint meets[63]              # the task's deadline and bandwidth


# The best one under this service order of the rules that remember nothing.
cdef Policy default_policy(ServiceOrder order) noexcept nogil

# The number of a rule's name, or of "auto" under this service order; ValueError for another name.
cdef Policy policy_number(object name, ServiceOrder order) except *

# List the candidate actions over the streams that are up, fewest streams first.
cdef void enumerate_candidates(const Paths* paths, const Demand* demand, Candidates* out) noexcept nogil

# The same without estimates, where no demand closes an action: all of them meet it.
cdef void list_candidates(const Paths* paths, const Demand* demand, Candidates* out) noexcept nogil

# The candidates of a set model: sets whose streams all keep a chunk of the minimum size. All of them up to
# EXHAUSTIVE_STREAMS; beyond, every stream alone, the first to finish together, and all but these.
cdef void enumerate_sets(const Paths* paths, const Demand* demand, Candidates* out) noexcept nogil

cdef bint any_candidate_meets(const Candidates* candidates) noexcept nogil

# Whether the candidate of least completion time shows without listing them all. A task too small to be
# split goes alone. Water-filling over all streams that are up, where it meets the demand with every share
# of the minimum size, cannot be beaten: a subset of the streams it uses only takes longer.
cdef bint least_at_once(const Paths* paths, const Demand* demand, uint32_t* mask) noexcept nogil

# Index of the candidate with the least completion time among those that meet the demand
# (of all, where none does).
cdef int least_completion(const Candidates* candidates) noexcept nogil

# Of these, that with the fewest streams among those through by `most_s`, the fastest where there are several;
# none is through by then: the one of least completion time.
cdef int fewest_streams(const Candidates* candidates, double most_s) noexcept nogil

# The choice of a rule that needs neither candidates nor memory, blind to deadline and bandwidth; `turn` is
# round robin's memory, `streams` what is known of them.
cdef uint32_t choose_by_rule(Policy policy, const Paths* paths, const StreamMetrics* streams,
                             const Demand* demand, int* turn, Rule* split) noexcept nogil

# Of all sets split in proportion to capacity, the one that is through first.
cdef uint32_t least_proportional(const Paths* paths, const Demand* demand,
                                 Candidates* scratch) noexcept nogil

# The chunks of a task over the streams of `mask` (whole copies with redundancy), 0 elsewhere;
# returns the streams kept.
cdef uint32_t split_chunks(const Paths* paths, const Demand* demand, uint32_t mask, Rule split,
                           int64_t* chunks) noexcept nogil

# When the task is planned to be through; with redundancy, when the first copy is.
cdef double planned_time_s(const Paths* paths, const Demand* demand, uint32_t mask,
                           const int64_t* chunks) noexcept nogil

cdef bint meets_demand(const Paths* paths, const Demand* demand, uint32_t mask,
                       double completion_s) noexcept nogil
