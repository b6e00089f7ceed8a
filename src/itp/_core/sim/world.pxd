# What one simulated world is made of: data dictionary. Plain arrays, sampled from a scenario,
# that the simulator only reads. Every field has eight bytes, as in the NumPy types of the same names.
from libc.stdint cimport int64_t, uint64_t

cdef enum SizeKind:
    FIXED = 0
    EXPONENTIAL = 1
    LOGNORMAL = 2
    PARETO = 3
    LOG_UNIFORM = 4
    TWO_HUMPED = 5
    RECORDED = 6

cdef enum ArrivalKind:
    POISSON = 0
    PERIODIC = 1
    BURSTY = 2
    DAILY = 3
    CLOSED = 4

cdef enum CongestionControl:
    CUBIC = 0
    BBR = 1

# A link: a path's own bottleneck, or one that several paths share.
ctypedef struct LinkSpec:
    double rate_Bps             # goodput of one greedy stream when nothing else is there
    double load                 # mean cross traffic, as a fraction of the rate
    double burst_on_s           # mean lengths of the bursts it comes in; 0: it is steady
    double burst_off_s
    double noise                # standard deviation of mean-reverting cross traffic
    double noise_tau_s          # its correlation time
    double day_load             # more load at the busiest time of the day
    double day_peak             # when that is, as a fraction of the day
    int64_t row_first           # rows of the schedule or trace that drives the link
    int64_t row_count
    double loop_s               # 0: the last row stays
    double udp_Bps              # background traffic of constant rate ...
    double flows                # ... and greedy flows, that take their share
    double background_start_s
    double background_end_s

# What a path adds to its links.
ctypedef struct PathSpec:
    double delay_s              # one way, in the direction of the data
    double ack_delay_s
    double jitter_s
    double loss                 # probability of a packet
    double burst_packets        # mean number of packets lost together
    double queue_s              # of the drop-tail queue, at the link's rate
    int64_t cc
    int64_t shared              # index of the shared link, or -1
    int64_t outage_first
    int64_t outage_count
    double outage_period_s      # 0: once
    double up_s                 # random outages: mean time between them, and their mean length
    double down_s

# What is asked of the streams.
ctypedef struct WorkloadSpec:
    double arrivals_per_s       # on average
    int64_t arrivals            # of ArrivalKind
    double short_gap_s          # BURSTY: mean gaps between tasks, short and long ...
    double long_gap_s
    double long_gap_share       # ... and the share of the long ones
    double off_s                # mean length of a pause
    double off_share            # of the time; an episode begins at any time
    double swing                # DAILY: amplitude of the rate, as a fraction of its mean
    double swing_peak           # when it is highest, as a fraction of the day
    int64_t clients             # CLOSED: each submits, waits for completion, thinks, submits again; else 0
    double think_s              # on average
    int64_t size_kind           # of SizeKind
    double size_a               # the kind's parameters, see _size
    double size_b
    double size_c
    double size_d
    double size_e
    double size_min
    double size_max
    int64_t size_first          # RECORDED: which rows of the table of sizes
    int64_t size_count
    double priority_low
    double priority_high
    double urgent               # share of the tasks whose priority is from 0.75 to 1 instead
    double deadline_share       # of the tasks that have one
    double deadline_low         # as multiples of the reference time
    double deadline_high
    double day_s
    double day_start
    double estimate_noise       # sigma of the lognormal error of a bandwidth sample
    double stall_timeout_s
    int64_t warm                # connections have reached full speed at the start
    int64_t task_first          # rows of explicit tasks; count 0: random ones
    int64_t task_count

# One row of a schedule or trace; NaN leaves a value as it is.
ctypedef struct Row:
    double t_s
    double rate_Bps
    double delay_s
    double loss
    double load

ctypedef struct Outage:
    double start_s
    double end_s

ctypedef struct ExplicitTask:
    double t_s
    double size_bytes
    double priority
    double deadline_s

# One task as it arrives.
ctypedef struct Arrival:
    double at_s
    int64_t size_bytes
    double priority
    double deadline_s           # infinite: none

# Keys of a world's random processes.
cdef enum Process:
    INTERARRIVAL = 0
    SIZE = 1
    PRIORITY = 2
    DEADLINE = 3
    DEADLINE_SLACK = 4
    MEASUREMENT = 5
    LOSS = 6
    TAIL_LOSS = 7
    NOISE = 8
    BURST = 9
    RANDOM_OUTAGE = 10
    JITTER = 11
    PRIOR = 12
    ROUND_LOSS = 13
    HUMP = 14
    GAP = 15
    FIRST_GAP = 16
    THINK = 17
    FIRST_THINK = 18


cdef inline uint64_t per_link(int process, int link) noexcept nogil:
    """The number of a process of which each stream or link has its own."""
    return <uint64_t>process + 64 * (<uint64_t>link + 1)


# Task `index` of the world `seed`; its time counts from the previous one's, `last_s`. It is infinite
# where clients say when they submit.
cdef void draw_arrival(const WorkloadSpec* spec, const ExplicitTask* explicit_tasks,
                       const double* recorded_sizes, uint64_t seed, int64_t index, double last_s,
                       const double* reference, Arrival* out) noexcept nogil
