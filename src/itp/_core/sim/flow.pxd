# How fast the streams of one simulated environment send. No Python in here.
from libc.math cimport INFINITY

from itp._core.sim.env cimport Chunk, Env, Stream, chunk_of
from itp._core.sim.link cimport Link

cdef extern from *:
    """
    #define ITP_MSS 1448.0  /* payload of a 1500-byte packet with time stamps */
    """
    const double MSS "ITP_MSS"


# Divide a shared link among its busy streams.
cdef void share_link(Env* env, int link) noexcept nogil
# The stream's rate has to be found anew; its link's neighbours' too.
cdef void rerate(Env* env, int i) noexcept nogil
# Take delay and loss from the path, or from its schedule.
cdef void follow_path(Env* env, int i) noexcept nogil
cdef void link_event(Env* env, int link) noexcept nogil
# An idle stream has something to send ...
cdef void wake(Env* env, int i) noexcept nogil
# ... or nothing any more.
cdef void rest(Env* env, int i) noexcept nogil
# A window's round-trip time begins; it ends.
cdef void begin_round(Env* env, int i) noexcept nogil
cdef void end_round(Env* env, int i) noexcept nogil
cdef void restart_slowly(Env* env, int i) noexcept nogil
# The stream has been busy for long: nothing but its path and its losses limit it.
cdef void warm_up(Env* env, int i) noexcept nogil
cdef void next_outage(Env* env, int i) noexcept nogil
# What is under way is lost; it gets through with the first retry after the outage.
cdef void stall(Env* env, int i) noexcept nogil
# How long a byte waits in the path's queue behind what the stream has sent.
cdef double standing_queue_s(const Env* env, int i) noexcept nogil


cdef inline void schedule(Env* env, int i) noexcept nogil:
    """The stream's next event."""
    cdef const Stream* s = env.streams + i
    cdef double next_s = s.done_s
    if s.spent_s < next_s:
        next_s = s.spent_s
    if s.round_s < next_s:
        next_s = s.round_s
    if s.outage_s < next_s:
        next_s = s.outage_s
    if s.resume_s < next_s:
        next_s = s.resume_s
    if s.notice_s < next_s:
        next_s = s.notice_s
    if s.aged_s < next_s:
        next_s = s.aged_s
    env.event_s[i] = next_s


cdef inline void bring_forward(Env* env, int i) noexcept nogil:
    """Count what the stream has sent until now."""
    cdef Stream* s = env.streams + i
    cdef Chunk* chunk
    cdef double sent
    if s.rate_Bps > 0.0:
        chunk = chunk_of(env, s.serving, i)
        sent = s.rate_Bps * (env.now_s - s.since_s)
        chunk.left -= sent
        if chunk.left < 0.0:
            chunk.left = 0.0
        s.window_left -= sent
        s.carried += sent
    s.since_s = env.now_s


cdef inline void set_rate(Env* env, int i, double rate_Bps) noexcept nogil:
    cdef Stream* s = env.streams + i
    cdef double left
    bring_forward(env, i)
    s.rate_Bps = rate_Bps
    s.done_s = s.spent_s = INFINITY
    left = chunk_of(env, s.serving, i).left
    if left <= 0.0:
        s.done_s = env.now_s
    elif rate_Bps > 0.0:
        s.done_s = env.now_s + left / rate_Bps
        if s.window_left < left:
            s.spent_s = env.now_s + s.window_left / rate_Bps
    schedule(env, i)


cdef inline bint in_slow_start(const Stream* s) noexcept nogil:
    return s.window < s.threshold


cdef inline double path_limit(const Env* env, int i) noexcept nogil:
    """What the stream reaches on its own link when no window holds it."""
    cdef const Link* link = env.links + i
    return link.capacity_Bps / (1.0 + link.flows)
