"""What one simulated world is made of, and the tasks that arrive in it."""
from libc.math cimport INFINITY, M_PI, cos, exp, fabs, log, log1p, pow, sin, sqrt
from libc.stdint cimport int64_t, uint64_t

from itp._core.counter cimport draw_exponential, draw_key, draw_uniform

import numpy as np


def _record(fields, integers):
    return np.dtype([(name, "<i8" if name in integers.split() else "<f8") for name in fields.split()])


LINK = _record(
    "rate_Bps load burst_on_s burst_off_s noise noise_tau_s day_load day_peak row_first row_count loop_s "
    "udp_Bps flows background_start_s background_end_s",
    integers="row_first row_count",
)
PATH = _record(
    "delay_s ack_delay_s jitter_s loss burst_packets queue_s cc shared outage_first outage_count "
    "outage_period_s up_s down_s",
    integers="cc shared outage_first outage_count",
)
WORKLOAD = _record(
    "arrivals_per_s arrivals short_gap_s long_gap_s long_gap_share off_s off_share swing swing_peak "
    "clients think_s "
    "size_kind size_a size_b size_c size_d size_e size_min size_max size_first size_count "
    "priority_low priority_high urgent deadline_share deadline_low deadline_high day_s day_start "
    "estimate_noise stall_timeout_s warm task_first task_count",
    integers="arrivals clients size_kind size_first size_count warm task_first task_count",
)
SIZE_KINDS = ("fixed", "exponential", "lognormal", "pareto", "log_uniform", "two_humped", "recorded")
ARRIVAL_KINDS = ("poisson", "periodic", "bursty", "daily", "closed")
CONGESTION_CONTROLS = ("cubic", "bbr")


def _check_layout():
    # The NumPy types and the C structs are written down twice; they must agree.
    for dtype, size in ((LINK, sizeof(LinkSpec)), (PATH, sizeof(PathSpec)), (WORKLOAD, sizeof(WorkloadSpec))):
        if dtype.itemsize != size:
            raise ImportError(f"a record of {dtype.itemsize} bytes does not fit its struct of {size}")


_check_layout()


cdef double _size(const WorkloadSpec* spec, const double* recorded, uint64_t seed,
                  int64_t index) noexcept nogil:
    cdef uint64_t key = draw_key(seed, SIZE)
    cdef double u, low, size
    if spec.size_kind == FIXED:
        size = spec.size_a
    elif spec.size_kind == EXPONENTIAL:
        size = spec.size_a * draw_exponential(key, index)
    elif spec.size_kind == LOGNORMAL:
        size = spec.size_a * exp(spec.size_b * _normal(key, index))
    elif spec.size_kind == PARETO:
        # Inverse of the distribution function, truncated to [size_min, size_max].
        low = spec.size_min
        u = draw_uniform(key, index) * (1.0 - pow(low / spec.size_max, spec.size_b))
        size = low * exp(-log1p(-u) / spec.size_b)
    elif spec.size_kind == LOG_UNIFORM:
        size = spec.size_min * exp(draw_uniform(key, index) * log(spec.size_max / spec.size_min))
    elif spec.size_kind == TWO_HUMPED:
        size = _normal(key, index)
        if draw_uniform(draw_key(seed, HUMP), index) < spec.size_e:
            size = spec.size_c * exp(spec.size_d * size)
        else:
            size = spec.size_a * exp(spec.size_b * size)
    else:
        u = draw_uniform(key, index) * <double>spec.size_count
        size = spec.size_a * recorded[spec.size_first + <int64_t>u]
    if not size > spec.size_min:
        return spec.size_min
    return size if size < spec.size_max else spec.size_max


cdef double _normal(uint64_t key, int64_t index) noexcept nogil:
    """Standard normal, by Box and Muller's transform."""
    cdef double radius = sqrt(2.0 * draw_exponential(key, 2 * <uint64_t>index))
    return radius * cos(2.0 * M_PI * draw_uniform(key, 2 * <uint64_t>index + 1))


cdef double _bursty_gap_s(const WorkloadSpec* spec, uint64_t seed, int64_t index) noexcept nogil:
    """From one task to the next of a Poisson process that is on and off for exponential times.

    Such gaps are independent, and exponential of one of two means (Kuczura, "The interrupted Poisson
    process as an overflow process", Bell System Technical Journal 52, 1973).
    """
    cdef double gap_s = draw_exponential(draw_key(seed, INTERARRIVAL), index)
    cdef uint64_t key
    if draw_uniform(draw_key(seed, GAP), index) < spec.long_gap_share:
        gap_s *= spec.long_gap_s
    else:
        gap_s *= spec.short_gap_s
    if index == 0:
        key = draw_key(seed, FIRST_GAP)
        if draw_uniform(key, 0) < spec.off_share:
            gap_s += spec.off_s * draw_exponential(key, 1)
    return gap_s


cdef double _daily_gap_s(const WorkloadSpec* spec, double last_s, double mean_gap_s) noexcept nogil:
    """The time from `last_s` in which the rate, that swings with the time of day, carries as much as its
    mean does in `mean_gap_s`: the integral of the rate, inverted by Newton's method within a bracket.
    """
    cdef double pace = 2.0 * M_PI / spec.day_s
    cdef double phase = pace * last_s + 2.0 * M_PI * (spec.day_start - spec.swing_peak)
    cdef double low_s = 0.0, high_s = mean_gap_s + 2.0 * spec.swing / pace
    cdef double gap_s = mean_gap_s / (1.0 + spec.swing * cos(phase) + 1e-9), half, error_s, rate
    cdef int _k
    if gap_s > high_s:
        gap_s = mean_gap_s
    for _k in range(60):
        half = 0.5 * pace * gap_s
        error_s = gap_s + 2.0 * spec.swing / pace * sin(half) * cos(phase + half) - mean_gap_s
        if error_s > 0.0:
            high_s = gap_s
        else:
            low_s = gap_s
        if fabs(error_s) <= 1e-12 * mean_gap_s:
            break
        rate = 1.0 + spec.swing * cos(phase + 2.0 * half)
        gap_s -= error_s / rate if rate > 1e-9 else 0.0
        if not low_s < gap_s < high_s:
            gap_s = 0.5 * (low_s + high_s)
            if not low_s < gap_s < high_s:
                break
    return gap_s


cdef double _arrival_s(const WorkloadSpec* spec, uint64_t seed, int64_t index, double last_s) noexcept nogil:
    cdef double gap_s
    if spec.arrivals == PERIODIC:
        return last_s + 1.0 / spec.arrivals_per_s
    if spec.arrivals == BURSTY:
        return last_s + _bursty_gap_s(spec, seed, index)
    if spec.arrivals == CLOSED:
        return INFINITY
    gap_s = draw_exponential(draw_key(seed, INTERARRIVAL), index) / spec.arrivals_per_s
    if spec.arrivals == DAILY:
        gap_s = _daily_gap_s(spec, last_s, gap_s)
    return last_s + gap_s


cdef void draw_arrival(const WorkloadSpec* spec, const ExplicitTask* explicit_tasks,
                       const double* recorded_sizes, uint64_t seed, int64_t index, double last_s,
                       const double* reference, Arrival* out) noexcept nogil:
    """reference: latency_s and total rate_Bps, of which the task's reference time is made."""
    cdef const ExplicitTask* given
    cdef double slack, u
    if spec.task_count:
        given = explicit_tasks + spec.task_first + index
        out.at_s = given.t_s
        out.size_bytes = <int64_t>given.size_bytes
        out.priority = given.priority
        out.deadline_s = given.deadline_s
        return
    out.at_s = _arrival_s(spec, seed, index, last_s)
    out.size_bytes = <int64_t>_size(spec, recorded_sizes, seed, index)
    if out.size_bytes < 1:
        out.size_bytes = 1
    u = draw_uniform(draw_key(seed, PRIORITY), index)
    if u < spec.urgent:
        out.priority = 0.75 + 0.25 * u / spec.urgent
    else:
        u = (u - spec.urgent) / (1.0 - spec.urgent)
        out.priority = spec.priority_low + (spec.priority_high - spec.priority_low) * u
    out.deadline_s = INFINITY
    if spec.deadline_share > 0.0 and draw_uniform(draw_key(seed, DEADLINE), index) < spec.deadline_share:
        slack = draw_uniform(draw_key(seed, DEADLINE_SLACK), index)
        slack = spec.deadline_low * exp(slack * log(spec.deadline_high / spec.deadline_low))
        out.deadline_s = slack * (reference[0] + <double>out.size_bytes / reference[1])
