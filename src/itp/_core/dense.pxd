# The product of two matrices, in C: `dense_kernel.h` says what the fields mean. For Python alone.

cdef extern from "dense_kernel.h" nogil:
    ctypedef struct dense_product:
        const float* a
        const float* b
        float* c
        const float* gate
        Py_ssize_t rows
        Py_ssize_t columns
        Py_ssize_t depth
        Py_ssize_t a_row
        Py_ssize_t a_column
        Py_ssize_t b_row
        Py_ssize_t b_column
        Py_ssize_t c_row
        Py_ssize_t gate_row
        int relu

    ctypedef struct dense_kernel:
        const char* name
        void (*product)(const dense_product*) noexcept nogil

    int dense_kernels(dense_kernel* out)
