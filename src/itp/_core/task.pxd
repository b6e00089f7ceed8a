from libc.stdint cimport int64_t


cdef class Task:
    cdef readonly str id
    cdef readonly int64_t size_bytes
    cdef readonly double priority
    cdef readonly double min_bandwidth_mbps
    cdef readonly int redundancy
    cdef double deadline        # seconds; infinite without one
