# The forward pass of a chain of dense layers, in C: `itp_qnet.h` says what the fields mean.

cdef extern from "itp_qnet.h" nogil:
    enum:
        QNET_MAX_LAYERS
        QNET_MAX_WIDTH
        QNET_ALIGN
        QNET_PAD
        QNET_TILE

    ctypedef struct qnet_layer:
        const float* weights
        const float* bias
        int inputs
        int outputs
        int padded

    ctypedef struct qnet:
        int n_layers
        qnet_layer layers[16]

    ctypedef void (*qnet_forward)(const qnet* net, const float* x, float* y) noexcept nogil

    ctypedef struct qnet_scratch:
        float* x
        unsigned* row
        float* y
        int n

    ctypedef void (*qnet_forward_tile)(const qnet* net, const float* x, float* y, int m,
                                       qnet_scratch* scratch) noexcept nogil

    ctypedef struct qnet_kernel:
        const char* name
        qnet_forward forward
        qnet_forward_tile forward_tile

    int qnet_kernels(qnet_kernel* out)


# Immutable once made, so any thread may run it, with or without the GIL, while a reference is held.
cdef class QNet:
    cdef qnet net
    cdef qnet_forward forward
    cdef qnet_forward_tile forward_tile
    cdef void* memory
    cdef readonly str kernel

    cdef int run(self, const float* x, float* y, Py_ssize_t n) noexcept nogil
