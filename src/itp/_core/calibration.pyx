"""Expected time and confidence as observed, not invented.

Online: histogram binning (Zadrozny and Elkan, "Obtaining calibrated probability estimates", ICML 2001).
A decision's raw confidence is corrected by the outcomes in its bin: (hits + 10 raw) / (count + 10), a Beta
prior of ten observations at the raw score. A hit is a success within 1.25 times the expected time.

With a model: its tables, fitted on held-out episodes, give the raw confidence, and correct the planned
completion time by what such plans came to. Without, the plan stands as it is, and the raw confidence is the
share of the bytes expected to arrive at the first try.
"""
cimport cython
from libc.math cimport fabs, isfinite, log, log2

TOLERANCE = 1.25
PRIOR_OBSERVATIONS = 10.0

cdef double _TOLERANCE = TOLERANCE
cdef double _PRIOR = PRIOR_OBSERVATIONS


cdef int _bin(double raw) noexcept nogil:
    cdef int k = <int>(raw * BINS)
    return k if k < BINS else BINS - 1


cdef double calibrated(const Reliability* r, double raw) noexcept nogil:
    cdef int k = _bin(raw)
    return (r.hits[k] + _PRIOR * raw) / (r.count[k] + _PRIOR)


cdef void learn(Reliability* r, double raw, double expected_time_s, double actual_time_s,
                bint success) noexcept nogil:
    cdef int k = _bin(raw)
    r.count[k] += 1.0
    if success and actual_time_s <= _TOLERANCE * expected_time_s:
        r.hits[k] += 1.0
    if success and isfinite(expected_time_s) and expected_time_s > 0.0 and actual_time_s > 0.0:
        r.error_sum += fabs(log(actual_time_s / expected_time_s))
        r.error_count += 1.0


cdef int table_row(const Tables* tables, double planned_s, double waiting) noexcept nogil:
    cdef double time = log2(planned_s)
    cdef int t = 0, w = 0
    while t < tables.n_time and tables.time_edges[t] <= time:
        t += 1
    while w < tables.n_waiting and tables.waiting_edges[w] <= waiting:
        w += 1
    return t * (tables.n_waiting + 1) + w


@cython.final
cdef class Calibration:
    """A model's tables; whoever reads them from a file has checked them.

    Plans are alike that take about as long and wait about as great a part of it: row
    ``t * (len(waiting_edges) + 1) + w`` for a planned time with t edges at or below it, and a share of
    waiting with w.

    Parameters
    ----------
    time_edges_log2_s, waiting_edges : sequence of float
        Ascending, at most 32 each: log2 of planned seconds; shares within 0 to 1.
    time_ratio : sequence of (float, float, float)
        A row each: 5, 50 and 95 % quantiles of actual over planned time.
    confidence : sequence of float
        A row each: P(success within 1.25 times the corrected time).
    """

    def __cinit__(self, *, time_edges_log2_s, waiting_edges, time_ratio, confidence):
        cdef Tables* tables = &self.tables
        cdef int i
        tables.n_time = len(time_edges_log2_s)
        tables.n_waiting = len(waiting_edges)
        n_rows = (tables.n_time + 1) * (tables.n_waiting + 1)
        if tables.n_time > MAX_EDGES or tables.n_waiting > MAX_EDGES:
            raise ValueError(f"expected at most {MAX_EDGES} edges; "
                             f"got {tables.n_time} and {tables.n_waiting}")
        if len(time_ratio) != n_rows or len(confidence) != n_rows:
            raise ValueError(f"expected {n_rows} rows; got {len(time_ratio)} and {len(confidence)}")
        for i in range(tables.n_time):
            tables.time_edges[i] = time_edges_log2_s[i]
        for i in range(tables.n_waiting):
            tables.waiting_edges[i] = waiting_edges[i]
        for i in range(n_rows):
            tables.low[i], tables.middle[i], tables.high[i] = time_ratio[i]
            tables.confidence[i] = confidence[i]

    def look_up(self, planned_s, waiting):
        """(5 %, 50 %, 95 % of the time in s, confidence) of a plan; for tests and explanations."""
        cdef const Tables* tables = &self.tables
        cdef int row = table_row(tables, planned_s, waiting)
        return (planned_s * tables.low[row], planned_s * tables.middle[row], planned_s * tables.high[row],
                tables.confidence[row])
