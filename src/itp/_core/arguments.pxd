from libc.stdint cimport int64_t
from libc.string cimport memcpy


# Both raise TypeError by name.
cdef double real(str name, object value) except? -1
cdef object integer(str name, object value)

# A finite number from low to high; `expected` is for people.
cdef double real_between(str name, object value, double low, double high, str expected) except? -1
# An integer, no bool, from low to 2^63 - 1.
cdef int64_t byte_count(str name, object value, int64_t low) except? -1

cdef int bind_states(str name, object value, int ndim, Py_ssize_t rows, Py_ssize_t dim,
                     Py_buffer* view) except -1
# ValueError unless every item of such a view is finite as float32.
cdef int check_states(str name, const Py_buffer* view) except -1


# n items of such a view as float32.
cdef inline void read_states(const char* items, bint double_precision, float* row,
                             Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if double_precision:
        for i in range(n):
            row[i] = <float>(<const double*>items)[i]
    else:
        memcpy(row, items, n * sizeof(float))
