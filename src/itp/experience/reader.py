"""Reading records: of the experience log, and of the Parquet and NPZ files made of them."""

from __future__ import annotations

import operator
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from itp.errors import LogError
from itp.experience.export import SUFFIXES as EXPORTED
from itp.experience.exported import read_npz, read_parquet
from itp.experience.record import check_records, record_dtype
from itp.experience.segment import SUFFIX, read_segment, segments

__all__ = ["read_log", "read_records"]

# Records that a later one may replace, held back until a segment's end: a partitioner has one at a time.
_HELD_BACK = 1024

_Batches = Iterator[NDArray[np.void]]


def read_records(
    path: str | os.PathLike[str], batch: int = 8192, *, service_order: str | None = None
) -> _Batches:
    """All records of a log, or of other files of records, in arrays of at most `batch`.

    Memory does not grow with the number of records. A record that was cut off at a segment's end is left
    out. A log may be read while it is written.

    Parameters
    ----------
    path : path
        A folder, or a file that ends in ``.itplog``, ``.parquet`` or ``.npz``. A folder stands for its
        segments, oldest first; where it has none, for its Parquet and NPZ files, by name.
    batch : int
        At least 1.
    service_order : str, optional
        Refuse files that say that their streams were served in another order. Not all files say.

    Yields
    ------
    ndarray
        Of ``itp.experience.record.record_dtype``; its memory is the caller's.

    Raises
    ------
    LogError
        There is no such file, it is of another kind, version or service order, a record is damaged (the text
        says which), or the files hold records of different types. MissingExtraError: Parquet without pyarrow.
    ValueError, TypeError
        `batch` is not as above.
    """
    batch = operator.index(batch)
    if batch < 1:
        raise ValueError(f"batch = {batch}: expected at least 1")
    return _read(_files(Path(path)), batch, service_order)


def read_log(path: str | os.PathLike[str]) -> NDArray[np.void]:
    """All records at once; see `read_records`. Without any, an empty array for four streams."""
    arrays = list(read_records(path))
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=record_dtype(4))


def _files(path: Path) -> list[Path]:
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            return segments(path) or sorted(
                file for file in path.iterdir() if file.suffix.lower() in EXPORTED
            )
    except FileNotFoundError:
        raise LogError(f"{path}: no such file or folder") from None
    except (OSError, ValueError) as error:
        raise LogError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if path.suffix.lower() not in _READERS:
        raise LogError(f"{path}: expected a folder, or a name that ends in {', '.join(_READERS)}")
    return [path]


def _read(files: list[Path], batch: int, service_order: str | None) -> _Batches:
    dtype = None
    for path in files:
        _check_regular(path)
        first = 0
        for records in _READERS[path.suffix.lower()](path, batch, service_order):
            if records.dtype != (dtype := dtype or records.dtype):
                raise LogError(
                    f"{path}: its records are unlike those of the files before it: of different numbers of "
                    "streams, or returns in only some of them"
                )
            try:
                check_records(records, first)
            except ValueError as error:
                raise LogError(f"{path}: {error}") from None
            first += len(records)
            yield records


def _check_regular(path: Path) -> None:
    """LogError for a named pipe or a device: to open one may never end."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not stat.S_ISREG(mode):
        raise LogError(f"{path}: not a regular file")


def _latest(path: Path, batch: int, service_order: str | None) -> _Batches:
    """A segment's records without those that a later one of the same decision replaces."""
    held: NDArray[np.void] | None = None
    for records in read_segment(path, batch, service_order):
        if held is None:
            held = records[:0]
        if not len(held) and not records["done"].any():
            yield records
            continue
        joined = np.concatenate([held, records])
        joined = joined[~_replaced(joined)]
        # What is done may be replaced by what follows.
        yield joined[~joined["done"]]
        held = joined[joined["done"]]
        while len(held) > _HELD_BACK:
            yield held[:batch]
            held = held[batch:]
    while held is not None and len(held):
        yield held[:batch]
        held = held[batch:]


def _replaced(records: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which records are done and have a later one of the same decision behind them."""
    number, decided_at_s = records["number"], records["decided_at_s"]
    order = np.lexsort((decided_at_s, number))  # stable: the same decision's records keep their order
    same = (np.diff(number[order]) == 0) & (np.diff(decided_at_s[order]) == 0)
    replaced = np.zeros(len(records), dtype=np.bool_)
    replaced[order[:-1][same]] = True
    replaced &= records["done"]
    return replaced


_READERS: dict[str, Callable[[Path, int, str | None], _Batches]] = {
    SUFFIX: _latest,
    ".npz": read_npz,
    ".parquet": read_parquet,
}
