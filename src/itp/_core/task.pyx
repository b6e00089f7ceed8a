"""What is to be sent: one transfer task."""
cimport cython
from libc.math cimport INFINITY, isfinite


cdef double _real(object value, str name) except? -1.0:
    cdef double x
    try:
        x = value
    except TypeError:
        raise TypeError(f"{name} must be a number; got {value!r}") from None
    except OverflowError:
        raise ValueError(f"{name} must be finite; got an integer beyond any float") from None
    return x


cdef object _integer(object value, str name):
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer; got {value!r}")
    return value.__index__()


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

    def __init__(self, id, size_bytes, priority=0.5, deadline_s=None, min_bandwidth_mbps=0.0, redundancy=1):
        if not isinstance(id, str):
            raise TypeError(f"id must be a str; got {id!r}")
        size = _integer(size_bytes, "size_bytes")
        if not 1 <= size <= 0x7FFFFFFFFFFFFFFF:
            raise ValueError(f"size_bytes must be from 1 to 2**63 - 1; got {size_bytes!r}")
        copies = _integer(redundancy, "redundancy")
        if not 1 <= copies <= 16:
            raise ValueError(f"redundancy must be from 1 to 16; got {redundancy!r}")
        cdef double weight = _real(priority, "priority")
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"priority must be from 0 to 1; got {priority!r}")
        cdef double deadline = INFINITY
        if deadline_s is not None:
            deadline = _real(deadline_s, "deadline_s")
            if not (isfinite(deadline) and deadline > 0.0):
                raise ValueError(f"deadline_s must be finite and > 0, or None; got {deadline_s!r}")
        cdef double bandwidth = _real(min_bandwidth_mbps, "min_bandwidth_mbps")
        if not (isfinite(bandwidth) and bandwidth >= 0.0):
            raise ValueError(f"min_bandwidth_mbps must be finite and >= 0; got {min_bandwidth_mbps!r}")
        self.id = id
        self.size_bytes = size
        self.priority = weight
        self.deadline = deadline
        self.min_bandwidth_mbps = bandwidth
        self.redundancy = copies

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
