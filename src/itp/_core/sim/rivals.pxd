# What rules would do for the task that waits in a simulated environment.
from itp._core.choose cimport Choice, Deadlines
from itp._core.sim.env cimport Env

# Beyond the Policy numbers of `heuristic`.
cdef enum Rival:
    LEAST_COMPLETION_TIME_PROPORTIONAL = 6
    MIN_RTT = 7
    PULL_ALL = 8

# The rule's choice. Where deadlines are hard, a rule of production that breaks one gives way to the least
# completion time, if some action meets it.
cdef void choose_for(Env* env, int rule, Deadlines deadlines, Choice* out) noexcept nogil
