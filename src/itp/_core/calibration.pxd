# Expected time and confidence as observed: online histogram binning, and a model's tables.

cdef enum:
    BINS = 10
    MAX_EDGES = 32
    MAX_ROWS = 33 * 33

ctypedef struct Reliability:
    double count[10]        # outcomes whose raw score fell into the bin
    double hits[10]         # of these, as good as expected
    double error_sum        # |log(actual / expected time)| over successes
    double error_count


# P(success within TOLERANCE x the expected time) for a raw score in [0, 1].
cdef double calibrated(const Reliability* r, double raw) noexcept nogil

cdef void learn(Reliability* r, double raw, double expected_time_s, double actual_time_s,
                bint success) noexcept nogil


# A model's tables; a row of them is for plans that are alike.
ctypedef struct Tables:
    int n_time
    int n_waiting
    double time_edges[32]
    double waiting_edges[32]
    double low[33 * 33]         # quantiles of actual over planned time
    double middle[33 * 33]
    double high[33 * 33]
    double confidence[33 * 33]


# Of a plan that takes planned_s (finite, > 0), of which the share `waiting` is work ahead of it.
cdef int table_row(const Tables* tables, double planned_s, double waiting) noexcept nogil


cdef class Calibration:
    cdef Tables tables
