# Size intervals whose cut-offs follow the observed sizes and rates.
from itp._core.features cimport Situation
from itp._core.heuristic cimport Demand
from itp._core.state cimport Paths

# The queue that size intervals make of every stream, by its index.
ctypedef struct Intervals:
    int n                       # streams that are up
    int order[16]               # their indices, that of the smallest sizes first
    double upto[16]             # in this order: the share of the bytes in which each interval ends
    double arrivals_hz[16]
    double utilisation[16]
    double slowdown_hz[16]      # slowdown that its tasks gather in a second of waiting, per second

# The intervals of least expected slowdown; False: too few sizes are known.
cdef bint fit_intervals(const Situation* situation, const Paths* paths, Intervals* out) noexcept nogil

# Index of the stream that a task goes to: its interval's, or a neighbour's where that one is far behind.
# -1: too few sizes are known.
cdef int size_interval(const Situation* situation, const Paths* paths, const Demand* demand) noexcept nogil
