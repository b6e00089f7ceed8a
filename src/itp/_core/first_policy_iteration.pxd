# First policy iteration for size-aware dispatching, over size intervals.
from itp._core.features cimport Situation
from itp._core.heuristic cimport Candidates, Demand
from itp._core.state cimport Paths

# Index of the candidate of least admission cost among those that meet the demand (of all, where none does);
# -1: too few sizes are known.
cdef int least_admission_cost(const Situation* situation, const Paths* paths, const Demand* demand,
                              const Candidates* candidates) noexcept nogil
