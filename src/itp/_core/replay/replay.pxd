from libc.stdint cimport int32_t, int64_t, uint8_t

from itp._core.rng cimport Rng
from itp._core.replay.sumtree cimport SumTree


# The head of a row; state and next_state, float32[state_dim] each, follow it.
ctypedef struct Outcome:
    float reward
    int32_t action
    uint8_t done


# Where a sampled batch goes: [n, state_dim] for the states, [n] for the rest.
ctypedef struct Batch:
    float* state
    int64_t* action
    float* reward
    float* next_state
    uint8_t* done
    float* weights
    int64_t* indexes


cdef class PrioritizedReplayBuffer:
    cdef readonly Py_ssize_t capacity
    cdef readonly Py_ssize_t state_dim
    cdef readonly double alpha
    cdef readonly object n_actions    # None: any action that fits an int32
    cdef readonly double max_priority
    cdef int64_t action_limit
    cdef int64_t added                # transitions ever added; index i lives in slot i % capacity
    cdef SumTree tree                 # of priority ** alpha, a leaf a slot
    cdef double mass_limit            # largest priority ** alpha that the tree can hold
    cdef Rng rng
    cdef char* rows                   # [capacity * stride], one transition a row, 64-byte aligned
    cdef Py_ssize_t stride            # size of a row in bytes, whole cache lines
    cdef double* masses               # scratch [scratch_size]
    cdef int64_t* slots               # scratch [scratch_size]
    cdef Py_ssize_t scratch_size

    cdef Py_ssize_t _stored(self) noexcept nogil
    cdef double _mass(self, double priority) noexcept nogil
    cdef double _default_priority(self) noexcept nogil
    cdef bint _valid_priority(self, double priority, double mass) noexcept nogil
    cdef int64_t _write(self, const Outcome* outcome, const char* state, const char* next_state,
                        bint state_double, bint next_double) noexcept nogil
    cdef void _sample(self, Py_ssize_t n, double beta, Batch* batch) noexcept
    cdef int _reserve(self, Py_ssize_t n) except -1
    cdef int32_t _check_action(self, object action) except -1
    cdef int _raise_priority(self, str name, double priority) except -1
    cdef object _add_rows(self, Py_buffer* states, Py_buffer* next_states, object action, object reward,
                          object done, object priority)
    cdef int _add_records(self, const Py_buffer* view, const Py_ssize_t* at, int64_t[::1] indexes) except -1
