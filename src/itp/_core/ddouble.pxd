# Double-double arithmetic (about 106 bits): shares of a size near 2^63 bytes need more
# than a double's 53 to come out within a byte.  Algorithms: T. J. Dekker, "A floating-point
# technique for extending the available precision", Numer. Math. 18 (1971); Hida, Li and
# Bailey, "Library for double-double and quad-double arithmetic" (2007).
from libc.math cimport floor
from libc.stdint cimport int64_t, uint64_t


cdef extern from "<math.h>" nogil:
    double fma(double x, double y, double z)


ctypedef struct dd:
    double hi
    double lo


cdef inline dd dd_of(double a) noexcept nogil:
    cdef dd r
    r.hi = a
    r.lo = 0.0
    return r


cdef inline dd dd_of_int(int64_t a) noexcept nogil:
    """Exact for every int64 >= 0."""
    cdef dd r
    cdef int64_t low = a % <int64_t>4294967296
    r.hi = <double>(a - low)
    r.lo = 0.0
    return dd_add_d(r, <double>low)


cdef inline dd _quick_two_sum(double a, double b) noexcept nogil:
    cdef dd r
    r.hi = a + b
    r.lo = b - (r.hi - a)
    return r


cdef inline dd _two_sum(double a, double b) noexcept nogil:
    cdef dd r
    cdef double bb
    r.hi = a + b
    bb = r.hi - a
    r.lo = (a - (r.hi - bb)) + (b - bb)
    return r


cdef inline dd dd_difference(double a, double b) noexcept nogil:
    """a - b, exact."""
    return _two_sum(a, -b)


cdef inline dd dd_add(dd a, dd b) noexcept nogil:
    cdef dd s = _two_sum(a.hi, b.hi)
    cdef dd t = _two_sum(a.lo, b.lo)
    s.lo += t.hi
    s = _quick_two_sum(s.hi, s.lo)
    s.lo += t.lo
    return _quick_two_sum(s.hi, s.lo)


cdef inline dd dd_add_d(dd a, double b) noexcept nogil:
    cdef dd s = _two_sum(a.hi, b)
    s.lo += a.lo
    return _quick_two_sum(s.hi, s.lo)


cdef inline dd dd_mul_d(dd a, double b) noexcept nogil:
    cdef double p = a.hi * b
    cdef double e = fma(a.hi, b, -p)
    e += a.lo * b
    return _quick_two_sum(p, e)


cdef inline dd dd_sub(dd a, dd b) noexcept nogil:
    b.hi = -b.hi
    b.lo = -b.lo
    return dd_add(a, b)


cdef inline dd dd_div(dd a, dd b) noexcept nogil:
    """Long division, three quotient digits."""
    cdef double q1 = a.hi / b.hi
    cdef dd r = dd_sub(a, dd_mul_d(b, q1))
    cdef double q2 = r.hi / b.hi
    r = dd_sub(r, dd_mul_d(b, q2))
    return dd_add_d(_quick_two_sum(q1, q2), r.hi / b.hi)


cdef inline uint64_t dd_floor(dd a, double* fraction) noexcept nogil:
    """Integer part of 0 <= a < 2^64; the rest, in [0, 1), goes to `fraction`."""
    cdef double whole = floor(a.hi)
    cdef double rest = (a.hi - whole) + a.lo
    cdef double carry = floor(rest)
    if whole <= 0.0 and carry < 0.0:
        fraction[0] = 0.0
        return 0
    fraction[0] = rest - carry
    return <uint64_t>whole + <uint64_t><int64_t>carry
