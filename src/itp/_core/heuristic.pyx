"""Model-free policies: which streams carry a task, and by which rule it is split."""
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint32_t

from itp._core.alloc cimport (
    EQUAL,
    PROPORTIONAL,
    WATER_FILLING,
    Rule,
    allocate_proportional,
    allocate_water_filling,
    completion_time_s,
    order_by,
    water_level_s,
)
from itp._core.order cimport FIFO, SRPT, ServiceOrder
from itp._core.state cimport Paths, StreamMetrics, popcount

from difflib import get_close_matches

cdef extern from *:
    int lowest_bit "__builtin_ctz" (unsigned int mask) nogil

POLICIES = (
    "least_completion_time",
    "score",
    "single_best",
    "round_robin",
    "proportional",
    "equal_split",
    "least_completion_time_proportional",
    "min_rtt",
    "pull",
    "adaptive_size_interval",
    "first_policy_iteration",
    "least_marginal_cost",
)
AUTO = "auto"


# Geometric-mean slowdown over the ten shipped families, 30 test worlds each (`itp evaluate`), with deadlines
# as hard as each rule takes them by default:
#         least completion time   score   single best   round robin   proportional   equal split
# fifo                     4.64    7.32          3.05          5.11           5.43          7.64
# srpt                     2.17    2.80          2.35          2.95           2.35          2.72
# Under fifo whatever comes after a task waits behind it on every stream that the task uses.
# The rules that go by the remembered workload have less in both (docs/rivals.md).
cdef Policy default_policy(ServiceOrder order) noexcept nogil:
    return LEAST_COMPLETION_TIME if order == SRPT else SINGLE_BEST


DEFAULT_POLICIES = {"fifo": POLICIES[default_policy(FIFO)], "srpt": POLICIES[default_policy(SRPT)]}


cdef Policy policy_number(object name, ServiceOrder order) except *:
    if name == AUTO:
        return LEAST_MARGINAL_COST
    if name in POLICIES:
        return <Policy>(<int>POLICIES.index(name))
    known = (AUTO, *POLICIES)
    close = get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"no rule is named {name!r}{hint} There are: {', '.join(known)}")

# The score rule's own figures: two streams for what is large and not urgent.
cdef double _LARGE_TASK_BYTES = 100e6
cdef double _URGENT_PRIORITY = 0.5


# The subsets of n streams in the order of the actions: by size, then by sorted members.
cdef uint32_t _SUBSETS[7][63]


def _fill_subsets():
    for n in range(1, EXHAUSTIVE_STREAMS + 1):
        members = [tuple(i for i in range(n) if mask >> i & 1) for mask in range(1, 1 << n)]
        for k, subset in enumerate(sorted(members, key=lambda m: (len(m), m))):
            _SUBSETS[n][k] = sum(1 << i for i in subset)


_fill_subsets()


cdef double _whole_finish_s(const Paths* paths, int i, double size_bytes) noexcept nogil:
    """When stream i alone would be done with the whole task."""
    if paths.rate_Bps[i] > 0.0:
        return paths.delay_s[i] + size_bytes / paths.rate_Bps[i]
    return INFINITY


cdef double planned_time_s(const Paths* paths, const Demand* demand, uint32_t mask,
                           const int64_t* chunks) noexcept nogil:
    cdef double finish_s, first_s = INFINITY
    cdef int i
    if demand.redundancy == 1:
        return completion_time_s(chunks, paths.rate_Bps, paths.delay_s, mask)
    for i in range(paths.n):
        if (mask >> i) & 1:
            finish_s = _whole_finish_s(paths, i, <double>demand.size_bytes)
            first_s = finish_s if finish_s < first_s else first_s
    return first_s


cdef bint meets_demand(const Paths* paths, const Demand* demand, uint32_t mask,
                       double completion_s) noexcept nogil:
    cdef double bandwidth = 0.0
    cdef int i
    if demand.min_bandwidth_Bps > 0.0:
        for i in range(paths.n):
            if (mask >> i) & 1:
                if demand.redundancy == 1:
                    bandwidth += paths.rate_Bps[i]
                elif paths.rate_Bps[i] > bandwidth:
                    bandwidth = paths.rate_Bps[i]
        # A part in 10^12 forgives the rounding of the sum.
        if bandwidth < demand.min_bandwidth_Bps * (1.0 - 1e-12):
            return False
    return completion_s <= demand.deadline_s


cdef void _add(const Paths* paths, const Demand* demand, const int* by_delay, uint32_t mask,
               bint only_kept, Candidates* out) noexcept nogil:
    """Add a candidate; with `only_kept` without the streams it would drop, and not twice."""
    cdef uint32_t kept = mask
    cdef double completion = INFINITY, finish
    cdef int i, k = out.count
    if demand.redundancy > 1:
        for i in range(paths.n):
            if (mask >> i) & 1:
                finish = _whole_finish_s(paths, i, <double>demand.size_bytes)
                if finish < completion:
                    completion = finish
    else:
        completion = water_level_s(<double>demand.size_bytes, paths.rate_Bps, paths.delay_s, by_delay,
                                   paths.n, mask, <double>demand.min_chunk_bytes, &kept)
    if only_kept:
        for i in range(k):
            if out.mask[i] == kept:
                return
        mask = kept
    out.mask[k] = mask
    out.completion_s[k] = completion
    out.whole[k] = kept == mask
    out.meets[k] = meets_demand(paths, demand, kept, completion)
    out.count = k + 1


cdef void enumerate_candidates(const Paths* paths, const Demand* demand, Candidates* out) noexcept nogil:
    cdef double key[16]
    cdef int by_delay[16]
    cdef uint32_t mask
    cdef int k
    out.count = 0
    order_by(paths.delay_s, paths.n, by_delay)
    if paths.n <= EXHAUSTIVE_STREAMS:
        for k in range((1 << paths.n) - 1):
            mask = _SUBSETS[paths.n][k]
            if mask & ~paths.up == 0 and (demand.redundancy == 1 or popcount(mask) == demand.redundancy):
                _add(paths, demand, by_delay, mask, False, out)
        return
    for k in range(paths.n):
        key[k] = _whole_finish_s(paths, k, <double>demand.size_bytes)
    _add_prefixes(paths, demand, by_delay, key, out)
    if demand.min_bandwidth_Bps > 0.0 and not any_candidate_meets(out):
        # Early finishers may be slow ones: look for the bandwidth where it is.
        for k in range(paths.n):
            key[k] = -paths.rate_Bps[k]
        _add_prefixes(paths, demand, by_delay, key, out)


# The streams that are up and move, in order of delay; sets are masks over these places.
ctypedef struct Line:
    int count
    int stream[16]
    double rate_Bps[16]
    double delay_s[16]
    uint32_t place[16]          # bit of a stream; 0: it does not move


cdef double _level_s(const Line* line, double size_bytes, uint32_t places, double min_chunk_bytes,
                     uint32_t* kept) noexcept nogil:
    """What alloc.water_level_s gives, to the bit; it looks at the streams of the set alone."""
    cdef double rate_sum[17]
    cdef double work[17]
    cdef double rate, share, least, level
    cdef uint32_t filled = 0, left
    cdef int p, low, start = 0
    rate_sum[0] = 0.0
    work[0] = size_bytes
    while True:
        # What comes before the stream that was dropped adds up as before.
        left = places & ~((<uint32_t>1 << start) - 1)
        filled = places & ((<uint32_t>1 << start) - 1)
        rate = rate_sum[start]
        level = work[start]
        while left:
            p = lowest_bit(left)
            left &= left - 1
            if level <= rate * line.delay_s[p]:
                break
            rate_sum[p] = rate
            work[p] = level
            rate += line.rate_Bps[p]
            level += line.rate_Bps[p] * line.delay_s[p]
            filled |= <uint32_t>1 << p
        level = level / rate
        kept[0] = filled
        if not filled & (filled - 1):
            return level
        least = INFINITY
        low = 0
        left = filled
        while left:
            p = lowest_bit(left)
            left &= left - 1
            share = line.rate_Bps[p] * (level - line.delay_s[p])
            if share < least or (share == least and line.stream[p] > line.stream[low]):
                least = share
                low = p
        if least >= min_chunk_bytes:
            return level
        places = filled & ~(<uint32_t>1 << low)
        start = low


cdef void _add_set(const Paths* paths, const Demand* demand, const Line* line, uint32_t mask, bint only_kept,
                   Candidates* out) noexcept nogil:
    """Add a set all of whose streams keep a chunk: the one given, or else what is kept of it, not twice."""
    cdef uint32_t places = 0, kept = 0, left = mask
    cdef double completion = INFINITY
    cdef int i, k = out.count
    while left:
        places |= line.place[lowest_bit(left)]
        left &= left - 1
    if places:
        completion = _level_s(line, <double>demand.size_bytes, places, <double>demand.min_chunk_bytes,
                              &places)
        while places:
            kept |= <uint32_t>1 << line.stream[lowest_bit(places)]
            places &= places - 1
    else:
        kept = mask
    if kept != mask and not only_kept:
        return
    if only_kept:
        for i in range(k):
            if out.mask[i] == kept:
                return
    out.mask[k] = kept
    out.completion_s[k] = completion
    out.whole[k] = True
    out.meets[k] = meets_demand(paths, demand, kept, completion)
    out.count = k + 1


cdef void _line_up(const Paths* paths, Line* line) noexcept nogil:
    cdef int by_delay[16]
    cdef int k, i
    line.count = 0
    order_by(paths.delay_s, paths.n, by_delay)
    for k in range(paths.n):
        i = by_delay[k]
        line.place[i] = 0
        if (paths.up >> i) & 1 and paths.rate_Bps[i] > 0.0:
            line.stream[line.count] = i
            line.rate_Bps[line.count] = paths.rate_Bps[i]
            line.delay_s[line.count] = paths.delay_s[i]
            line.place[i] = <uint32_t>1 << line.count
            line.count += 1


cdef void enumerate_sets(const Paths* paths, const Demand* demand, Candidates* out) noexcept nogil:
    cdef double key[16]
    cdef int order[16]
    cdef Line line
    cdef uint32_t mask, prefix = 0
    cdef int k, most
    out.count = 0
    _line_up(paths, &line)
    # A set of more streams has not a chunk of the minimum size for each.
    most = paths.n
    if demand.size_bytes // paths.n < demand.min_chunk_bytes:
        most = <int>(demand.size_bytes // demand.min_chunk_bytes)
    if paths.n <= EXHAUSTIVE_STREAMS:
        for k in range((1 << paths.n) - 1):
            mask = _SUBSETS[paths.n][k]
            if popcount(mask) > most and k >= paths.n:
                break
            if mask & ~paths.up == 0:
                _add_set(paths, demand, &line, mask, False, out)
        return
    for k in range(paths.n):
        if (paths.up >> k) & 1:
            _add_set(paths, demand, &line, <uint32_t>1 << k, True, out)
        key[k] = _whole_finish_s(paths, k, <double>demand.size_bytes)
    if most < 2:
        return
    order_by(key, paths.n, order)
    for k in range(paths.n):
        if (paths.up >> order[k]) & 1:
            prefix |= <uint32_t>1 << order[k]
            _add_set(paths, demand, &line, prefix, True, out)
    prefix = paths.up
    for k in range(paths.n):
        prefix &= ~(<uint32_t>1 << order[k])
        if prefix and (paths.up >> order[k]) & 1:
            _add_set(paths, demand, &line, prefix, True, out)


def most_sets(int n_streams):
    """How many candidates a set model has over so many streams, at most."""
    return (1 << n_streams) - 1 if n_streams <= EXHAUSTIVE_STREAMS else 3 * n_streams


cdef void list_candidates(const Paths* paths, const Demand* demand, Candidates* out) noexcept nogil:
    cdef uint32_t mask
    cdef int k
    if paths.n > EXHAUSTIVE_STREAMS:
        # Which prefixes there are depends on the estimates.
        enumerate_candidates(paths, demand, out)
        return
    out.count = 0
    for k in range((1 << paths.n) - 1):
        mask = _SUBSETS[paths.n][k]
        if mask & ~paths.up == 0 and (demand.redundancy == 1 or popcount(mask) == demand.redundancy):
            out.mask[out.count] = mask
            out.meets[out.count] = True
            out.count += 1


cdef void _add_prefixes(const Paths* paths, const Demand* demand, const int* by_delay, const double* key,
                        Candidates* out) noexcept nogil:
    """Add the first one, two, ... streams in order of `key`."""
    cdef int order[16]
    cdef uint32_t prefix = 0
    cdef int k, size = 0
    order_by(key, paths.n, order)
    for k in range(paths.n):
        if (paths.up >> order[k]) & 1:
            prefix |= <uint32_t>1 << order[k]
            size += 1
            if demand.redundancy == 1 or size == demand.redundancy:
                _add(paths, demand, by_delay, prefix, True, out)


cdef bint any_candidate_meets(const Candidates* candidates) noexcept nogil:
    cdef int k
    for k in range(candidates.count):
        if candidates.meets[k]:
            return True
    return False


cdef bint least_at_once(const Paths* paths, const Demand* demand, uint32_t* mask) noexcept nogil:
    cdef int by_delay[16]
    cdef double completion, smallest = INFINITY, share
    cdef int i
    if demand.redundancy > 1:
        return False
    if demand.size_bytes // 2 < demand.min_chunk_bytes and demand.min_bandwidth_Bps <= 0.0:
        mask[0] = 0
        for i in range(paths.n):
            completion = _whole_finish_s(paths, i, <double>demand.size_bytes)
            if (paths.up >> i) & 1 and (mask[0] == 0 or completion < smallest):
                mask[0] = <uint32_t>1 << i
                smallest = completion
        return True
    order_by(paths.delay_s, paths.n, by_delay)
    completion = water_level_s(<double>demand.size_bytes, paths.rate_Bps, paths.delay_s, by_delay, paths.n,
                               paths.up, 0.0, mask)
    if mask[0] & (mask[0] - 1):
        for i in range(paths.n):
            if (mask[0] >> i) & 1:
                share = paths.rate_Bps[i] * (completion - paths.delay_s[i])
                if share < smallest:
                    smallest = share
    return smallest >= <double>demand.min_chunk_bytes and meets_demand(paths, demand, mask[0], completion)


cdef int least_completion(const Candidates* candidates) noexcept nogil:
    cdef int k, best = -1
    cdef bint any_meets = any_candidate_meets(candidates)
    for k in range(candidates.count):
        if any_meets and not candidates.meets[k]:
            continue
        # A set that drops streams stands in the list again without them.
        if not candidates.whole[k]:
            continue
        # Ties keep the earlier candidate, which has fewer streams.
        if best < 0 or candidates.completion_s[k] < candidates.completion_s[best]:
            best = k
    return best if best >= 0 else 0


cdef int fewest_streams(const Candidates* candidates, double most_s) noexcept nogil:
    cdef bint only_meeting = any_candidate_meets(candidates)
    cdef int k, count, fewest = 0, best = -1
    for k in range(candidates.count):
        if (only_meeting and not candidates.meets[k]) or not candidates.whole[k]:
            continue
        if candidates.completion_s[k] > most_s:
            continue
        count = popcount(candidates.mask[k])
        if (best < 0 or count < fewest
                or (count == fewest and candidates.completion_s[k] < candidates.completion_s[best])):
            best = k
            fewest = count
    return best if best >= 0 else least_completion(candidates)


cdef uint32_t _least_of(const double* key, uint32_t up, int n, int count) noexcept nogil:
    """The `count` streams of `up` with the least keys."""
    cdef int order[16]
    cdef uint32_t mask = 0
    cdef int k
    order_by(key, n, order)
    for k in range(n):
        if count > 0 and (up >> order[k]) & 1:
            mask |= <uint32_t>1 << order[k]
            count -= 1
    return mask


cdef uint32_t choose_by_rule(Policy policy, const Paths* paths, const StreamMetrics* streams,
                             const Demand* demand, int* turn, Rule* split) noexcept nogil:
    cdef double key[16]
    cdef int i, k, count = demand.redundancy
    split[0] = PROPORTIONAL
    if policy == ROUND_ROBIN:
        for i in range(paths.n):
            key[i] = <double>((i + paths.n - turn[0]) % paths.n)
        for k in range(paths.n):
            i = (turn[0] + k) % paths.n
            if (paths.up >> i) & 1:
                turn[0] = (i + 1) % paths.n
                break
    elif policy == SCORE:
        for i in range(paths.n):
            # bandwidth x success / (latency x (1 + congestion)), negated: best first. A stream
            # of no latency at all is scored as one of a nanosecond.
            key[i] = -paths.rate_Bps[i] / (
                (paths.delay_s[i] - paths.work_ahead_s[i] + 1e-9) * (1.0 + paths.congestion[i]))
        if (count == 1 and <double>demand.size_bytes > _LARGE_TASK_BYTES
                and demand.priority < _URGENT_PRIORITY):
            count = 2
    elif policy == MIN_RTT and streams != NULL:
        for i in range(paths.n):
            key[i] = streams[i].latency_s
    elif policy in (SINGLE_BEST, MIN_RTT) or policy >= ADAPTIVE_SIZE_INTERVAL or demand.redundancy > 1:
        for i in range(paths.n):
            key[i] = _whole_finish_s(paths, i, <double>demand.size_bytes)
    else:
        split[0] = EQUAL if policy == EQUAL_SPLIT else WATER_FILLING if policy == PULL_ALL else PROPORTIONAL
        return paths.up
    return _least_of(key, paths.up, paths.n, count)


cdef uint32_t least_proportional(const Paths* paths, const Demand* demand,
                                 Candidates* scratch) noexcept nogil:
    cdef int64_t chunks[16]
    cdef uint32_t mask, best = 0
    cdef double completion_s, best_s = INFINITY
    cdef int k
    enumerate_candidates(paths, demand, scratch)
    for k in range(scratch.count):
        mask = scratch.mask[k]
        if split_chunks(paths, demand, mask, PROPORTIONAL, chunks) != mask:
            continue
        completion_s = completion_time_s(chunks, paths.rate_Bps, paths.delay_s, mask)
        if best == 0 or completion_s < best_s:
            best = mask
            best_s = completion_s
    return best if best else paths.up


cdef uint32_t split_chunks(const Paths* paths, const Demand* demand, uint32_t mask, Rule split,
                           int64_t* chunks) noexcept nogil:
    cdef double weight[16]
    cdef int i
    if demand.redundancy > 1:
        for i in range(paths.n):
            chunks[i] = demand.size_bytes if (mask >> i) & 1 else 0
        return mask
    if split == WATER_FILLING:
        return allocate_water_filling(demand.size_bytes, paths.rate_Bps, paths.delay_s, paths.n, mask,
                                      demand.min_chunk_bytes, chunks)
    for i in range(paths.n):
        weight[i] = 1.0 if split == EQUAL else paths.rate_Bps[i] / (1.0 + paths.congestion[i])
    return allocate_proportional(demand.size_bytes, weight, paths.n, mask, demand.min_chunk_bytes, chunks)
