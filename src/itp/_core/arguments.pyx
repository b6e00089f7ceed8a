"""What callers hand in: brought into the wanted type, or refused by name."""
from cpython.buffer cimport (PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_CheckBuffer,
                             PyObject_GetBuffer)
from cpython.float cimport PyFloat_AsDouble
from cpython.number cimport PyNumber_Index
from libc.math cimport isfinite
from libc.stdint cimport int64_t

import numpy as np

_KINDS = {"i": "integers", "f": "real numbers", "b": "booleans or 0 and 1"}
_ACCEPTED = {"i": "iu", "f": "fiu", "b": "bfiu"}


def as_array(name, value, kind, dtype, shape):
    """Bring `value` into a C-contiguous array of `dtype`, copying only where needed.

    Parameters
    ----------
    name : str
        What the errors call the argument.
    value : array_like
    kind : {"i", "f", "b"}
        What it has to hold: integers, real numbers, or truth values. Nothing is rounded to fit.
    dtype : dtype
        The dtype of the result.
    shape : tuple of int or None
        The shape it has to have; None stands for any length.

    Raises
    ------
    TypeError
        `value` holds something else than `kind`.
    ValueError
        Its shape is another, or its rows differ in length.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array of {_KINDS[kind]}: {error}") from None
    if array.dtype.kind not in _ACCEPTED[kind] and array.size:
        raise TypeError(f"{name} has dtype {array.dtype}: expected {_KINDS[kind]}")
    fits = array.ndim == len(shape)
    if fits:
        for have, want in zip(array.shape, shape):
            fits = fits and (want is None or have == want)
    if not fits:
        wanted = ", ".join(["n" if want is None else str(want) for want in shape])
        raise ValueError(f"{name} has shape {array.shape}: expected ({wanted}{',' * (len(shape) == 1)})")
    return np.ascontiguousarray(array, dtype)


# Key and dtype of a replay batch, and whether it has a column per entry of the state.
_BATCH = (
    ("state", np.dtype(np.float32), True),
    ("action", np.dtype(np.int64), False),
    ("reward", np.dtype(np.float32), False),
    ("next_state", np.dtype(np.float32), True),
    ("done", np.dtype(np.bool_), False),
    ("weights", np.dtype(np.float32), False),
    ("indexes", np.dtype(np.int64), False),
)


def batch_arrays(out, n, state_dim):
    """Fresh arrays for a replay batch of `n`, or `out` if it holds fitting ones.

    Raises
    ------
    TypeError, ValueError
        An entry of `out` is missing, no array, of another dtype or shape, strided or read-only.
    """
    if out is None:
        return {key: np.empty((n, state_dim) if wide else n, dtype) for key, dtype, wide in _BATCH}
    for key, dtype, wide in _BATCH:
        if key not in out:
            raise ValueError(f"out lacks {key!r}: expected all of {', '.join([k for k, _, _ in _BATCH])}")
        array = out[key]
        shape = (n, state_dim) if wide else (n,)
        # A subclass could run code of its own while the buffer writes through its memory.
        if type(array) is not np.ndarray:
            raise TypeError(f"out[{key!r}] is a {type(array).__name__}: expected a numpy.ndarray")
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(f"out[{key!r}] is {array.dtype}{array.shape}: expected {dtype}{shape}")
        if not (array.flags.c_contiguous and array.flags.writeable):
            raise ValueError(f"out[{key!r}]: expected a writable C-contiguous array")
    return out


cdef double real(str name, object value) except? -1:
    try:
        return PyFloat_AsDouble(value)
    except TypeError:
        raise TypeError(f"{name} = {value!r}: expected a real number") from None
    except OverflowError:
        raise ValueError(f"{name} is beyond any float: expected a smaller number") from None


cdef object integer(str name, object value):
    try:
        return PyNumber_Index(value)
    except TypeError:
        raise TypeError(f"{name} = {value!r}: expected an integer") from None


cdef double real_between(str name, object value, double low, double high, str expected) except? -1:
    cdef double x = real(name, value)
    if not (isfinite(x) and low <= x <= high):
        raise ValueError(f"{name} = {value!r}: expected {expected}")
    return x


cdef int64_t byte_count(str name, object value, int64_t low) except? -1:
    if isinstance(value, bool):
        raise TypeError(f"{name} = {value!r}: expected an integer")
    number = integer(name, value)
    if not low <= number <= 0x7FFFFFFFFFFFFFFF:
        raise ValueError(f"{name} = {value!r}: expected {low} to 2**63 - 1")
    return number


cdef int bind_states(str name, object value, int ndim, Py_ssize_t rows, Py_ssize_t dim,
                     Py_buffer* view) except -1:
    """Take a view of float32 or float64, C-contiguous, shape (rows, dim) or (dim,); the caller releases it.

    Whatever else holds real numbers is copied into such an array first. rows < 0: any number.
    """
    if PyObject_CheckBuffer(value):
        try:
            PyObject_GetBuffer(value, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except (BufferError, TypeError, ValueError):
            pass  # strided or exotic: NumPy below decides
        else:
            if (view.ndim == ndim and view.shape[ndim - 1] == dim
                    and (ndim == 1 or rows < 0 or view.shape[0] == rows)
                    and view.format != NULL and (view.format[0] == c'f' or view.format[0] == c'd')
                    and view.format[1] == 0):
                return 0
            PyBuffer_Release(view)
    shape = (<object>dim,) if ndim == 1 else (None if rows < 0 else <object>rows, <object>dim)
    PyObject_GetBuffer(as_array(name, value, "f", np.float64, shape), view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    return 0


cdef inline bint _all_finite(const Py_buffer* view) noexcept nogil:
    """Whether every item is finite as float32."""
    cdef Py_ssize_t i, n = view.len // view.itemsize
    cdef int bad = 0
    if view.format[0] == c'd':
        for i in range(n):
            bad |= not isfinite(<float>(<const double*>view.buf)[i])
    else:
        for i in range(n):
            bad |= not isfinite((<const float*>view.buf)[i])
    return not bad


cdef int check_states(str name, const Py_buffer* view) except -1:
    if _all_finite(view):
        return 0
    dtype = np.float64 if view.format[0] == c'd' else np.float32
    array = np.frombuffer((<const char*>view.buf)[:view.len], dtype)
    with np.errstate(over="ignore"):
        place = int(np.argmin(np.isfinite(array.astype(np.float32))))
    where = np.unravel_index(place, tuple(view.shape[i] for i in range(view.ndim)))
    raise ValueError(f"{name}[{', '.join(map(str, where))}] = {array[place]}: expected a finite float32")
