"""Prioritized experience replay.

T. Schaul, J. Quan, I. Antonoglou, D. Silver, "Prioritized Experience Replay", ICLR 2016
(arXiv:1511.05952): the proportional variant, section 3.3 and Algorithm 1.
"""
from cpython.buffer cimport PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport isfinite, pow
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
from posix.stdlib cimport posix_memalign

import os

import numpy as np

from itp._core.arguments import as_array, batch_arrays

cimport cython

from itp._core.arguments cimport bind_states, check_states, integer, read_states, real
from itp._core.memory cimport advise_huge_pages, prefetch
from itp._core.rng cimport Rng, rng_double, rng_seed
from itp._core.replay.sumtree cimport SumTree

cdef enum:
    CACHE_LINE = 64


cdef bint _finite(const char* items, Py_ssize_t n) noexcept nogil:
    """Whether n float32, aligned or not, are finite."""
    cdef Py_ssize_t i
    cdef float value
    cdef int bad = 0
    for i in range(n):
        memcpy(&value, items + i * sizeof(float), sizeof(float))
        bad |= not isfinite(value)
    return not bad


@cython.final
cdef class PrioritizedReplayBuffer:
    """A ring of transitions, sampled in proportion to priority ** alpha.

    P(i) = p_i^alpha / sum_k p_k^alpha (Schaul et al. 2016, equation 1); a batch draws once from
    each of `batch_size` equal strata of the total. A transition of priority 0 is never sampled.

    An *index* is the number of a transition in the order of adding, from 0, and is never used
    again; ``index % capacity`` is its slot in the ring. So an index whose transition has been
    overwritten is recognised, and `update_priorities` leaves its slot's new owner alone.

    Parameters
    ----------
    capacity : int
        Transitions kept, at least 1; the oldest is overwritten.
    state_dim : int
        Entries of a state vector, at least 1.
    alpha : float
        Strength of the prioritization, in [0, 1]; 0 is uniform over positive priorities.
    seed : int
        Of the buffer's own generator, in [0, 2**64). The same calls give the same bits. A forked child
        samples by a stream of its own, which follows from the generator's state and from the number of the
        fork.
    n_actions : int, optional
        Actions are refused from this number on; without it, from 2**31 on.

    Attributes
    ----------
    max_priority : float
        The largest priority ever given, before alpha; 0.0 before the first.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.
    MemoryError
        The machine's memory could not hold a full buffer. It is taken as the buffer fills.

    Notes
    -----
    Thread safety: every method validates first and then changes the buffer in one stretch under
    the GIL, so threads see each call whole or not at all. `save` takes a copy in one stretch and
    writes it afterwards.
    """

    def __cinit__(self, capacity, state_dim=20, alpha=0.6, seed=0, *, n_actions=None):
        capacity = integer("capacity", capacity)
        state_dim = integer("state_dim", state_dim)
        seed = integer("seed", seed)
        for name, value in (("capacity", capacity), ("state_dim", state_dim)):
            if value < 1:
                raise ValueError(f"{name} = {value}: expected at least 1")
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"seed = {seed}: expected 0 to 2**64 - 1")
        limit = 1 << 31 if n_actions is None else integer("n_actions", n_actions)
        if not 1 <= limit <= 1 << 31:
            raise ValueError(f"n_actions = {limit}: expected 1 to 2**31")
        self.alpha = real("alpha", alpha)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha = {self.alpha}: expected 0 to 1")
        # Asked in Python's integers, which cannot overflow, and before anything is allocated.
        stride = -(-(sizeof(Outcome) + 8 * state_dim) // CACHE_LINE) * CACHE_LINE
        size = capacity * stride
        needed = size + 10 * capacity  # the tree takes 64/7 bytes a leaf
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > memory:
            raise MemoryError(f"capacity = {capacity}, state_dim = {state_dim}: needs {needed} bytes, "
                              f"this machine has {memory}")
        self.capacity = capacity
        self.state_dim = state_dim
        self.n_actions = n_actions
        self.action_limit = limit
        self.stride = stride
        self.tree = SumTree(capacity)
        self.mass_limit = self.tree.ceiling
        rng_seed(&self.rng, seed)
        if posix_memalign(<void**>&self.rows, CACHE_LINE, size):
            self.rows = NULL
            raise MemoryError(f"capacity = {capacity}: no memory for {size} bytes of transitions")
        advise_huge_pages(self.rows, size)

    def __dealloc__(self):
        free(self.rows)
        free(self.masses)
        free(self.slots)

    def __reduce__(self):
        raise TypeError("a PrioritizedReplayBuffer cannot be pickled or copied: "
                        "save(path) writes it, and load(path) of another one reads it")

    cdef Py_ssize_t _stored(self) noexcept nogil:
        return min(self.added, self.capacity)

    cdef double _mass(self, double priority) noexcept nogil:
        # 0 ** 0 is 1, yet priority 0 means "never" for every alpha.
        return pow(priority, self.alpha) if priority > 0 else 0.0

    cdef double _default_priority(self) noexcept nogil:
        return self.max_priority if self.max_priority > 0 else 1.0

    cdef bint _valid_priority(self, double priority, double mass) noexcept nogil:
        return priority >= 0 and isfinite(priority) and mass <= self.mass_limit

    cdef int _raise_priority(self, str name, double priority) except -1:
        limit = pow(self.mass_limit, 1 / self.alpha) if self.alpha > 0 else np.inf
        raise ValueError(f"{name} = {priority}: expected a finite number of at least 0"
                         + (f" and at most {limit:.4g}" if np.isfinite(limit) else ""))

    cdef int32_t _check_action(self, object action) except -1:
        number = integer("action", action)
        if not 0 <= number < self.action_limit:
            raise ValueError(f"action = {number}: expected 0 to {self.action_limit - 1}")
        return number

    cdef int _reserve(self, Py_ssize_t n) except -1:
        """Make the scratch hold n items. Its content lasts until the next Python call only."""
        if n <= self.scratch_size:
            return 0
        cdef void* grown = realloc(self.masses, n * sizeof(double))
        if grown == NULL:
            raise MemoryError(f"no memory for a batch of {n}")
        self.masses = <double*>grown
        grown = realloc(self.slots, n * sizeof(int64_t))
        if grown == NULL:
            raise MemoryError(f"no memory for a batch of {n}")
        self.slots = <int64_t*>grown
        self.scratch_size = n
        return 0

    def __len__(self):
        return self._stored()

    def get_stored_size(self):
        """The number of transitions held, ``len(buffer)``."""
        return self._stored()

    cdef int64_t _write(self, const Outcome* outcome, const char* state, const char* next_state,
                        bint state_double, bint next_double) noexcept nogil:
        """Write the next transition, all but its tree leaf, and return its slot."""
        cdef int64_t slot = self.added % self.capacity
        cdef char* row = self.rows + slot * self.stride
        cdef float* states = <float*>(row + sizeof(Outcome))
        memcpy(row, outcome, sizeof(Outcome))
        read_states(state, state_double, states, self.state_dim)
        read_states(next_state, next_double, states + self.state_dim, self.state_dim)
        self.added = self.added + 1
        return slot

    def add(self, *, state, action, reward, next_state, done, priority=None):
        """Add one transition, overwriting the oldest when full.

        Parameters
        ----------
        state, next_state : array_like of float, shape (state_dim,)
            Finite; kept as float32. C-contiguous float32 or float64 arrays are the fast way.
        action : int
            In [0, n_actions).
        reward : float
            Finite; kept as float32.
        done : bool
            Whether the episode ended; 0 and 1 will do.
        priority : float, optional
            Finite, at least 0, before alpha. By default `max_priority`, so that a new transition
            is seen soon (Algorithm 1, line 6), and 1.0 while that is 0.

        Returns
        -------
        int
            The index of the transition.

        Raises
        ------
        TypeError, ValueError
            An argument is not as above; the buffer is unchanged then.
        """
        cdef Outcome outcome
        cdef Py_buffer states, next_states
        cdef double value
        cdef double wanted = -1 if priority is None else real("priority", priority)
        outcome.action = self._check_action(action)
        outcome.reward = <float>real("reward", reward)
        if not isfinite(outcome.reward):
            raise ValueError(f"reward = {reward!r}: expected a finite float32")
        value = 1 if done is True else 0 if done is False else real("done", done)
        if value != 0 and value != 1:
            raise ValueError(f"done = {done!r}: expected a boolean, 0 or 1")
        outcome.done = value == 1
        if priority is not None and not self._valid_priority(wanted, self._mass(wanted)):
            self._raise_priority("priority", wanted)
        bind_states("state", state, 1, -1, self.state_dim, &states)
        try:
            bind_states("next_state", next_state, 1, -1, self.state_dim, &next_states)
            try:
                check_states("state", &states)
                check_states("next_state", &next_states)
                # From here on no Python code runs.
                if priority is None:
                    wanted = self._default_priority()
                self.tree.set(
                    self._write(&outcome, <const char*>states.buf, <const char*>next_states.buf,
                                states.format[0] == c'd', next_states.format[0] == c'd'),
                    self._mass(wanted))
                self.max_priority = max(self.max_priority, wanted)
                return self.added - 1
            finally:
                PyBuffer_Release(&next_states)
        finally:
            PyBuffer_Release(&states)

    def add_batch(self, *, state, action, reward, next_state, done, priority=None):
        """Add n transitions in order; the same as n times `add`, in one call.

        Parameters
        ----------
        state, next_state : array_like of float, shape (n, state_dim)
        action : array_like of int, shape (n,)
        reward : array_like of float, shape (n,)
        done : array_like of bool, shape (n,)
        priority : array_like of float, shape (n,), optional
            Each as in `add`.

        Returns
        -------
        numpy.ndarray of int64, shape (n,)
            The indexes of the transitions.

        Raises
        ------
        TypeError, ValueError
            An argument is not as in `add`; the buffer is unchanged then.
        """
        cdef Py_buffer states, next_states
        bind_states("state", state, 2, -1, self.state_dim, &states)
        try:
            bind_states("next_state", next_state, 2, states.shape[0], self.state_dim, &next_states)
            try:
                check_states("state", &states)
                check_states("next_state", &next_states)
                return self._add_rows(&states, &next_states, action, reward, done, priority)
            finally:
                PyBuffer_Release(&next_states)
        finally:
            PyBuffer_Release(&states)

    cdef object _add_rows(self, Py_buffer* states, Py_buffer* next_states, object action, object reward,
                          object done, object priority):
        cdef Py_ssize_t i, n = states.shape[0]
        cdef const int64_t[::1] actions = as_array("action", action, "i", np.int64, (n,))
        cdef const double[::1] rewards = as_array("reward", reward, "f", np.float64, (n,))
        cdef const double[::1] dones = as_array("done", done, "b", np.float64, (n,))
        cdef const double[::1] priorities = None
        cdef double mass, largest
        cdef Outcome outcome
        if priority is not None:
            priorities = as_array("priority", priority, "f", np.float64, (n,))
        added = np.empty(n, dtype=np.int64)
        cdef int64_t[::1] indexes = added
        self._reserve(n)
        largest = self.max_priority
        # From here on no Python code runs, but to raise.
        for i in range(n):
            if not 0 <= actions[i] < self.action_limit:
                raise ValueError(f"action[{i}] = {actions[i]}: expected 0 to {self.action_limit - 1}")
            if not isfinite(<float>rewards[i]):
                raise ValueError(f"reward[{i}] = {rewards[i]}: expected a finite float32")
            if dones[i] != 0 and dones[i] != 1:
                raise ValueError(f"done[{i}] = {dones[i]}: expected a boolean, 0 or 1")
            if priority is not None:
                self.masses[i] = self._mass(priorities[i])
                if not self._valid_priority(priorities[i], self.masses[i]):
                    self._raise_priority(f"priority[{i}]", priorities[i])
                largest = max(largest, priorities[i])
        if priority is None and n:
            largest = self._default_priority()
            mass = self._mass(largest)
            for i in range(n):
                self.masses[i] = mass
        for i in range(n):
            outcome.action = <int32_t>actions[i]
            outcome.reward = <float>rewards[i]
            outcome.done = dones[i] == 1
            indexes[i] = self.added
            self.slots[i] = self._write(
                &outcome,
                <const char*>states.buf + i * self.state_dim * states.itemsize,
                <const char*>next_states.buf + i * self.state_dim * next_states.itemsize,
                states.format[0] == c'd', next_states.format[0] == c'd')
        self.tree.set_many(self.slots, self.masses, n)
        self.max_priority = largest
        return added

    def extend(self, records):
        """Add records in order: the same as `add_batch` with their fields, without a copy of them.

        Parameters
        ----------
        records : numpy.ndarray, shape (n,)
            Structured, with the fields ``state`` and ``next_state`` (float32[state_dim]), ``action`` (int32),
            ``reward`` (float32) and ``done`` (bool), as in ``itp.experience.record.record_dtype``; others are
            left aside. Values as in `add`.

        Returns
        -------
        numpy.ndarray of int64, shape (n,)
            The indexes of the transitions.

        Raises
        ------
        TypeError, ValueError
            A field is missing or of another type, or a value is not as in `add`; the buffer is unchanged.
        """
        cdef Py_ssize_t at[5]
        cdef Py_ssize_t i
        cdef Py_buffer view
        array = np.asarray(records)
        fields = array.dtype.fields or {}
        for i, (name, dtype) in enumerate((("state", (np.float32, (self.state_dim,))), ("action", np.int32),
                                           ("reward", np.float32), ("done", np.bool_),
                                           ("next_state", (np.float32, (self.state_dim,))))):
            expected = np.dtype(dtype)
            if name not in fields:
                raise TypeError(f"records lack the field {name!r}: expected {expected}")
            found, at[i] = fields[name][:2]
            if found != expected:
                raise TypeError(f"records[{name!r}] is {found}: expected {expected}")
        if array.ndim != 1:
            raise ValueError(f"records have shape {array.shape}: expected (n,)")
        added = np.empty(len(array), dtype=np.int64)
        self._reserve(len(array))
        PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
        try:
            self._add_records(&view, at, added)
        finally:
            PyBuffer_Release(&view)
        return added

    cdef int _add_records(self, const Py_buffer* view, const Py_ssize_t* at, int64_t[::1] indexes) except -1:
        """Add rows whose fields lie `at` these bytes: state, action, reward, done, next state."""
        cdef Py_ssize_t i, n = indexes.shape[0]
        cdef Outcome outcome
        cdef uint8_t done
        cdef double priority = self._default_priority(), mass = self._mass(priority)
        cdef const char* row = <const char*>view.buf
        # No Python code runs in here, but to raise.
        for i in range(n):
            row = <const char*>view.buf + i * view.strides[0]
            memcpy(&outcome.action, row + at[1], sizeof(int32_t))
            memcpy(&outcome.reward, row + at[2], sizeof(float))
            memcpy(&done, row + at[3], 1)
            if not 0 <= outcome.action < self.action_limit:
                raise ValueError(f"action[{i}] = {outcome.action}: expected 0 to {self.action_limit - 1}")
            if not isfinite(outcome.reward):
                raise ValueError(f"reward[{i}] = {outcome.reward}: expected a finite float32")
            if done > 1:
                raise ValueError(f"done[{i}] = {done}: expected a boolean, 0 or 1")
            if not _finite(row + at[0], self.state_dim):
                raise ValueError(f"state[{i}] holds a value that is not finite")
            if not _finite(row + at[4], self.state_dim):
                raise ValueError(f"next_state[{i}] holds a value that is not finite")
        for i in range(n):
            row = <const char*>view.buf + i * view.strides[0]
            memcpy(&outcome.action, row + at[1], sizeof(int32_t))
            memcpy(&outcome.reward, row + at[2], sizeof(float))
            memcpy(&outcome.done, row + at[3], 1)
            indexes[i] = self.added
            self.slots[i] = self._write(&outcome, row + at[0], row + at[4], False, False)
            self.masses[i] = mass
        self.tree.set_many(self.slots, self.masses, n)
        if n:
            self.max_priority = priority
        return 0

    cdef void _sample(self, Py_ssize_t n, double beta, Batch* batch) noexcept:
        """Fill `batch`; the scratch holds n, the total is positive."""
        cdef int64_t* slots = self.slots
        cdef double* masses = self.masses
        cdef Py_ssize_t dim = self.state_dim
        cdef int64_t newest = (self.added - 1) % self.capacity
        cdef int64_t lap = self.added - 1 - newest  # the index whose slot is 0
        cdef double stratum = self.tree.sum() / n
        cdef double smallest
        cdef Py_ssize_t i
        cdef const char* row
        for i in range(n):
            masses[i] = (i + rng_double(&self.rng)) * stratum
        self.tree.find_many(masses, slots, n)
        smallest = self.mass_limit
        for i in range(n):
            masses[i] = self.tree.get(slots[i])
            smallest = min(smallest, masses[i])
        for i in range(n):
            # The rows come from memory while the powers are computed; three lines hold 20 + 20 entries.
            row = self.rows + slots[i] * self.stride
            prefetch(row)
            prefetch(row + CACHE_LINE)
            prefetch(row + 2 * CACHE_LINE)
            # (N P(i))^-beta over its maximum: N and the total cancel.
            batch.weights[i] = <float>pow(smallest / masses[i], beta)
            batch.indexes[i] = lap + slots[i] - (self.capacity if slots[i] > newest else 0)
        for i in range(n):
            row = self.rows + slots[i] * self.stride
            batch.reward[i] = (<const Outcome*>row).reward
            batch.action[i] = (<const Outcome*>row).action
            batch.done[i] = (<const Outcome*>row).done
            row += sizeof(Outcome)
            memcpy(batch.state + i * dim, row, dim * sizeof(float))
            memcpy(batch.next_state + i * dim, row + dim * sizeof(float), dim * sizeof(float))

    def sample(self, batch_size, beta=0.4, out=None):
        """Draw a batch in proportion to priority ** alpha, with replacement, stratified.

        Parameters
        ----------
        batch_size : int
            Transitions to draw, n below; at least 1.
        beta : float
            Strength of the correction for the biased draw, finite, at least 0; 1 corrects in full.
        out : dict of numpy.ndarray, optional
            Receives the batch: every key below, with that dtype and shape, C-contiguous. Without
            it the arrays are fresh ones.

        Returns
        -------
        dict of numpy.ndarray
            ``state`` and ``next_state`` float32 (n, state_dim); ``action`` int64, ``reward``
            float32, ``done`` bool, ``weights`` float32 and ``indexes`` int64, all (n,).
            Weights are (N P(i))^-beta divided by their maximum in this batch (Schaul et al. 2016,
            section 3.4 and Algorithm 1, line 10), so the largest is exactly 1.

        Raises
        ------
        TypeError, ValueError
            An argument is not as above, the buffer is empty, or every priority is 0; nothing
            changes then, and the generator does not advance.
        """
        cdef Batch batch
        size = integer("batch_size", batch_size)
        if not 1 <= size < 1 << 31:
            raise ValueError(f"batch_size = {size}: expected 1 to 2**31 - 1")
        cdef double exponent = real("beta", beta)
        if not (exponent >= 0 and isfinite(exponent)):
            raise ValueError(f"beta = {beta!r}: expected a finite number of at least 0")
        cdef Py_ssize_t n = size
        result = batch_arrays(out, n, self.state_dim)
        cdef float[:, ::1] state = result["state"]
        cdef int64_t[::1] action = result["action"]
        cdef float[::1] reward = result["reward"]
        cdef float[:, ::1] next_state = result["next_state"]
        cdef uint8_t[::1] done = result["done"].view(np.uint8)
        cdef float[::1] weights = result["weights"]
        cdef int64_t[::1] indexes = result["indexes"]
        batch.state = &state[0, 0]
        batch.action = &action[0]
        batch.reward = &reward[0]
        batch.next_state = &next_state[0, 0]
        batch.done = &done[0]
        batch.weights = &weights[0]
        batch.indexes = &indexes[0]
        self._reserve(n)
        if self.added == 0:
            raise ValueError("the buffer is empty: add transitions before sampling")
        if not self.tree.sum() > 0:
            raise ValueError("every priority in the buffer is 0: make one positive before sampling")
        self._sample(n, exponent, &batch)
        return result

    def update_priorities(self, indexes, priorities):
        """Give transitions new priorities.

        Parameters
        ----------
        indexes : array_like of int, shape (n,)
            As `add` or `sample` gave them. Those whose transition has been overwritten since are
            passed over; of a repeated one the last priority stays.
        priorities : array_like of float, shape (n,)
            Each finite, at least 0, before alpha.

        Returns
        -------
        int
            How many of the indexes were still in the buffer.

        Raises
        ------
        TypeError, ValueError
            An argument is not as above, or an index was never handed out; no priority is changed then.
        """
        cdef const int64_t[::1] given = as_array("indexes", indexes, "i", np.int64, (None,))
        cdef Py_ssize_t i, n = given.shape[0], live = 0
        cdef const double[::1] wanted = as_array("priorities", priorities, "f", np.float64, (n,))
        cdef int64_t oldest = self.added - self._stored()
        cdef double mass, largest = self.max_priority
        self._reserve(n)
        for i in range(n):
            mass = self._mass(wanted[i])
            if not 0 <= given[i] < self.added:
                raise ValueError(f"indexes[{i}] = {given[i]}: expected one handed out, 0 to {self.added - 1}")
            if not self._valid_priority(wanted[i], mass):
                self._raise_priority(f"priorities[{i}]", wanted[i])
            if given[i] >= oldest:
                self.slots[live] = given[i] % self.capacity
                self.masses[live] = mass
                largest = max(largest, wanted[i])
                live += 1
        self.tree.set_many(self.slots, self.masses, live)
        self.max_priority = largest
        return live

    def save(self, path):
        """Write the whole buffer to `path`, its generator included, in the format of `replay_file`.

        The file appears complete or not at all. Needs about the buffer's size in memory for a copy.

        Parameters
        ----------
        path : str or os.PathLike

        Raises
        ------
        OSError
            The file cannot be written; a file that was there before is untouched then.
        """
        # Room for a full buffer, untouched beyond what is held, so that no thread can outgrow it.
        from itp._core.replay import file as replay_file  # here, so that `import itp` stays light

        columns = replay_file.allocate(self.capacity, self.state_dim)
        cdef float[:, ::1] state = columns["state"]
        cdef float[:, ::1] next_state = columns["next_state"]
        cdef float[::1] reward = columns["reward"]
        cdef int32_t[::1] action = columns["action"]
        cdef uint8_t[::1] done = columns["done"]
        cdef double[::1] mass = columns["mass"]
        cdef Py_ssize_t i, n = self._stored(), size = self.state_dim * sizeof(float)
        cdef const char* row
        for i in range(n):
            row = self.rows + i * self.stride
            reward[i] = (<const Outcome*>row).reward
            action[i] = (<const Outcome*>row).action
            done[i] = (<const Outcome*>row).done
            memcpy(&state[i, 0], row + sizeof(Outcome), size)
            memcpy(&next_state[i, 0], row + sizeof(Outcome) + size, size)
            mass[i] = self.tree.get(i)
        header = replay_file.Header(self.state_dim, self.capacity, self.added, self.alpha,
                                    self.max_priority, tuple([self.rng.s[i] for i in range(4)]))
        replay_file.write(path, header, {name: column[:n] for name, column in columns.items()})

    def load(self, path):
        """Replace everything in this buffer by what `save` wrote; the next sample has the same bits.

        Parameters
        ----------
        path : str or os.PathLike
            A file saved by a buffer of the same capacity, state_dim and alpha.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is no such file, or is damaged; the buffer is unchanged then.
        """
        from itp._core.replay import file as replay_file  # as above

        header, columns = replay_file.read(path, self.capacity, self.state_dim, self.alpha)
        cdef const float[:, ::1] state = columns["state"]
        cdef const float[:, ::1] next_state = columns["next_state"]
        cdef const float[::1] reward = columns["reward"]
        cdef const int32_t[::1] action = columns["action"]
        cdef const uint8_t[::1] done = columns["done"]
        cdef const double[::1] mass = columns["mass"]
        cdef Py_ssize_t i, k, n = mass.shape[0]
        cdef double max_priority = header.max_priority
        cdef Rng rng
        cdef Outcome outcome
        cdef bint sound = header.added < 1 << 62 and any(header.rng)
        cdef int64_t added = header.added if sound else 0
        rng_seed(&rng, 0)
        for k in range(4):
            rng.s[k] = header.rng[k]
        sound &= self._valid_priority(max_priority, self._mass(max_priority))
        for i in range(n):
            sound &= isfinite(reward[i]) and 0 <= action[i] < self.action_limit
            sound &= done[i] <= 1 and 0 <= mass[i] <= self.mass_limit
            for k in range(self.state_dim):
                sound &= isfinite(state[i, k]) and isfinite(next_state[i, k])
        if not sound:
            raise ValueError(f"{path}: damaged: it holds values that no buffer like this one could hold")
        # From here on no Python code runs.
        self.added = 0
        for i in range(n):
            outcome.reward = reward[i]
            outcome.action = action[i]
            outcome.done = done[i]
            self._write(&outcome, <const char*>&state[i, 0], <const char*>&next_state[i, 0], False, False)
        self.tree.assign(&mass[0] if n else NULL, n)
        self.added = added
        self.max_priority = max_priority
        self.rng = rng
