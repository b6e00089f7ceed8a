"""The inputs of a set model, schema 2.

Times are counted in the task's reference time (its size over what all streams that are up carry together,
plus the least latency) or in that of the mean recent task, bytes in mean sizes, rates in shares of the total:
a world in which rates and sizes are ten times as large has the same features. Logarithms are binary, each
divided by a constant that brings what is usual to about [-1, 1].
"""
from libc.math cimport INFINITY, M_PI, cos, sin
from libc.stdint cimport uint32_t

from itp._core.fastlog cimport fast_log2
from itp._core.heuristic cimport Candidates, Demand
from itp._core.state cimport Paths, StreamMetrics, popcount
from itp._core.workload cimport WorkloadView, workload_look

STREAM_NAMES = (
    "share of the rate", "latency", "work ahead", "backlog", "finish alone", "loss", "staleness",
    "variability", "lateness", "backlog in mean tasks", "latency in mean tasks", "idle",
)
CONTEXT_NAMES = (
    "time in mean tasks", "rank by count", "rank by bytes", "size in mean sizes", "short-run load",
    "long-run load", "burstiness", "dispersion of sizes", "workload known", "tasks in flight", "backlog",
    "priority", "has a deadline", "time over deadline", "sine of the day", "cosine of the day",
    "least remaining first", "preference", "streams up", "least chunk", "latency of the task",
    "backlog in this task",
)
CANDIDATE_NAMES = (
    "planned time", "over the least", "share of the streams", "share of the rate", "next mean task",
    "next small task", "backlog left", "planned time in mean tasks", "least success", "variability",
)

cdef double _LOWEST = 1e-9      # where logarithms end
cdef double _HIGHEST = 1e9


cdef inline float _log(double x, double scale) noexcept nogil:
    x = x if x > _LOWEST else _LOWEST
    return fast_log2(<float>(x if x < _HIGHEST else _HIGHEST)) * <float>scale


cdef inline float _log1p(double x, double scale) noexcept nogil:
    x = x if x > 0.0 else 0.0
    return fast_log2(<float>(1.0 + (x if x < _HIGHEST else _HIGHEST))) * <float>scale


cdef inline void _logs(const double* x, int count, double unit, double scale, float* column,
                       float* out) noexcept nogil:
    """_log(x / unit) of a vector, every CANDIDATE_FEATURES places."""
    cdef int k
    for k in range(count):
        column[k] = _log(x[k] / unit, scale)
    for k in range(count):
        out[k * CANDIDATE_FEATURES] = column[k]


cdef inline void _logs1p(const double* x, int count, double unit, double scale, float* column,
                         float* out) noexcept nogil:
    cdef int k
    for k in range(count):
        column[k] = _log1p(x[k] / unit, scale)
    for k in range(count):
        out[k * CANDIDATE_FEATURES] = column[k]


cdef inline double _bounded(double x, double most) noexcept nogil:
    return x if x < most else most


cdef void assemble_features(const Situation* situation, const Paths* paths, const Demand* demand,
                            const Candidates* candidates, Features* out) noexcept nogil:
    cdef WorkloadView view
    cdef const StreamMetrics* known
    cdef double latency_s[16]
    cdef double rate_Bps[16]
    cdef double backlog_s[16]
    cdef double ahead_s[16]
    cdef double next_s[16]              # when a mean task would be through, were it next on the stream ...
    cdef double free_s[16]              # ... and a byte
    cdef int place[16]
    cdef double total_Bps = 0.0, least_latency_s = INFINITY, size = <double>demand.size_bytes
    cdef double reference_s, mean_s, finish_s, age_s, backlog_bytes = 0.0, load
    cdef float* row
    cdef int i, j, m = 0
    workload_look(situation.workload, size, situation.now_s, &view)
    for i in range(paths.n):
        place[i] = m
        if (paths.up >> i) & 1:
            known = situation.metrics + i
            rate_Bps[m] = paths.rate_Bps[i] if paths.rate_Bps[i] > 1e-3 else 1e-3
            latency_s[m] = known.latency_s
            backlog_s[m] = _bounded(situation.backlog_s[i], 1e12)
            ahead_s[m] = _bounded(paths.work_ahead_s[i], 1e12)
            total_Bps += rate_Bps[m]
            backlog_bytes += backlog_s[m] * rate_Bps[m]
            if latency_s[m] < least_latency_s:
                least_latency_s = latency_s[m]
            m += 1
    out.n_streams = m
    reference_s = least_latency_s + size / total_Bps
    mean_s = least_latency_s + view.mean_bytes / total_Bps
    if reference_s < 1e-9:
        reference_s = 1e-9
    if mean_s < 1e-9:
        mean_s = 1e-9
    out.reference_s = reference_s
    out.mean_reference_s = mean_s
    out.gap_s = view.gap_s
    j = 0
    for i in range(paths.n):
        if not (paths.up >> i) & 1:
            continue
        known = situation.metrics + i
        row = out.streams + j * STREAM_FEATURES
        finish_s = ahead_s[j] + latency_s[j] + size / rate_Bps[j]
        free_s[j] = backlog_s[j] + latency_s[j]
        next_s[j] = free_s[j] + view.mean_bytes / rate_Bps[j]
        age_s = situation.now_s - known.measured_s
        row[0] = _log(rate_Bps[j] / total_Bps, 1.0 / 6.0)
        row[1] = _log1p(latency_s[j] / reference_s, 1.0 / 6.0)
        row[2] = _log1p(ahead_s[j] / reference_s, 1.0 / 6.0)
        row[3] = _log1p(backlog_s[j] / reference_s, 1.0 / 6.0)
        row[4] = _log(finish_s / reference_s, 1.0 / 6.0)
        row[5] = <float>(1.0 - known.success_rate)
        row[6] = <float>(age_s / (age_s + 8.0 * view.gap_s)) if age_s > 0.0 and view.gap_s > 0.0 else 0.0
        row[7] = <float>known.variability
        row[8] = <float>known.lateness
        row[9] = _log1p(backlog_s[j] / mean_s, 1.0 / 6.0)
        row[10] = _log1p(latency_s[j] / mean_s, 1.0 / 6.0)
        row[11] = 1.0 if backlog_s[j] <= 0.0 else 0.0
        j += 1
    row = out.context
    row[0] = _log(reference_s / mean_s, 1.0 / 6.0)
    row[1] = <float>view.rank
    row[2] = <float>view.rank_bytes
    row[3] = _log(size / view.mean_bytes, 1.0 / 8.0)
    load = view.offered_short_Bps / total_Bps
    row[4] = <float>(load / (load + 0.5))
    load = view.offered_long_Bps / total_Bps
    row[5] = <float>(load / (load + 0.5))
    row[6] = _log1p(view.burstiness, 1.0 / 5.0)
    row[7] = _log1p(view.dispersion, 1.0 / 6.0)
    row[8] = <float>view.known
    row[9] = _log1p(situation.in_flight, 1.0 / 5.0)
    row[10] = _log1p(backlog_bytes / total_Bps / mean_s, 1.0 / 6.0)
    row[11] = <float>demand.priority
    row[12] = 1.0 if demand.deadline_s < INFINITY else 0.0
    row[13] = <float>(reference_s / (reference_s + demand.deadline_s)) if row[12] > 0.0 else 0.0
    row[14] = <float>sin(2.0 * M_PI * situation.day)
    row[15] = <float>cos(2.0 * M_PI * situation.day)
    row[16] = 1.0 if situation.order else 0.0
    row[17] = <float>situation.preference
    row[18] = <float>m / 16.0
    row[19] = <float>_bounded(<double>demand.min_chunk_bytes / size, 1.0)
    row[20] = <float>(least_latency_s / reference_s)
    row[21] = _log1p(backlog_bytes / total_Bps / reference_s, 1.0 / 6.0)
    _of_candidates(paths, candidates, place, m, reference_s, mean_s, total_Bps, rate_Bps, latency_s, ahead_s,
                   backlog_s, next_s, free_s, situation.metrics, out)


cdef void _of_candidates(const Paths* paths, const Candidates* candidates, const int* place, int m,
                         double reference_s, double mean_s, double total_Bps,
                         const double* rate_Bps, const double* latency_s, const double* ahead_s,
                         const double* backlog_s, const double* next_s, const double* free_s,
                         const StreamMetrics* metrics, Features* out) noexcept nogil:
    """The inner loops run over the candidates: vectors of sums, each in the order of the streams."""
    cdef double planned_s[MAX_CANDIDATES]
    cdef double share[MAX_CANDIDATES]
    cdef double left[MAX_CANDIDATES]
    cdef double varied[MAX_CANDIDATES]
    cdef double success[MAX_CANDIDATES]
    cdef double next_mean_s[MAX_CANDIDATES]
    cdef double next_small_s[MAX_CANDIDATES]
    cdef float column[MAX_CANDIDATES]
    cdef double least_s = INFINITY, inside, grown_s, x
    cdef double ahead, rate, busy, varies, succeeds, next_mean, next_small
    cdef uint32_t mask
    cdef float* row
    cdef int i, j, k, count = candidates.count
    out.n_candidates = count
    for k in range(count):
        if candidates.completion_s[k] < least_s:
            least_s = candidates.completion_s[k]
        planned_s[k] = _bounded(candidates.completion_s[k], 1e15)
        share[k] = left[k] = varied[k] = 0.0
        success[k] = 1.0
        next_mean_s[k] = next_small_s[k] = INFINITY
        mask = candidates.mask[k]
        if m < paths.n:
            mask = 0
            for i in range(paths.n):
                mask |= ((candidates.mask[k] >> i) & 1) << place[i]
        out.members[k] = mask
    if not least_s > 1e-9:
        least_s = 1e-9
    for i in range(paths.n):
        if not (paths.up >> i) & 1:
            continue
        j = place[i]
        rate, ahead, busy = rate_Bps[j], ahead_s[j], backlog_s[j]
        next_mean, next_small = next_s[j], free_s[j]
        succeeds, varies = metrics[i].success_rate, rate * metrics[i].variability
        for k in range(count):
            inside = <double><int>((out.members[k] >> j) & 1)
            grown_s = planned_s[k] - ahead - latency_s[j]
            grown_s = inside * (grown_s if grown_s > 0.0 else 0.0)
            share[k] += inside * rate
            varied[k] += inside * varies
            left[k] += (busy + grown_s) * rate
            x = succeeds if inside > 0.0 else 1.0
            success[k] = x if x < success[k] else success[k]
            x = next_mean + grown_s
            next_mean_s[k] = x if x < next_mean_s[k] else next_mean_s[k]
            x = next_small + grown_s
            next_small_s[k] = x if x < next_small_s[k] else next_small_s[k]
    for k in range(count):
        row = out.candidates + k * CANDIDATE_FEATURES
        row[2] = <float>popcount(out.members[k]) / <float>m
        row[3] = <float>(share[k] / total_Bps)
        row[8] = <float>(1.0 - success[k])
        row[9] = <float>(varied[k] / share[k])
        left[k] = left[k] / total_Bps
    _logs(planned_s, count, reference_s, 1.0 / 6.0, column, out.candidates)
    _logs(planned_s, count, least_s, 1.0 / 4.0, column, out.candidates + 1)
    _logs1p(next_mean_s, count, mean_s, 1.0 / 6.0, column, out.candidates + 4)
    _logs1p(next_small_s, count, mean_s, 1.0 / 6.0, column, out.candidates + 5)
    _logs1p(left, count, mean_s, 1.0 / 6.0, column, out.candidates + 6)
    _logs1p(planned_s, count, mean_s, 1.0 / 6.0, column, out.candidates + 7)
