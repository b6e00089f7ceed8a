# What a link can carry for us, as it changes with time and with nothing else.
from libc.stdint cimport int64_t, uint64_t

from itp._core.sim.world cimport LinkSpec, Row

ctypedef struct Link:
    const LinkSpec* spec
    const Row* rows             # of this link; NULL without
    double capacity_Bps         # goodput left beside cross traffic
    double flows                # greedy flows of others, that share the capacity with ours
    double delay_s              # of its path, as far as rows say; NaN: the path's own
    double loss                 # likewise
    double next_change_s
    double rate_Bps             # before cross traffic
    double load
    double noise                # mean-reverting cross traffic now, a fraction of the rate
    double noise_next_s
    double noise_step_s
    double noise_decay
    double noise_kick
    double burst_next_s
    double day_next_s
    double row_next_s
    double lap_s                # when the present round of the rows began
    uint64_t noise_key
    uint64_t burst_key
    int64_t noise_index
    int64_t burst_index
    int64_t row
    int64_t bursting


# Let it read its description, and the rows of the world's tables that are its own.
cdef inline void link_attach(Link* link, const LinkSpec* spec, const Row* rows) noexcept nogil:
    link.spec = spec
    link.rows = rows + spec.row_first if spec.row_count else NULL


# The link of world `seed` numbered `number` at time 0.
cdef void link_start(Link* link, const LinkSpec* spec, const Row* rows, uint64_t seed, int number,
                     double day_s, double day_start) noexcept nogil
# Bring it to `now_s`.
cdef void link_advance(Link* link, double now_s, double day_s, double day_start) noexcept nogil
