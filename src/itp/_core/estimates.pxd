# What reported outcomes teach about the streams.
from libc.stdint cimport int64_t, uint32_t

from itp._core.decision cimport Plan
from itp._core.reward cimport Outcome
from itp._core.state cimport Network

# What each of a decision's streams delivered, where the caller knows.
ctypedef struct Delivered:
    uint32_t streams                    # bit mask of those that are known
    int64_t bytes[16]
    double seconds[16]                  # from the decision to the stream's last byte
    int64_t retransmitted_bytes[16]


# Whether a decision can have come to this: no stream but its own, no more bytes than the task has.
cdef bint delivered_fits(const Delivered* delivered, const Plan* plan) noexcept nogil
cdef int64_t delivered_retransmitted_bytes(const Delivered* delivered) noexcept nogil

# 1 - first finish / last finish of a decision's streams: as planned, unless all of them are known.
cdef double imbalance_of(const Plan* plan, const Delivered* delivered) noexcept nogil

# Bring bandwidth, latency, success, variability and lateness nearer to an outcome. The decision's chunks are
# still in the ledger. `delivered` may be NULL: the whole task's figures stand for its streams.
cdef void learn_outcome(Network* net, const Plan* plan, const Outcome* outcome, const Delivered* delivered,
                        double now_s) noexcept nogil
