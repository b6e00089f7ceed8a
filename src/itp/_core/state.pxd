# Stream metrics, every stream's ledger, and the state vector: data dictionary.
from libc.math cimport log2
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.ledger cimport Queue
from itp._core.workload cimport Workload

cdef enum:
    STREAM_LIMIT = 16
    MAX_STATE = 4 * STREAM_LIMIT + 4
    MAX_INTERVAL_S = 60         # who measures less often does not measure regularly

# The present, as the owner of a clock has set it.
ctypedef struct Clock:
    double monotonic_s
    double unix_s

# What is known of one stream.
ctypedef struct StreamMetrics:
    double bandwidth_Bps        # bytes per second while it serves
    double latency_s
    double success_rate         # fraction of bytes delivered without being sent again
    double congestion           # the caller's own measure in [0, 1], or -1: taken from the ledger
    double measured_s           # when the bandwidth was measured last
    double variability          # mean of |sample - estimate| / (sample + estimate), recent ones weighing more
    double lateness             # mean of (actual - planned) / (actual + planned) time of its chunks, likewise
    float bandwidth_scaled      # state entries, cached because logarithms are slow
    float latency_scaled

# How much the caller's own measurements of one figure still count against outcomes.
ctypedef struct Freshness:
    double at_s                 # of the last one; -INFINITY: never measured
    double interval_s           # usual time between two; 0: fewer than two
    double outcomes             # evidence of outcomes since, in whole outcomes

# What the estimates of one stream rest on.
ctypedef struct Evidence:
    bint known                  # its bandwidth was measured, or followed an outcome
    Freshness bandwidth
    Freshness latency
    Freshness success
    double share                # of the bandwidth estimate that is not yet replaced by outcomes
    double drift                # mean of (sample - estimate) / (sample + estimate) of outcomes
    double usual_Bps            # long-run mean of the bandwidth
    double recovered_s          # when a stale low estimate was last raised towards it

# What most of a stream's bandwidth estimate comes from.
cdef enum EstimateSource:
    FROM_DEFAULT
    FROM_OUTCOMES
    FROM_CALLER

cdef extern from "itp.h" nogil:
    # What a policy sees of all streams, at one moment, for one task: see the header.
    ctypedef struct Paths "itp_paths":
        int n
        uint32_t up
        double rate_Bps[16]
        double delay_s[16]
        double work_ahead_s[16]
        double congestion[16]

# Streams and what is in flight on them.
ctypedef struct Network:
    StreamMetrics streams[16]
    Evidence evidence[16]
    Queue queues[16]
    int n_streams
    int order                   # of service
    uint32_t up                 # bit mask
    int64_t in_flight           # tasks decided and not yet reported
    uint64_t last_number        # of the latest flight; numbers only ever ascend
    Workload workload           # the tasks decided so far
    const Clock* clock          # NULL: the system's


# Up, 100 Mbit/s, 20 ms, no loss; nothing in flight. network_free gives back what it takes later.
cdef void network_init(Network* net, int n_streams, int order) noexcept nogil
cdef void network_free(Network* net) noexcept nogil
# Take in the caller's own measurements; NaN leaves a figure as it is. congestion: in [0, 1], or -1: ledger's.
cdef void network_measure(Network* net, int i, double bandwidth_mbps, double latency_s, double success_rate,
                          double congestion, double now_s) noexcept nogil
# Bring stream i's ledger up to `now_s`.
cdef void network_drain(Network* net, int i, double now_s) noexcept nogil
cdef void network_set_up(Network* net, int i, bint up, double now_s) noexcept nogil
# Bring the ledger up to `now_s` and describe the streams to a task.
cdef void network_observe(Network* net, int64_t size_bytes, double priority, double now_s,
                          Paths* paths) noexcept nogil
# All that waits on each stream that `paths` describes, in seconds of its bandwidth.
cdef void network_backlog(const Network* net, const Paths* paths, double* backlog_s) noexcept nogil
# Room for one more flight on every stream in `mask`; False: no memory for it.
cdef bint network_reserve(Network* net, uint32_t mask) noexcept nogil
# Add a decision's chunks; network_reserve(mask) came before. copies: chunks are whole copies.
cdef void network_admit(Network* net, uint64_t number, int64_t size_bytes, double priority, double now_s,
                        uint32_t mask, const int64_t* chunks, bint copies) noexcept nogil
# Whether any of a decision's chunks is in the ledger.
cdef bint network_holds(const Network* net, uint64_t number, uint32_t mask) noexcept nogil
# Take a decision's chunks out again, False if there are none; with `orphan` their
# unserved bytes stay, to drain.
cdef bint network_release(Network* net, uint64_t number, uint32_t mask, bint orphan) noexcept nogil


cdef class ManualClock:
    cdef Clock clock


cdef class NetworkState:
    cdef Network net
    cdef ManualClock clock      # what net.clock points into
    cdef bint has_decider       # one alone numbers the flights and joins their outcomes

    cdef double _now(self, object now_s) except? -1.0
    cdef int stream_index(self, object stream) except -1


# A stream's bandwidth and latency with their state entries.
cdef void set_bandwidth(StreamMetrics* m, double bandwidth_Bps) noexcept nogil
cdef void set_latency(StreamMetrics* m, double latency_s) noexcept nogil

# Take in a sample of a stream's bandwidth that weighs so much (0 to 1), only its distance from the estimate,
# or how long a chunk took.
cdef void note_variability(StreamMetrics* m, double sample_Bps, double weight) noexcept nogil
cdef void note_bandwidth(StreamMetrics* m, double sample_Bps, double weight, double now_s) noexcept nogil
cdef void note_time(StreamMetrics* m, double actual_s, double planned_s, double weight) noexcept nogil

# The 4n + 4 entries of the state vector, schema 1; `streams` are those that `paths` describes.
cdef void assemble_state(const Paths* paths, const StreamMetrics* streams, double in_flight,
                         int64_t size_bytes, double priority, double time_of_day, float* out) noexcept nogil

# The dicts of NetworkState.stream and NetworkState.workload.
cdef dict stream_figures(const StreamMetrics* m, bint up, EstimateSource source, double now_s)
cdef dict workload_figures(const Workload* workload, int64_t size_bytes, double now_s)


cdef inline EstimateSource estimate_source(const Evidence* e) noexcept nogil:
    return FROM_DEFAULT if not e.known else FROM_CALLER if e.share >= 0.5 else FROM_OUTCOMES


cdef double monotonic_s() noexcept nogil
cdef double unix_s() noexcept nogil


cdef inline double network_monotonic_s(const Network* net) noexcept nogil:
    return monotonic_s() if net.clock == NULL else net.clock.monotonic_s


cdef inline double network_unix_s(const Network* net) noexcept nogil:
    return unix_s() if net.clock == NULL else net.clock.unix_s


cdef inline double day_fraction(double unix_s) noexcept nogil:
    """Time of day in UTC, in [0, 1)."""
    return (unix_s % 86400.0) / 86400.0


cdef inline int popcount(uint32_t mask) noexcept nogil:
    cdef int count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


cdef inline float scaled(double value, double low, double decades_log2) noexcept nogil:
    """log2(value / low) / decades_log2, clipped to [0, 1]."""
    cdef double x
    if value <= low:
        return 0.0
    x = log2(value / low) / decades_log2
    return <float>(x if x < 1.0 else 1.0)
