# The fast path for Python: Task in, Decision out.
from itp._core.calibration cimport Calibration
from itp._core.choose cimport Cap, Guard, Learned, Support, WorkloadSupport
from itp._core.decide cimport Core, Status
from itp._core.decision cimport Decision
from itp._core.qnet cimport QNet
from itp._core.reward cimport RewardWeights
from itp._core.setnet cimport SetNet
from itp._core.state cimport NetworkState
from itp._core.task cimport Task
from itp._core.workload cimport Workload


# The model in use, whole and immutable: whoever holds a reference has all of one model.
cdef class Served:
    cdef Learned learned
    cdef readonly str version
    cdef readonly QNet net              # one of these two computes; None: onnxruntime does, in a Slot
    cdef readonly SetNet set_net
    cdef readonly Calibration calibration
    cdef readonly Guard guard
    cdef readonly Cap cap
    cdef readonly Support support
    cdef readonly WorkloadSupport workload
    cdef readonly dict preferences      # of a set model, by name
    cdef object make_slot
    cdef object run_batch               # None: a batch is computed state by state
    cdef object on_failure
    cdef list idle                      # Slots that no thread is using

    cdef Slot _take_slot(self)


# What one run of onnxruntime reads and writes.
cdef class Slot:
    cdef float[::1] state
    cdef float[::1] q_values
    cdef object run


# What retracting goes back to: the decision made last, and the workload then.
cdef class Mark:
    cdef Decision last
    cdef Workload workload


cdef class Decider:
    cdef Core core
    cdef readonly NetworkState network
    cdef readonly str policy            # the rule that decides when no model does, as it was asked for
    cdef readonly RewardWeights weights
    cdef readonly Served served         # the one owner of the model in use; None: the heuristic decides
    cdef object _prefer                 # a name or a number
    cdef Decision last                  # its next state is the next decision's

    cdef Decision _decide(self, Task task)
    cdef Decision _begin(self, Task task)
    cdef int _check(self, Status status, Task task) except -1
    cdef int _finish(self, Decision d, Served served) except -1
    cdef double _preference(self, Served served) except -1.0
    cdef Decision _by_runtime(self, Decision d, Served served)


cdef class FastPath:
    cdef Decider decider                # None: closed, or not open yet
