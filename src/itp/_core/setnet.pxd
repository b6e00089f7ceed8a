# The forward pass of a set network, in C: `itp_setnet.h` says what the fields mean.
from libc.stdint cimport uint32_t

cdef extern from "itp_setnet.h" nogil:
    enum:
        SETNET_ALIGN
        SETNET_PAD
        SETNET_MAX_WIDTH
        SETNET_MAX_STREAMS
        SETNET_MAX_CANDIDATES

    ctypedef struct setnet_layer:
        const float* weights
        const float* bias
        int inputs
        int outputs
        int padded

    ctypedef struct setnet:
        setnet_layer context
        setnet_layer first
        setnet_layer second
        setnet_layer pool
        setnet_layer member
        setnet_layer own
        setnet_layer hidden
        const float* out_hidden
        const float* out_own
        float out_bias

    ctypedef void (*setnet_forward)(const setnet* net, const float* streams, int n_streams,
                                    const float* context, const float* candidates, const uint32_t* members,
                                    int n_candidates, float* values) noexcept nogil

    ctypedef struct setnet_kernel:
        const char* name
        setnet_forward forward

    int setnet_kernels(setnet_kernel* out)


# Immutable once made, so any thread may run it, with or without the GIL, while a reference is held.
cdef class SetNet:
    cdef setnet net
    cdef setnet_forward forward
    cdef void* memory
    cdef readonly str kernel
