"""Chunk sizes in exact integer bytes, and completion-time estimates."""
from libc.float cimport DBL_MAX
from libc.math cimport INFINITY, frexp, ldexp
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.arguments cimport byte_count, real_between
from itp._core.ddouble cimport (
    dd,
    dd_add,
    dd_add_d,
    dd_difference,
    dd_div,
    dd_floor,
    dd_mul_d,
    dd_of,
    dd_of_int,
    dd_sub,
)

MIN_CHUNK_BYTES = LEAST_CHUNK_BYTES
"""A stream whose share is smaller is left out of a decision, unless the caller says otherwise."""

cdef enum:
    LIMIT = 16      # streams

# A slower stream counts as one of rate 0: a byte would take it 10^200 s.
cdef double _MIN_RATE_BPS = 1e-200
cdef double _BEYOND_ANY_SIZE = 1e19


cdef void order_by(const double* key, int n, int* order) noexcept nogil:
    cdef int i, j, item
    for i in range(n):
        item = i
        j = i
        while j > 0 and key[order[j - 1]] > key[item]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = item


cdef int _exponent(const double* values, int n, uint32_t mask) noexcept nogil:
    """Binary exponent of the largest value: dividing by its power of two is exact."""
    cdef double largest = 0.0
    cdef int i, exponent = 0
    for i in range(n):
        if (mask >> i) & 1 and values[i] > largest:
            largest = values[i]
    frexp(largest, &exponent)
    return exponent


cdef int _smallest(const dd* share, int n, uint32_t mask) noexcept nogil:
    """The last of the smallest shares: of equal streams the first ones stay."""
    cdef int i, found = -1
    for i in range(n):
        if not (mask >> i) & 1:
            continue
        if found < 0 or share[i].hi < share[found].hi or (
                share[i].hi == share[found].hi and share[i].lo <= share[found].lo):
            found = i
    return found


cdef void _round(int64_t size_bytes, const dd* share, int n, uint32_t mask, int64_t* chunks) noexcept nogil:
    """Round shares that sum to size_bytes to integers that do so exactly: largest remainder."""
    cdef double fraction[LIMIT]
    cdef uint64_t given = 0, whole
    cdef int64_t left
    cdef int i, best
    for i in range(n):
        chunks[i] = 0
        if (mask >> i) & 1:
            whole = dd_floor(share[i], &fraction[i])
            chunks[i] = <int64_t>whole
            given += whole
    left = <int64_t>(<uint64_t>size_bytes - given)
    # `left` is 0 to n - 1 (or, by the last bits of the sums, one beyond); each turn settles a byte.
    while left != 0:
        best = -1
        for i in range(n):
            if (mask >> i) & 1 and (best < 0 or (fraction[i] > fraction[best] if left > 0
                                                 else fraction[i] < fraction[best])):
                best = i
        if left > 0:
            chunks[best] += 1
            fraction[best] -= 1.0
            left -= 1
        else:
            chunks[best] -= 1
            fraction[best] += 1.0
            left += 1


cdef bint _any_positive(const double* values, int n, uint32_t mask) noexcept nogil:
    cdef int i
    for i in range(n):
        if (mask >> i) & 1 and values[i] > 0.0:
            return True
    return False


cdef uint32_t _single(int64_t size_bytes, int n, uint32_t mask, int64_t* chunks) noexcept nogil:
    cdef int i
    for i in range(n):
        chunks[i] = size_bytes if (mask >> i) & 1 else 0
    return mask


cdef uint32_t allocate_proportional(int64_t size_bytes, const double* weight, int n, uint32_t mask,
                                    int64_t min_chunk_bytes, int64_t* chunks) noexcept nogil:
    cdef dd share[LIMIT]
    cdef dd total
    cdef dd size = dd_of_int(size_bytes)
    cdef double scaled[LIMIT]
    cdef bint equal = not _any_positive(weight, n, mask)
    cdef int exponent = _exponent(weight, n, mask)
    cdef int i, low
    for i in range(n):
        scaled[i] = 1.0 if equal else ldexp(weight[i], -exponent)
        if not scaled[i] > 0.0:
            mask &= ~(<uint32_t>1 << i)
    while mask & (mask - 1):
        total = dd_of(0.0)
        for i in range(n):
            if (mask >> i) & 1:
                total = dd_add_d(total, scaled[i])
        for i in range(n):
            if (mask >> i) & 1:
                share[i] = dd_div(dd_mul_d(size, scaled[i]), total)
        low = _smallest(share, n, mask)
        if share[low].hi >= <double>min_chunk_bytes:
            _round(size_bytes, share, n, mask, chunks)
            return mask
        mask &= ~(<uint32_t>1 << low)
    return _single(size_bytes, n, mask, chunks)


cdef uint32_t allocate_water_filling(int64_t size_bytes, const double* rate_Bps, const double* delay_s,
                                     int n, uint32_t mask, int64_t min_chunk_bytes,
                                     int64_t* chunks) noexcept nogil:
    cdef dd share[LIMIT]
    cdef dd rate_sum, above, last_above, level
    cdef double rate[LIMIT]
    cdef int by_delay[LIMIT]
    cdef uint32_t filled
    cdef int i, j, k, last, low
    if not mask & (mask - 1):
        return _single(size_bytes, n, mask, chunks)
    for i in range(n):
        rate[i] = rate_Bps[i] if rate_Bps[i] >= _MIN_RATE_BPS else 0.0
    if not _any_positive(rate, n, mask):
        return allocate_proportional(size_bytes, rate, n, mask, min_chunk_bytes, chunks)
    for i in range(n):
        if rate[i] == 0.0:
            mask &= ~(<uint32_t>1 << i)
    order_by(delay_s, n, by_delay)
    while mask & (mask - 1):
        # Pour: streams join in order of delay d while S - sum_j r_j (d - d_j), the bytes that
        # are left once the level has risen to d, is positive. It is the one subtraction here
        # that can cancel, and its terms are below S: the rest only adds, whatever the metrics.
        filled = 0
        last = -1
        last_above = dd_of_int(size_bytes)
        rate_sum = dd_of(0.0)
        for k in range(n):
            i = by_delay[k]
            if not (mask >> i) & 1:
                continue
            above = dd_of_int(size_bytes)
            for j in range(n):
                if (filled >> j) & 1:
                    if not rate[j] * (delay_s[i] - delay_s[j]) <= _BEYOND_ANY_SIZE:
                        above = dd_of(-1.0)
                        break
                    above = dd_sub(above, dd_mul_d(dd_difference(delay_s[i], delay_s[j]), rate[j]))
            if not above.hi > 0.0:
                break
            filled |= <uint32_t>1 << i
            last = i
            last_above = above
            # Divided by 32, so that 16 of the largest doubles do not overflow.
            rate_sum = dd_add_d(rate_sum, rate[i] / 32.0)
        mask = filled
        if not mask & (mask - 1):
            break
        last_above.hi /= 32.0
        last_above.lo /= 32.0
        level = dd_div(last_above, rate_sum)
        for i in range(n):
            if (mask >> i) & 1:
                share[i] = dd_mul_d(dd_add(dd_difference(delay_s[last], delay_s[i]), level), rate[i])
        low = _smallest(share, n, mask)
        if share[low].hi >= <double>min_chunk_bytes:
            _round(size_bytes, share, n, mask, chunks)
            return mask
        mask &= ~(<uint32_t>1 << low)
    return _single(size_bytes, n, mask, chunks)


cdef double completion_time_s(const int64_t* chunks, const double* rate_Bps, const double* delay_s,
                              uint32_t mask) noexcept nogil:
    cdef double finish, last = 0.0
    cdef int i
    for i in range(LIMIT):
        if (mask >> i) & 1:
            finish = delay_s[i] + <double>chunks[i] / rate_Bps[i] if rate_Bps[i] > 0.0 else INFINITY
            if finish > last:
                last = finish
    return last


cdef double water_level_s(double size_bytes, const double* rate_Bps, const double* delay_s,
                          const int* by_delay, int n, uint32_t mask, double min_chunk_bytes,
                          uint32_t* kept) noexcept nogil:
    cdef double rate_sum, work, level = INFINITY, share, least
    cdef uint32_t filled
    cdef int i, k, low
    while True:
        rate_sum = 0.0
        work = size_bytes
        filled = 0
        for k in range(n):
            i = by_delay[k]
            if not (mask >> i) & 1 or not rate_Bps[i] > 0.0:
                continue
            if work <= rate_sum * delay_s[i]:
                break
            rate_sum += rate_Bps[i]
            work += rate_Bps[i] * delay_s[i]
            filled |= <uint32_t>1 << i
        if not filled:
            kept[0] = mask
            return INFINITY
        level = work / rate_sum
        kept[0] = filled
        if not filled & (filled - 1):
            return level
        least = INFINITY
        low = 0
        for i in range(n):
            if (filled >> i) & 1:
                share = rate_Bps[i] * (level - delay_s[i])
                if share <= least:
                    least = share
                    low = i
        if least >= min_chunk_bytes:
            return level
        mask = filled & ~(<uint32_t>1 << low)


# --- the same for Python -----------------------------------------------------------------

cdef int _values(object sequence, str name, double* out) except -1:
    cdef int i, n
    n = <int>len(sequence) if len(sequence) <= LIMIT else LIMIT + 1
    if not 1 <= n <= LIMIT:
        raise ValueError(f"{name} must have 1 to {LIMIT} entries; got {len(sequence)}")
    for i in range(n):
        out[i] = real_between(f"{name}[{i}]", sequence[i], 0.0, DBL_MAX, "finite and >= 0")
    return n


cdef object _chunk_list(const int64_t* chunks, int n):
    cdef int i
    return [chunks[i] for i in range(n)]


def proportional(size_bytes, weights, *, min_chunk_bytes=1):
    """Chunk sizes proportional to `weights`, by the largest remainder.

    Parameters
    ----------
    size_bytes : int
        1 to 2**63 - 1.
    weights : sequence of float
        1 to 16 entries, finite and >= 0; all zero means equal shares.
    min_chunk_bytes : int
        A stream whose share would be smaller is dropped, the smallest first.

    Returns
    -------
    list of int
        One per stream, 0 for a dropped one; the sum is exactly `size_bytes`.

    Raises
    ------
    ValueError, TypeError
    """
    cdef double weight[LIMIT]
    cdef int64_t chunks[LIMIT]
    cdef int n = _values(weights, "weights", weight)
    allocate_proportional(byte_count("size_bytes", size_bytes, 1), weight, n, (1 << n) - 1,
                          byte_count("min_chunk_bytes", min_chunk_bytes, 1), chunks)
    return _chunk_list(chunks, n)


def water_filling(size_bytes, rates_Bps, delays_s, *, min_chunk_bytes=1):
    """Chunk sizes that finish together: the least completion time of any split.

    Solves sum_i r_i max(0, T - d_i) = S for the level T and gives stream i the share
    r_i (T - d_i), rounded by the largest remainder (water-filling as in Cover and Thomas,
    "Elements of Information Theory", section 9.4, with rates for widths).

    Parameters
    ----------
    size_bytes : int
        1 to 2**63 - 1.
    rates_Bps, delays_s : sequence of float
        1 to 16 entries each, finite and >= 0: bytes per second, and seconds before the stream
        starts on this task. A rate under 1e-200 counts as zero; all zero means equal shares.
    min_chunk_bytes : int
        A stream whose share would be smaller is dropped, the smallest first.

    Returns
    -------
    list of int
        One per stream, 0 for an unused one; the sum is exactly `size_bytes`.

    Raises
    ------
    ValueError, TypeError
    """
    cdef double rate[LIMIT]
    cdef double delay[LIMIT]
    cdef int64_t chunks[LIMIT]
    cdef int n = _values(rates_Bps, "rates_Bps", rate)
    if _values(delays_s, "delays_s", delay) != n:
        raise ValueError(f"delays_s must have {n} entries, as rates_Bps; got {len(delays_s)}")
    allocate_water_filling(byte_count("size_bytes", size_bytes, 1), rate, delay, n, (1 << n) - 1,
                           byte_count("min_chunk_bytes", min_chunk_bytes, 1), chunks)
    return _chunk_list(chunks, n)


def estimate_completion_s(chunk_sizes, rates_Bps, delays_s):
    """When the last chunk is done: max_i d_i + c_i / r_i over the chunks c_i > 0, in seconds."""
    cdef double rate[LIMIT]
    cdef double delay[LIMIT]
    cdef int64_t chunks[LIMIT]
    cdef uint32_t mask = 0
    cdef int n = _values(rates_Bps, "rates_Bps", rate)
    cdef int i
    if _values(delays_s, "delays_s", delay) != n or len(chunk_sizes) != n:
        raise ValueError(f"chunk_sizes and delays_s must have {n} entries, as rates_Bps; "
                         f"got {len(chunk_sizes)} and {len(delays_s)}")
    for i in range(n):
        chunks[i] = 0 if chunk_sizes[i] == 0 else byte_count("chunk_sizes", chunk_sizes[i], 1)
        if chunks[i]:
            mask |= <uint32_t>1 << i
    return completion_time_s(chunks, rate, delay, mask)
