from libc.stdint cimport int64_t


cdef class SumTree:
    cdef readonly Py_ssize_t capacity
    cdef Py_ssize_t leaves   # capacity rounded up to a power of two; the padding stays 0
    cdef double ceiling      # largest leaf value for which no sum can overflow
    # [2 * leaves]: root at 1, children of i at 2i and 2i + 1 (one cache line), leaf k at leaves + k.
    cdef double* nodes

    # Indexes in [0, capacity) and values in [0, ceiling] are the caller's promise throughout.
    cdef double get(self, int64_t index) noexcept nogil
    cdef void set(self, int64_t index, double value) noexcept nogil
    # indexes [n] is overwritten: it serves as scratch. Of a repeated index the last value stays.
    cdef void set_many(self, int64_t* indexes, const double* values, Py_ssize_t n) noexcept nogil
    # masses [n], each >= 0, is overwritten; needs a positive total; indexes [n] receives the leaves.
    cdef void find_many(self, double* masses, int64_t* indexes, Py_ssize_t n) noexcept nogil
    # Every leaf at once; values [n], n <= capacity; leaves from n on become 0.
    cdef void assign(self, const double* values, Py_ssize_t n) noexcept nogil
    cdef int64_t _position(self, object index) except -1
