"""Who is served when: lines, service orders, work stealing, and what becomes of a chunk."""
from libc.math cimport INFINITY, exp, floor, log
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memset

from itp._core.counter cimport draw_bell, draw_exponential, draw_key, draw_poisson, draw_uniform
from itp._core.sim.env cimport (
    Chunk,
    Env,
    Interval,
    LAST,
    NO_CHUNK,
    SERVING,
    Slot,
    Stream,
    Timeline,
    chunk_of,
    slot_of,
)
from itp._core.sim.flow cimport (
    MSS,
    begin_round,
    bring_forward,
    in_slow_start,
    next_outage,
    rerate,
    rest,
    schedule,
    set_rate,
    stall,
    standing_queue_s,
    wake,
)
from itp._core.order cimport ORDER_AGEING_S, SRPT, Rank, served_before, served_before_newcomer
from itp._core.reward cimport Outcome, Terms, reward_terms, weighted
from itp._core.state cimport StreamMetrics, note_bandwidth, note_time, set_latency
from itp._core.sim.world cimport JITTER, LOSS, MEASUREMENT, TAIL_LOSS, THINK, PathSpec, per_link

cdef double _SMOOTHING = 0.25                   # weight of a new sample in what is known of a stream
cdef double _MIN_STEAL_BYTES = 65536.0
cdef double _LEAST_LATENCY_S = 1e-9


# --- lines ---

cdef void _serve(Env* env, int i, int slot) noexcept nogil:
    """Serve this chunk from now on; the stream is free."""
    cdef Stream* s = env.streams + i
    cdef Chunk* chunk = chunk_of(env, slot, i)
    chunk.next = SERVING
    s.serving = slot
    s.since_s = s.begun_s = env.now_s
    s.begun_carried = s.carried
    s.rate_Bps = 0.0


cdef Rank _rank(const Env* env, int slot, double left_bytes) noexcept nogil:
    cdef const Slot* task = slot_of(env, slot)
    cdef Rank rank
    rank.since_s = task.arrival.at_s
    rank.left_bytes = left_bytes
    rank.number = task.task
    rank.priority_class = task.priority_class
    return rank


cdef bint _served_before(const Env* env, int a, double left_a, int b, double left_b) noexcept nogil:
    cdef Rank rank_a = _rank(env, a, left_a)
    cdef Rank rank_b = _rank(env, b, left_b)
    return served_before(&rank_a, &rank_b, env.now_s)


cdef double remaining_bytes(const Env* env, int slot) noexcept nogil:
    """Bytes left of a task on all its streams, as of the present."""
    cdef const Chunk* chunk
    cdef const Stream* s
    cdef double total = 0.0
    cdef int i, n = env.setting.n
    for i in range(n):
        chunk = chunk_of(env, slot, i)
        if chunk.next != NO_CHUNK:
            total += chunk.left
            if chunk.next == SERVING:
                s = env.streams + i
                total -= s.rate_Bps * (env.now_s - s.since_s)
    return total


cdef void _append(Env* env, int i, int slot) noexcept nogil:
    cdef Stream* s = env.streams + i
    cdef Chunk* chunk = chunk_of(env, slot, i)
    cdef double aged_s
    chunk.next = LAST
    if s.last >= 0:
        chunk_of(env, s.last, i).next = slot
    else:
        s.first = slot
    s.last = slot
    s.waiting += chunk.left
    if env.setting.order == SRPT:
        aged_s = slot_of(env, slot).arrival.at_s + ORDER_AGEING_S
        if aged_s > env.now_s and aged_s < s.aged_s:
            s.aged_s = aged_s


cdef void _take_out(Env* env, int i, int before, int slot) noexcept nogil:
    """Take a chunk out of the line; `before` is the slot ahead of it, or -1."""
    cdef Stream* s = env.streams + i
    cdef Chunk* chunk = chunk_of(env, slot, i)
    if before >= 0:
        chunk_of(env, before, i).next = chunk.next
    else:
        s.first = chunk.next
    if s.last == slot:
        s.last = before
    # An empty line clears what rounding has left.
    s.waiting = s.waiting - chunk.left if s.first >= 0 else 0.0


cdef int _best_waiting(Env* env, int i, int* before) noexcept nogil:
    """Who is served next: the first in line, or under SRPT the best; -1: nobody."""
    cdef Stream* s = env.streams + i
    cdef int best = s.first, k = s.first, last = -1
    cdef double left, best_left = 0.0
    before[0] = -1
    if env.setting.order != SRPT or best < 0 or s.first == s.last:
        return best
    best = -1
    while k >= 0:
        left = remaining_bytes(env, k)
        if best < 0 or _served_before(env, k, left, best, best_left):
            best = k
            best_left = left
            before[0] = last
        last = k
        k = chunk_of(env, k, i).next
    return best


cdef void enqueue(Env* env, int i, int slot) noexcept nogil:
    """A chunk has come to a stream."""
    cdef Stream* s = env.streams + i
    cdef double queue_s
    cdef int served = s.serving
    if served < 0:
        _serve(env, i, slot)
        wake(env, i)
        if s.in_outage and not s.stalled:
            stall(env, i)
        rerate(env, i)
    elif env.setting.order == SRPT and _served_before(env, slot, remaining_bytes(env, slot),
                                                      served, remaining_bytes(env, served)):
        queue_s = standing_queue_s(env, i)
        bring_forward(env, i)
        _record(env, i)
        _append(env, i, served)
        _serve(env, i, slot)
        # What the stream has already given to the network goes ahead.
        chunk_of(env, slot, i).extra_s = queue_s
        rerate(env, i)
    else:
        _append(env, i, slot)
        schedule(env, i)


cdef void _next_in_line(Env* env, int i) noexcept nogil:
    """The stream has become free."""
    cdef Stream* s = env.streams + i
    cdef int before, slot = _best_waiting(env, i, &before)
    s.serving = -1
    s.rate_Bps = 0.0
    s.done_s = INFINITY
    if slot >= 0:
        _take_out(env, i, before, slot)
    elif env.stealing:
        slot = _steal(env, i)
    if slot >= 0:
        _serve(env, i, slot)
        rerate(env, i)
        return
    rest(env, i)


cdef void come_of_age(Env* env, int i) noexcept nogil:
    """Somebody in line has waited so long that he goes ahead."""
    cdef Stream* s = env.streams + i
    cdef int before, k = s.first, slot = _best_waiting(env, i, &before)
    cdef double aged_s
    if slot >= 0 and _served_before(env, slot, remaining_bytes(env, slot), s.serving,
                                    remaining_bytes(env, s.serving)):
        bring_forward(env, i)
        _record(env, i)
        _take_out(env, i, before, slot)
        _append(env, i, s.serving)
        _serve(env, i, slot)
        rerate(env, i)
    s.aged_s = INFINITY
    k = s.first
    while k >= 0:
        aged_s = slot_of(env, k).arrival.at_s + ORDER_AGEING_S
        if aged_s > env.now_s and aged_s < s.aged_s:
            s.aged_s = aged_s
        k = chunk_of(env, k, i).next
    schedule(env, i)


cdef double bytes_waiting(const Env* env, int i) noexcept nogil:
    cdef const Stream* s = env.streams + i
    cdef double left
    if s.serving < 0:
        return 0.0
    left = chunk_of(env, s.serving, i).left - s.rate_Bps * (env.now_s - s.since_s)
    return s.waiting + (left if left > 0.0 else 0.0)


cdef double bytes_ahead(Env* env, int i, double size_bytes, int klass) noexcept nogil:
    """Bytes that the stream serves before a task of this size and class that arrives now."""
    cdef const Stream* s = env.streams + i
    cdef const Chunk* chunk
    cdef Rank rank
    cdef double left, ahead = 0.0
    cdef int k = s.serving
    if k < 0:
        return 0.0
    left = chunk_of(env, k, i).left - s.rate_Bps * (env.now_s - s.since_s)
    if left < 0.0:
        left = 0.0
    if env.setting.order != SRPT:
        return left + s.waiting
    while k >= 0:
        chunk = chunk_of(env, k, i)
        # What is left of a task of another class does not matter.
        rank = _rank(env, k, remaining_bytes(env, k) if slot_of(env, k).priority_class == klass else 0.0)
        if served_before_newcomer(&rank, size_bytes, klass, env.now_s):
            ahead += left if k == s.serving else chunk.left
        k = s.first if k == s.serving else chunk.next
    return ahead


# --- outages ---

cdef void outage_event(Env* env, int i) noexcept nogil:
    cdef Stream* s = env.streams + i
    if not s.in_outage:
        s.in_outage = True
        s.outage_s = s.outage_end_s
        s.notice_s = env.now_s + env.workload.stall_timeout_s
        if s.serving >= 0 and not s.stalled:
            stall(env, i)
            rerate(env, i)
    else:
        s.in_outage = False
        s.notice_s = INFINITY
        next_outage(env, i)
        if not s.stalled:
            s.down = False
            offer(env, i)


cdef void resume(Env* env, int i) noexcept nogil:
    cdef Stream* s = env.streams + i
    s.resume_s = INFINITY
    if s.in_outage and s.serving >= 0:
        # The next outage has begun before this retry.
        stall(env, i)
        return
    s.stalled = False
    s.down = s.down and s.in_outage
    if s.serving >= 0:
        if s.window < INFINITY:
            begin_round(env, i)
        rerate(env, i)
    else:
        offer(env, i)


# --- work stealing ---

cdef void offer(Env* env, int i) noexcept nogil:
    """Let a stream that has been idle look for work."""
    cdef int slot
    if env.streams[i].serving >= 0 or env.stealing == 0:
        return
    slot = _steal(env, i)
    if slot >= 0:
        _serve(env, i, slot)
        wake(env, i)
        rerate(env, i)


cdef int _steal(Env* env, int i) noexcept nogil:
    """Let an idle stream take over bytes of a task that may use it; the slot, or -1.

    Of all chunks elsewhere that it could end sooner, the one served first goes first. It takes as
    much as lets both streams finish together by what is known of their bandwidths.
    """
    cdef int n = env.setting.n
    cdef Stream* other
    cdef Chunk* chunk
    cdef int j, k, best = -1, victim = -1
    cdef double rate_i = env.metrics[i].bandwidth_Bps * env.metrics[i].success_rate
    cdef double rate_j, take, best_take = 0.0, best_left = 0.0, left, behind_s, later_s, payload
    if rate_i <= 0.0 or env.streams[i].in_outage or env.streams[i].stalled:
        return -1
    for j in range(n):
        other = env.streams + j
        if j == i or other.serving < 0:
            continue
        rate_j = env.metrics[j].bandwidth_Bps * env.metrics[j].success_rate
        bring_forward(env, j)
        k = other.serving
        while k >= 0:
            chunk = chunk_of(env, k, j)
            if slot_of(env, k).steals and (slot_of(env, k).mask >> i) & 1:
                # Bytes that have not been sent at all.
                payload = chunk.left * (<double>chunk.bytes / <double>(chunk.bytes + chunk.resent))
                if other.down or rate_j <= 0.0:
                    take = payload
                else:
                    behind_s = 0.0 if k == other.serving else chunk_of(env, other.serving, j).left / rate_j
                    later_s = behind_s + env.metrics[j].latency_s - env.metrics[i].latency_s
                    take = rate_i * (rate_j * later_s + payload) / (rate_i + rate_j)
                    if take > payload:
                        take = payload
                # All of it, or enough to be worth a frame's trouble.
                if take >= payload - 1.0 or take >= _MIN_STEAL_BYTES:
                    if take >= 1.0:
                        left = remaining_bytes(env, k)
                        if best < 0 or (best != k and _served_before(env, k, left, best, best_left)) or (
                                best == k and take > best_take):
                            best, victim, best_take, best_left = k, j, take, left
            k = other.first if k == other.serving else chunk.next
    if best < 0:
        return -1
    return best if _take_over(env, best, victim, i, <int64_t>best_take) else -1


cdef bint _take_over(Env* env, int slot, int victim, int i, int64_t moved) noexcept nogil:
    """Move unsent bytes of a task from one stream to an idle one, which has no chunk of it."""
    cdef Chunk* chunk = chunk_of(env, slot, victim)
    cdef Chunk* mine = chunk_of(env, slot, i)
    cdef Stream* other = env.streams + victim
    cdef int64_t resent
    cdef int before = -1, k
    if moved > chunk.bytes:
        moved = chunk.bytes
    resent = <int64_t>(<double>chunk.resent * (<double>moved / <double>chunk.bytes))
    if moved < 1:
        return False
    if chunk.next != SERVING:
        other.waiting -= <double>(moved + resent)
    chunk.bytes -= moved
    chunk.resent -= resent
    chunk.left -= <double>(moved + resent)
    if chunk.left < 1.0:
        # The rest of a byte must not wait for a stalled stream.
        other.carried += chunk.left
        chunk.left = 0.0
    memset(mine, 0, sizeof(Chunk))
    mine.bytes = moved
    draw_loss(env, slot, i)
    slot_of(env, slot).pending += 1
    slot_of(env, slot).streams += 1
    if chunk.next == SERVING:
        set_rate(env, victim, other.rate_Bps)
    elif chunk.bytes == 0:
        k = other.first
        while k != slot:
            before = k
            k = chunk_of(env, k, victim).next
        _take_out(env, victim, before, slot)
        chunk.next = NO_CHUNK
        slot_of(env, slot).pending -= 1
    return True


# --- chunks and tasks ---

cdef void draw_loss(Env* env, int slot, int i) noexcept nogil:
    """How much of a chunk is lost and sent again: a Poisson number of losses, for the task and stream."""
    cdef Chunk* chunk = chunk_of(env, slot, i)
    cdef const Stream* s = env.streams + i
    cdef double packets, burst
    cdef uint64_t key
    chunk.resent = 0
    if s.loss > 0.0:
        burst = env.path_specs[i].burst_packets
        packets = <double>chunk.bytes / MSS
        key = draw_key(env.seed, per_link(LOSS, i))
        packets = draw_poisson(packets * s.loss / (1.0 - s.loss) / burst,
                               draw_uniform(key, 2 * <uint64_t>slot_of(env, slot).task),
                               draw_bell(key, 2 * <uint64_t>slot_of(env, slot).task + 1)) * burst
        chunk.resent = <int64_t>(packets * MSS)
    chunk.left = <double>(chunk.bytes + chunk.resent)


cdef void _delivered(Env* env, int i, int slot) noexcept nogil:
    """A chunk is through: when it arrives, and what the sender learns of the stream."""
    cdef Stream* s = env.streams + i
    cdef const PathSpec* path = env.path_specs + i
    cdef StreamMetrics* known = env.metrics + i
    cdef Slot* task = slot_of(env, slot)
    cdef Chunk* chunk = chunk_of(env, slot, i)
    cdef double finish_s, behind, late_s, error, delay_s = s.delay_s
    cdef uint64_t number = <uint64_t>task.task
    if s.loss > 0.0:
        # The last packet lost comes late, and holds the end up by what it does not overlap with: it is
        # noticed by what follows it, or, where that is too little, by a probe. As measured on Linux.
        behind = floor(log(1.0 - draw_uniform(draw_key(env.seed, per_link(TAIL_LOSS, i)), number))
                       / log(1.0 - s.loss / path.burst_packets))
        if behind * MSS < <double>chunk.bytes:
            late_s = (2.1 if behind < 3.0 else 1.1) * s.rtt_s
            if s.rate_Bps > 0.0:
                late_s -= behind * MSS / s.rate_Bps
            if late_s > 0.0:
                chunk.extra_s += late_s
    if path.jitter_s > 0.0:
        delay_s += path.jitter_s * (2.0 * draw_uniform(draw_key(env.seed, per_link(JITTER, i)), number) - 1.0)
        if delay_s < 0.0:
            delay_s = 0.0
    finish_s = env.now_s + delay_s + chunk.extra_s
    if finish_s < task.first_finish_s:
        task.first_finish_s = finish_s
    if finish_s > task.last_finish_s:
        task.last_finish_s = finish_s
    env.delivered_bytes += chunk.bytes
    env.resent_bytes += chunk.resent
    env.sent_bytes += chunk.bytes + chunk.resent
    task.resent += chunk.resent
    # In slow start the sender sees less than the path can do, and knows.
    if not in_slow_start(s):
        error = env.workload.estimate_noise * draw_bell(draw_key(env.seed, per_link(MEASUREMENT, i)), number)
        note_bandwidth(known, s.rate_Bps * exp(error), _SMOOTHING, env.now_s)
    note_time(known, finish_s - task.arrival.at_s, task.expected_s, _SMOOTHING)
    set_latency(known, known.latency_s + _SMOOTHING * (delay_s + standing_queue_s(env, i) - known.latency_s))
    known.success_rate += _SMOOTHING * (
        <double>chunk.bytes / <double>(chunk.bytes + chunk.resent) - known.success_rate)


cdef void chunk_done(Env* env, int i) noexcept nogil:
    cdef int slot = env.streams[i].serving
    cdef Slot* task = slot_of(env, slot)
    cdef Chunk* chunk = chunk_of(env, slot, i)
    bring_forward(env, i)
    _record(env, i)
    if chunk.bytes > 0:
        _delivered(env, i, slot)
    chunk.next = NO_CHUNK
    chunk.bytes = 0
    task.pending -= 1
    if task.pending == 0:
        complete_task(env, slot)
    _next_in_line(env, i)


cdef void _think(Env* env, const Slot* task) noexcept nogil:
    """A client that waits has its answer, thinks, and submits again; which one makes no difference."""
    cdef double submits_s = env.workload.think_s * draw_exponential(draw_key(env.seed, THINK), task.task)
    cdef int c = 0
    while env.submits_s[c] < INFINITY:
        c += 1
    submits_s += task.last_finish_s
    env.submits_s[c] = submits_s
    if submits_s < env.arrival.at_s:
        env.arrival.at_s = submits_s


cdef void complete_task(Env* env, int slot) noexcept nogil:
    cdef Slot* task = slot_of(env, slot)
    cdef Outcome outcome
    cdef Terms terms
    cdef const double* w = env.setting.weights
    cdef double latency_s = task.last_finish_s - task.arrival.at_s
    # Of a byte over no distance, late in a long run, rounding may leave nothing.
    if latency_s < _LEAST_LATENCY_S:
        latency_s = _LEAST_LATENCY_S
    task.success = task.success and latency_s <= task.arrival.deadline_s
    outcome.throughput_mbps = <double>task.arrival.size_bytes * 8e-6 / latency_s
    outcome.latency_s = latency_s
    outcome.success = task.success
    outcome.retransmitted_bytes = task.resent
    outcome.imbalance = 1.0 - (task.first_finish_s - task.arrival.at_s) / latency_s
    reward_terms(&outcome, task.arrival.size_bytes, reference_s(env, task.arrival.size_bytes), &terms)
    task.reward = weighted(&terms, w[0], w[1], w[2], w[3], w[4])
    env.step_reward += task.reward
    if env.tracks_cost:
        env.cost += log(latency_s / reference_s(env, task.arrival.size_bytes))
        env.cost_s += latency_s
    env.completed += 1
    env.in_flight -= 1
    env.stealing -= task.steals
    task.next = -1
    if env.done_last >= 0:
        slot_of(env, env.done_last).next = slot
    else:
        env.done_first = slot
    env.done_last = slot
    if env.workload.clients > 0:
        _think(env, task)


cdef void _record(Env* env, int i) noexcept nogil:
    """Note what the stream has served without a break."""
    cdef Timeline* t = env.timeline
    cdef const Stream* s = env.streams + i
    cdef Interval* interval
    cdef void* grown
    if t == NULL or s.begun_s == env.now_s:
        return
    if t.count == t.capacity:
        grown = realloc(t.intervals, (2 * t.capacity + 1024) * sizeof(Interval))
        if grown == NULL:
            env.out_of_memory = True
            return
        t.intervals = <Interval*>grown
        t.capacity = 2 * t.capacity + 1024
    interval = t.intervals + t.count
    interval.stream = i
    interval.task = slot_of(env, s.serving).task
    interval.start_s = s.begun_s
    interval.end_s = env.now_s
    interval.bytes = s.carried - s.begun_carried
    t.count += 1
