# What rules would do for the task that waits in a simulated environment.
from itp._core.choose cimport Choice, Deadlines
from itp._core.heuristic cimport Policy
from itp._core.sim.env cimport Env

# The rule's choice. Where deadlines are hard, a rule that breaks one gives way to the least completion
# time, if some action meets it.
cdef void choose_for(Env* env, Policy policy, Deadlines deadlines, Choice* out) noexcept nogil
