# One experience as bytes. ``itp.experience.record.record_dtype`` is the same layout as a NumPy type.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy, memset

from itp._core.decision cimport Decision

cdef enum:
    TEXT_BYTES = 64

# The head of a record; state and next state, float32[4n + 4] each, follow it. It has no padding.
ctypedef struct RecordHead:
    uint64_t number
    double decided_at_s
    double completed_at_s
    float reward
    float propensity
    int32_t action
    uint16_t source                     # enum itp_source
    uint8_t explored
    uint8_t done
    char task_id[TEXT_BYTES]            # UTF-8, padded with zeros
    char model_version[TEXT_BYTES]


cdef inline size_t state_bytes(int n_streams) noexcept nogil:
    return (4 * n_streams + 4) * sizeof(float)


cdef inline size_t record_bytes(int n_streams) noexcept nogil:
    return sizeof(RecordHead) + 2 * state_bytes(n_streams)


cdef inline void write_record(char* out, const RecordHead* head, const float* state, const float* next_state,
                              int n_streams) noexcept nogil:
    """Write a whole record; the next state of one that is `done` is zeros. `out` need not be aligned."""
    cdef size_t size = state_bytes(n_streams)
    memcpy(out, head, sizeof(RecordHead))
    memcpy(out + sizeof(RecordHead), state, size)
    if head.done:
        memset(out + sizeof(RecordHead) + size, 0, size)
    else:
        memcpy(out + sizeof(RecordHead) + size, next_state, size)


cdef inline void write_task_name(char* out, uint64_t seed, uint64_t task) noexcept nogil:
    """The simulator's name of a task: the world's seed and the task's number."""
    cdef char digits[48]
    cdef int n = 48
    memset(out, 0, TEXT_BYTES)
    while True:
        n -= 1
        digits[n] = <char>(c'0' + task % 10)
        task //= 10
        if task == 0:
            break
    n -= 1
    digits[n] = c'/'
    while True:
        n -= 1
        digits[n] = <char>(c'0' + seed % 10)
        seed //= 10
        if seed == 0:
            break
    memcpy(out, digits + n, 48 - n)


cdef class RecordQueue:
    cdef readonly int n_streams
    cdef readonly size_t frame_bytes
    cdef readonly size_t chunk_bytes
    cdef readonly size_t gathered_bytes
    cdef readonly uint64_t lost
    cdef readonly bint closed
    cdef size_t limit_bytes
    cdef size_t taken_bytes
    cdef bint awake             # the writer was told that there is something to take
    cdef list full              # chunks
    cdef bytearray chunk        # being filled, or None
    cdef size_t used            # bytes of it
    cdef list newest            # reported decisions without a next one ...
    cdef list provisional       # ... and those of them that were handed over without

    cdef int _gather_complete(self) except -1
    cdef int _complete(self, list decisions) except -1
    cdef int _gather(self, Decision decision, bint done) except -1
