"""First policy iteration: the set of streams whose queues a task costs the least slowdown.

Hyytia, Aalto and Penttinen, "Minimizing slowdown in heterogeneous size-aware dispatching systems", SIGMETRICS
2012. The base policy is size intervals, under which every stream is an M/G/1 queue of its own. Its relative
value with a backlog of u seconds is h u^2 / (2 (1 - rho)), where h is the slowdown that all its tasks gather
in a second of waiting: their rate times their mean 1 / reference time. A task costs its own slowdown and what
it adds to the values of the queues it joins.
"""
from libc.math cimport INFINITY

from itp._core.heuristic cimport Candidates, Demand, any_candidate_meets
from itp._core.size_interval cimport Intervals, fit_intervals
from itp._core.state cimport Paths

cdef double _LEAST_IDLE = 0.05      # 1 - rho, where a queue is overloaded
cdef double _MOST_S = 1e9


cdef int least_admission_cost(const Situation* situation, const Paths* paths, const Demand* demand,
                              const Candidates* candidates) noexcept nogil:
    cdef Intervals intervals
    cdef double value[16]               # of a queue, over the square of its backlog
    cdef double total_Bps = 0.0, least_latency_s = INFINITY, latency_s, reference_s, planned_s, idle, after_s
    cdef double cost, best_cost = INFINITY
    cdef bint only_meeting = any_candidate_meets(candidates)
    cdef int i, k, best = -1
    if not fit_intervals(situation, paths, &intervals):
        return -1
    for i in range(paths.n):
        if (paths.up >> i) & 1:
            total_Bps += paths.rate_Bps[i]
            latency_s = situation.metrics[i].latency_s
            if latency_s < least_latency_s:
                least_latency_s = latency_s
            idle = 1.0 - intervals.utilisation[i]
            value[i] = intervals.slowdown_hz[i] / (2.0 * (idle if idle > _LEAST_IDLE else _LEAST_IDLE))
    reference_s = least_latency_s + <double>demand.size_bytes / (total_Bps if total_Bps > 1e-3 else 1e-3)
    if not reference_s > 1e-9:
        reference_s = 1e-9
    for k in range(candidates.count):
        if (only_meeting and not candidates.meets[k]) or not candidates.whole[k]:
            continue
        planned_s = candidates.completion_s[k] if candidates.completion_s[k] < _MOST_S else _MOST_S
        cost = planned_s / reference_s
        for i in range(paths.n):
            if (candidates.mask[k] >> i) & 1:
                after_s = planned_s - situation.metrics[i].latency_s
                if after_s > paths.work_ahead_s[i]:
                    cost += value[i] * (after_s * after_s - paths.work_ahead_s[i] * paths.work_ahead_s[i])
        # Ties keep the earlier candidate, which has fewer streams.
        if best < 0 or cost < best_cost:
            best = k
            best_cost = cost
    return best if best >= 0 else 0
