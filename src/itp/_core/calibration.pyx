"""Confidence as an observed frequency: online histogram binning.

A decision's raw score is the share of its bytes expected to arrive at the first try. Its bin's
outcomes correct it: (hits + 10 raw) / (count + 10), a Beta prior of ten observations at the raw
score (binning as in Zadrozny and Elkan, "Obtaining calibrated probability estimates", ICML 2001).
A hit is a success within 1.25 times the expected time.
"""
from libc.math cimport fabs, isfinite, log

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
