# Many simulated environments of one scenario, stepped side by side.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from itp._core.choose cimport Chooser, Learned
from itp._core.sim.env cimport Env, Setting, Timeline
from itp._core.reward cimport RewardWeights
from itp._core.sim.world cimport LinkSpec, PathSpec, WorkloadSpec


# One completed task, as in the NumPy type OUTCOME.
ctypedef struct Completed:
    int32_t env
    int32_t task
    int64_t size_bytes
    double priority
    uint32_t mask
    int32_t streams
    double arrived_at_s
    double completed_at_s
    double deadline_s
    double reference_time_s
    double expected_time_s
    int64_t retransmitted_bytes
    double imbalance
    double reward
    float propensity
    uint8_t success
    uint8_t explored
    uint8_t source


cdef class Batch:
    cdef Setting setting
    cdef readonly Py_ssize_t n_envs
    cdef char* block            # the environments, one behind the other
    cdef size_t stride
    cdef Timeline timeline      # of environment 0
    cdef object tables          # what `setting` points into
    cdef RewardWeights weights
    cdef LinkSpec[:, ::1] links
    cdef PathSpec[:, ::1] paths
    cdef WorkloadSpec[::1] workloads
    cdef uint64_t[::1] seed_of
    cdef float[:, ::1] state_of
    cdef readonly object seeds          # uint64[n_envs]
    cdef readonly object states         # float32[n_envs, state_dim]

    cdef Env* env(self, Py_ssize_t i) noexcept nogil
    cdef bint _continue(self, Py_ssize_t i, Batch source, Py_ssize_t j, int horizon) noexcept nogil
    cdef Py_ssize_t _count_completed(self) noexcept nogil
    cdef void _write_experience(self, const Env* env, int slot, char* out) noexcept nogil
    cdef int _load(self, const char[::1] saved, intervals) except -1
    cdef int _set_chooser(self, object given, bint hard_deadlines, Learned* model, Chooser* chooser) except -1
    cdef int _check_memory(self, Py_ssize_t first, Py_ssize_t last) except -1
