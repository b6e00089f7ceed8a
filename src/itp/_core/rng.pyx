"""The number of this process among its forked relatives, by which generators tell that they were copied.

A fork copies every generator; without this, parent and children would draw the same numbers. A child's number
follows from its parent's and from how many times the parent has forked, not from the process id: a program
that forks in the same order draws the same numbers again.
"""
from libc.stdint cimport uint64_t

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil,
                       void (*child)() noexcept nogil)

cdef extern from *:
    """
    /* Two threads may fork at once: each child has the number that its own thread took. */
    static __thread unsigned long long itp_fork;
    """
    uint64_t fork_number "itp_fork"
    uint64_t _add_fetch "__atomic_add_fetch" (uint64_t* value, uint64_t more, int order) nogil
    int _RELAXED "__ATOMIC_RELAXED"

cdef uint64_t _forks = 0


cdef void _before_fork() noexcept nogil:
    global fork_number
    fork_number = _add_fetch(&_forks, 1, _RELAXED)


cdef void _in_child() noexcept nogil:
    global process_number, _forks
    cdef uint64_t mixed = process_number ^ fork_number
    process_number = rng_splitmix64(&mixed)
    _forks = 0


def process():
    """The number of this process: 0, and another one in every forked child."""
    return process_number


if pthread_atfork(_before_fork, NULL, _in_child):
    raise MemoryError("no memory for a handler of forks")
