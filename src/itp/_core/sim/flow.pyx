"""How fast the streams of a simulated environment send.

Fluid: between two events every stream has a constant rate. docs/physics.md has the equations.
"""
from libc.math cimport INFINITY, exp, floor, isnan, sqrt
from libc.stdint cimport int64_t, uint32_t, uint64_t

from itp._core.counter cimport draw_exponential, draw_key, draw_uniform
from itp._core.sim.link cimport Link, link_advance
from itp._core.sim.world cimport CUBIC, RANDOM_OUTAGE, ROUND_LOSS, PathSpec, per_link

cdef double _INITIAL_WINDOW = 10.0 * MSS        # RFC 6928
cdef double _LEAST_WINDOW = 2.0 * MSS
cdef double _MATHIS = 1.22                      # sqrt(3/2): Mathis et al., CCR 27(3), 1997
cdef double _CUBIC_BETA = 0.7
cdef double _CUBIC_ALPHA = 0.53                 # packets
cdef double _CUBIC_GROWTH = 2.0                 # of the window, a round of slow start; both as measured
cdef double _BBR_GROWTH = 1.85
cdef double _SECOND_PACE = 1.5                  # of BBR's second window, in windows a round-trip time
cdef double _SETTLING_ROUNDS = 20.0             # from slow start to BBR's steady queue, as measured
cdef double _SPENT = 0.5                        # less than a byte of a window
cdef double _MIN_RTO_S = 0.2                    # Linux: RTO = RTT + 200 ms where RTTs are steady
cdef double _MAX_RTO_S = 120.0
cdef double _MIN_ROUND_S = 1e-3                 # of a window: shorter round trips count as this long


# --- links ---

cdef void share_link(Env* env, int link) noexcept nogil:
    """Divide a shared link among its busy streams: max-min fair, weighted by 1 / sqrt(RTT)."""
    cdef double limit[16]
    cdef double weight[16]
    cdef double left, total = 0.0, level
    cdef uint32_t open_streams = 0
    cdef bint capped = True
    cdef int i, n = env.setting.n, members = 0
    cdef Stream* s
    for i in range(n):
        s = env.streams + i
        if env.path_specs[i].shared == link and s.serving >= 0:
            if s.stalled:
                set_rate(env, i, 0.0)
                continue
            limit[i] = _limit(env, i)
            weight[i] = 1.0 / sqrt(_round_trip_s(s))
            total += weight[i]
            open_streams |= <uint32_t>1 << i
            members += 1
    if members == 0:
        return
    left = env.links[link].capacity_Bps
    # Others' greedy flows weigh as our average stream and are never satisfied.
    total += env.links[link].flows * total / members
    while capped and open_streams:
        capped = False
        level = left / total
        for i in range(n):
            if (open_streams >> i) & 1 and limit[i] <= level * weight[i]:
                set_rate(env, i, limit[i])
                left -= limit[i]
                total -= weight[i]
                open_streams &= ~(<uint32_t>1 << i)
                capped = True
    for i in range(n):
        if (open_streams >> i) & 1:
            set_rate(env, i, left / total * weight[i])


cdef void rerate(Env* env, int i) noexcept nogil:
    cdef Stream* s = env.streams + i
    if s.serving < 0:
        return
    if env.path_specs[i].shared >= 0:
        share_link(env, <int>env.path_specs[i].shared)
    elif s.stalled:
        set_rate(env, i, 0.0)
    else:
        set_rate(env, i, _limit(env, i))


cdef void follow_path(Env* env, int i) noexcept nogil:
    """Take delay and loss from the path, or from its schedule."""
    cdef const PathSpec* path = env.path_specs + i
    cdef const Link* link = env.links + i
    cdef Stream* s = env.streams + i
    s.delay_s = path.delay_s
    s.rtt_s = path.delay_s + path.ack_delay_s
    s.loss = path.loss
    if not isnan(link.delay_s):
        s.delay_s = link.delay_s
        s.rtt_s = 2.0 * link.delay_s
    if not isnan(link.loss):
        s.loss = link.loss
    s.loss_limit_Bps = INFINITY
    if path.cc == CUBIC and s.loss > 0.0:
        # A burst of losses is one event to congestion control.
        s.loss_limit_Bps = _MATHIS * MSS / (_round_trip_s(s) * sqrt(s.loss / path.burst_packets))


cdef inline void _follow_link(Env* env, int link) noexcept nogil:
    """Begin to follow a link that has come into use."""
    if env.event_s[env.setting.n + link] == INFINITY and env.links[link].next_change_s < INFINITY:
        if env.links[link].next_change_s <= env.now_s:
            link_advance(env.links + link, env.now_s, env.workload.day_s, env.workload.day_start)
            if link < env.setting.n:
                follow_path(env, link)
        env.event_s[env.setting.n + link] = env.links[link].next_change_s


cdef void link_event(Env* env, int link) noexcept nogil:
    cdef int n = env.setting.n
    link_advance(env.links + link, env.now_s, env.workload.day_s, env.workload.day_start)
    env.event_s[n + link] = env.links[link].next_change_s
    if link < n:
        follow_path(env, link)
        _mind_losses(env, link)
        rerate(env, link)
    else:
        share_link(env, link)


cdef inline bint _link_is_used(const Env* env, int link) noexcept nogil:
    cdef int i
    for i in range(env.setting.n):
        if env.path_specs[i].shared == link and env.streams[i].serving >= 0:
            return True
    return False


# --- congestion control ---

cdef inline double _round_trip_s(const Stream* s) noexcept nogil:
    return s.rtt_s if s.rtt_s > _MIN_ROUND_S else _MIN_ROUND_S


cdef inline double _limit(const Env* env, int i) noexcept nogil:
    """What the stream may send now, but for others on a shared link.

    As measured on Linux: CUBIC sends each window of slow start at the link's rate and waits for the
    end of the round; so does BBR with its first one, later windows it paces.
    """
    cdef const Stream* s = env.streams + i
    cdef double limit = path_limit(env, i)
    cdef double pace
    if s.window == INFINITY:
        return limit
    if s.window_left <= _SPENT:
        return 0.0
    if in_slow_start(s) and (env.path_specs[i].cc == CUBIC or s.round == 0):
        return limit
    pace = s.window / _round_trip_s(s)
    if in_slow_start(s) and s.round == 1:
        pace *= _SECOND_PACE
    return pace if pace < limit else limit


cdef void restart_slowly(Env* env, int i) noexcept nogil:
    env.streams[i].window = _INITIAL_WINDOW
    env.streams[i].round = 0


cdef void warm_up(Env* env, int i) noexcept nogil:
    cdef Stream* s = env.streams + i
    s.window = s.threshold = s.window_left = INFINITY
    if s.loss_limit_Bps < INFINITY:
        s.window = s.threshold = s.loss_limit_Bps * _round_trip_s(s)


cdef void begin_round(Env* env, int i) noexcept nogil:
    """A window a round-trip time, until the path limits the rate and not the window."""
    cdef Stream* s = env.streams + i
    cdef double limit = path_limit(env, i)
    cdef double round_s = _round_trip_s(s)
    cdef double full = limit * round_s
    cdef bint cubic = env.path_specs[i].cc == CUBIC
    s.window_left = INFINITY
    if cubic and s.loss > 0.0:
        # Its window always counts; it can fill the path and the queue.
        if s.window > full + limit * env.path_specs[i].queue_s:
            s.window = full + limit * env.path_specs[i].queue_s
        if s.window < _LEAST_WINDOW:
            s.window = _LEAST_WINDOW
        # A window that fills the queue takes longer than the empty path's round trip.
        if s.window > full:
            round_s = s.window / limit if s.window < limit else 1.0
        if in_slow_start(s) and s.window < full:
            s.window_left = s.window
    elif s.window < full:
        if cubic or s.round < 2:
            s.window_left = s.window
    else:
        s.window = s.round_s = INFINITY
        s.full_since_s = env.now_s
        return
    s.round_s = env.now_s + round_s


cdef void _mind_losses(Env* env, int i) noexcept nogil:
    """CUBIC at full speed begins to count its window when its path begins to lose."""
    cdef Stream* s = env.streams + i
    if env.path_specs[i].cc == CUBIC and s.loss > 0.0 and s.window == INFINITY and not s.stalled:
        s.window = path_limit(env, i) * _round_trip_s(s)
        begin_round(env, i)


cdef bint _meets_loss(const Env* env, int i) noexcept nogil:
    """Whether a packet of this round is lost; by the time, so that the policy does not change the draw."""
    cdef const Stream* s = env.streams + i
    cdef double packets = s.window / MSS
    cdef uint64_t number = <uint64_t>(env.now_s / _round_trip_s(s))
    return draw_uniform(draw_key(env.seed, per_link(ROUND_LOSS, i)), number) < 1.0 - exp(
        -packets * s.loss / env.path_specs[i].burst_packets)


cdef void end_round(Env* env, int i) noexcept nogil:
    """The window grows, or shrinks for a loss (RFC 9438; where CUBIC is Reno-friendly)."""
    cdef Stream* s = env.streams + i
    s.round += 1
    if env.path_specs[i].cc == CUBIC:
        if s.loss > 0.0 and _meets_loss(env, i):
            s.window *= _CUBIC_BETA
            if s.window < _LEAST_WINDOW:
                s.window = _LEAST_WINDOW
            s.threshold = s.window
        elif in_slow_start(s):
            s.window *= _CUBIC_GROWTH
            if s.window > s.threshold:
                s.window = s.threshold
        else:
            s.window += _CUBIC_ALPHA * MSS
    elif s.loss > 0.0 and not s.slowed and _meets_loss(env, i):
        # BBR goes on after a round without growth.
        s.slowed = True
    else:
        s.window *= _BBR_GROWTH


cdef void wake(Env* env, int i) noexcept nogil:
    """An idle stream has something to send."""
    cdef Stream* s = env.streams + i
    cdef double rto_s, idle_s
    cdef int shared = <int>env.path_specs[i].shared
    _follow_link(env, i)
    if shared >= 0:
        _follow_link(env, shared)
    if env.path_specs[i].cc == CUBIC:
        # The window halves with every RTO of idling (RFC 2861); BBR keeps its rate.
        rto_s = s.rtt_s + _MIN_RTO_S
        idle_s = env.now_s - s.idle_since_s
        if idle_s > rto_s:
            if s.window == INFINITY:
                s.window = path_limit(env, i) * _round_trip_s(s)
            s.window *= exp(-0.6931471805599453 * floor(idle_s / rto_s))
            if s.window < _INITIAL_WINDOW:
                s.window = _INITIAL_WINDOW
    _mind_losses(env, i)
    if s.window < INFINITY and not s.stalled:
        begin_round(env, i)


cdef void rest(Env* env, int i) noexcept nogil:
    """The stream has nothing to send: nobody follows its links for it."""
    cdef Stream* s = env.streams + i
    cdef int shared = <int>env.path_specs[i].shared
    s.round_s = s.spent_s = INFINITY
    s.aged_s = INFINITY
    s.idle_since_s = env.now_s
    schedule(env, i)
    env.event_s[env.setting.n + i] = INFINITY
    if shared >= 0:
        if _link_is_used(env, shared):
            share_link(env, shared)
        else:
            env.event_s[env.setting.n + shared] = INFINITY


cdef double standing_queue_s(const Env* env, int i) noexcept nogil:
    """How long a byte waits in the path's queue behind what the stream has sent."""
    cdef const Stream* s = env.streams + i
    cdef double queue_s = env.path_specs[i].queue_s
    if s.window < INFINITY or s.rate_Bps <= 0.0:
        return 0.0
    if env.path_specs[i].cc == CUBIC:
        return 0.5 * queue_s
    return 0.25 * s.rtt_s if 0.25 * s.rtt_s < queue_s else queue_s


# --- outages ---

cdef void next_outage(Env* env, int i) noexcept nogil:
    cdef const PathSpec* path = env.path_specs + i
    cdef Stream* s = env.streams + i
    cdef uint64_t key
    cdef double lap_s
    cdef int64_t k = s.outage_index
    if path.outage_count:
        lap_s = <double>(k // path.outage_count) * path.outage_period_s
        if k >= path.outage_count and path.outage_period_s == 0.0:
            s.outage_s = INFINITY
            return
        s.outage_s = lap_s + env.setting.outages[path.outage_first + k % path.outage_count].start_s
        s.outage_end_s = lap_s + env.setting.outages[path.outage_first + k % path.outage_count].end_s
    elif path.down_s > 0.0:
        key = draw_key(env.seed, per_link(RANDOM_OUTAGE, i))
        s.outage_s = s.outage_end_s + path.up_s * draw_exponential(key, 2 * <uint64_t>k)
        s.outage_end_s = s.outage_s + path.down_s * draw_exponential(key, 2 * <uint64_t>k + 1)
    else:
        s.outage_s = INFINITY
        return
    s.outage_index += 1


cdef void stall(Env* env, int i) noexcept nogil:
    """What is under way is lost; it gets through with the first retry after the outage.

    Retries come at RTO, 3 RTO, 7 RTO, ... after the last acknowledgement (RFC 6298, 5.5), or, where
    nothing was under way, after the probes that precede them. As measured on Linux.
    """
    cdef Stream* s = env.streams + i
    cdef const PathSpec* path = env.path_specs + i
    cdef Chunk* chunk = chunk_of(env, s.serving, i)
    cdef bint under_way = chunk.left < <double>(chunk.bytes + chunk.resent) or s.rate_Bps > 0.0
    cdef double round_trip_s = s.rtt_s
    cdef double lost, rto_s, retry_s
    cdef int64_t whole
    # BBR's queue from slow start, and the time-out that counts it, last for a while.
    if path.cc == CUBIC or s.window < INFINITY or env.now_s - s.full_since_s < _SETTLING_ROUNDS * s.rtt_s:
        round_trip_s += path.queue_s
    lost = s.rate_Bps * round_trip_s
    bring_forward(env, i)
    if lost > <double>(chunk.bytes + chunk.resent) - chunk.left:
        lost = <double>(chunk.bytes + chunk.resent) - chunk.left
    whole = <int64_t>lost
    chunk.left += <double>whole
    chunk.resent += whole
    if under_way:
        rto_s = round_trip_s + _MIN_RTO_S
        retry_s = env.now_s + round_trip_s + rto_s
    else:
        rto_s = s.rtt_s + _MIN_RTO_S if s.rtt_s + _MIN_RTO_S > 3.0 * s.rtt_s else 3.0 * s.rtt_s
        retry_s = env.now_s + 2.0 * s.rtt_s + rto_s
        if path.cc == CUBIC:
            restart_slowly(env, i)
    while retry_s < s.outage_end_s:
        rto_s = rto_s * 2.0 if rto_s * 2.0 < _MAX_RTO_S else _MAX_RTO_S
        retry_s += rto_s
    s.stalled = True
    s.resume_s = retry_s + 2.0 * s.rtt_s
    s.round_s = s.spent_s = INFINITY
