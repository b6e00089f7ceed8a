# What rules would do for the task that waits in a simulated environment.
from itp._core.decide cimport Choice
from itp._core.sim.env cimport Env

# Beyond the Policy numbers of `heuristic`.
cdef enum Rival:
    LEAST_COMPLETION_TIME_PROPORTIONAL = 6
    MIN_RTT = 7
    PULL_ALL = 8

# The rule's choice; with `hard_deadlines` it gives way where it breaks a deadline that another action meets.
cdef void choose_for(Env* env, int rule, bint hard_deadlines, Choice* out) noexcept nogil
