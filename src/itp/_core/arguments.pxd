from libc.string cimport memcpy


# Both raise TypeError by name.
cdef double real(str name, object value) except? -1
cdef object integer(str name, object value)

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
