"""A sum tree: sampling in proportion to a value, and changing a value, in O(log n).

A complete binary tree in one flat array, float64. Every inner node is recomputed from its two
children and never adjusted by differences, so the tree is a function of its leaves alone:
rounding errors cannot pile up, and equal leaves give equal bits whatever order they came in.
"""
from libc.float cimport DBL_MAX
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import operator

import numpy as np

from itp._core.arguments import as_array

cimport cython

from itp._core.memory cimport advise_huge_pages


@cython.final
cdef class SumTree:
    """A sum tree over ``capacity`` non-negative values, all 0 at first.

    Parameters
    ----------
    capacity : int
        Number of values, at least 1. The tree takes 16 bytes a value, padded to a power of two.

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
        try:
            wanted = operator.index(capacity)
        except TypeError:
            raise TypeError(f"capacity = {capacity!r}: expected an integer") from None
        if wanted < 1:
            raise ValueError(f"capacity = {wanted}: expected at least 1")
        leaves = 1 << (wanted - 1).bit_length()
        if leaves > 1 << 48:
            raise MemoryError(f"capacity = {wanted}: a sum tree of that size fits in no memory")
        self.capacity = wanted
        self.leaves = leaves
        # The spare half covers the rounding of the sums themselves.
        self.ceiling = DBL_MAX / 2 / self.leaves
        self.nodes = <double*>calloc(2 * self.leaves, sizeof(double))
        if self.nodes == NULL:
            raise MemoryError(f"capacity = {wanted}: no memory for a sum tree of {16 * leaves} bytes")
        advise_huge_pages(self.nodes, 2 * self.leaves * sizeof(double))

    def __dealloc__(self):
        free(self.nodes)

    cdef double get(self, int64_t index) noexcept nogil:
        return self.nodes[self.leaves + index]

    cdef void set(self, int64_t index, double value) noexcept nogil:
        cdef double* nodes = self.nodes
        cdef int64_t node = self.leaves + index
        nodes[node] = value
        node >>= 1
        while node:
            nodes[node] = nodes[2 * node] + nodes[2 * node + 1]
            node >>= 1

    cdef void set_many(self, int64_t* indexes, const double* values, Py_ssize_t n) noexcept nogil:
        cdef double* nodes = self.nodes
        cdef int64_t node, previous
        cdef Py_ssize_t i, kept
        for i in range(n):
            indexes[i] += self.leaves
            nodes[indexes[i]] = values[i]
        # Level by level, so that cache misses overlap; neighbours that meet in one parent go on as one.
        cdef Py_ssize_t width = self.leaves
        while width > 1:
            kept = 0
            previous = 0
            for i in range(n):
                node = indexes[i] >> 1
                nodes[node] = nodes[2 * node] + nodes[2 * node + 1]
                indexes[kept] = node
                kept += node != previous
                previous = node
            n = kept
            width >>= 1

    cdef void find_many(self, double* masses, int64_t* indexes, Py_ssize_t n) noexcept nogil:
        cdef const double* nodes = self.nodes
        cdef int64_t node
        cdef double left, mass
        cdef Py_ssize_t i, width = self.leaves
        cdef bint right
        for i in range(n):
            indexes[i] = 1
        # All queries go down one level before the next, so that their cache misses overlap.
        while width > 1:
            for i in range(n):
                node = 2 * indexes[i]
                mass = masses[i]
                left = nodes[node]
                # A child without mass is never entered, not even when rounding left a rest.
                right = (mass >= left) & (nodes[node + 1] > 0)
                masses[i] = mass - left if right else mass
                indexes[i] = node + right
            width >>= 1
        for i in range(n):
            indexes[i] -= self.leaves

    cdef void assign(self, const double* values, Py_ssize_t n) noexcept nogil:
        cdef double* nodes = self.nodes
        cdef Py_ssize_t node
        memcpy(nodes + self.leaves, values, n * sizeof(double))
        memset(nodes + self.leaves + n, 0, (self.leaves - n) * sizeof(double))
        for node in range(self.leaves - 1, 0, -1):
            nodes[node] = nodes[2 * node] + nodes[2 * node + 1]

    def __len__(self):
        return self.capacity

    @property
    def total(self):
        """The sum of all values."""
        return self.nodes[1]

    def __getitem__(self, index):
        """The value at `index`; IndexError outside [0, capacity)."""
        return self.get(self._position(index))

    def __setitem__(self, index, value):
        """Set the value at `index`; IndexError and ValueError as in `__getitem__` and `update`."""
        cdef int64_t position = self._position(index)
        cdef double number = value
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
        if not self.nodes[1] > 0:
            raise ValueError("all values are 0: set a positive one before find()")
        for i in range(n):
            if not 0 <= mass[i] <= self.nodes[1]:
                raise ValueError(f"masses[{i}] = {mass[i]}: expected 0 to the total, {self.nodes[1]}")
        if n:
            self.find_many(&mass[0], &indexes[0], n)
        return found

    cdef int64_t _position(self, object index) except -1:
        position = operator.index(index)
        if not 0 <= position < self.capacity:
            raise IndexError(f"index = {position}: expected 0 to {self.capacity - 1}")
        return position
