# What the best action would have been, by trying all of them in copies of the world.
from libc.stdint cimport uint32_t

from itp._core.choose cimport Chooser
from itp._core.heuristic cimport Policy
from itp._core.sim.env cimport Env

# The mask whose future is best: each is tried in `scratch` (of the same setting), followed by `rule`
# for the next `horizon` - 1 tasks, until all are through. 0: no memory.
cdef uint32_t look_ahead(const Env* env, Env* scratch, int horizon, Policy rule) noexcept nogil

# What each of `masks` costs: the sums of log slowdowns and of completion times of all tasks in flight and of
# the next `horizon`, in which the waiting one goes that way and the chooser decides for the others. False: no
# memory.
cdef bint look_ahead_each(const Env* env, Env* scratch, int horizon, const Chooser* chooser,
                          const uint32_t* masks, int count, double* cost, double* cost_s) noexcept nogil
