"""The fused forward pass of a chain of dense layers with ReLU between them: a state in about a microsecond.

Weights are packed once, a row per input, each row a multiple of the widest vector and aligned to a cache
line. The kernel skips the rows of inputs that are zero: what ReLU has cut off is never read. Its products
are fused with its sums, so that the last bits differ among instruction sets, as they do from onnxruntime.
"""
cimport cython
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from itp._core.state cimport monotonic_s

import numpy as np

from itp._core.arguments import as_array

MAX_LAYERS = QNET_MAX_LAYERS
MAX_WIDTH = QNET_MAX_WIDTH

cdef enum:
    FEW = 64        # states: getting the GIL back in a busy process takes longer than they do

cdef qnet_kernel _kernels[3]
cdef int _n_kernels = qnet_kernels(_kernels)

KERNELS = tuple([_kernels[k].name.decode() for k in range(_n_kernels)])


@cython.final
cdef class QNet:
    """A chain of dense layers, packed for this CPU.

    Parameters
    ----------
    layers : sequence of (weights, bias)
        float32[outputs, inputs] and float32[outputs], finite; a layer's inputs are the outputs of the one
        before. ReLU stands between layers, none behind the last.
    kernel : str, optional
        One of ``KERNELS``, those this CPU can run; without, the first and fastest.

    Raises
    ------
    ValueError
        No layer or more than ``MAX_LAYERS``, a width of 0 or above ``MAX_WIDTH``, widths that do not follow
        from one another, weights that are not finite, or an unknown kernel.

    Notes
    -----
    Thread safety: immutable. Calls with fewer than 64 states hold the GIL from start to end.
    """

    def __cinit__(self, layers, *, kernel=None):
        cdef int k, i, o
        cdef qnet_layer* layer
        cdef float* at
        cdef const float[:, ::1] w
        cdef const float[::1] b
        if kernel is None:
            kernel = KERNELS[0]
        if kernel not in KERNELS:
            raise ValueError(f"kernel = {kernel!r}: expected {' or '.join(KERNELS)} on this CPU")
        self.kernel = kernel
        self.forward = _kernels[KERNELS.index(kernel)].forward
        self.forward_tile = _kernels[KERNELS.index(kernel)].forward_tile
        checked = _checked(layers)
        self.net.n_layers = len(checked)
        n_floats = 0
        for k, (weights, bias) in enumerate(checked):
            layer = &self.net.layers[k]
            layer.outputs, layer.inputs = weights.shape
            layer.padded = (layer.outputs + QNET_PAD - 1) // QNET_PAD * QNET_PAD
            n_floats += (layer.inputs + 1) * layer.padded
        n_bytes = n_floats * sizeof(float) + QNET_ALIGN
        self.memory = malloc(n_bytes)
        if self.memory == NULL:
            raise MemoryError(f"no memory for {n_bytes} bytes of weights")
        memset(self.memory, 0, n_bytes)
        at = _aligned(self.memory)
        for k, (weights, bias) in enumerate(checked):
            layer = &self.net.layers[k]
            w, b = weights, bias
            # A large model takes long enough for others to want the GIL.
            with nogil:
                layer.bias = at
                for o in range(layer.outputs):
                    at[o] = b[o]
                at += layer.padded
                layer.weights = at
                for i in range(layer.inputs):
                    for o in range(layer.outputs):
                        at[o] = w[o, i]
                    at += layer.padded

    def __dealloc__(self):
        free(self.memory)

    def __reduce__(self):
        raise TypeError("a QNet cannot be pickled: load its model again")

    @property
    def widths(self):
        """Inputs, then every layer's outputs."""
        return (self.net.layers[0].inputs,
                *[self.net.layers[k].outputs for k in range(self.net.n_layers)])

    def __call__(self, states):
        """Q-values of states float32[n, inputs]: float32[n, outputs].

        Raises
        ------
        ValueError, TypeError
            The states have another shape, or are no numbers.
        """
        cdef int inputs = self.net.layers[0].inputs
        cdef int outputs = self.net.layers[self.net.n_layers - 1].outputs
        cdef const float[:, ::1] x = as_array("states", states, "f", np.float32, (None, inputs))
        cdef Py_ssize_t n = x.shape[0]
        cdef int failed
        cdef float[:, ::1] y = np.empty((n, outputs), np.float32)
        if n == 0:
            return np.asarray(y)
        if n < FEW:
            failed = self.run(&x[0, 0], &y[0, 0], n)
        else:
            with nogil:
                failed = self.run(&x[0, 0], &y[0, 0], n)
        if failed:
            raise MemoryError("no memory for a batch of states")
        return np.asarray(y)

    def time_ns(self, states, calls, limit_ns):
        """How long one state after the other takes, each on its own, the clock's reading included.

        Parameters
        ----------
        states : array_like
            float32[n, inputs], n >= 1: taken in turn.
        calls : int
        limit_ns : int
            No more calls once all have taken so long together; one is made in any case.

        Returns
        -------
        ndarray
            int64[at most `calls`], in nanoseconds.
        """
        cdef const float[:, ::1] x = as_array("states", states, "f", np.float32,
                                              (None, self.net.layers[0].inputs))
        cdef int64_t[::1] taken_ns = np.empty(calls, np.int64)
        cdef Py_ssize_t k, n = x.shape[0]
        cdef int64_t left_ns = limit_ns
        cdef float y[QNET_MAX_WIDTH]
        cdef double before_s
        if n == 0:
            raise ValueError("states: expected at least one")
        for k in range(taken_ns.shape[0]):
            before_s = monotonic_s()
            self.forward(&self.net, &x[k % n, 0], y)
            taken_ns[k] = <int64_t>((monotonic_s() - before_s) * 1e9)
            left_ns -= taken_ns[k]
            if left_ns < 0:
                return np.asarray(taken_ns)[:k + 1]
        return np.asarray(taken_ns)

    cdef int run(self, const float* x, float* y, Py_ssize_t n) noexcept nogil:
        """Many states, a tile at a time; -1 without memory for what they are worked on."""
        cdef qnet_scratch scratch[QNET_TILE]
        cdef int inputs = self.net.layers[0].inputs
        cdef int outputs = self.net.layers[self.net.n_layers - 1].outputs
        cdef Py_ssize_t done = 0, width = inputs, room
        cdef int k, m
        cdef void* memory
        cdef float* at
        for k in range(self.net.n_layers):
            width = max(width, <Py_ssize_t>self.net.layers[k].padded)
        # A multiple of the padding, so that each part begins aligned.
        room = (width + QNET_PAD - 1) // QNET_PAD * QNET_PAD + QNET_PAD
        memory = malloc(3 * QNET_TILE * room * sizeof(float) + QNET_ALIGN)
        if memory == NULL:
            return -1
        at = _aligned(memory)
        for k in range(QNET_TILE):
            scratch[k].y = at
            scratch[k].x = at + room
            scratch[k].row = <unsigned*>(at + 2 * room)
            at += 3 * room
        while done < n:
            m = <int>(n - done if n - done < QNET_TILE else QNET_TILE)
            if m == 1:
                self.forward(&self.net, x + done * inputs, y + done * outputs)
            else:
                self.forward_tile(&self.net, x + done * inputs, y + done * outputs, m, scratch)
            done += m
        free(memory)
        return 0


cdef inline float* _aligned(void* memory) noexcept nogil:
    return <float*>((<uintptr_t>memory + QNET_ALIGN - 1) // QNET_ALIGN * QNET_ALIGN)


def _checked(layers):
    """The layers as C-contiguous float32 arrays."""
    arrays = []
    expected = None
    for k, (weights, bias) in enumerate(layers):
        w = as_array(f"weights of layer {k}", weights, "f", np.float32, (None, expected))
        b = as_array(f"bias of layer {k}", bias, "f", np.float32, (w.shape[0],))
        for width in w.shape:
            if not 1 <= width <= MAX_WIDTH:
                raise ValueError(f"layer {k} has {w.shape[1]} inputs and {w.shape[0]} outputs: "
                                 f"expected 1 to {MAX_WIDTH}")
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise ValueError(f"layer {k} has weights that are not finite")
        arrays.append((w, b))
        expected = w.shape[0]
    if not 1 <= len(arrays) <= MAX_LAYERS:
        raise ValueError(f"{len(arrays)} layers: expected 1 to {MAX_LAYERS}")
    return arrays
