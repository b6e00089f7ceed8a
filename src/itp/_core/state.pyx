"""Stream metrics, every stream's ledger, and the state vector (schema 1)."""
cimport cython
from libc.float cimport DBL_MAX
from libc.math cimport INFINITY, NAN, fabs, isnan
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

import numpy as np

from itp._core.arguments cimport byte_count, integer, real_between
from itp._core.ledger cimport (
    Flight,
    Queue,
    queue_ahead_bytes,
    queue_drain,
    queue_free,
    queue_holds,
    queue_remove,
    queue_reserve,
    queue_serve,
)
from itp._core.order cimport FIFO, priority_class, service_order_number
from itp._core.workload cimport WorkloadView, workload_look

from itp._core.order import SERVICE_ORDERS as _SERVICE_ORDERS


cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int CLOCK_REALTIME
    int clock_gettime(int clock, timespec* t)


MAX_STREAMS = STREAM_LIMIT
SCHEMA = 1
_ESTIMATE_SOURCES = ("default", "outcomes", "caller")     # by EstimateSource
QUEUE_DEPTH_HALF = 16

cdef double _QUEUE_DEPTH_HALF = QUEUE_DEPTH_HALF

# Figures beyond these count as these: sums and products of them stay finite.
cdef double _MAX_BANDWIDTH_MBPS = 1e12
cdef double _SMOOTHING = 0.25                            # weight of a measurement in the variability
cdef double _USUAL = 0.05                                # ... and in the long-run mean
cdef double _MAX_SECONDS = 1e9

cdef double _BYTES_PER_MEGABIT = 125000.0
cdef double _BANDWIDTH_LOW_BPS = 1.0 * 125000.0          # 1 Mbit/s ...
cdef double _BANDWIDTH_LOG2 = 16.609640474436812         # ... to 100 Gbit/s: log2(1e5)
cdef double _LATENCY_LOW_S = 1e-4                        # 0.1 ms ...
cdef double _LATENCY_LOG2 = 16.609640474436812           # ... to 10 s: log2(1e5)
cdef double _SIZE_LOW = 1024.0                           # 1 KiB ...
cdef double _SIZE_LOG2 = 30.0                            # ... to 1 TiB: log2(2^30)


cdef double monotonic_s() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <double>t.tv_sec + 1e-9 * <double>t.tv_nsec


cdef double unix_s() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_REALTIME, &t)
    return <double>t.tv_sec + 1e-9 * <double>t.tv_nsec


cdef void set_bandwidth(StreamMetrics* m, double bandwidth_Bps) noexcept nogil:
    m.bandwidth_Bps = bandwidth_Bps
    m.bandwidth_scaled = scaled(bandwidth_Bps, _BANDWIDTH_LOW_BPS, _BANDWIDTH_LOG2)


cdef void set_latency(StreamMetrics* m, double latency_s) noexcept nogil:
    m.latency_s = latency_s
    m.latency_scaled = scaled(latency_s, _LATENCY_LOW_S, _LATENCY_LOG2)


cdef void note_variability(StreamMetrics* m, double sample_Bps, double weight) noexcept nogil:
    cdef double sum_Bps = sample_Bps + m.bandwidth_Bps
    if sum_Bps > 0.0:
        m.variability += weight * (fabs(sample_Bps - m.bandwidth_Bps) / sum_Bps - m.variability)


cdef void note_bandwidth(StreamMetrics* m, double sample_Bps, double weight, double now_s) noexcept nogil:
    note_variability(m, sample_Bps, weight)
    set_bandwidth(m, m.bandwidth_Bps + weight * (sample_Bps - m.bandwidth_Bps))
    m.measured_s = now_s


cdef void note_time(StreamMetrics* m, double actual_s, double planned_s, double weight) noexcept nogil:
    if actual_s > 0.0 and 0.0 < planned_s < 1e300:
        m.lateness += weight * ((actual_s - planned_s) / (actual_s + planned_s) - m.lateness)


cdef void assemble_state(const Paths* paths, const StreamMetrics* streams, double in_flight,
                         int64_t size_bytes, double priority, double time_of_day, float* out) noexcept nogil:
    cdef int n = paths.n
    cdef int i
    for i in range(n):
        if (paths.up >> i) & 1:
            out[i] = streams[i].bandwidth_scaled
            out[n + i] = streams[i].latency_scaled
            out[2 * n + i] = <float>paths.congestion[i]
            out[3 * n + i] = <float>streams[i].success_rate
        else:
            out[i] = 0.0
            out[n + i] = 1.0
            out[2 * n + i] = 1.0
            out[3 * n + i] = 0.0
    out[4 * n] = <float>(in_flight / (in_flight + _QUEUE_DEPTH_HALF))
    out[4 * n + 1] = scaled(<double>size_bytes, _SIZE_LOW, _SIZE_LOG2)
    out[4 * n + 2] = <float>priority
    out[4 * n + 3] = <float>time_of_day


cdef void network_init(Network* net, int n_streams, int order) noexcept nogil:
    cdef int i
    memset(net, 0, sizeof(Network))
    net.n_streams = n_streams
    net.order = order
    net.up = (<uint32_t>1 << n_streams) - 1
    for i in range(STREAM_LIMIT):
        set_bandwidth(&net.streams[i], 100.0 * _BYTES_PER_MEGABIT)
        set_latency(&net.streams[i], 0.02)
        net.streams[i].success_rate = 1.0
        net.streams[i].congestion = -1.0
        net.evidence[i].bandwidth.at_s = -INFINITY
        net.evidence[i].latency.at_s = net.evidence[i].success.at_s = -INFINITY
        net.evidence[i].share = 1.0
        net.evidence[i].usual_Bps = net.streams[i].bandwidth_Bps


cdef void network_free(Network* net) noexcept nogil:
    cdef int i
    for i in range(STREAM_LIMIT):
        queue_free(&net.queues[i])


cdef void _refresh(Freshness* f, double now_s) noexcept nogil:
    """The caller has measured this figure."""
    cdef double gap_s
    if f.at_s > -INFINITY:
        gap_s = now_s - f.at_s
        # Several calls in a row count as one measurement: the longer gap prevails.
        f.interval_s = gap_s if gap_s > f.interval_s else 0.5 * (f.interval_s + gap_s)
        if f.interval_s > MAX_INTERVAL_S:
            f.interval_s = MAX_INTERVAL_S
    f.at_s = now_s
    f.outcomes = 0.0


cdef void network_measure(Network* net, int i, double bandwidth_mbps, double latency_s, double success_rate,
                          double congestion, double now_s) noexcept nogil:
    cdef StreamMetrics* m = &net.streams[i]
    cdef Evidence* e = &net.evidence[i]
    cdef double bandwidth_Bps
    if not isnan(bandwidth_mbps):
        bandwidth_Bps = _BYTES_PER_MEGABIT * (
            bandwidth_mbps if bandwidth_mbps < _MAX_BANDWIDTH_MBPS else _MAX_BANDWIDTH_MBPS)
        if e.known:
            note_variability(m, bandwidth_Bps, _SMOOTHING)
            e.usual_Bps += _USUAL * (bandwidth_Bps - e.usual_Bps)
        else:
            e.usual_Bps = bandwidth_Bps
        set_bandwidth(m, bandwidth_Bps)
        m.measured_s = now_s
        _refresh(&e.bandwidth, now_s)
        e.known = True
        e.share = 1.0
        e.drift = 0.0
    if not isnan(latency_s):
        set_latency(m, latency_s if latency_s < _MAX_SECONDS else _MAX_SECONDS)
        _refresh(&e.latency, now_s)
    if not isnan(success_rate):
        m.success_rate = success_rate
        _refresh(&e.success, now_s)
    m.congestion = congestion


cdef void network_drain(Network* net, int i, double now_s) noexcept nogil:
    queue_drain(&net.queues[i], net.streams[i].bandwidth_Bps if (net.up >> i) & 1 else 0.0, now_s)


cdef void network_set_up(Network* net, int i, bint up, double now_s) noexcept nogil:
    network_drain(net, i, now_s)
    if up:
        net.up |= <uint32_t>1 << i
    else:
        net.up &= ~(<uint32_t>1 << i)


cdef void network_observe(Network* net, int64_t size_bytes, double priority, double now_s,
                          Paths* paths) noexcept nogil:
    cdef int klass = priority_class(priority)
    cdef StreamMetrics* m
    cdef double ahead_bytes, ahead_s
    cdef int i
    paths.n = net.n_streams
    paths.up = net.up
    for i in range(net.n_streams):
        m = &net.streams[i]
        network_drain(net, i, now_s)
        if m.congestion >= 0.0:
            # The inverse of w / (w + 1 s).
            ahead_s = m.congestion / (1.0 - m.congestion) if m.congestion < 1.0 - 1e-9 else _MAX_SECONDS
            paths.congestion[i] = m.congestion
        else:
            ahead_bytes = queue_ahead_bytes(&net.queues[i], net.order, <double>size_bytes,
                                            klass, now_s)
            if ahead_bytes <= 0.0:
                ahead_s = 0.0
            elif m.bandwidth_Bps > 0.0:
                ahead_s = ahead_bytes / m.bandwidth_Bps
            else:
                ahead_s = _MAX_SECONDS
            if ahead_s > _MAX_SECONDS:
                ahead_s = _MAX_SECONDS
            paths.congestion[i] = ahead_s / (ahead_s + 1.0)
        paths.work_ahead_s[i] = ahead_s
        paths.delay_s[i] = ahead_s + m.latency_s
        paths.rate_Bps[i] = m.bandwidth_Bps * m.success_rate


cdef void network_backlog(const Network* net, const Paths* paths, double* backlog_s) noexcept nogil:
    cdef const StreamMetrics* m
    cdef double waiting_bytes
    cdef int i
    for i in range(net.n_streams):
        m = &net.streams[i]
        waiting_bytes = net.queues[i].total_bytes - net.queues[i].drained_bytes
        if net.order == FIFO or m.congestion >= 0.0:
            # What waits is ahead of the newcomer, and a caller's own measure counts for more than the ledger.
            backlog_s[i] = paths.work_ahead_s[i]
        elif not waiting_bytes > 0.0:
            backlog_s[i] = 0.0
        elif waiting_bytes < _MAX_SECONDS * m.bandwidth_Bps:
            backlog_s[i] = waiting_bytes / m.bandwidth_Bps
        else:
            backlog_s[i] = _MAX_SECONDS


cdef bint network_reserve(Network* net, uint32_t mask) noexcept nogil:
    cdef int i
    for i in range(net.n_streams):
        if (mask >> i) & 1 and not queue_reserve(&net.queues[i]):
            return False
    return True


cdef void network_admit(Network* net, uint64_t number, int64_t size_bytes, double priority, double now_s,
                        uint32_t mask, const int64_t* chunks, bint copies) noexcept nogil:
    cdef Queue* q
    cdef Flight* f
    cdef int i
    for i in range(net.n_streams):
        if not (mask >> i) & 1:
            continue
        network_drain(net, i, now_s)
        q = &net.queues[i]
        f = q.flights + q.head + q.count
        f.number = number
        f.left_bytes = chunks[i]
        f.elsewhere_bytes = 0 if copies else size_bytes - chunks[i]
        f.bytes = chunks[i]
        f.waited_s = 0.0
        f.waited_to_s = now_s
        f.admitted_s = now_s
        f.priority_class = priority_class(priority)
        q.count += 1
        q.total_bytes += <double>chunks[i]
    net.in_flight += 1
    net.last_number = number


cdef bint network_holds(const Network* net, uint64_t number, uint32_t mask) noexcept nogil:
    cdef int i
    for i in range(net.n_streams):
        if (mask >> i) & 1 and queue_holds(&net.queues[i], number):
            return True
    return False


cdef bint network_release(Network* net, uint64_t number, uint32_t mask, bint orphan) noexcept nogil:
    cdef bint found = False
    cdef int i
    for i in range(net.n_streams):
        if (mask >> i) & 1 and queue_remove(&net.queues[i], number, orphan):
            found = True
    if found:
        net.in_flight -= 1
    return found


@cython.final
cdef class ManualClock:
    """A clock that stands still until it is set: for tests, replays and simulated worlds.

    Parameters
    ----------
    monotonic_s, unix_s : float
        The present: seconds that only ever grow, and Unix time.

    Notes
    -----
    Thread safety: every method holds the GIL from start to end, so each is atomic.
    """

    def __cinit__(self, monotonic_s=0.0, unix_s=0.0):
        self.clock.monotonic_s = _seconds("monotonic_s", monotonic_s)
        self.clock.unix_s = _seconds("unix_s", unix_s)

    def __reduce__(self):
        return ManualClock, (self.clock.monotonic_s, self.clock.unix_s)

    @property
    def monotonic_s(self):
        """Seconds; they only ever grow."""
        return self.clock.monotonic_s

    @property
    def unix_s(self):
        """Unix time in seconds."""
        return self.clock.unix_s

    def set(self, monotonic_s, unix_s=None):
        """Set the present.

        Parameters
        ----------
        monotonic_s : float
            Not before the present.
        unix_s : float, optional
            Without, Unix time goes on by as much.

        Raises
        ------
        ValueError, TypeError
            Nothing is changed.
        """
        cdef double now_s = _seconds("monotonic_s", monotonic_s), date_s
        if unix_s is None:
            date_s = self.clock.unix_s + (now_s - self.clock.monotonic_s)
        else:
            date_s = _seconds("unix_s", unix_s)
        if now_s < self.clock.monotonic_s:
            raise ValueError(f"monotonic_s = {monotonic_s!r}: expected no time before the present, "
                             f"{self.clock.monotonic_s!r}")
        self.clock.monotonic_s = now_s
        self.clock.unix_s = date_s


@cython.final
cdef class NetworkState:
    """What is known of n parallel streams, and the bytes in flight on each.

    The ledger holds every chunk from the decision to its outcome. Between reports a stream is
    presumed to serve its line at its bandwidth; progress and outcomes replace the presumption
    by fact. `now_s` is any monotonic clock in seconds, >= 0; None reads `clock`, or else CLOCK_MONOTONIC.

    Parameters
    ----------
    n_streams : int
        1 to 16.
    service_order : {"fifo", "srpt"}
        How the streams serve their chunks. `srpt`: four priority classes of equal width, the
        highest first; within a class the least remaining bytes first; a chunk that has waited
        for ``AGEING_S`` seconds goes ahead of all of them, the oldest first.
    clock : ManualClock, optional
        What time it is; None: the system's clocks.

    Notes
    -----
    Thread safety: every method holds the GIL from start to end, so each is atomic.
    Until its first ``update_stream`` a stream counts as up, 100 Mbit/s, 20 ms, no loss.
    """

    def __cinit__(self, n_streams=4, service_order="fifo", ManualClock clock=None):
        if isinstance(n_streams, bool):
            raise TypeError(f"n_streams = {n_streams!r}: expected an integer")
        if not 1 <= integer("n_streams", n_streams) <= STREAM_LIMIT:
            raise ValueError(f"n_streams = {n_streams!r}: expected 1 to {STREAM_LIMIT}")
        network_init(&self.net, n_streams, service_order_number(service_order))
        if clock is not None:
            self.clock = clock
            self.net.clock = &clock.clock
        self.has_decider = False

    def __dealloc__(self):
        network_free(&self.net)

    cdef double _now(self, object now_s) except? -1.0:
        return network_monotonic_s(&self.net) if now_s is None else _seconds("now_s", now_s)

    cdef int stream_index(self, object stream) except -1:
        if isinstance(stream, bool):
            raise TypeError(f"stream = {stream!r}: expected an integer")
        index = integer("stream", stream)
        if not 0 <= index < self.net.n_streams:
            raise ValueError(f"stream = {stream!r}: expected 0 to {self.net.n_streams - 1}")
        return index

    def __reduce__(self):
        raise TypeError("a NetworkState cannot be pickled or copied: it is the ledger of one process")

    # --- metrics ---

    @property
    def n_streams(self):
        """Number of streams."""
        return self.net.n_streams

    @property
    def service_order(self):
        """'fifo' or 'srpt'."""
        return _SERVICE_ORDERS[self.net.order]

    @property
    def queue_depth(self):
        """Tasks decided and not yet reported."""
        return self.net.in_flight

    @property
    def streams_up(self):
        """One bool per stream."""
        return tuple([bool((self.net.up >> i) & 1) for i in range(self.net.n_streams)])

    def update_stream(self, stream, bandwidth_mbps=None, latency_ms=None, congestion=None,
                      success_rate=None, *, now_s=None):
        """Take in fresh measurements of one stream; what is None stays as it was.

        A measurement replaces the estimate. While the caller goes on measuring, outcomes do not change that
        figure; once two of its usual intervals have passed without another one, or where there was but one,
        reported outcomes take over step by step (docs/estimates.md).

        Parameters
        ----------
        stream : int
            0-based.
        bandwidth_mbps, latency_ms : float, optional
            Finite and >= 0. Above 1e12 Mbit/s or 1e9 s they count as that.
        congestion : float, optional
            The caller's own measure in [0, 1]; None returns to the ledger's.
        success_rate : float, optional
            In [0, 1]: bytes delivered without retransmission over bytes sent.

        Raises
        ------
        ValueError, TypeError
            Nothing is changed.
        """
        cdef int i = self.stream_index(stream)
        cdef double bandwidth = NAN, latency_s = NAN, success = NAN, crowd = -1.0, now
        if bandwidth_mbps is not None:
            bandwidth = real_between("bandwidth_mbps", bandwidth_mbps, 0.0, DBL_MAX, "finite and >= 0 Mbit/s")
        if latency_ms is not None:
            latency_s = real_between("latency_ms", latency_ms, 0.0, DBL_MAX, "finite and >= 0 ms") * 1e-3
        if congestion is not None:
            crowd = real_between("congestion", congestion, 0.0, 1.0, "from 0 to 1, or None")
        if success_rate is not None:
            success = real_between("success_rate", success_rate, 0.0, 1.0, "from 0 to 1")
        now = self._now(now_s)
        # Conversions may have let other threads run; from here on nobody comes between.
        network_drain(&self.net, i, now)
        network_measure(&self.net, i, bandwidth, latency_s, success, crowd, now)

    def set_stream_up(self, stream, up, *, now_s=None):
        """Say whether a stream works; one that is down gets no chunk and drains nothing."""
        cdef int i = self.stream_index(stream)
        if not isinstance(up, (bool, np.bool_)):
            raise TypeError(f"up must be True or False; got {up!r}")
        network_set_up(&self.net, i, up, self._now(now_s))

    def stream(self, stream, *, now_s=None):
        """What is known of one stream.

        Returns
        -------
        dict
            ``bandwidth_mbps``, ``latency_ms``, ``congestion``, ``success_rate`` : as in ``update_stream``;
            congestion is None where the ledger tells it.
            ``up`` : bool.
            ``source`` : "caller", "outcomes" or "default": what most of the bandwidth estimate comes from.
            ``measured_age_s`` : seconds since the bandwidth was measured or followed an outcome; None: never.
            ``variability`` : mean of |sample - estimate| / (sample + estimate) of the bandwidth, 0 to 1.
            ``lateness`` : mean of (actual - planned) / (actual + planned) time of its chunks, -1 to 1.
        """
        cdef int i = self.stream_index(stream)
        cdef double now = self._now(now_s)
        return stream_figures(&self.net.streams[i], (self.net.up >> i) & 1,
                              estimate_source(&self.net.evidence[i]), now)

    # --- the ledger ---

    def admit(self, number, size_bytes, stream_ids, chunk_sizes, *, priority=0.5, now_s=None):
        """Enter a decision's chunks; `number` (uint64) must exceed every earlier one."""
        cdef int64_t chunks[16]
        cdef uint32_t mask = 0
        cdef int64_t size = byte_count("size_bytes", size_bytes, 1)
        cdef uint64_t flight
        cdef double weight = real_between("priority", priority, 0.0, 1.0, "from 0 to 1")
        cdef int64_t total = 0
        cdef int i
        if not self.net.last_number < integer("number", number) < 1 << 63:
            raise ValueError(f"number = {number!r}: expected more than every earlier one, "
                             f"{self.net.last_number}")
        flight = number
        if len(stream_ids) != len(chunk_sizes) or not stream_ids:
            raise ValueError("stream_ids and chunk_sizes must have the same length, at least 1; "
                             f"got {len(stream_ids)} and {len(chunk_sizes)}")
        for stream, chunk in zip(stream_ids, chunk_sizes):
            i = self.stream_index(stream)
            if (mask >> i) & 1:
                raise ValueError(f"stream_ids must differ; {i} stands twice")
            chunks[i] = byte_count("chunk_sizes", chunk, 1)
            if chunks[i] > size - total:
                raise ValueError(f"chunk_sizes add up to more than the task's {size_bytes} bytes")
            total += chunks[i]
            mask |= <uint32_t>1 << i
        if not network_reserve(&self.net, mask):
            raise MemoryError("no memory for one more task in flight")
        network_admit(&self.net, flight, size, weight, self._now(now_s), mask, chunks, False)

    def release(self, number, *, now_s=None):
        """Take a decision's chunks out, as its task is over; False if there are none of it."""
        cdef double now = self._now(now_s)
        cdef uint64_t flight
        cdef int i
        if not 0 <= integer("number", number) < 1 << 63:
            raise ValueError(f"number = {number!r}: expected 0 to 2**63 - 1")
        flight = number
        for i in range(self.net.n_streams):
            network_drain(&self.net, i, now)
        return network_release(&self.net, flight, (1 << self.net.n_streams) - 1, False)

    def report_progress(self, stream, delivered_bytes, *, now_s=None):
        """Say that a stream has delivered so many bytes since its last report."""
        cdef int i = self.stream_index(stream)
        cdef int64_t delivered = byte_count("delivered_bytes", delivered_bytes, 0)
        queue_serve(&self.net.queues[i], self.net.order, delivered, self._now(now_s))

    def work_ahead_bytes(self, size_bytes, priority=0.5, *, now_s=None):
        """Bytes served before a task that arrives now: float64[n_streams]."""
        cdef int64_t size = byte_count("size_bytes", size_bytes, 1)
        cdef double weight = real_between("priority", priority, 0.0, 1.0, "from 0 to 1")
        cdef double now = self._now(now_s)
        cdef double[::1] out = np.empty(self.net.n_streams)
        cdef int i
        for i in range(self.net.n_streams):
            network_drain(&self.net, i, now)
            out[i] = queue_ahead_bytes(&self.net.queues[i], self.net.order, <double>size,
                                       priority_class(weight), now)
        return np.asarray(out)

    def workload(self, size_bytes, *, now_s=None):
        """What a task of this size that arrives now sees of the tasks decided before.

        Returns
        -------
        dict of str to float
            ``tasks`` so far; ``rank`` and ``rank_bytes``, the share of the latest 128 tasks that are smaller,
            and of their bytes; ``mean_bytes`` and ``dispersion`` (squared coefficient of variation) of their
            sizes; ``gap_s`` between tasks and ``burstiness``, its squared coefficient of variation;
            ``offered_short_mbps`` and ``offered_long_mbps``, over about 8 and 64 tasks; ``known``, from 0
            (nothing is known) to 1.
        """
        cdef int64_t size = byte_count("size_bytes", size_bytes, 1)
        return workload_figures(&self.net.workload, size, self._now(now_s))

    # --- the state vector ---

    def vector(self, size_bytes, priority=0.5, *, time_of_day=None, now_s=None):
        """The state vector for a task: float32[4 n_streams + 4], every entry in [0, 1].

        Entries, n streams each: bandwidth (log, 1 Mbit/s to 100 Gbit/s), latency (log, 0.1 ms to
        10 s), congestion w / (w + 1 s), success rate; then queue depth q / (q + 16 tasks), task
        size (log, 1 KiB to 1 TiB), priority, time of day (UTC, fraction). A stream that is down
        shows no bandwidth, longest latency, full congestion, no success.
        """
        cdef int64_t size = byte_count("size_bytes", size_bytes, 1)
        cdef double weight = real_between("priority", priority, 0.0, 1.0, "from 0 to 1")
        cdef double day = day_fraction(network_unix_s(&self.net))
        cdef Paths paths
        cdef float[::1] out = np.empty(4 * self.net.n_streams + 4, dtype=np.float32)
        if time_of_day is not None:
            day = real_between("time_of_day", time_of_day, 0.0, 1.0, "a fraction of the day from 0 to 1")
        network_observe(&self.net, size, weight, self._now(now_s), &paths)
        assemble_state(&paths, self.net.streams, <double>self.net.in_flight, size, weight, day, &out[0])
        return np.asarray(out)


cdef double _seconds(str name, object value) except? -1.0:
    return real_between(name, value, 0.0, DBL_MAX, "finite seconds >= 0")


cdef dict stream_figures(const StreamMetrics* m, bint up, EstimateSource source, double now_s):
    return {
        "bandwidth_mbps": m.bandwidth_Bps / _BYTES_PER_MEGABIT,
        "latency_ms": m.latency_s * 1e3,
        "congestion": None if m.congestion < 0.0 else m.congestion,
        "success_rate": m.success_rate,
        "up": bool(up),
        "source": _ESTIMATE_SOURCES[source],
        "measured_age_s": None if source == FROM_DEFAULT else max(now_s - m.measured_s, 0.0),
        "variability": m.variability,
        "lateness": m.lateness,
    }


cdef dict workload_figures(const Workload* workload, int64_t size_bytes, double now_s):
    cdef WorkloadView view
    workload_look(workload, <double>size_bytes, now_s, &view)
    return {
        "tasks": workload.count, "rank": view.rank, "rank_bytes": view.rank_bytes,
        "mean_bytes": view.mean_bytes, "dispersion": view.dispersion, "gap_s": view.gap_s,
        "burstiness": view.burstiness, "known": view.known,
        "offered_short_mbps": view.offered_short_Bps / _BYTES_PER_MEGABIT,
        "offered_long_mbps": view.offered_long_Bps / _BYTES_PER_MEGABIT,
    }
