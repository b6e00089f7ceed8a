"""Reading the NPZ and Parquet files that ``itp.experience.export`` writes, a batch at a time."""

from __future__ import annotations

import io
import json
import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from itp.errors import LogError
from itp.experience.export import pyarrow
from itp.experience.record import SOURCES, VERSION, check_service_order, record_dtype, renumbered
from itp.schema import MAX_STREAMS, SCHEMA

__all__ = ["read_npz", "read_parquet"]

_METADATA_BYTES = 1 << 20
_STREAM_BYTES = 1 << 20

_Batches = Iterator[NDArray[np.void]]


def read_npz(path: Path, batch: int, service_order: str | None = None) -> _Batches:
    """The records of an NPZ file, in arrays of at most `batch`.

    Raises
    ------
    LogError
        The file cannot be read, is none of records, or says another service order than the one given.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _read_columns(path, archive, batch, service_order)
    # Encrypted entries and methods of compression that are not known are RuntimeError, NotImplementedError.
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def _read_columns(path: Path, archive: zipfile.ZipFile, batch: int, service_order: str | None) -> _Batches:
    columns, rows = {}, {}
    try:
        names = _sources(path, _npz_metadata(path, archive), service_order)
        for entry in archive.namelist():
            name = entry.removesuffix(".npy")
            if name != "metadata":
                file = archive.open(entry)
                shape, fortran_order, kind = _read_header(file)
                if min(shape, default=0) < 0:
                    raise ValueError(f"{entry} has shape {shape}")
                if fortran_order and len(shape) > 1:
                    raise ValueError(f"{entry} is in Fortran's order")
                columns[name] = file, np.dtype((kind, shape[1:]))
                rows[name] = shape[0] if shape else -1
    except ValueError as error:  # a header that is none
        raise LogError(f"{path}: {error}") from error
    dtype = _record_type(path, columns)
    for name in dtype.names or ():
        kind = columns[name][1]
        fits = kind == dtype[name] or (name == "source" and kind == np.uint8)
        if not fits or rows[name] != rows["state"]:
            raise LogError(
                f"{path}: {name} is {rows[name]} x {kind}: expected {rows['state']} x {dtype[name]}"
            )
    for first in range(0, rows["state"], batch):
        records = np.empty(min(batch, rows["state"] - first), dtype=dtype)
        for name in dtype.names or ():
            file, kind = columns[name]
            content = _read_exactly(file, len(records) * kind.itemsize)
            values = np.frombuffer(content, dtype=kind.base).reshape(len(records), *kind.shape)
            records[name] = renumbered(values, names) if name == "source" else values
        yield records


def _npz_metadata(path: Path, archive: zipfile.ZipFile) -> str:
    try:
        entry = archive.getinfo("metadata.npy")
    except KeyError:
        raise _foreign(path) from None
    if entry.file_size > _METADATA_BYTES:
        raise _foreign(path)
    content = io.BytesIO(archive.read(entry))
    shape, _, kind = _read_header(content)
    if math.prod(shape) * kind.itemsize > entry.file_size:
        raise _foreign(path)
    content.seek(0)
    return str(npy.read_array(content, allow_pickle=False))


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"an array of version {version}: expected (1, 0)")
    try:
        return npy.read_array_header_1_0(file)
    except Exception as error:  # it evaluates a Python literal: any of the parser's errors may come
        raise ValueError(f"an array with a damaged header: {type(error).__name__}: {error}") from error


def _read_exactly(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError("a column ends early")
    return content


def read_parquet(path: Path, batch: int, service_order: str | None = None) -> _Batches:
    """The records of a Parquet file, in arrays of at most `batch`.

    Raises
    ------
    LogError
        The file cannot be read, is none of records, or says another service order than the one given.
    MissingExtraError
        pyarrow is not installed.
    """
    arrow = pyarrow()
    try:
        with arrow.parquet.ParquetFile(path, buffer_size=_STREAM_BYTES, pre_buffer=False) as file:
            schema = file.schema_arrow
            names = _sources(path, (schema.metadata or {}).get(b"itp", b""), service_order)
            if len(set(schema.names)) < len(schema.names):
                raise LogError(f"{path}: has two columns of one name")
            kinds = {name: _kind(schema.field(name).type) for name in schema.names}
            dtype = _record_type(path, {name: (None, kind) for name, kind in kinds.items()})
            for part in file.iter_batches(batch_size=batch, columns=list(dtype.names or ())):
                records = np.empty(len(part), dtype=dtype)
                for name in dtype.names or ():
                    try:
                        values = _values(arrow, part.column(name), dtype[name])
                    except arrow.ArrowException as error:
                        raise LogError(f"{path}: {name}: {error}") from error
                    records[name] = renumbered(values, names) if name == "source" else values
                yield records
    except (OSError, arrow.ArrowException) as error:
        raise _unreadable(path, error) from error


def _kind(column: Any) -> np.dtype[Any]:
    """A type as far as the type of the records depends on it: how long the lists are."""
    return np.dtype((np.float32, (getattr(column, "list_size", 0),)))


def _values(arrow: Any, column: Any, kind: np.dtype[Any]) -> NDArray[Any]:
    if column.null_count:
        raise arrow.ArrowInvalid("a value is missing")
    if kind.base.kind == "S":
        return np.array(column.cast(arrow.binary()).to_pylist(), dtype=kind)
    if kind.shape:
        column = column.cast(arrow.list_(arrow.from_numpy_dtype(kind.base), kind.shape[0]))
        return np.asarray(column.flatten()).reshape(len(column), *kind.shape)
    return np.asarray(column.cast(arrow.from_numpy_dtype(kind)).to_numpy(zero_copy_only=False))


# --- what both have ---


def _sources(path: Path, metadata: str | bytes, service_order: str | None) -> list[str]:
    """The names by which a file counts its sources; it must not say another service order."""
    try:
        about = json.loads(metadata)
        version, schema, names = about["format_version"], about["schema"], about["sources"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _foreign(path) from error
    if version not in (1, VERSION) or schema != SCHEMA:
        raise LogError(
            f"{path}: version {version!r:.40} of the format, state schema {schema!r:.40}; this release reads "
            f"versions 1 and {VERSION}, schema {SCHEMA}"
        )
    known = isinstance(names, list) and all(name in SOURCES for name in names)
    if not known or len(names) != len(set(names)):
        raise LogError(f"{path}: sources = {names!r:.80}: expected some of {', '.join(SOURCES)}")
    check_service_order(path, about.get("service_order"), service_order)
    return list(names)


def _record_type(path: Path, columns: dict[str, tuple[Any, np.dtype[Any]]]) -> np.dtype[np.void]:
    """The type of the records, as the length of the states says and whether there are returns."""
    if "state" not in columns:
        raise _foreign(path)
    shape = columns["state"][1].shape
    length = shape[0] if len(shape) == 1 else 0
    n_streams, rest = divmod(length - 4, 4)
    if rest or not 1 <= n_streams <= MAX_STREAMS:
        raise LogError(f"{path}: states of shape {shape}: expected 4n + 4 entries, n from 1 to 16")
    dtype = record_dtype(n_streams, returns="returns" in columns)
    missing = [name for name in dtype.names or () if name not in columns]
    if missing:
        raise LogError(f"{path}: lacks {', '.join(missing)}: not a file of experiences")
    return dtype


def _foreign(path: Path) -> LogError:
    return LogError(f"{path}: not a file of experiences as itp writes them")


def _unreadable(path: Path, error: Exception) -> LogError:
    return LogError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
