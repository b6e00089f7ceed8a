"""The forward pass of a set network: a value for every candidate set of streams, in a few microseconds.

A stream's features and the context give its embedding; a candidate is the mean embedding of its streams,
the mean of all, the context and its own features. Neither the order of the streams nor their number matters.
"""
cimport cython
from libc.stdint cimport uint32_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

from itp._core.arguments import as_array
from itp._core.features cimport CANDIDATE_FEATURES, CONTEXT_FEATURES, STREAM_FEATURES

cdef setnet_kernel _kernels[3]
cdef int _n_kernels = setnet_kernels(_kernels)

KERNELS = tuple([_kernels[k].name.decode() for k in range(_n_kernels)])
MAX_WIDTH = SETNET_MAX_WIDTH
MAX_CANDIDATES = SETNET_MAX_CANDIDATES - 1
# Names of the arrays that a network consists of; a weight is float32[outputs, inputs].
LAYERS = ("context", "first", "second", "pool", "member", "own", "hidden")
BIASES = ("context", "second", "hidden")


@cython.final
cdef class SetNet:
    """A set network, packed for this CPU.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        ``context.weight`` float32[w + z, 22], ``first.weight`` [w, 12], ``second.weight`` [h, w],
        ``pool.weight`` and ``member.weight`` [z, h], ``own.weight`` [z, 10], ``hidden.weight`` [d, z],
        ``out.weight`` [1, d + 10]; ``context.bias``, ``second.bias``, ``hidden.bias``, ``out.bias``.
        Widths w, h, z and d are multiples of 16, up to 128.
    kernel : str, optional
        One of ``KERNELS``, those this CPU can run; without, the first and fastest.

    Raises
    ------
    ValueError
        An array is missing, has another shape, or is not finite; or an unknown kernel.

    Notes
    -----
    Thread safety: immutable.
    """

    def __cinit__(self, arrays, *, kernel=None):
        cdef float* at
        if kernel is None:
            kernel = KERNELS[0]
        if kernel not in KERNELS:
            raise ValueError(f"kernel = {kernel!r}: expected {' or '.join(KERNELS)} on this CPU")
        self.kernel = kernel
        self.forward = _kernels[KERNELS.index(kernel)].forward
        checked = _checked(arrays)
        n_bytes = 4 * (sum([(a.size if a.ndim == 1 else a.shape[0] * a.shape[1]) for a in checked.values()])
                       + 2 * SETNET_PAD) + SETNET_ALIGN
        self.memory = malloc(n_bytes)
        if self.memory == NULL:
            raise MemoryError(f"no memory for {n_bytes} bytes of weights")
        memset(self.memory, 0, n_bytes)
        at = <float*>((<uintptr_t>self.memory + SETNET_ALIGN - 1) // SETNET_ALIGN * SETNET_ALIGN)
        at = _pack(&self.net.context, checked["context.weight"], checked["context.bias"], at)
        at = _pack(&self.net.first, checked["first.weight"], None, at)
        at = _pack(&self.net.second, checked["second.weight"], checked["second.bias"], at)
        at = _pack(&self.net.pool, checked["pool.weight"], None, at)
        at = _pack(&self.net.member, checked["member.weight"], None, at)
        at = _pack(&self.net.own, checked["own.weight"], None, at)
        at = _pack(&self.net.hidden, checked["hidden.weight"], checked["hidden.bias"], at)
        self.net.out_hidden = at
        at = _copy(checked["out.weight"][0, :self.net.hidden.outputs], at)
        self.net.out_own = at
        at = _copy(checked["out.weight"][0, self.net.hidden.outputs:], at)
        self.net.out_bias = checked["out.bias"][0]

    def __dealloc__(self):
        free(self.memory)

    def __reduce__(self):
        raise TypeError("a SetNet cannot be pickled: load its model again")

    def __call__(self, streams, context, candidates, members):
        """Values of the candidates of many decisions.

        Parameters
        ----------
        streams : array_like
            float32[b, m, 12], m from 1 to 16.
        context : array_like
            float32[b, 22].
        candidates : array_like
            float32[b, k, 10], k from 1 to 63.
        members : array_like
            uint32[b, k]: bit masks over the m streams, none 0.

        Returns
        -------
        ndarray
            float32[b, k].
        """
        cdef const float[:, :, ::1] s = np.ascontiguousarray(streams, np.float32)
        cdef const float[:, ::1] x = np.ascontiguousarray(context, np.float32)
        cdef const float[:, :, ::1] c = np.ascontiguousarray(candidates, np.float32)
        cdef const uint32_t[:, ::1] sets = np.ascontiguousarray(members, np.uint32)
        cdef float rows[16 * STREAM_FEATURES]
        cdef Py_ssize_t b = s.shape[0], i
        cdef int m = s.shape[1], k = c.shape[1]
        if not (1 <= m <= SETNET_MAX_STREAMS and 1 <= k < SETNET_MAX_CANDIDATES
                and x.shape[0] == c.shape[0] == sets.shape[0] == b and sets.shape[1] == k
                and s.shape[2] == STREAM_FEATURES and x.shape[1] == CONTEXT_FEATURES
                and c.shape[2] == CANDIDATE_FEATURES):
            raise ValueError(f"expected [b, m, {STREAM_FEATURES}], [b, {CONTEXT_FEATURES}], "
                             f"[b, k, {CANDIDATE_FEATURES}] and [b, k]; got "
                             f"{np.shape(s)}, {np.shape(x)}, {np.shape(c)} and {np.shape(sets)}")
        if b and not (np.asarray(sets).min() > 0 and np.asarray(sets).max() < 1 << m):
            raise ValueError(f"members: expected masks from 1 to {(1 << m) - 1}")
        cdef float[:, ::1] out = np.empty((b, k), np.float32)
        with nogil:
            memset(rows, 0, sizeof(rows))
            for i in range(b):
                memcpy(rows, &s[i, 0, 0], m * STREAM_FEATURES * sizeof(float))
                self.forward(&self.net, rows, m, &x[i, 0], &c[i, 0, 0], &sets[i, 0], k, &out[i, 0])
        return np.asarray(out)


def _checked(arrays):
    """The arrays by name, C-contiguous float32 and of shapes that fit each other."""
    found = {}
    names = [f"{name}.weight" for name in (*LAYERS, "out")] + [f"{name}.bias" for name in (*BIASES, "out")]
    if missing := [name for name in names if name not in arrays]:
        raise ValueError(f"missing: {', '.join(missing)}")
    for name in names:
        array = as_array(name, arrays[name], "f", np.float32, (None, None) if "weight" in name else (None,))
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has values that are not finite")
        found[name] = array
    w, h, z, d = (found[f"{name}.weight"].shape[0] for name in ("first", "second", "member", "hidden"))
    for width in (w, h, z, d):
        if not 16 <= width <= MAX_WIDTH or width % 16:
            raise ValueError(f"a layer of {width} outputs: expected a multiple of 16, at most {MAX_WIDTH}")
    expected = {
        "context.weight": (w + z, CONTEXT_FEATURES), "first.weight": (w, STREAM_FEATURES),
        "second.weight": (h, w), "pool.weight": (z, h), "member.weight": (z, h),
        "own.weight": (z, CANDIDATE_FEATURES), "hidden.weight": (d, z),
        "out.weight": (1, d + CANDIDATE_FEATURES),
        "context.bias": (w + z,), "second.bias": (h,), "hidden.bias": (d,), "out.bias": (1,),
    }
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise ValueError(f"{name}: expected {list(shape)}; got {list(found[name].shape)}")
    return found


cdef float* _pack(setnet_layer* layer, const float[:, ::1] weight, bias, float* at) except NULL:
    cdef int i, o
    layer.outputs, layer.inputs = weight.shape[0], weight.shape[1]
    layer.padded = layer.outputs
    layer.bias = NULL
    if bias is not None:
        layer.bias = at
        at = _copy(bias, at)
    layer.weights = at
    for i in range(layer.inputs):
        for o in range(layer.outputs):
            at[i * layer.padded + o] = weight[o, i]
    return at + layer.inputs * layer.padded


cdef float* _copy(values, float* at) except NULL:
    cdef const float[::1] v = np.ascontiguousarray(values, np.float32)
    cdef Py_ssize_t i
    for i in range(v.shape[0]):
        at[i] = v[i]
    return at + (v.shape[0] + SETNET_PAD - 1) // SETNET_PAD * SETNET_PAD
