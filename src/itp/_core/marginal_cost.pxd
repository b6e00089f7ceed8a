# The set of streams that costs a task and those expected after it the least.
from itp._core.features cimport Situation
from itp._core.heuristic cimport Candidates, Demand
from itp._core.state cimport Paths

# Index of the candidate of least marginal cost among those that meet the demand (of all, where none does).
cdef int least_marginal_cost(const Situation* situation, const Paths* paths, const Demand* demand,
                             const Candidates* candidates) noexcept nogil
