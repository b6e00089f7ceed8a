# Streams over changing links in one simulated environment: data dictionary, and how fast they send.
# No Python in here.
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from itp._core.heuristic cimport Demand
from itp._core.link cimport Link
from itp._core.state cimport Paths, StreamMetrics
from itp._core.world cimport Arrival, ExplicitTask, LinkSpec, Outage, PathSpec, Row, WorkloadSpec

cdef enum ChunkState:
    LAST = -1
    SERVING = -2
    NO_CHUNK = -3

# One task's share on one stream.
ctypedef struct Chunk:
    double left                 # bytes still to send; of the chunk in service, as of the stream's since_s
    int64_t bytes               # payload not yet delivered
    int64_t resent              # bytes among `left` that are sent again
    float extra_s               # more latency than the path's
    int32_t next                # slot of the one behind it in line, -1: nobody; or one of these

# One task in flight; its chunks [n] lie right behind it.
ctypedef struct Slot:
    Arrival arrival
    double expected_s
    double first_finish_s
    double last_finish_s
    double reward
    int64_t resent
    int32_t task                # its number in the episode
    int32_t next                # in the list of free or of completed slots
    uint32_t mask               # the action
    float propensity            # with which it was chosen
    uint8_t streams             # how many streams got a chunk
    uint8_t pending             # chunks not yet served
    uint8_t priority_class
    uint8_t steals              # idle streams of its action may take over bytes
    uint8_t success
    uint8_t explored            # the action was drawn, not chosen

# One stream: a long-lived connection over a path.
ctypedef struct Stream:
    double rate_Bps             # now
    double since_s              # `left` of the chunk it serves is as of then
    double window               # congestion window in bytes; infinite: the path limits the rate
    double threshold            # where slow start ends; infinite before the first loss
    double window_left          # of it, to send in this round; infinite: sent evenly over the round
    double delay_s              # one way
    double rtt_s
    double loss
    double loss_limit_Bps       # what its congestion control reaches under this loss, on average
    double done_s               # the chunk it serves is through
    double spent_s              # the window is spent before its round is over
    double round_s              # end of the window's round-trip time
    double full_since_s         # when slow start ended
    double outage_s             # next begin or end of an outage
    double outage_end_s
    double resume_s             # first retransmission that gets through
    double notice_s             # the stall is noticed
    double aged_s               # a waiting chunk comes of age
    double idle_since_s
    double begun_s              # of the service without a break, for the timeline
    double begun_carried
    double waiting              # bytes left of the chunks in line
    double carried              # bytes sent, by integrating the rate
    int64_t outage_index
    int32_t serving             # slot, or -1
    int32_t first               # of the line, or -1
    int32_t last
    int32_t round               # of slow start, from 0
    bint slowed                 # BBR's slow start has met a loss
    bint in_outage
    bint stalled                # waits for a retransmission to get through
    bint down                   # known to be

# What is served when, for those who want to see it.
ctypedef struct Interval:
    int32_t stream
    int32_t task
    double start_s
    double end_s
    double bytes

ctypedef struct Timeline:
    Interval* intervals
    int64_t count
    int64_t capacity

# What all environments of a batch share.
ctypedef struct Setting:
    int n
    int n_links
    int state_dim
    size_t slot_bytes           # a slot with its chunks, whole half cache lines
    bint keep_states            # of the tasks in flight, for `transitions`
    int n_tasks
    int order                   # ServiceOrder
    bint stealing               # of every task; else only of those that are pulled
    int64_t min_chunk_bytes
    double weights[5]           # of the reward
    const Row* rows
    const Outage* outages
    const ExplicitTask* tasks

ctypedef struct Env:
    const Setting* setting
    const LinkSpec* link_specs
    const PathSpec* path_specs
    const WorkloadSpec* workload
    uint64_t seed
    double now_s
    double reference[2]         # latency_s, rate_Bps of all paths together, empty
    double checked_s            # when progress was last looked for
    double checked_unsent
    double step_reward
    Arrival arrival             # the task that waits for a decision
    Demand demand               # its demand ...
    Paths paths                 # ... and what it sees
    int64_t delivered_bytes
    int64_t resent_bytes
    int64_t sent_bytes
    int32_t decided
    int32_t completed
    int32_t in_flight
    int32_t stealing            # tasks in flight whose bytes idle streams may take over
    int32_t free_slot
    int32_t done_first          # list of the slots completed since the step began
    int32_t done_last
    int32_t n_slots
    int32_t last_slot           # of the decision before this one
    int32_t n_tasks             # of the episode
    int turn                    # round robin's memory
    bint tracks_cost
    double cost                 # sum of log slowdowns, where it is tracked
    bint over                   # all tasks of the episode are through
    bint out_of_memory
    Stream* streams             # [n]; these four lie in one block with the Env
    StreamMetrics* metrics      # [n]: what is known of the streams
    Link* links                 # [n_links]
    double* event_s             # [n + n_links]: what happens next
    char* slots                 # [n_slots] of slot_bytes; these two grow
    float* vectors              # [n_slots, 2, state_dim]: state, and the next decision's; or NULL
    float* state                # [state_dim]: where the state goes; NULL: nowhere
    Timeline* timeline          # NULL: not recorded

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


cdef inline Slot* slot_of(const Env* env, int slot) noexcept nogil:
    return <Slot*>(env.slots + slot * env.setting.slot_bytes)


cdef inline Chunk* chunk_of(const Env* env, int slot, int i) noexcept nogil:
    return <Chunk*>(env.slots + slot * env.setting.slot_bytes + sizeof(Slot)) + i


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
