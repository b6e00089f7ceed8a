# What one simulated environment is made of: streams over changing links, and the tasks in flight.
# No Python in here.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from itp._core.heuristic cimport Demand
from itp._core.sim.link cimport Link
from itp._core.state cimport Paths, StreamMetrics
from itp._core.workload cimport Workload
from itp._core.sim.world cimport Arrival, ExplicitTask, LinkSpec, Outage, PathSpec, Row, WorkloadSpec

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
    uint8_t source              # who chose it: of enum itp_source

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
    int n_clients               # at most, of any world
    int state_dim
    size_t slot_bytes           # a slot with its chunks, whole half cache lines
    bint keep_states            # of the tasks in flight, for `experiences`
    int n_tasks
    int order                   # ServiceOrder
    bint stealing               # of every task; else only of those that are pulled
    int64_t min_chunk_bytes
    double weights[5]           # of the reward
    const Row* rows
    const Outage* outages
    const ExplicitTask* tasks
    const double* sizes         # recorded ones

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
    double backlog_s[16]        # all that waits on each stream, in seconds of its estimated bandwidth
    Workload history            # of the tasks so far
    double preference           # of a set model: 0 typical, 1 bulk
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
    double cost                 # sum of log slowdowns, where it is tracked ...
    double cost_s               # ... and of completion times
    int64_t events_left         # until a copy, or an episode after its last arrival, is broken off
    bint broken_off
    bint over                   # all tasks of the episode are through
    bint out_of_memory
    Stream* streams             # [n]; these five lie in one block with the Env
    StreamMetrics* metrics      # [n]: what is known of the streams
    Link* links                 # [n_links]
    double* event_s             # [n + n_links]: what happens next
    double* submits_s           # [n_clients]: when each client submits next; infinite: it waits
    char* slots                 # [n_slots] of slot_bytes; these two grow
    float* vectors              # [n_slots, 2, state_dim]: state, and the next decision's; or NULL
    float* state                # [state_dim]: where the state goes; NULL: nowhere
    Timeline* timeline          # NULL: not recorded


cdef inline Slot* slot_of(const Env* env, int slot) noexcept nogil:
    return <Slot*>(env.slots + slot * env.setting.slot_bytes)


cdef inline Chunk* chunk_of(const Env* env, int slot, int i) noexcept nogil:
    return <Chunk*>(env.slots + slot * env.setting.slot_bytes + sizeof(Slot)) + i
