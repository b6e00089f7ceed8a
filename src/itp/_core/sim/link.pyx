"""What a link can carry for us, as it changes with time and with nothing else.

Cross traffic takes a fraction of the link's rate: a steady load or bursts of it (exponential on and
off times), a daily swing, and mean-reverting noise (an Ornstein-Uhlenbeck process, sampled exactly
at a quarter of its correlation time: x' = a x + sd sqrt(1 - a^2) z with a = exp(-1/4)). A schedule
or a trace may replace rate, delay, loss and load. Everything is piecewise constant in time.
"""
from libc.math cimport INFINITY, M_PI, NAN, cos, exp, floor, isnan, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from itp._core.counter cimport draw_bell, draw_exponential, draw_key
from itp._core.sim.world cimport BURST, NOISE, LinkSpec, Row, per_link

# Cross traffic never takes all of a link: beside a full load TCP keeps a tenth, as measured on Linux.
cdef double _MAX_LOAD = 0.9
cdef double _DAY_STEPS = 96.0
# So many steps of noise forget what was before, to the last bit: exp(-64) is 2e-28.
cdef int _NOISE_MEMORY = 256


cdef void link_start(Link* link, const LinkSpec* spec, const Row* rows, uint64_t seed, int number,
                     double day_s, double day_start) noexcept nogil:
    memset(link, 0, sizeof(Link))
    link_attach(link, spec, rows)
    link.delay_s = NAN
    link.loss = NAN
    link.rate_Bps = spec.rate_Bps
    link.load = spec.load
    link.noise_next_s = link.burst_next_s = link.day_next_s = link.row_next_s = INFINITY
    if spec.noise > 0.0:
        link.noise_key = draw_key(seed, per_link(NOISE, number))
        link.noise_step_s = 0.25 * spec.noise_tau_s
        link.noise_decay = exp(-0.25)
        link.noise_kick = spec.noise * sqrt(1.0 - link.noise_decay * link.noise_decay)
        link.noise = spec.noise * draw_bell(link.noise_key, 0)
        link.noise_index = 1
        link.noise_next_s = link.noise_step_s
    if spec.burst_on_s > 0.0:
        link.burst_key = draw_key(seed, per_link(BURST, number))
        link.burst_next_s = spec.burst_off_s * draw_exponential(link.burst_key, 0)
        link.burst_index = 1
    if spec.day_load > 0.0:
        link.day_next_s = day_s / _DAY_STEPS
    if link.rows != NULL:
        link.row = -1
        link.row_next_s = link.rows[0].t_s
    link_advance(link, 0.0, day_s, day_start)


cdef void _next_row(Link* link) noexcept nogil:
    cdef const Row* row
    link.row += 1
    if link.row == link.spec.row_count:
        link.row = 0
        link.lap_s += link.spec.loop_s
    row = link.rows + link.row
    if not isnan(row.rate_Bps):
        link.rate_Bps = row.rate_Bps
    if not isnan(row.delay_s):
        link.delay_s = row.delay_s
    if not isnan(row.loss):
        link.loss = row.loss
    if not isnan(row.load):
        link.load = row.load
    if link.row + 1 < link.spec.row_count:
        link.row_next_s = link.lap_s + link.rows[link.row + 1].t_s
    elif link.spec.loop_s > 0.0:
        link.row_next_s = link.lap_s + link.spec.loop_s + link.rows[0].t_s
    else:
        link.row_next_s = INFINITY


cdef void link_advance(Link* link, double now_s, double day_s, double day_start) noexcept nogil:
    cdef const LinkSpec* spec = link.spec
    cdef double load, udp_Bps = 0.0, next_s, day, mean_s
    if now_s - link.noise_next_s > 2.0 * _NOISE_MEMORY * link.noise_step_s:
        # Nobody has looked for long.
        link.noise = 0.0
        link.noise_index = <int64_t>(now_s / link.noise_step_s) - _NOISE_MEMORY
        link.noise_next_s = link.noise_step_s * <double>link.noise_index
    while link.noise_next_s <= now_s:
        link.noise *= link.noise_decay
        link.noise += link.noise_kick * draw_bell(link.noise_key, link.noise_index)
        link.noise_index += 1
        link.noise_next_s = link.noise_step_s * <double>link.noise_index
    while link.burst_next_s <= now_s:
        link.bursting = not link.bursting
        mean_s = spec.burst_on_s if link.bursting else spec.burst_off_s
        link.burst_next_s += mean_s * draw_exponential(link.burst_key, link.burst_index)
        link.burst_index += 1
    while link.row_next_s <= now_s:
        _next_row(link)
    load = link.load
    if spec.burst_on_s > 0.0:
        load = load * (spec.burst_on_s + spec.burst_off_s) / spec.burst_on_s if link.bursting else 0.0
    if spec.day_load > 0.0:
        # The load of the middle of the step holds throughout it.
        next_s = floor(now_s / day_s * _DAY_STEPS + 1e-9) + 1.0
        day = day_start + (next_s - 0.5) / _DAY_STEPS
        load += spec.day_load * 0.5 * (1.0 + cos(2.0 * M_PI * (day - spec.day_peak)))
        link.day_next_s = next_s * day_s / _DAY_STEPS
    load += link.noise
    if load < 0.0:
        load = 0.0
    elif load > _MAX_LOAD:
        load = _MAX_LOAD
    next_s = link.noise_next_s
    if link.burst_next_s < next_s:
        next_s = link.burst_next_s
    if link.row_next_s < next_s:
        next_s = link.row_next_s
    if link.day_next_s < next_s:
        next_s = link.day_next_s
    link.flows = 0.0
    if spec.background_end_s > 0.0:
        if now_s < spec.background_start_s:
            if spec.background_start_s < next_s:
                next_s = spec.background_start_s
        elif now_s < spec.background_end_s:
            udp_Bps = spec.udp_Bps
            link.flows = spec.flows
            if spec.background_end_s < next_s:
                next_s = spec.background_end_s
    link.next_change_s = next_s
    link.capacity_Bps = link.rate_Bps * (1.0 - load) - udp_Bps
    if link.capacity_Bps < (1.0 - _MAX_LOAD) * link.rate_Bps:
        link.capacity_Bps = (1.0 - _MAX_LOAD) * link.rate_Bps
