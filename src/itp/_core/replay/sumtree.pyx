"""A sum tree: sampling in proportion to a value, and changing a value, in O(log n).

The tree is in float64 and has eight children a node: siblings fill one cache line, so a descent
among a million values takes 7 cache lines where a binary tree takes 20.

Every stored sum is recomputed from its eight children and never adjusted by differences, so the
tree is a function of its leaves alone: rounding errors cannot pile up, and equal leaves give equal
bits whatever order they came in.
"""
from libc.float cimport DBL_MAX
from libc.math cimport nextafter
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import numpy as np

from itp._core.arguments import as_array

cimport cython

from itp._core.arguments cimport integer, real
from itp._core.memory cimport advise_huge_pages, prefetch


cdef inline double add_siblings(const double* line) noexcept nogil:
    return ((line[0] + line[1]) + (line[2] + line[3])) + ((line[4] + line[5]) + (line[6] + line[7]))


cdef inline int64_t choose_sibling(const double* line, double* mass) noexcept nogil:
    """Which of eight siblings `mass` falls in; `mass` becomes what is left within it.

    It is the number of inclusive prefix sums that `mass` has reached, counted without branches,
    which would be mispredicted. Below the last sum no count can end on a sibling without mass.
    """
    cdef double[8] before
    cdef double total
    cdef double rest = mass[0]
    cdef int64_t child
    before[0] = 0
    before[1] = line[0]
    before[2] = before[1] + line[1]
    before[3] = before[2] + line[2]
    before[4] = before[3] + line[3]
    before[5] = before[4] + line[4]
    before[6] = before[5] + line[5]
    before[7] = before[6] + line[6]
    total = before[7] + line[7]
    if rest >= total:  # by rounding only
        rest = nextafter(total, 0)
    child = (<int64_t>(rest >= before[1]) + (rest >= before[2]) + (rest >= before[3]) + (rest >= before[4])
             + (rest >= before[5]) + (rest >= before[6]) + (rest >= before[7]))
    mass[0] = rest - before[child]
    return child


@cython.final
cdef class SumTree:
    """A sum tree over ``capacity`` non-negative values, all 0 at first.

    Parameters
    ----------
    capacity : int
        Number of values, at least 1. The tree takes 64/7 bytes a value.

    Raises
    ------
    TypeError, ValueError
        `capacity` is no integer, or is below 1.
    MemoryError
        The tree does not fit.

    Notes
    -----
    Thread safety: every method validates first and then runs in one stretch under the GIL, so
    threads see each call whole or not at all.
    """

    def __cinit__(self, capacity):
        wanted = integer("capacity", capacity)
        if wanted < 1:
            raise ValueError(f"capacity = {wanted}: expected at least 1")
        if wanted > 1 << 48:
            raise MemoryError(f"capacity = {wanted}: a sum tree of that size fits in no memory")
        cdef Py_ssize_t offsets[LEVELS]
        cdef Py_ssize_t lines = wanted, size = 0
        cdef int level
        self.capacity = wanted
        while True:
            lines = (lines + 7) // 8
            offsets[self.height] = size
            size += 8 * lines
            self.height += 1
            if lines == 1:
                break
        offsets[self.height] = size
        size += 1
        self.block = calloc(size + 8, sizeof(double))
        if self.block == NULL:
            raise MemoryError(f"capacity = {wanted}: no memory for a sum tree of {8 * size} bytes")
        advise_huge_pages(self.block, (size + 8) * sizeof(double))
        for level in range(self.height + 1):
            self.levels[level] = <double*>((<uintptr_t>self.block + 63) & ~<uintptr_t>63) + offsets[level]
        # The spare half covers the rounding of the sums themselves.
        self.ceiling = DBL_MAX / 2 / self.capacity

    def __dealloc__(self):
        free(self.block)

    cdef void set(self, int64_t index, double value) noexcept nogil:
        cdef int level
        self.levels[0][index] = value
        for level in range(self.height):
            index >>= 3
            self.levels[level + 1][index] = add_siblings(self.levels[level] + 8 * index)

    cdef void set_many(self, int64_t* indexes, const double* values, Py_ssize_t n) noexcept nogil:
        cdef int64_t index, previous
        cdef Py_ssize_t i, kept
        cdef int level
        for i in range(n):
            prefetch(self.levels[0] + indexes[i])
        for i in range(n):
            self.levels[0][indexes[i]] = values[i]
        # Level by level, so that cache misses overlap; neighbours that meet in one parent go on as one.
        for level in range(self.height):
            kept = 0
            previous = -1
            for i in range(n):
                index = indexes[i] >> 3
                if index != previous:
                    self.levels[level + 1][index] = add_siblings(self.levels[level] + 8 * index)
                    indexes[kept] = index
                    kept += 1
                    previous = index
            n = kept

    cdef void find_many(self, double* masses, int64_t* indexes, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t i
        cdef int level
        for i in range(n):
            indexes[i] = 0
        # All queries go down one level before the next, so that their cache misses overlap.
        for level in range(self.height - 1, -1, -1):
            for i in range(n):
                indexes[i] = 8 * indexes[i] + choose_sibling(self.levels[level] + 8 * indexes[i], &masses[i])
                if level:
                    prefetch(self.levels[level - 1] + 8 * indexes[i])

    cdef void assign(self, const double* values, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t i, width = self.capacity
        cdef int level
        if n > 0:  # of nothing there may be no address
            memcpy(self.levels[0], values, n * sizeof(double))
        memset(self.levels[0] + n, 0, (self.capacity - n) * sizeof(double))
        for level in range(self.height):
            width = (width + 7) // 8
            for i in range(width):
                self.levels[level + 1][i] = add_siblings(self.levels[level] + 8 * i)

    def __len__(self):
        return self.capacity

    @property
    def total(self):
        """The sum of all values."""
        return self.sum()

    def __getitem__(self, index):
        """The value at `index`; IndexError outside [0, capacity)."""
        return self.get(self._position(index))

    def __setitem__(self, index, value):
        """Set the value at `index`; IndexError and ValueError as in `__getitem__` and `update`."""
        cdef int64_t position = self._position(index)
        cdef double number = real("value", value)
        if not 0 <= number <= self.ceiling:
            raise ValueError(f"value = {number}: expected a finite number from 0 to {self.ceiling:.4g}")
        self.set(position, number)

    def update(self, indexes, values):
        """Set many values at once; of a repeated index the last value stays.

        Parameters
        ----------
        indexes : array_like of int, shape (n,)
            Each in [0, capacity).
        values : array_like of float, shape (n,)
            Each finite, at least 0, and small enough that no sum can overflow.

        Raises
        ------
        TypeError, ValueError
            Types, shapes, indexes or values are not as above; no value is changed then.
        """
        cdef const int64_t[::1] given = as_array("indexes", indexes, "i", np.int64, (None,))
        cdef Py_ssize_t i, n = given.shape[0]
        cdef const double[::1] what = as_array("values", values, "f", np.float64, (n,))
        cdef int64_t[::1] where = np.array(given)
        for i in range(n):
            if not 0 <= where[i] < self.capacity:
                raise ValueError(f"indexes[{i}] = {where[i]}: expected 0 to {self.capacity - 1}")
            if not 0 <= what[i] <= self.ceiling:
                raise ValueError(
                    f"values[{i}] = {what[i]}: expected a finite number from 0 to {self.ceiling:.4g}")
        if n:
            self.set_many(&where[0], &what[0], n)

    def find(self, masses):
        """The leaves in whose share of the total the given masses fall.

        Parameters
        ----------
        masses : array_like of float, shape (n,)
            Each in [0, total]; the total itself belongs to the last positive value.

        Returns
        -------
        numpy.ndarray of int64, shape (n,)
            For each mass m the first index whose inclusive prefix sum exceeds m, up to rounding.
            Its value is always positive.

        Raises
        ------
        ValueError
            A mass is outside [0, total], or all values are 0.
        """
        cdef double[::1] mass = np.array(as_array("masses", masses, "f", np.float64, (None,)))
        cdef Py_ssize_t i, n = mass.shape[0]
        found = np.empty(n, dtype=np.int64)
        cdef int64_t[::1] indexes = found
        if not self.sum() > 0:
            raise ValueError("all values are 0: set a positive one before find()")
        for i in range(n):
            if not 0 <= mass[i] <= self.sum():
                raise ValueError(f"masses[{i}] = {mass[i]}: expected 0 to the total, {self.sum()}")
        if n:
            self.find_many(&mass[0], &indexes[0], n)
        return found

    cdef int64_t _position(self, object index) except -1:
        position = integer("index", index)
        if not 0 <= position < self.capacity:
            raise IndexError(f"index = {position}: expected 0 to {self.capacity - 1}")
        return position
