"""Task assignment by size: every stream serves an interval of sizes (SITA).

Harchol-Balter, Crovella and Murta, "On choosing a task assignment policy for a distributed server system", J.
Parallel and Distributed Computing 59, 1999. The intervals give each stream a share of the bytes in proportion
to (its rate) ** skew, and begin with the smallest sizes at the fastest stream or at the slowest. Skew and
direction are those of the least mean log slowdown expected, with the mean waiting time of an M/G/1 queue for
every interval (Pollaczek and Khinchine) over the remembered sizes and their mean gap. Where a stream is far
behind, a neighbouring interval's carries the task.
"""
from libc.math cimport INFINITY, sqrt

from itp._core.alloc cimport order_by
from itp._core.fastlog cimport fast_log2
from itp._core.heuristic cimport Demand
from itp._core.state cimport Paths
from itp._core.workload cimport Workload, WorkloadView, workload_kept, workload_look

cdef enum:
    GROUPS = 12                 # of remembered sizes in order, fewer of the largest
    LEAST_KNOWN = 8             # sizes
    SKEWS = 6

# Tried for the powers of a rate: 1/4, 1/2, 1 and 3/2.
cdef int[SKEWS] _QUARTERS = [1, 2, 3, 4, 6, 8]

# 1 - utilisation is at least this: an overloaded queue counts as one that hardly ever is empty.
cdef double _LEAST_IDLE = 0.02

# A neighbour's stream carries a task that it would finish in less than this share of the time.
cdef double _FAR_AHEAD = 0.5

# Sizes of about a size: what is needed of them.
ctypedef struct _Group:
    double share                # of the tasks
    double share_bytes
    double mean_bytes
    double square_bytes2        # mean square
    double inverse_s            # 1 / reference time

# What lies in both a group and an interval.
ctypedef struct _Piece:
    int group
    int stream
    double share                # of the tasks

# What all intervals have in common.
ctypedef struct _Site:
    int count                   # of groups
    double arrivals_hz
    double seconds_per_byte[16]
    double latency_s[16]
    _Group groups[12]


cdef void _describe(const Situation* situation, const Paths* paths, _Site* out) noexcept nogil:
    """Remembered sizes in groups, and the streams that are up."""
    cdef WorkloadView view
    cdef const Workload* w = situation.workload
    cdef int kept = workload_kept(w)
    cdef int g = 0, i, k, first, last = 0
    cdef double total = 0.0, size, sum_bytes, squares, total_Bps = 0.0, least_latency_s = INFINITY
    for i in range(paths.n):
        if (paths.up >> i) & 1:
            total_Bps += paths.rate_Bps[i]
            out.seconds_per_byte[i] = 1.0 / paths.rate_Bps[i] if paths.rate_Bps[i] > 1e-3 else 1e3
            out.latency_s[i] = situation.metrics[i].latency_s
            if out.latency_s[i] < least_latency_s:
                least_latency_s = out.latency_s[i]
    for k in range(1, GROUPS + 1):
        # The largest sizes have most of the bytes, so they are told apart best.
        first = last
        last = kept - kept * (GROUPS - k) * (GROUPS - k) // (GROUPS * GROUPS)
        if last == first:
            continue
        sum_bytes = squares = 0.0
        for i in range(first, last):
            size = w.ordered_bytes[i]
            sum_bytes += size
            squares += size * size
        out.groups[g].share = <double>(last - first) / kept
        out.groups[g].mean_bytes = sum_bytes / (last - first)
        out.groups[g].square_bytes2 = squares / (last - first)
        out.groups[g].share_bytes = sum_bytes
        out.groups[g].inverse_s = 1.0 / (1e-9 + least_latency_s + out.groups[g].mean_bytes
                                         / (total_Bps if total_Bps > 1e-3 else 1e-3))
        total += sum_bytes
        g += 1
    out.count = g
    for g in range(out.count):
        out.groups[g].share_bytes /= total
    workload_look(w, w.ordered_bytes[0], situation.now_s, &view)
    out.arrivals_hz = 1.0 / view.gap_s


cdef int _cut(const _Site* site, const Intervals* intervals, _Piece* pieces) noexcept nogil:
    """Cut groups at the ends of the intervals; returns the number of pieces, at most groups + streams."""
    cdef int g = 0, j = 0, k = 0
    cdef double at = 0.0, end = site.groups[0].share_bytes, upto
    cdef double density = site.groups[0].share / site.groups[0].share_bytes
    while g < site.count:
        upto = intervals.upto[j] if j < intervals.n - 1 else 2.0
        pieces[k].group = g
        pieces[k].stream = intervals.order[j]
        if end <= upto:
            pieces[k].share = density * (end - at)
            at = end
            g += 1
            if g < site.count:
                end += site.groups[g].share_bytes
                density = site.groups[g].share / site.groups[g].share_bytes
        else:
            pieces[k].share = density * (upto - at)
            at = upto
            j += 1
        k += 1
    return k


cdef double _expected(const _Site* site, Intervals* intervals) noexcept nogil:
    """Mean log2 slowdown, but for what all intervals have in common; fills in the queues."""
    cdef _Piece pieces[GROUPS + 16]
    cdef double square_s2[16]
    cdef double wait_s[16]
    cdef double mean = 0.0, per_byte, hz, idle
    cdef const _Group* group
    cdef int i, k, count = _cut(site, intervals, pieces)
    for k in range(intervals.n):
        i = intervals.order[k]
        intervals.arrivals_hz[i] = intervals.utilisation[i] = intervals.slowdown_hz[i] = square_s2[i] = 0.0
    for k in range(count):
        i = pieces[k].stream
        group = site.groups + pieces[k].group
        per_byte = site.seconds_per_byte[i]
        hz = site.arrivals_hz * pieces[k].share
        intervals.arrivals_hz[i] += hz
        intervals.utilisation[i] += hz * group.mean_bytes * per_byte
        intervals.slowdown_hz[i] += hz * group.inverse_s
        square_s2[i] += hz * group.square_bytes2 * per_byte * per_byte
    for k in range(intervals.n):
        i = intervals.order[k]
        idle = 1.0 - intervals.utilisation[i]
        wait_s[i] = square_s2[i] / (2.0 * (idle if idle > _LEAST_IDLE else _LEAST_IDLE)) + site.latency_s[i]
    for k in range(count):
        i = pieces[k].stream
        mean += pieces[k].share * fast_log2(
            <float>(1e-9 + wait_s[i] + site.groups[pieces[k].group].mean_bytes * site.seconds_per_byte[i]))
    return mean


cdef bint fit_intervals(const Situation* situation, const Paths* paths, Intervals* out) noexcept nogil:
    cdef _Site site
    cdef Intervals tried
    cdef double key[16]
    cdef int by_rate[16]
    cdef double powers[16][9]           # of each stream's rate, in quarters
    cdef double expected, least = 0.0, sum_weights, x
    cdef int i, j, k, s, backwards, m = 0
    cdef bint found = False
    if workload_kept(situation.workload) < LEAST_KNOWN:
        return False
    _describe(situation, paths, &site)
    for i in range(paths.n):
        key[i] = -paths.rate_Bps[i]
    order_by(key, paths.n, by_rate)
    for k in range(paths.n):
        i = by_rate[k]
        if (paths.up >> i) & 1:
            by_rate[m] = i
            m += 1
            # In shares of the largest, whose powers stay finite.
            x = sqrt(sqrt(paths.rate_Bps[i] / paths.rate_Bps[by_rate[0]]))
            powers[i][1] = x if x > 1e-4 else 1e-4
            for s in range(2, 9):
                powers[i][s] = powers[i][s - 1] * powers[i][1]
    tried.n = m
    for backwards in range(2 if m > 1 else 1):
        for j in range(m):
            tried.order[j] = by_rate[m - 1 - j if backwards else j]
        for s in range(SKEWS):
            sum_weights = 0.0
            for j in range(m):
                sum_weights += powers[tried.order[j]][_QUARTERS[s]]
                tried.upto[j] = sum_weights
            for j in range(m):
                tried.upto[j] /= sum_weights
            expected = _expected(&site, &tried)
            if not found or expected < least:
                least = expected
                out[0] = tried
                found = True
    return True


cdef int _interval_of(const Intervals* intervals, double share_bytes) noexcept nogil:
    cdef int j = 0
    while j < intervals.n - 1 and intervals.upto[j] < share_bytes:
        j += 1
    return j


cdef double _finish_s(const Paths* paths, int i, double size_bytes) noexcept nogil:
    """When stream i alone would be done with the whole task."""
    if paths.rate_Bps[i] > 0.0:
        return paths.delay_s[i] + size_bytes / paths.rate_Bps[i]
    return INFINITY


cdef int size_interval(const Situation* situation, const Paths* paths, const Demand* demand) noexcept nogil:
    cdef const Workload* w = situation.workload
    cdef Intervals intervals
    cdef double below = 0.0, equal = 0.0, total = 0.0, size_bytes = <double>demand.size_bytes
    cdef double finish_s, first_s = INFINITY
    cdef int j, k, first, last, best = -1
    if not fit_intervals(situation, paths, &intervals):
        return -1
    for k in range(workload_kept(w)):
        total += w.ordered_bytes[k]
        if w.ordered_bytes[k] < <float>size_bytes:
            below += w.ordered_bytes[k]
        elif w.ordered_bytes[k] == <float>size_bytes:
            equal += w.ordered_bytes[k]
    # Sizes that are alike fill all intervals from `first` to `last`.
    first = _interval_of(&intervals, below / total)
    last = _interval_of(&intervals, (below + equal) / total)
    for j in range(first - 1, last + 2):
        if 0 <= j < intervals.n:
            finish_s = _finish_s(paths, intervals.order[j], size_bytes)
            if not first <= j <= last:
                finish_s /= _FAR_AHEAD
            if best < 0 or finish_s < first_s:
                best = intervals.order[j]
                first_s = finish_s
    return best
