"""What a sender remembers of the tasks it was asked to carry: sizes, gaps, offered load.

Ranks are exact among the last 128 sizes. Gaps are exponentially weighted over about 8 and 64 tasks, so the
memory is counted in tasks and has no time scale of its own. A gap counts as at most 32 mean gaps: a sender
that stood still for a week finds its workload as it left it. Time that runs backwards counts as no time.
"""
from libc.string cimport memmove, memset

from itp._core.fastlog cimport fast_log2

cdef double _SHORT = 1.0 / 8.0          # weight of a new task
cdef double _LONG = 1.0 / 64.0
cdef double _LONGEST_GAPS = 32.0        # a longer gap counts as so many mean ones
cdef double _LEAST_GAP_S = 1e-9
cdef double _MOST_BYTES = 1e30          # their squares and sums stay finite in double precision


cdef void workload_reset(Workload* w) noexcept nogil:
    memset(w, 0, sizeof(Workload))


cdef double _gap_s(const Workload* w, double now_s) noexcept nogil:
    """Since the latest task, bounded."""
    cdef double gap_s = now_s - w.last_s
    cdef double most_s
    if not gap_s > 0.0:
        return 0.0
    if w.weight_long > 0.0:
        most_s = _LONGEST_GAPS * w.gap_long_s / w.weight_long
        if most_s > 0.0 and gap_s > most_s:
            return most_s
    return gap_s


cdef void workload_look(const Workload* w, double size_bytes, double now_s, WorkloadView* out) noexcept nogil:
    cdef int k, kept = workload_kept(w)
    cdef float size = <float>size_bytes, other
    cdef double total = 0.0, squares = 0.0, below_bytes = 0.0, gap_s, weight
    cdef double short_s, long_s, square
    cdef int below = 0, equal = 0
    for k in range(kept):
        other = w.size_bytes[k]
        total += other
        squares += <double>other * other
        below += other < size
        equal += other == size
        below_bytes += other if other < size else 0.0
    out.known = kept / (kept + 8.0)
    if kept > 0:
        out.rank = (below + 0.5 * equal) / kept
        out.rank_bytes = (below_bytes + 0.5 * equal * size_bytes) / total
    else:
        out.rank = out.rank_bytes = 0.5
    total += size_bytes
    squares += size_bytes * size_bytes
    out.mean_bytes = total / (kept + 1)
    out.dispersion = squares * (kept + 1) / (total * total) - 1.0
    if not out.dispersion > 0.0:
        out.dispersion = 0.0
    out.gap_s = out.burstiness = out.offered_short_Bps = out.offered_long_Bps = 0.0
    if w.count == 0:
        return
    gap_s = _gap_s(w, now_s)
    weight = (1.0 - _SHORT) * w.weight_short + _SHORT
    short_s = ((1.0 - _SHORT) * w.gap_short_s + _SHORT * gap_s) / weight
    weight = (1.0 - _LONG) * w.weight_long + _LONG
    long_s = ((1.0 - _LONG) * w.gap_long_s + _LONG * gap_s) / weight
    square = ((1.0 - _LONG) * w.gap_square_s2 + _LONG * gap_s * gap_s) / weight
    if long_s < _LEAST_GAP_S:
        long_s = _LEAST_GAP_S
    if short_s < _LEAST_GAP_S:
        short_s = _LEAST_GAP_S
    out.gap_s = long_s
    out.burstiness = square / (long_s * long_s) - 1.0
    if not out.burstiness > 0.0:
        out.burstiness = 0.0
    weight = (1.0 - _SHORT) * w.bytes_weight + _SHORT
    out.offered_short_Bps = ((1.0 - _SHORT) * w.bytes_short + _SHORT * size_bytes) / weight / short_s
    out.offered_long_Bps = out.mean_bytes / long_s


cdef int _place(const float* ascending, int count, float size) noexcept nogil:
    """How many of these sizes are smaller."""
    cdef int low = 0, high = count, middle
    while low < high:
        middle = (low + high) // 2
        if ascending[middle] < size:
            low = middle + 1
        else:
            high = middle
    return low


cdef void _insert(float* ascending, int count, float size) noexcept nogil:
    cdef int at = _place(ascending, count, size)
    memmove(ascending + at + 1, ascending + at, <size_t>(count - at) * sizeof(float))
    ascending[at] = size


cdef void workload_order(Workload* w) noexcept nogil:
    cdef int k, kept = workload_kept(w)
    cdef int oldest = <int>(w.count % WORKLOAD_WINDOW) if kept == WORKLOAD_WINDOW else 0
    w.total_bytes = w.log2_long = w.log2_weight = 0.0
    for k in range(kept):
        _insert(w.ordered_bytes, k, w.size_bytes[k])
        w.total_bytes += <double>w.size_bytes[k]
        _remember_log2(w, w.size_bytes[(oldest + k) % WORKLOAD_WINDOW])


cdef void _remember_log2(Workload* w, float size) noexcept nogil:
    w.log2_long += _LONG * (fast_log2(size) - w.log2_long)
    w.log2_weight += _LONG * (1.0 - w.log2_weight)


cdef void _remember_size(Workload* w, float size) noexcept nogil:
    """Put a size into ring and order; the oldest one leaves where there is no room."""
    cdef int at, kept = workload_kept(w)
    cdef float* slot = w.size_bytes + w.count % WORKLOAD_WINDOW
    if kept == WORKLOAD_WINDOW:
        kept -= 1
        at = _place(w.ordered_bytes, kept, slot[0])
        memmove(w.ordered_bytes + at, w.ordered_bytes + at + 1, <size_t>(kept - at) * sizeof(float))
        w.total_bytes -= <double>slot[0]
    _insert(w.ordered_bytes, kept, size)
    slot[0] = size
    w.total_bytes += <double>size
    if w.count % WORKLOAD_WINDOW == WORKLOAD_WINDOW - 1:
        # Rounding does not add up.
        w.total_bytes = 0.0
        for at in range(WORKLOAD_WINDOW):
            w.total_bytes += <double>w.size_bytes[at]
    _remember_log2(w, size)


cdef void workload_glance(const Workload* w, double size_bytes, double now_s, double* log2_bytes,
                          double* offered_Bps) noexcept nogil:
    cdef double gap_s
    log2_bytes[0] = ((1.0 - _LONG) * w.log2_long + _LONG * fast_log2(<float>size_bytes)) / (
        (1.0 - _LONG) * w.log2_weight + _LONG)
    offered_Bps[0] = 0.0
    if w.count > 0:
        gap_s = ((1.0 - _LONG) * w.gap_long_s + _LONG * _gap_s(w, now_s)) / (
            (1.0 - _LONG) * w.weight_long + _LONG)
        if gap_s < _LEAST_GAP_S:
            gap_s = _LEAST_GAP_S
        offered_Bps[0] = (w.total_bytes + size_bytes) / (workload_kept(w) + 1) / gap_s


cdef void workload_add(Workload* w, double size_bytes, double now_s) noexcept nogil:
    cdef double gap_s
    if size_bytes > _MOST_BYTES:
        size_bytes = _MOST_BYTES
    if w.count > 0:
        gap_s = _gap_s(w, now_s)
        w.gap_short_s += _SHORT * (gap_s - w.gap_short_s)
        w.weight_short += _SHORT * (1.0 - w.weight_short)
        w.gap_long_s += _LONG * (gap_s - w.gap_long_s)
        w.gap_square_s2 += _LONG * (gap_s * gap_s - w.gap_square_s2)
        w.weight_long += _LONG * (1.0 - w.weight_long)
    w.bytes_short += _SHORT * (size_bytes - w.bytes_short)
    w.bytes_weight += _SHORT * (1.0 - w.bytes_weight)
    _remember_size(w, <float>size_bytes)
    w.count += 1
    w.last_s = now_s
