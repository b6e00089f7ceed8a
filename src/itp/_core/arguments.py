"""Arrays that callers hand in: brought into the wanted type, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_KINDS = {"i": "integers", "f": "real numbers", "b": "booleans or 0 and 1"}
_ACCEPTED = {"i": "iu", "f": "fiu", "b": "bfiu"}


def as_array(
    name: str, value: object, kind: str, dtype: DTypeLike, shape: tuple[int | None, ...]
) -> NDArray[Any]:
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
    if len(array.shape) != len(shape) or any(
        want is not None and have != want for have, want in zip(array.shape, shape, strict=True)
    ):
        wanted = ", ".join("n" if want is None else str(want) for want in shape)
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


def batch_arrays(out: dict[str, NDArray[Any]] | None, n: int, state_dim: int) -> dict[str, NDArray[Any]]:
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
            raise ValueError(f"out lacks {key!r}: expected all of {', '.join(k for k, _, _ in _BATCH)}")
        array = out[key]
        shape = (n, state_dim) if wide else (n,)
        if not isinstance(array, np.ndarray):
            raise TypeError(f"out[{key!r}] is a {type(array).__name__}: expected a numpy.ndarray")
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(f"out[{key!r}] is {array.dtype}{array.shape}: expected {dtype}{shape}")
        if not (array.flags.c_contiguous and array.flags.writeable):
            raise ValueError(f"out[{key!r}]: expected a writable C-contiguous array")
    return out
