"""Least marginal cost: a task's own completion time, and the delay that it causes to the tasks expected next.

One step of policy improvement (as first policy iteration improves a random split: Hyytia, Aalto and
Penttinen, "Minimizing slowdown in heterogeneous size-aware dispatching systems", SIGMETRICS 2012) over the
least completion time, with what is expected in the place of the future (certainty equivalent control:
Bertsekas, "Dynamic Programming and Optimal Control", vol. I, chapter 6). For every candidate set of streams
it asks what the next tasks would find. They come at the mean gap, have the sizes in the middle of the four
quarters of those remembered, meet the work ahead as it is drained by then, and each is through as soon as all
streams together allow. At a low load the work is gone when they come, and the least completion time wins;
where sizes differ much and the load is high, large tasks leave streams free for small ones.

The cost of a completion time T is (1 - b) log T + b T / (the mean task's reference time): the first term
weighs every task alike (slowdown), the second one every second alike (mean completion time). The preference
sets b. All of it is scale-free.
"""
from libc.math cimport INFINITY, exp
from libc.stdint cimport int32_t, uint32_t

from itp._core.fastlog cimport fast_log2
from itp._core.heuristic cimport Candidates, Demand, any_candidate_meets, fewest_streams, least_completion
from itp._core.order cimport FIFO, ORDER_AGEING_S
from itp._core.state cimport Paths
from itp._core.workload cimport WorkloadView, workload_kept, workload_look

cdef extern from "marginal_cost_kernel.h" nogil:
    ctypedef struct Expected "itp_expected":
        int n
        uint32_t member[16]
        float rate[16]
        float latency[16]
        float bulk
        float behind
        float elapsed[16]
        float size[16]
        float weight[16]
        int32_t splits[16]
        int32_t overtakes[16]
        float ahead[16][16]
        float delay[16][16]
        float alone[16][16]

    float expected_cost "itp_expected_cost"(const Expected* expected, uint32_t mask, float planned)

cdef enum:
    TIMES = 4
    SIZES = 4
    LANES = 16

# When tasks are asked for, in mean gaps from now, and how many each of these times stands for: measured
# over path and workload families of 2 to 16 paths. The last time moves to the middle of a longer transfer,
# and stands for all that come during it.
cdef double[TIMES] _AT = [1.0, 3.0, 9.0, 27.0]
cdef double[TIMES] _WEIGHT = [2.0, 6.0, 25.0, 60.0]
cdef double _MOST_UNDER_WAY = 1e4

# Weight of the mean completion time against that of the slowdown: 0.04 for "typical", 0.2 for "balanced" and
# 1 for "bulk".
cdef double _LEAST_BULK = 0.04
cdef double _LOG_MOST_BULK = 3.2188758     # over the least

# Under SRPT a smaller task goes ahead. This share of a task's work delays smaller ones all the same, as
# measured: estimates of the work ahead are rough, and stealing does not mend all of it.
cdef float _BEHIND_LARGER = 0.05

# A first task may be planned to take so many times as long as on the fastest candidate, to spare streams.
cdef double _FIRST_TASK = 1.25

cdef float _LOG_2 = 0.6931472
cdef float _LEAST = 1e-9        # of a time, in mean reference times
cdef float _MOST = 1e9


cdef inline float _bounded(double x) noexcept nogil:
    if not x > _LEAST:
        return _LEAST
    return <float>x if x < _MOST else _MOST


cdef double _expect(const Situation* situation, const Paths* paths, const Demand* demand, double least_s,
                    Expected* out) noexcept nogil:
    """Fill in what is expected; returns the mean task's reference time."""
    cdef WorkloadView view
    cdef double total_Bps = 0.0, least_latency_s = INFINITY, mean_s, size_bytes, elapsed_s
    cdef double under_way, at, weight
    cdef float work, x
    cdef int i, t, q, k, m = 0, kept = workload_kept(situation.workload)
    workload_look(situation.workload, <double>demand.size_bytes, situation.now_s, &view)
    for i in range(paths.n):
        if (paths.up >> i) & 1:
            total_Bps += paths.rate_Bps[i]
            if situation.metrics[i].latency_s < least_latency_s:
                least_latency_s = situation.metrics[i].latency_s
    if not total_Bps > 1e-3:
        total_Bps = 1e-3
    mean_s = least_latency_s + view.mean_bytes / total_Bps
    if not mean_s > 1e-9:
        mean_s = 1e-9
    # So many come while this task is under way on the fastest candidate.
    under_way = least_s / view.gap_s
    if not under_way < _MOST_UNDER_WAY:
        under_way = _MOST_UNDER_WAY
    out.bulk = <float>(_LEAST_BULK * exp(_LOG_MOST_BULK * situation.preference))
    out.behind = _BEHIND_LARGER
    for k in range(LANES):
        t = k // SIZES
        q = k % SIZES
        # The middle of each quarter of the remembered sizes.
        size_bytes = situation.workload.ordered_bytes[(2 * q + 1) * kept // (2 * SIZES)]
        at = _AT[t]
        weight = _WEIGHT[t]
        if t == TIMES - 1:
            at = at if at > 0.5 * under_way else 0.5 * under_way
            weight = weight if weight > under_way else under_way
        elapsed_s = at * view.gap_s
        out.size[k] = _bounded(size_bytes / (total_Bps * mean_s))
        out.elapsed[k] = _bounded(elapsed_s / mean_s)
        out.weight[k] = <float>(weight / SIZES)
        out.splits[k] = -1 if size_bytes >= 2.0 * <double>demand.min_chunk_bytes else 0
        out.overtakes[k] = -1 if situation.order != FIFO and elapsed_s < ORDER_AGEING_S else 0
    for i in range(paths.n):
        if not (paths.up >> i) & 1:
            continue
        out.member[m] = <uint32_t>1 << i
        x = <float>(paths.rate_Bps[i] / total_Bps)
        out.rate[m] = x if x > _LEAST else _LEAST
        out.latency[m] = _bounded(situation.metrics[i].latency_s / mean_s)
        work = _bounded(paths.work_ahead_s[i] / mean_s)
        for k in range(LANES):
            x = work - out.elapsed[k]
            out.ahead[m][k] = x if x > 0.0 else 0.0
            out.delay[m][k] = out.ahead[m][k] + out.latency[m]
            x = out.size[k] / out.rate[m]
            out.alone[m][k] = x if x < _MOST else _MOST
        m += 1
    out.n = m
    return mean_s


cdef int least_marginal_cost(const Situation* situation, const Paths* paths, const Demand* demand,
                             const Candidates* candidates) noexcept nogil:
    cdef Expected expected
    cdef float planned, cost, best_cost = 0.0
    cdef double mean_s
    cdef int k, fastest, best = -1
    cdef bint only_meeting = any_candidate_meets(candidates)
    fastest = least_completion(candidates)
    if situation.workload.count == 0:
        # Nothing is known of those to come. Under FIFO a first task that is large would hold up all of them.
        if situation.order != FIFO:
            return fastest
        return fewest_streams(candidates, _FIRST_TASK * candidates.completion_s[fastest])
    mean_s = _expect(situation, paths, demand, candidates.completion_s[fastest], &expected)
    for k in range(candidates.count):
        if (only_meeting and not candidates.meets[k]) or not candidates.whole[k]:
            continue
        planned = _bounded(candidates.completion_s[k] / mean_s)
        cost = ((1.0 - expected.bulk) * _LOG_2 * fast_log2(planned) + expected.bulk * planned
                + expected_cost(&expected, candidates.mask[k], planned))
        # Ties keep the earlier candidate, which has fewer streams.
        if best < 0 or cost < best_cost:
            best = k
            best_cost = cost
    return best if best >= 0 else 0
