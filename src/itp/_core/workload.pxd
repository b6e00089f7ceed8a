# What a sender remembers of the tasks it was asked to carry, at O(1) a task: sizes, gaps, offered load.
from libc.stdint cimport int64_t

cdef enum:
    WORKLOAD_WINDOW = 128       # tasks whose sizes are remembered

ctypedef struct Workload:
    float size_bytes[128]       # of the latest tasks, a ring
    float ordered_bytes[128]    # the same, ascending
    double total_bytes          # of these
    int64_t count               # tasks so far
    double last_s               # when the latest came
    double gap_short_s          # exponentially weighted sums over the gaps between tasks ...
    double gap_long_s
    double gap_square_s2
    double weight_short         # ... and of their weights
    double weight_long
    double bytes_short          # the same over sizes
    double bytes_weight
    double log2_long            # of log2 of the sizes, over about 64 tasks
    double log2_weight

# The workload as a task that arrives now finds it, itself included in the gaps and the load.
ctypedef struct WorkloadView:
    double rank                 # share of the remembered tasks that are smaller; ties count half
    double rank_bytes           # share of their bytes that are in smaller ones
    double mean_bytes           # of the remembered sizes and this one
    double dispersion           # squared coefficient of variation of these
    double gap_s                # mean time between tasks, over about 64
    double burstiness           # squared coefficient of variation of the gaps
    double offered_short_Bps    # over about 8 tasks, and ...
    double offered_long_Bps     # ... over about 64 gaps and the remembered sizes
    double known                # remembered / (remembered + 8)


# How many sizes are remembered.
cdef inline int workload_kept(const Workload* w) noexcept nogil:
    return <int>(w.count if w.count < WORKLOAD_WINDOW else WORKLOAD_WINDOW)


cdef void workload_reset(Workload* w) noexcept nogil
# What a task of this size sees that arrives at `now_s`, of any clock that hardly ever goes back.
cdef void workload_look(const Workload* w, double size_bytes, double now_s, WorkloadView* out) noexcept nogil
# Find what follows from the ring, where that alone was filled in.
cdef void workload_order(Workload* w) noexcept nogil
# Mean log2 of the sizes over about 64 tasks, and the bytes that arrive in a second: cheaper than the view.
cdef void workload_glance(const Workload* w, double size_bytes, double now_s, double* log2_bytes,
                          double* offered_Bps) noexcept nogil
# Remember it.
cdef void workload_add(Workload* w, double size_bytes, double now_s) noexcept nogil
