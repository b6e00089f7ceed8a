# The one reward, for production, simulator and training alike.
from libc.stdint cimport int64_t


ctypedef struct Terms:
    double throughput       # improvement over the reference, in [-1, 1)
    double latency          # penalty, in [0, 1)
    double imbalance        # penalty, in [0, 1]
    double completion       # 0 or 1
    double retransmission   # penalty, in [0, 1)


ctypedef struct Outcome:
    double throughput_mbps
    double latency_s
    bint success
    int64_t retransmitted_bytes
    double imbalance


cdef class RewardWeights:
    cdef readonly double throughput
    cdef readonly double latency
    cdef readonly double imbalance
    cdef readonly double completion
    cdef readonly double retransmission


cdef void reward_terms(const Outcome* outcome, int64_t size_bytes, double reference_time_s,
                       Terms* out) noexcept nogil

cdef double weighted(const Terms* terms, double throughput, double latency, double imbalance,
                     double completion, double retransmission) noexcept nogil

# What a task would take over all paths together when nothing is in the way: never of the decision.
cdef double reference_time(int64_t size_bytes, const double* rate_Bps, const double* latency_s,
                           int n) noexcept nogil
