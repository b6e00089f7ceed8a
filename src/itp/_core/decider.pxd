# The fast path for Python: Task in, Decision out.
from itp._core.calibration cimport Calibration
from itp._core.choose cimport Guard, Learned
from itp._core.decide cimport Core, Status
from itp._core.decision cimport Decision
from itp._core.qnet cimport QNet
from itp._core.reward cimport RewardWeights
from itp._core.state cimport NetworkState
from itp._core.task cimport Task


# A model as it is served; immutable, so that a decision that holds a reference has all of it.
cdef class Served:
    cdef Learned learned
    cdef readonly str version
    cdef readonly QNet net              # None: `lend` gives onnxruntime's buffers
    cdef readonly Calibration calibration
    cdef readonly Guard guard
    cdef readonly object origin
    cdef object lend
    cdef object failed
    cdef list idle                      # Slots that no thread is using


# What one run of onnxruntime reads and writes.
cdef class Slot:
    cdef float[::1] state
    cdef float[::1] q_values
    cdef object run


cdef class Decider:
    cdef Core core
    cdef readonly NetworkState network
    cdef readonly RewardWeights weights
    cdef readonly Served served
    cdef Decision last                  # its next state is the next decision's

    cdef Decision _decide(self, Task task)
    cdef Decision _begin(self, Task task)
    cdef int _check(self, Status status, Task task) except -1
    cdef int _finish(self, Decision d, Served served) except -1
    cdef Decision _by_runtime(self, Decision d, Served served)


cdef class FastPath:
    cdef Decider decider                # None: closed, or not open yet
