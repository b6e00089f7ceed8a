# Confidence as an observed frequency: online histogram binning.

cdef enum:
    BINS = 10

ctypedef struct Reliability:
    double count[10]        # outcomes whose raw score fell into the bin
    double hits[10]         # of these, as good as expected
    double error_sum        # |log(actual / expected time)| over successes
    double error_count


# P(success within TOLERANCE x the expected time) for a raw score in [0, 1].
cdef double calibrated(const Reliability* r, double raw) noexcept nogil

cdef void learn(Reliability* r, double raw, double expected_time_s, double actual_time_s,
                bint success) noexcept nogil
