from libc.stdint cimport int64_t

cdef enum:
    LEVELS = 18  # 8 ** 17 leaves and their root: more than any memory


cdef class SumTree:
    cdef readonly Py_ssize_t capacity
    cdef double ceiling          # largest leaf value for which no sum can overflow
    cdef int height              # the level of the root; the leaves are level 0
    # levels[k][i] is the sum of levels[k - 1][8 * i : 8 * i + 8], one cache line; padding stays 0.
    cdef double* levels[LEVELS]
    cdef void* block             # the memory behind all levels

    # Indexes in [0, capacity) and values in [0, ceiling] are the caller's promise throughout.
    cdef inline double sum(self) noexcept nogil:
        return self.levels[self.height][0]

    cdef inline double get(self, int64_t index) noexcept nogil:
        return self.levels[0][index]

    cdef void set(self, int64_t index, double value) noexcept nogil
    # indexes [n] is overwritten: it serves as scratch. Of a repeated index the last value stays.
    cdef void set_many(self, int64_t* indexes, const double* values, Py_ssize_t n) noexcept nogil
    # masses [n], each >= 0, is overwritten; needs a positive sum; indexes [n] receives the leaves.
    cdef void find_many(self, double* masses, int64_t* indexes, Py_ssize_t n) noexcept nogil
    # Every leaf at once; values [n], n <= capacity; leaves from n on become 0.
    cdef void assign(self, const double* values, Py_ssize_t n) noexcept nogil
    cdef int64_t _position(self, object index) except -1
