# The table of functions that `itp.h` declares.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.decide cimport Counters, Status, Times
from itp._core.decision cimport Plan
from itp._core.reward cimport Outcome

cdef extern from "itp.h" nogil:
    int ITP_API_VERSION

    ctypedef struct itp_decider:
        pass

    ctypedef struct itp_model:
        pass

    ctypedef struct itp_outcome:
        double throughput_mbps
        double latency_s
        int success
        int64_t retransmitted_bytes

    ctypedef struct itp_candidates:
        int count
        bint unsupported
        uint32_t streams[63]
        double planned_s[63]
        float values[63]

    ctypedef struct itp_stream_outcome:
        int stream
        int64_t bytes
        double seconds
        int64_t retransmitted_bytes

    ctypedef struct itp_api:
        int version
        itp_decider* (*create)(int n_streams, int service_order) noexcept nogil
        void (*destroy)(itp_decider* decider) noexcept nogil
        int (*serve)(itp_decider* decider, const itp_model* model) noexcept nogil
        int (*explore)(itp_decider* decider, double epsilon, uint64_t seed) noexcept nogil
        int (*update_stream)(itp_decider* decider, int stream, double bandwidth_mbps, double latency_ms,
                             double congestion, double success_rate) noexcept nogil
        int (*set_stream_up)(itp_decider* decider, int stream, int up) noexcept nogil
        int (*decide)(itp_decider* decider, Plan* decision) noexcept nogil
        int (*report_progress)(itp_decider* decider, int stream, int64_t delivered_bytes) noexcept nogil
        int (*report_outcome)(itp_decider* decider, Plan* decision, const itp_outcome* outcome,
                              double* reward) noexcept nogil
        void (*drop)(itp_decider* decider, Plan* decision) noexcept nogil
        int (*figures)(const itp_decider* decider, Counters* counters, Times* times) noexcept nogil
        int (*set_deadlines)(itp_decider* decider, int deadlines) noexcept nogil
        int (*prefer)(itp_decider* decider, double preference) noexcept nogil
        int (*candidates)(const itp_decider* decider, const Plan* decision,
                          itp_candidates* candidates) noexcept nogil
        int (*unsupported)(const itp_decider* decider, uint64_t* decisions) noexcept nogil
        int (*report_streams)(itp_decider* decider, Plan* decision, const itp_outcome* outcome,
                              const itp_stream_outcome* streams, int n_outcomes,
                              double* reward) noexcept nogil
