"""Estimates of the streams that follow reported outcomes.

A chunk takes the time it waits for others, the latency, and its work over the bandwidth. How long it waited
is known from the outcomes of the others. What its own service took beyond the estimates is split between
latency and transfer by their squares (the gain of a Kalman filter whose prior errors are proportional to the
terms): a small task says little of bandwidth, a large one little of latency.

How far an estimate moves is adaptive (Trigg and Leach, 1967; with the signal of the report before, as Shone
proposed, so that one outlier moves little): errors of both signs are noise and average out, errors of one
sign are a change, and the estimate follows at once. No report moves a figure by more than a factor of four.
"""
from libc.math cimport INFINITY, exp, log
from libc.stdint cimport int64_t, uint32_t

from itp._core.ledger cimport Flight, queue_flight, queue_note_service, queue_unreported_bytes
from itp._core.state cimport (
    Evidence,
    Freshness,
    StreamMetrics,
    note_time,
    note_variability,
    popcount,
    set_bandwidth,
    set_latency,
)

cdef double _SMOOTHING = 0.25               # weight of an outcome, as in the simulator
cdef double _QUIET = 0.15                   # least weight of an outcome in the bandwidth
cdef double _SUCCESS_SMOOTHING = 0.1
cdef double _FACTOR = 4.0                   # a figure moves by no more in one report
cdef double _LATENCY_DOUBT = 0.25           # relative error of a measured latency over a bandwidth's ...
cdef double _DEFAULT_DOUBT = 0.5            # ... and of one that nobody has measured
cdef double _JOINT_QUALITY = 0.7            # of what one figure of a task says of each of its streams
cdef double _LEAST_WEIGHT = 0.01            # what says less than this says nothing
cdef double _OUTCOMES_HALF = 4.0            # after so many outcomes ...
cdef double _AGE_HALF_S = 30.0              # ... or seconds a caller's measurement counts half
cdef double _LEAST_BANDWIDTH_Bps = 125.0    # 1 kbit/s
cdef double _MAX_BANDWIDTH_Bps = 1.25e17    # as much as a caller can measure
cdef double _LEAST_LATENCY_S = 1e-5
cdef double _MAX_LATENCY_S = 1e9
cdef double _LEAST_SUCCESS = 0.02
cdef double _USUAL = 0.05                   # weight of an outcome in the long-run mean of the bandwidth
cdef double _RECOVERY_S = 120.0             # a stale low estimate goes 63 % of its way up, in logarithms


cdef inline double _clipped(double x, double low, double high) noexcept nogil:
    return low if not x > low else (x if x < high else high)


cdef bint delivered_fits(const Delivered* delivered, const Plan* plan) noexcept nogil:
    cdef int64_t left_bytes = plan.demand.size_bytes
    cdef int i
    if delivered.streams & ~plan.mask:
        return False
    for i in range(plan.paths.n):
        if (delivered.streams >> i) & 1:
            if delivered.bytes[i] > left_bytes:
                return False
            if plan.demand.redundancy == 1:
                left_bytes -= delivered.bytes[i]
    return True


cdef int64_t delivered_retransmitted_bytes(const Delivered* delivered) noexcept nogil:
    cdef double total = 0.0
    cdef int64_t exact = 0
    cdef int i
    for i in range(16):
        if (delivered.streams >> i) & 1:
            total += <double>delivered.retransmitted_bytes[i]
            if total > 9e18:
                return 9000000000000000000
            exact += delivered.retransmitted_bytes[i]
    return exact


cdef double imbalance_of(const Plan* plan, const Delivered* delivered) noexcept nogil:
    cdef double first_s = INFINITY, last_s = 0.0
    cdef int i
    if delivered == NULL or delivered.streams != plan.mask or plan.demand.redundancy > 1:
        return plan.imbalance
    for i in range(plan.paths.n):
        if (plan.mask >> i) & 1 and delivered.bytes[i] > 0:
            if delivered.seconds[i] < first_s:
                first_s = delivered.seconds[i]
            if delivered.seconds[i] > last_s:
                last_s = delivered.seconds[i]
    if first_s == INFINITY:
        return plan.imbalance
    return 1.0 - first_s / last_s if last_s > 0.0 else 0.0


cdef void learn_outcome(Network* net, const Plan* plan, const Outcome* outcome, const Delivered* delivered,
                        double now_s) noexcept nogil:
    if delivered == NULL:
        _by_task(net, plan, outcome, now_s)
    else:
        _by_stream(net, plan, outcome, delivered, now_s)
    _recover(net, now_s)


cdef double _planned_s(const Plan* plan) noexcept nogil:
    """When the last stream was planned to be through."""
    cdef double finish_s, last_s = 0.0
    cdef int i
    for i in range(plan.paths.n):
        if (plan.mask >> i) & 1:
            if not plan.paths.rate_Bps[i] > 0.0:
                return INFINITY
            finish_s = plan.paths.delay_s[i] + <double>plan.chunks[i] / plan.paths.rate_Bps[i]
            last_s = finish_s if finish_s > last_s else last_s
    return last_s


cdef void _by_stream(Network* net, const Plan* plan, const Outcome* outcome, const Delivered* delivered,
                     double now_s) noexcept nogil:
    cdef double planned_s = _planned_s(plan)
    cdef double sent_bytes
    cdef int64_t left_bytes
    cdef Service service
    cdef int i
    for i in range(net.n_streams):
        if not (delivered.streams >> i) & 1:
            continue
        left_bytes = plan.chunks[i] - delivered.bytes[i] if plan.chunks[i] > delivered.bytes[i] else 0
        # Of a task that succeeded, what one stream did not deliver another one did.
        sent_bytes = (<double>delivered.bytes[i] + <double>delivered.retransmitted_bytes[i]
                      + (0.0 if outcome.success else <double>left_bytes))
        if sent_bytes > 0.0:
            _learn_success(net, i, <double>delivered.bytes[i] / sent_bytes, 1.0, now_s)
        if delivered.bytes[i] > 0 and delivered.seconds[i] > 0.0:
            if left_bytes == 0:
                note_time(&net.streams[i], delivered.seconds[i], planned_s, _SMOOTHING)
            if _serve(net, plan, i, <double>delivered.bytes[i], delivered.seconds[i], now_s, &service):
                _learn_rate(net, plan, i, &service, delivered.seconds[i] - service.waited_s, 1.0, now_s)


cdef void _by_task(Network* net, const Plan* plan, const Outcome* outcome, double now_s) noexcept nogil:
    """Without figures of the streams: the service of all of them deviates by one factor; that weighs less."""
    cdef double size = <double>plan.demand.size_bytes, seconds = outcome.latency_s
    cdef double arrived = outcome.throughput_mbps * 125000.0 * seconds
    cdef double quality = 1.0 if popcount(plan.mask) == 1 else _JOINT_QUALITY
    cdef double planned_s, ratio, least_ratio = INFINITY
    cdef Service service[16]
    cdef int i
    cdef uint32_t usable = 0
    if outcome.success or not arrived < size:
        arrived = size
    planned_s = _planned_s(plan)
    for i in range(net.n_streams):
        if not (plan.mask >> i) & 1:
            continue
        _learn_success(net, i, arrived / (size + <double>outcome.retransmitted_bytes), quality, now_s)
        # Nothing says which copy was the first.
        if plan.demand.redundancy > 1 or not (seconds > 0.0 and arrived > 0.0):
            continue
        if outcome.success:
            note_time(&net.streams[i], seconds, planned_s, quality * _SMOOTHING)
        if _serve(net, plan, i, arrived / size * <double>plan.chunks[i], seconds, now_s, service + i):
            usable |= <uint32_t>1 << i
            # No stream was through later than the task.
            ratio = (seconds - service[i].waited_s) / (service[i].latency_s + service[i].transfer_s)
            least_ratio = ratio if ratio < least_ratio else least_ratio
    for i in range(net.n_streams):
        if (usable >> i) & 1:
            _learn_rate(net, plan, i, service + i,
                        least_ratio * (service[i].latency_s + service[i].transfer_s), quality, now_s)


# How a stream is expected to serve a chunk, by what is known now.
ctypedef struct Service:
    double own_bytes        # retransmissions included
    double work_bytes       # with those of others that it waited for within its time
    double waited_s         # for others
    double latency_s        # after that: none where the stream was busy
    double transfer_s
    bint timed              # the clock agrees with the outcome, and others can wait for it


cdef bint _serve(Network* net, const Plan* plan, int i, double own_bytes, double seconds, double now_s,
                 Service* out) noexcept nogil:
    """False: nothing can be said of it."""
    cdef const StreamMetrics* m = &net.streams[i]
    cdef Flight* flight = queue_flight(&net.queues[i], plan.number)
    cdef double success = m.success_rate if m.success_rate > _LEAST_SUCCESS else _LEAST_SUCCESS
    if flight == NULL:
        return False
    out.work_bytes = out.own_bytes = own_bytes / success
    out.timed = seconds <= (now_s - plan.observed_s) * 1.001 + 1e-4
    if out.timed:
        out.waited_s = flight.waited_s
        out.work_bytes += queue_unreported_bytes(&net.queues[i], net.order, flight, _bandwidth_Bps(m), now_s)
    elif m.congestion >= 0.0:
        # The caller's congestion tells of seconds, not bytes.
        out.waited_s = plan.paths.work_ahead_s[i]
        if out.waited_s >= seconds:
            return False
    else:
        # An outcome of another time, as in a replay: what the ledger had ahead was served at the same rate.
        out.waited_s = 0.0
        out.work_bytes += plan.paths.work_ahead_s[i] * (plan.paths.rate_Bps[i] / success)
    out.latency_s = m.latency_s - out.waited_s if m.latency_s > out.waited_s else 0.0
    out.transfer_s = out.work_bytes / _bandwidth_Bps(m)
    return out.transfer_s > 0.0


cdef inline double _bandwidth_Bps(const StreamMetrics* m) noexcept nogil:
    return m.bandwidth_Bps if m.bandwidth_Bps > _LEAST_BANDWIDTH_Bps else _LEAST_BANDWIDTH_Bps


cdef double _outcome_share(Freshness* f, double evidence, double now_s) noexcept nogil:
    """How much an outcome counts beside the caller's own measurements, 0 to 1."""
    cdef double age_s = now_s - f.at_s, by_count, by_age
    if f.at_s == -INFINITY:
        return 1.0
    if age_s < 2.0 * f.interval_s:
        return 0.0
    f.outcomes += evidence
    by_count = f.outcomes / (f.outcomes + _OUTCOMES_HALF)
    by_age = age_s / (age_s + _AGE_HALF_S)
    return by_count if by_count > by_age else by_age


cdef void _learn_rate(Network* net, const Plan* plan, int i, const Service* service, double service_s,
                      double quality, double now_s) noexcept nogil:
    """Take in that a stream was at work for so long."""
    cdef StreamMetrics* m = &net.streams[i]
    cdef Evidence* e = &net.evidence[i]
    cdef double bandwidth_Bps = _bandwidth_Bps(m), transfer_s = service.transfer_s
    cdef double excess_s = service_s - service.latency_s - transfer_s
    cdef double doubt_s = m.latency_s * (_LATENCY_DOUBT if e.latency.at_s > -INFINITY else _DEFAULT_DOUBT)
    cdef double share = _share(transfer_s, doubt_s), sample_Bps, error, weight, latency_s
    if not 0.0 < service_s < INFINITY:
        return
    if service.timed:
        queue_note_service(&net.queues[i], net.order, plan.number,
                           service_s * service.own_bytes / service.work_bytes,
                           plan.observed_s + service.waited_s + service_s)
    sample_Bps = _clipped(
        service.work_bytes / _clipped(transfer_s + share * excess_s, 1e-3 * transfer_s, INFINITY),
        bandwidth_Bps / _FACTOR, bandwidth_Bps * _FACTOR)
    sample_Bps = _clipped(sample_Bps, _LEAST_BANDWIDTH_Bps, _MAX_BANDWIDTH_Bps)
    if share * quality >= _LEAST_WEIGHT:
        # The first outcome of a stream that nobody has measured tells more than the default.
        weight = 1.0 if not e.known else _weight(m, e)
        weight *= share * quality * _outcome_share(&e.bandwidth, share * quality, now_s)
        error = (sample_Bps - bandwidth_Bps) / (sample_Bps + bandwidth_Bps)
        e.drift += _SMOOTHING * share * quality * (error - e.drift)
        note_variability(m, sample_Bps, _SMOOTHING * share * quality)
        if weight > 0.0:
            # The mean is one of seconds a byte, as a plan adds up seconds.
            weight = weight * bandwidth_Bps / ((1.0 - weight) * sample_Bps + weight * bandwidth_Bps)
            set_bandwidth(m, bandwidth_Bps + weight * (sample_Bps - bandwidth_Bps))
            m.measured_s = now_s
            e.known = True
            e.share *= 1.0 - weight
            e.usual_Bps += _USUAL * share * quality * (m.bandwidth_Bps - e.usual_Bps)
    weight = _SMOOTHING * (1.0 - share) * quality
    # Behind others there is no latency to be seen.
    if weight >= _LEAST_WEIGHT and service.waited_s <= 0.0:
        latency_s = m.latency_s if m.latency_s > _LEAST_LATENCY_S else _LEAST_LATENCY_S
        latency_s = _clipped(m.latency_s + (1.0 - share) * excess_s, latency_s / _FACTOR, latency_s * _FACTOR)
        # Nothing arrives before the latency has passed.
        latency_s = _clipped(latency_s, 0.0, service_s)
        weight *= _outcome_share(&e.latency, (1.0 - share) * quality, now_s)
        set_latency(m, _clipped(m.latency_s + weight * (latency_s - m.latency_s), 0.0, _MAX_LATENCY_S))


cdef inline double _share(double a, double b) noexcept nogil:
    """a^2 / (a^2 + b^2) of positive numbers of any size."""
    cdef double ratio = b / a
    return 1.0 / (1.0 + ratio * ratio)


cdef inline double _weight(const StreamMetrics* m, const Evidence* e) noexcept nogil:
    """Weight of a sample: small while errors have both signs, up to 1 while they have one."""
    cdef double signal = e.drift / m.variability if m.variability > 1e-3 else 0.0
    return _clipped(signal * signal, _QUIET, 1.0)


cdef void _learn_success(Network* net, int i, double sample, double quality, double now_s) noexcept nogil:
    cdef StreamMetrics* m = &net.streams[i]
    cdef double weight = _SUCCESS_SMOOTHING * quality
    weight *= _outcome_share(&net.evidence[i].success, quality, now_s)
    if weight > 0.0:
        m.success_rate = _clipped(m.success_rate + weight * (sample - m.success_rate), _LEAST_SUCCESS, 1.0)


cdef void _recover(Network* net, double now_s) noexcept nogil:
    """Raise the low estimates of idle streams towards their long-run means.

    A stream that is avoided for what it once was would never show that it is better.
    """
    cdef StreamMetrics* m
    cdef Evidence* e
    cdef double since_s, passed_s, share, bandwidth_Bps
    cdef int i
    for i in range(net.n_streams):
        m = &net.streams[i]
        e = &net.evidence[i]
        # What the caller measured stays as it was measured.
        if e.share >= 0.5 or _bandwidth_Bps(m) >= e.usual_Bps or net.queues[i].count > 0:
            continue
        since_s = e.recovered_s if e.recovered_s > m.measured_s else m.measured_s
        passed_s = now_s - since_s
        if passed_s < 1.0:
            continue
        e.recovered_s = now_s
        share = 1.0 - exp(-passed_s / _RECOVERY_S)
        bandwidth_Bps = _bandwidth_Bps(m)
        set_bandwidth(m, _clipped(bandwidth_Bps * exp(share * log(e.usual_Bps / bandwidth_Bps)),
                                  bandwidth_Bps, e.usual_Bps))
