"""One simulated environment, from decision to decision.

Event-driven: the next event is the earliest of the next arrival and what the streams and the links
in use announce; no fixed time step. docs/physics.md has the equations.
"""
from libc.math cimport INFINITY, exp, floor
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from itp._core.alloc cimport WATER_FILLING, Rule, completion_time_s
from itp._core.counter cimport draw_bell, draw_exponential, draw_key
from itp._core.choose cimport Choice
from itp._core.sim.env cimport Chunk, Env, LAST, NO_CHUNK, Setting, Slot, Stream, chunk_of, slot_of
from itp._core.sim.flow cimport (
    begin_round,
    bring_forward,
    end_round,
    follow_path,
    link_event,
    next_outage,
    rerate,
    restart_slowly,
    schedule,
    warm_up,
)
from itp._core.features cimport Situation
from itp._core.heuristic cimport split_chunks
from itp._core.order cimport priority_class
from itp._core.sim.link cimport Link, link_advance, link_attach, link_start
from itp._core.sim.service cimport (
    bytes_ahead,
    bytes_waiting,
    chunk_done,
    come_of_age,
    complete_task,
    draw_loss,
    enqueue,
    offer,
    outage_event,
    resume,
)
from itp._core.state cimport Paths, StreamMetrics, assemble_state, popcount, set_bandwidth, set_latency
from itp._core.workload cimport workload_add, workload_reset
from itp._core.sim.world cimport (
    FIRST_THINK,
    PRIOR,
    LinkSpec,
    PathSpec,
    WorkloadSpec,
    draw_arrival,
    per_link,
)

cdef double _NO_PROGRESS_S = 3600.0             # tasks that get nothing for so long are given up
cdef int64_t _EVENTS = 1_000_000                # an episode may have so many, and so many more a task
cdef int64_t _EVENTS_OF_TASK = 10_000
cdef int _FIRST_SLOTS = 16


# --- memory ---

cdef size_t env_bytes(const Setting* setting) noexcept nogil:
    cdef size_t size = (sizeof(Env) + setting.n * (sizeof(Stream) + sizeof(StreamMetrics))
                        + setting.n_links * sizeof(Link)
                        + (setting.n + setting.n_links + setting.n_clients) * sizeof(double))
    return (size + 63) & ~<size_t>63


cdef bint env_init(Env* env, const Setting* setting) noexcept nogil:
    cdef char* place = <char*>env + sizeof(Env)
    memset(env, 0, env_bytes(setting))
    env.setting = setting
    env.streams = <Stream*>place
    place += setting.n * sizeof(Stream)
    env.metrics = <StreamMetrics*>place
    place += setting.n * sizeof(StreamMetrics)
    env.links = <Link*>place
    place += setting.n_links * sizeof(Link)
    env.event_s = <double*>place
    place += (setting.n + setting.n_links) * sizeof(double)
    env.submits_s = <double*>place
    env.over = True
    return _grow(env, _FIRST_SLOTS)


cdef void env_free(Env* env) noexcept nogil:
    free(env.slots)
    free(env.vectors)
    env.slots = NULL
    env.vectors = NULL


cdef bint _grow(Env* env, int n_slots) noexcept nogil:
    """Room for so many tasks in flight, when all slots are taken; what there is stays."""
    cdef const Setting* setting = env.setting
    cdef size_t n = n_slots, old = env.n_slots, vector = 2 * setting.state_dim
    cdef void* grown = realloc(env.slots, n * setting.slot_bytes)
    cdef int k
    if grown == NULL:
        return False
    env.slots = <char*>grown
    # Slots are saved whole: they hold nothing that lay in memory before.
    memset(env.slots + old * setting.slot_bytes, 0, (n - old) * setting.slot_bytes)
    if setting.keep_states:
        grown = realloc(env.vectors, n * vector * sizeof(float))
        if grown == NULL:
            return False
        env.vectors = <float*>grown
        memset(env.vectors + old * vector, 0, (n - old) * vector * sizeof(float))
    for k in range(env.n_slots, n_slots):
        slot_of(env, k).next = k + 1 if k + 1 < n_slots else -1
    env.free_slot = env.n_slots
    env.n_slots = n_slots
    return True


cdef bint env_copy(Env* to, const Env* env) noexcept nogil:
    cdef char* slots
    cdef float* vectors
    cdef float* state = to.state
    if to.n_slots < env.n_slots and not _grow(to, env.n_slots):
        return False
    slots, vectors = to.slots, to.vectors
    memcpy(to, env, env_bytes(env.setting))
    to.streams = <Stream*>(<char*>to + (<char*>env.streams - <char*>env))
    to.metrics = <StreamMetrics*>(<char*>to + (<char*>env.metrics - <char*>env))
    to.links = <Link*>(<char*>to + (<char*>env.links - <char*>env))
    to.event_s = <double*>(<char*>to + (<char*>env.event_s - <char*>env))
    to.submits_s = <double*>(<char*>to + (<char*>env.submits_s - <char*>env))
    to.slots, to.vectors, to.state = slots, vectors, state
    to.timeline = NULL
    memcpy(slots, env.slots, env.n_slots * env.setting.slot_bytes)
    return True


cdef size_t _saved_slot_bytes(const Setting* setting) noexcept nogil:
    return setting.slot_bytes + (2 * setting.state_dim * sizeof(float) if setting.keep_states else 0)


cdef size_t env_saved_bytes(const Env* env) noexcept nogil:
    return env_bytes(env.setting) + env.n_slots * _saved_slot_bytes(env.setting)


cdef void env_save(const Env* env, char* to) noexcept nogil:
    cdef Env* saved = <Env*>to
    cdef Link* links = <Link*>(to + (<char*>env.links - <char*>env))
    cdef size_t block = env_bytes(env.setting), slots = env.n_slots * env.setting.slot_bytes
    cdef int k
    memcpy(to, env, block)
    memcpy(to + block, env.slots, slots)
    if env.vectors != NULL:
        memcpy(to + block + slots, env.vectors, env_saved_bytes(env) - block - slots)
    # Equal environments are saved as equal bytes, wherever they lie.
    for k in range(env.setting.n_links):
        links[k].spec = NULL
        links[k].rows = NULL
    _point_as(saved, NULL)


cdef void _point_as(Env* env, const Env* other) noexcept nogil:
    """Take the pointers of another environment; NULL: none."""
    cdef Env none
    if other == NULL:
        memset(&none, 0, sizeof(Env))
        other = &none
    env.setting = other.setting
    env.link_specs, env.path_specs, env.workload = other.link_specs, other.path_specs, other.workload
    env.streams, env.metrics, env.links = other.streams, other.metrics, other.links
    env.event_s, env.submits_s = other.event_s, other.submits_s
    env.slots, env.vectors = other.slots, other.vectors
    env.state, env.timeline = other.state, other.timeline


cdef Py_ssize_t env_load(Env* env, const LinkSpec* links, const PathSpec* paths, const WorkloadSpec* workload,
                         const char* saved, size_t size) noexcept nogil:
    cdef const Setting* setting = env.setting
    cdef size_t block = env_bytes(setting), slots
    cdef Env fresh = env[0]
    cdef int k, n_slots, free_slot
    fresh.link_specs, fresh.path_specs, fresh.workload = links, paths, workload
    if size < block:
        return 0
    memcpy(env, saved, block)
    _point_as(env, &fresh)
    n_slots, free_slot = env.n_slots, env.free_slot
    env.n_slots = fresh.n_slots
    slots = n_slots * setting.slot_bytes
    if n_slots < fresh.n_slots or size < block + n_slots * _saved_slot_bytes(setting):
        return 0
    if not _grow(env, n_slots):
        return -1
    env.free_slot = free_slot
    memcpy(env.slots, saved + block, slots)
    if env.vectors != NULL:
        memcpy(env.vectors, saved + block + slots, env_saved_bytes(env) - block - slots)
    for k in range(setting.n_links):
        link_attach(env.links + k, links + k, setting.rows)
    return env_saved_bytes(env)


# --- decisions ---

cdef void _observe(Env* env) noexcept nogil:
    """What the waiting task sees: estimates, and the sender's own lines."""
    cdef const StreamMetrics* known
    cdef Paths* paths = &env.paths
    cdef double size = <double>env.arrival.size_bytes, ahead_s
    cdef int klass = priority_class(env.arrival.priority)
    cdef int i, n = env.setting.n
    env.demand.size_bytes = env.arrival.size_bytes
    env.demand.priority = env.arrival.priority
    env.demand.deadline_s = env.arrival.deadline_s
    env.demand.min_bandwidth_Bps = 0.0
    env.demand.redundancy = 1
    env.demand.min_chunk_bytes = env.setting.min_chunk_bytes
    paths.n = n
    paths.up = 0
    for i in range(n):
        known = env.metrics + i
        if not env.streams[i].down:
            paths.up |= <uint32_t>1 << i
        ahead_s = bytes_ahead(env, i, size, klass) / known.bandwidth_Bps
        paths.work_ahead_s[i] = ahead_s
        paths.delay_s[i] = ahead_s + known.latency_s
        paths.congestion[i] = ahead_s / (ahead_s + 1.0)
        paths.rate_Bps[i] = known.bandwidth_Bps * known.success_rate
        env.backlog_s[i] = bytes_waiting(env, i) / known.bandwidth_Bps
    if paths.up == 0:
        # Somebody has to carry it, and nobody knows who will be the first to return.
        paths.up = (<uint32_t>1 << n) - 1


cdef void env_situation(const Env* env, Situation* out) noexcept nogil:
    cdef double day = env.workload.day_start + env.now_s / env.workload.day_s
    out.metrics = env.metrics
    out.workload = &env.history
    memcpy(out.backlog_s, env.backlog_s, sizeof(out.backlog_s))
    out.now_s = env.now_s
    out.in_flight = env.in_flight
    out.day = day - floor(day)
    out.preference = env.preference
    out.order = env.setting.order


cdef void _show(Env* env, bint last) noexcept nogil:
    """Write the state of the waiting task, and keep it as the next state of the one before."""
    cdef size_t dim = env.setting.state_dim
    cdef double day
    if env.state == NULL:
        return
    if last:
        memset(env.state, 0, dim * sizeof(float))
    else:
        day = env.workload.day_start + env.now_s / env.workload.day_s
        assemble_state(&env.paths, env.metrics, <double>env.in_flight, env.arrival.size_bytes,
                       env.arrival.priority, day - floor(day), env.state)
    if env.last_slot >= 0 and env.vectors != NULL:
        memcpy(env.vectors + (2 * env.last_slot + 1) * dim, env.state, dim * sizeof(float))


cdef void _admit(Env* env, const Choice* choice) noexcept nogil:
    """Turn the decision for the waiting task into chunks."""
    cdef int64_t chunks[16]
    cdef uint32_t mask = choice.mask & env.paths.up
    cdef Slot* task
    cdef Chunk* chunk
    cdef int i, slot, n = env.setting.n
    cdef size_t dim = env.setting.state_dim
    if env.free_slot < 0 and not _grow(env, env.n_slots + env.n_slots // 4):
        env.out_of_memory = True
        return
    slot = env.free_slot
    task = slot_of(env, slot)
    env.free_slot = task.next
    if mask == 0:
        mask = env.paths.up
    memset(task, 0, sizeof(Slot))
    task.arrival = env.arrival
    task.task = env.decided
    task.next = -1
    task.mask = mask
    task.propensity = <float>choice.propensity
    task.explored = choice.explored
    task.source = <uint8_t>choice.source
    task.first_finish_s = INFINITY
    task.success = True
    task.steals = env.setting.stealing or choice.split == PULL
    task.priority_class = <uint8_t>priority_class(env.arrival.priority)
    mask = split_chunks(&env.paths, &env.demand, mask,
                        WATER_FILLING if choice.split == PULL else <Rule>choice.split, chunks)
    task.expected_s = completion_time_s(chunks, env.paths.rate_Bps, env.paths.delay_s, mask)
    task.streams = task.pending = <uint8_t>popcount(mask)
    if env.vectors != NULL and env.state != NULL:
        memcpy(env.vectors + 2 * slot * dim, env.state, dim * sizeof(float))
    env.last_slot = slot
    workload_add(&env.history, <double>env.arrival.size_bytes, env.arrival.at_s)
    env.decided += 1
    env.in_flight += 1
    env.stealing += task.steals
    for i in range(n):
        chunk = chunk_of(env, slot, i)
        memset(chunk, 0, sizeof(Chunk))
        chunk.next = NO_CHUNK
        if (mask >> i) & 1:
            chunk.bytes = chunks[i]
            draw_loss(env, slot, i)
            # Part of the task before any stream serves it: what is left of it ranks it.
            chunk.next = LAST
    for i in range(n):
        if (mask >> i) & 1:
            enqueue(env, i, slot)


# --- time ---

cdef void env_sync_links(Env* env) noexcept nogil:
    cdef int k
    for k in range(env.setting.n_links):
        if env.links[k].next_change_s <= env.now_s:
            link_advance(env.links + k, env.now_s, env.workload.day_s, env.workload.day_start)


cdef void _stream_event(Env* env, int i) noexcept nogil:
    cdef Stream* s = env.streams + i
    cdef int j
    if s.done_s <= env.now_s:
        chunk_done(env, i)
    elif s.spent_s <= env.now_s:
        bring_forward(env, i)
        s.window_left = 0.0
        rerate(env, i)
    elif s.round_s <= env.now_s:
        end_round(env, i)
        begin_round(env, i)
        rerate(env, i)
    elif s.resume_s <= env.now_s:
        resume(env, i)
    elif s.outage_s <= env.now_s:
        outage_event(env, i)
    elif s.notice_s <= env.now_s:
        s.notice_s = INFINITY
        s.down = True
        for j in range(env.setting.n):
            offer(env, j)
    else:
        come_of_age(env, i)
    schedule(env, i)


cdef bint _stuck(Env* env) noexcept nogil:
    """Whether, with no more arrivals, the bytes to send have not become fewer for an hour."""
    cdef double unsent = 0.0
    cdef int slot, i
    if env.now_s < env.checked_s + _NO_PROGRESS_S:
        return False
    for slot in range(env.n_slots):
        if slot_of(env, slot).pending > 0:
            for i in range(env.setting.n):
                if chunk_of(env, slot, i).next != NO_CHUNK:
                    unsent += chunk_of(env, slot, i).left
    if env.checked_unsent - unsent >= 1.0:
        env.checked_s = env.now_s
        env.checked_unsent = unsent
        return False
    return True


cdef void _give_up(Env* env) noexcept nogil:
    """Nothing moves any more: what is in flight has failed."""
    cdef int slot, i, n = env.setting.n
    for slot in range(env.n_slots):
        if slot_of(env, slot).pending > 0:
            for i in range(n):
                chunk_of(env, slot, i).next = NO_CHUNK
            slot_of(env, slot).pending = 0
            slot_of(env, slot).success = False
            slot_of(env, slot).last_finish_s = env.now_s
            if slot_of(env, slot).first_finish_s > env.now_s:
                slot_of(env, slot).first_finish_s = env.now_s
            complete_task(env, slot)


cdef int _next_client(const Env* env) noexcept nogil:
    """Who submits first of those that do not wait."""
    cdef int c, first = 0
    for c in range(1, env.workload.clients):
        if env.submits_s[c] < env.submits_s[first]:
            first = c
    return first


cdef void _advance(Env* env) noexcept nogil:
    """Run to the next arrival, or, after the last, until all tasks are through."""
    cdef int n = env.setting.n
    cdef int k, first, n_events = n + env.setting.n_links
    cdef bint arriving = env.decided < env.n_tasks, closed = env.workload.clients > 0
    cdef double next_s
    if arriving:
        draw_arrival(env.workload, env.setting.tasks, env.setting.sizes, env.seed, env.decided, env.now_s,
                     env.reference, &env.arrival)
    if arriving and closed:
        env.arrival.at_s = env.submits_s[_next_client(env)]
    if not arriving or closed:
        env.checked_s = env.now_s
        env.checked_unsent = INFINITY
    while arriving or env.in_flight > 0:
        if env.events_left > 0:
            env.events_left -= 1
        elif env.tracks_cost or not arriving:
            # A task crawls for months of simulated time: it has failed.
            env.broken_off = True
            _give_up(env)
            break
        next_s = env.event_s[0]
        first = 0
        for k in range(1, n_events):
            if env.event_s[k] < next_s:
                next_s = env.event_s[k]
                first = k
        if arriving and env.arrival.at_s <= next_s and env.arrival.at_s < INFINITY:
            env.now_s = env.arrival.at_s
            if closed:
                env.submits_s[_next_client(env)] = INFINITY
            _observe(env)
            _show(env, False)
            return
        if next_s == INFINITY:
            _give_up(env)
            if not arriving:
                break
            # All clients waited for what never came; they go on with something else.
            continue
        env.now_s = next_s
        if first < n:
            _stream_event(env, first)
        else:
            link_event(env, first - n)
        if (not arriving or env.arrival.at_s == INFINITY) and env.in_flight > 0 and _stuck(env):
            _give_up(env)
    env.over = True
    _show(env, True)


cdef void env_begin(Env* env, const LinkSpec* links, const PathSpec* paths, const WorkloadSpec* workload,
                    uint64_t seed) noexcept nogil:
    cdef const Setting* setting = env.setting
    cdef Stream* s
    cdef double nominal_Bps
    cdef int i, k, n = setting.n
    env.link_specs = links
    env.path_specs = paths
    env.workload = workload
    env.seed = seed
    env.now_s = env.step_reward = 0.0
    env.delivered_bytes = env.resent_bytes = env.sent_bytes = 0
    env.decided = env.completed = env.in_flight = env.stealing = 0
    env.turn = 0
    workload_reset(&env.history)
    env.n_tasks = setting.n_tasks
    env.tracks_cost = False
    env.over = env.out_of_memory = env.broken_off = False
    env.events_left = _EVENTS + _EVENTS_OF_TASK * <int64_t>setting.n_tasks
    env.last_slot = env.done_first = env.done_last = -1
    for k in range(env.n_slots):
        slot_of(env, k).next = k + 1 if k + 1 < env.n_slots else -1
        slot_of(env, k).pending = 0
    env.free_slot = 0
    for k in range(setting.n_clients):
        env.submits_s[k] = 0.0
        if k < workload.clients:
            env.submits_s[k] = workload.think_s * draw_exponential(draw_key(seed, FIRST_THINK), k)
    for k in range(setting.n_links):
        link_start(env.links + k, links + k, setting.rows, seed, k, workload.day_s, workload.day_start)
        env.event_s[n + k] = INFINITY
    env.reference[0] = INFINITY
    env.reference[1] = 0.0
    for i in range(n):
        s = env.streams + i
        memset(s, 0, sizeof(Stream))
        follow_path(env, i)
        s.serving = s.first = s.last = -1
        s.done_s = s.spent_s = s.round_s = s.resume_s = s.notice_s = s.aged_s = INFINITY
        s.threshold = s.window_left = INFINITY
        s.full_since_s = -INFINITY
        if workload.warm:
            warm_up(env, i)
        else:
            restart_slowly(env, i)
        next_outage(env, i)
        schedule(env, i)
        # The last measurement, some time ago: off by twice the error of a sample.
        nominal_Bps = links[i].rate_Bps * (1.0 - links[i].load)
        if s.loss_limit_Bps < nominal_Bps:
            nominal_Bps = s.loss_limit_Bps
        memset(env.metrics + i, 0, sizeof(StreamMetrics))
        set_bandwidth(env.metrics + i, nominal_Bps * exp(
            2.0 * workload.estimate_noise * draw_bell(draw_key(seed, per_link(PRIOR, i)), 0)))
        set_latency(env.metrics + i, s.delay_s)
        env.metrics[i].success_rate = 1.0 - s.loss
        env.metrics[i].congestion = -1.0
        if paths[i].delay_s < env.reference[0]:
            env.reference[0] = paths[i].delay_s
        if paths[i].shared < 0:
            env.reference[1] += links[i].rate_Bps
    for k in range(n, setting.n_links):
        nominal_Bps = 0.0
        for i in range(n):
            if paths[i].shared == k:
                nominal_Bps += links[i].rate_Bps
        env.reference[1] += nominal_Bps if nominal_Bps < links[k].rate_Bps else links[k].rate_Bps
    _advance(env)


cdef void env_step(Env* env, const Choice* choice) noexcept nogil:
    env.step_reward = 0.0
    if env.done_first >= 0:
        slot_of(env, env.done_last).next = env.free_slot
        env.free_slot = env.done_first
        env.done_first = env.done_last = -1
    if env.over:
        return
    _admit(env, choice)
    if not env.out_of_memory:
        _advance(env)
