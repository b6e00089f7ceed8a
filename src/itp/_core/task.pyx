"""What is to be sent: one transfer task."""
cimport cython
from libc.float cimport DBL_MAX
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from itp._core.arguments cimport byte_count, integer, real_between


# Neither a Task nor what it holds can be part of a cycle, so the collector need not know it.
@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Task:
    """One transfer task; immutable, hashable, compared by value.

    Parameters
    ----------
    id : str
        The caller's own name for it.
    size_bytes : int
        1 to 2**63 - 1.
    priority : float
        In [0, 1]; 1 is the most urgent.
    deadline_s : float, optional
        Seconds from the decision to completion, > 0; None: no deadline.
    min_bandwidth_mbps : float
        The streams chosen must have at least this together (bandwidth x success rate), >= 0.
    redundancy : int
        Whole copies, each on a stream of its own, 1 to 16; the first to arrive wins.

    Raises
    ------
    ValueError, TypeError
        With the argument's name, its value and what was expected.
    """

    # In __cinit__, so that no Task exists whose values were not checked, or changes them later.
    def __cinit__(self, id, size_bytes, priority=0.5, deadline_s=None, min_bandwidth_mbps=0.0, redundancy=1):
        if not isinstance(id, str):
            raise TypeError(f"id = {id!r}: expected a str")
        cdef int64_t size = byte_count("size_bytes", size_bytes, 1)
        copies = integer("redundancy", redundancy)
        if not 1 <= copies <= 16:
            raise ValueError(f"redundancy = {redundancy!r}: expected 1 to 16")
        cdef double weight = real_between("priority", priority, 0.0, 1.0, "0 to 1")
        cdef double deadline = INFINITY
        if deadline_s is not None:
            deadline = real_between("deadline_s", deadline_s, 0.0, DBL_MAX, "a finite time > 0, or None")
            if deadline == 0.0:
                raise ValueError(f"deadline_s = {deadline_s!r}: expected a finite time > 0, or None")
        cdef double bandwidth = real_between("min_bandwidth_mbps", min_bandwidth_mbps, 0.0, DBL_MAX,
                                             "finite and >= 0")
        self.id = id
        self.size_bytes = size
        self.priority = weight
        self.deadline = deadline
        self.min_bandwidth_mbps = bandwidth
        self.redundancy = <int>copies

    @property
    def deadline_s(self):
        """Seconds from the decision to completion, or None."""
        return None if self.deadline == INFINITY else self.deadline

    def _values(self):
        return (self.id, self.size_bytes, self.priority, self.deadline_s, self.min_bandwidth_mbps,
                self.redundancy)

    def __eq__(self, other):
        if not isinstance(other, Task):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self):
        return hash(self._values())

    def __reduce__(self):
        return Task, self._values()

    def __repr__(self):
        return (f"Task(id={self.id!r}, size_bytes={self.size_bytes}, priority={self.priority}, "
                f"deadline_s={self.deadline_s}, min_bandwidth_mbps={self.min_bandwidth_mbps}, "
                f"redundancy={self.redundancy})")
