# Service orders: who is served before whom. The ledger and the simulator share these rules.
from libc.stdint cimport uint64_t

cdef enum ServiceOrder:
    FIFO = 0
    SRPT = 1

cdef extern from *:
    """
    #define ITP_AGEING_S 30.0  /* under SRPT, who has waited so long goes ahead of everybody younger */
    """
    const double ORDER_AGEING_S "ITP_AGEING_S"

# What ranks a task under SRPT.
ctypedef struct Rank:
    double since_s              # when it came
    double left_bytes           # of the whole task, on all its streams
    uint64_t number             # ascends with age
    int priority_class


# The number of a service order's name; ValueError for another name.
cdef int service_order_number(object name) except -1


cdef inline int priority_class(double priority) noexcept nogil:
    """Four classes of equal width; SRPT serves a higher one first."""
    return 3 if priority >= 0.75 else <int>(priority * 4.0)


cdef inline bint is_overdue(const Rank* rank, double now_s) noexcept nogil:
    return now_s - rank.since_s >= ORDER_AGEING_S


cdef inline bint served_before(const Rank* a, const Rank* b, double now_s) noexcept nogil:
    """SRPT: overdue tasks first, the oldest of them first; then class, then least remaining, then age."""
    cdef bint overdue_a = is_overdue(a, now_s)
    cdef bint overdue_b = is_overdue(b, now_s)
    if overdue_a or overdue_b:
        return a.number < b.number if overdue_a and overdue_b else overdue_a
    if a.priority_class != b.priority_class:
        return a.priority_class > b.priority_class
    return a.left_bytes < b.left_bytes or (a.left_bytes == b.left_bytes and a.number < b.number)


cdef inline bint served_before_newcomer(const Rank* rank, double size_bytes, int klass,
                                        double now_s) noexcept nogil:
    """Whether SRPT serves a task in line before one of this size and class that arrives now."""
    return (rank.priority_class > klass
            or (rank.priority_class == klass and rank.left_bytes <= size_bytes)
            or is_overdue(rank, now_s))
