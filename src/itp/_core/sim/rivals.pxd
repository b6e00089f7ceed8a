# What classical rules would do for the task that waits in a simulated environment.
from libc.stdint cimport uint32_t

from itp._core.sim.env cimport Env

# Beyond the Policy numbers of `heuristic`.
cdef enum Rival:
    LEAST_COMPLETION_TIME_PROPORTIONAL = 6
    MIN_RTT = 7
    RANDOM = 8
    PULL_ALL = 9

# The streams, and in `split` by which rule they are used.
cdef uint32_t choose_for(Env* env, int rule, int* split) noexcept nogil
