"""The ledger of one stream: what is in flight on it, in service order, drained between reports."""
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from itp._core.order cimport FIFO, Rank, served_before, served_before_newcomer


cdef void queue_free(Queue* q) noexcept nogil:
    free(q.flights)
    free(q.heap)


cdef bint queue_reserve(Queue* q) noexcept nogil:
    cdef int64_t capacity
    cdef Flight* flights
    cdef int64_t* heap
    if q.head + q.count < q.capacity:
        return True
    if q.head > q.capacity // 2:
        memmove(q.flights, q.flights + q.head, <size_t>q.count * sizeof(Flight))
        q.head = 0
        return True
    capacity = 2 * q.capacity if q.capacity else 64
    flights = <Flight*>realloc(q.flights, <size_t>capacity * sizeof(Flight))
    if flights == NULL:
        return False
    q.flights = flights
    heap = <int64_t*>realloc(q.heap, <size_t>capacity * sizeof(int64_t))
    if heap == NULL:
        return False
    q.heap = heap
    q.capacity = capacity
    return True


cdef void queue_drain(Queue* q, double rate_Bps, double now_s) noexcept nogil:
    """Presume that the stream has served at its bandwidth since the last look."""
    cdef double elapsed = now_s - q.drained_at_s
    cdef double served
    if elapsed <= 0.0:
        return
    q.drained_at_s = now_s
    served = q.drained_bytes + rate_Bps * elapsed
    # Nobody reports for orphans, so what drains is taken as theirs first.
    if q.orphan_bytes > 0.0:
        if served < q.orphan_bytes:
            q.orphan_bytes -= served
            q.total_bytes -= served
            served = 0.0
        else:
            served -= q.orphan_bytes
            q.total_bytes -= q.orphan_bytes
            q.orphan_bytes = 0.0
        if q.count == 0 and q.orphan_bytes == 0.0:
            q.total_bytes = 0.0
    q.drained_bytes = served if served < q.total_bytes else q.total_bytes


cdef Rank _rank(const Flight* f) noexcept nogil:
    cdef Rank rank
    rank.since_s = f.admitted_s
    rank.left_bytes = <double>f.left_bytes + <double>f.elsewhere_bytes
    rank.number = f.number
    rank.priority_class = f.priority_class
    return rank


cdef bint _served_before(const Flight* a, const Flight* b, double now_s) noexcept nogil:
    cdef Rank rank_a = _rank(a)
    cdef Rank rank_b = _rank(b)
    return served_before(&rank_a, &rank_b, now_s)


cdef double queue_ahead_bytes(const Queue* q, int order, double size_bytes, int klass,
                              double now_s) noexcept nogil:
    """Bytes that the stream serves before a task of this size and class that arrives now."""
    cdef double ahead = q.orphan_bytes
    cdef const Flight* f
    cdef Rank rank
    cdef int64_t i
    if order == FIFO:
        ahead = q.total_bytes
    else:
        for i in range(q.head, q.head + q.count):
            f = q.flights + i
            rank = _rank(f)
            if served_before_newcomer(&rank, size_bytes, klass, now_s):
                ahead += <double>f.left_bytes
    # What is presumed served came off the front of the line.
    ahead -= q.drained_bytes
    return ahead if ahead > 0.0 else 0.0


cdef void _sift_down(const Queue* q, int64_t count, int64_t at, double now_s) noexcept nogil:
    """Restore the heap of flights, the one served first on top, below position `at`."""
    cdef int64_t child, item = q.heap[at]
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and _served_before(q.flights + q.heap[child + 1],
                                                q.flights + q.heap[child], now_s):
            child += 1
        if not _served_before(q.flights + q.heap[child], q.flights + item, now_s):
            break
        q.heap[at] = q.heap[child]
        at = child
    q.heap[at] = item


cdef int64_t _serve_flight(Queue* q, int64_t index, int64_t bytes_left) noexcept nogil:
    """Deliver what one flight still takes; returns what is left to deliver."""
    cdef Flight* f = q.flights + index
    cdef int64_t taken = bytes_left if bytes_left < f.left_bytes else f.left_bytes
    f.left_bytes -= taken
    q.total_bytes -= <double>taken
    return bytes_left - taken


cdef void queue_serve(Queue* q, int order, int64_t delivered_bytes, double now_s) noexcept nogil:
    """Take bytes that are known to be delivered off the line, in service order."""
    cdef int64_t i, count = 0
    q.drained_bytes = 0.0
    q.drained_at_s = now_s
    if q.orphan_bytes > 0.0:
        if <double>delivered_bytes < q.orphan_bytes:
            q.orphan_bytes -= <double>delivered_bytes
            q.total_bytes -= <double>delivered_bytes
            return
        delivered_bytes -= <int64_t>q.orphan_bytes
        q.total_bytes -= q.orphan_bytes
        q.orphan_bytes = 0.0
    if order == FIFO:
        for i in range(q.head, q.head + q.count):
            if delivered_bytes == 0:
                return
            delivered_bytes = _serve_flight(q, i, delivered_bytes)
        return
    for i in range(q.head, q.head + q.count):
        if q.flights[i].left_bytes > 0:
            q.heap[count] = i
            count += 1
    for i in range(count // 2 - 1, -1, -1):
        _sift_down(q, count, i, now_s)
    while delivered_bytes > 0 and count > 0:
        delivered_bytes = _serve_flight(q, q.heap[0], delivered_bytes)
        if q.flights[q.heap[0]].left_bytes == 0:
            count -= 1
            q.heap[0] = q.heap[count]
            if count > 0:
                _sift_down(q, count, 0, now_s)


cdef int64_t _index(const Queue* q, uint64_t number) noexcept nogil:
    """Where a decision's chunk is, or -1; flights are sorted by number."""
    cdef int64_t low = q.head, high = q.head + q.count, middle
    while low < high:
        middle = (low + high) // 2
        if q.flights[middle].number < number:
            low = middle + 1
        else:
            high = middle
    return low if low < q.head + q.count and q.flights[low].number == number else -1


cdef Flight* queue_flight(const Queue* q, uint64_t number) noexcept nogil:
    cdef int64_t index = _index(q, number)
    return q.flights + index if index >= 0 else NULL


cdef double queue_unreported_bytes(const Queue* q, int order, const Flight* through, double rate_Bps,
                                   double now_s) noexcept nogil:
    cdef double free_s = 0.0, since_s
    cdef const Flight* f = q.flights + q.head
    while f.number < through.number:
        # Only the outcome of a task that is also on other streams comes later than the end of its chunk.
        if f.elsewhere_bytes > 0 and (order == FIFO or _served_before(f, through, now_s)):
            since_s = f.waited_to_s
            free_s = (free_s if free_s > since_s else since_s) + <double>f.bytes / rate_Bps
        f += 1
    return (free_s - through.waited_to_s) * rate_Bps if free_s > through.waited_to_s else 0.0


cdef void queue_note_service(Queue* q, int order, uint64_t number, double service_s,
                             double until_s) noexcept nogil:
    cdef double since_s
    cdef Flight* f
    cdef int64_t i
    for i in range(q.head, q.head + q.count):
        f = q.flights + i
        if f.number == number or (order == FIFO and f.number < number):
            continue
        # In order of arrival, a chunk waits from its beginning to the end of the last one ahead of it.
        since_s = f.waited_to_s
        if order != FIFO and until_s - service_s > since_s:
            since_s = until_s - service_s
        if until_s > since_s:
            f.waited_s += until_s - since_s
            f.waited_to_s = until_s


cdef bint queue_holds(const Queue* q, uint64_t number) noexcept nogil:
    return _index(q, number) >= 0


cdef bint queue_remove(Queue* q, uint64_t number, bint orphan) noexcept nogil:
    """Take one decision's chunk out, if it is there."""
    cdef int64_t low = _index(q, number)
    cdef double left
    if low < 0:
        return False
    left = <double>q.flights[low].left_bytes
    if orphan:
        q.orphan_bytes += left
    else:
        q.total_bytes -= left
        # These bytes were served, so the presumption is spent on them.
        q.drained_bytes = q.drained_bytes - left if q.drained_bytes > left else 0.0
    if low - q.head < q.count // 2:
        memmove(q.flights + q.head + 1, q.flights + q.head, <size_t>(low - q.head) * sizeof(Flight))
        q.head += 1
    else:
        memmove(q.flights + low, q.flights + low + 1,
                <size_t>(q.head + q.count - low - 1) * sizeof(Flight))
    q.count -= 1
    if q.count == 0:
        q.head = 0
        # Sums of doubles drift; an empty line holds exactly what the orphans left.
        q.total_bytes = q.orphan_bytes
        if q.drained_bytes > q.total_bytes:
            q.drained_bytes = q.total_bytes
    return True
