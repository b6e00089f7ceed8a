"""Records as NPZ or Parquet files, for tools that do not read the log."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from itp._util.extras import extra
from itp.experience.record import SOURCES, VERSION, record_dtype
from itp.schema import SCHEMA

__all__ = ["SUFFIXES", "ExperienceFile", "experience_file", "pyarrow"]

SUFFIXES = (".npz", ".parquet")
_COPY_BYTES = 1 << 20
# Of rows in memory at a time, and of a row group of Parquet.
_PIECE_BYTES = 16 << 20


def experience_file(
    path: str | os.PathLike[str],
    n_streams: int,
    metadata: Mapping[str, Any] | None = None,
    *,
    returns: bool = False,
) -> ExperienceFile:
    """A file of records to append to; its name says of which form: ``.npz`` or ``.parquet``.

    Either has a column for each field of ``itp.experience.record.record_dtype``. Metadata is JSON: in NPZ
    the array ``metadata``, in Parquet the schema's key ``itp``. `itp.experience.reader` reads both.

    Parameters
    ----------
    path : path
        Replaced on `ExperienceFile.close`, not before.
    n_streams : int
    metadata : mapping, optional
        Added to the versions and the names that ``source`` counts.
    returns : bool
        The records have the returns of all actions.

    Raises
    ------
    ValueError
        The name ends otherwise.
    MissingExtraError
        Parquet without pyarrow.
    """
    about = {"format_version": VERSION, "schema": SCHEMA, "sources": SOURCES, **(metadata or {})}
    suffix = Path(path).suffix.lower()
    dtype = record_dtype(n_streams, returns=returns)
    if suffix == ".npz":
        return _Npz(path, dtype, about)
    if suffix == ".parquet":
        return _Parquet(path, dtype, about)
    raise ValueError(f"{os.fspath(path)}: expected a name that ends in {' or '.join(SUFFIXES)}")


def pyarrow() -> Any:
    """The package, its Parquet part loaded; MissingExtraError where it is not installed."""
    with extra("Parquet files need", "data"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow


class ExperienceFile(ABC):
    """Appends records; memory does not grow with their number.

    The file appears whole, when it is closed, or not at all. Thread safety: none.

    Attributes
    ----------
    path : Path
    rows : int
        How many there are.
    """

    def __init__(
        self, path: str | os.PathLike[str], dtype: np.dtype[np.void], metadata: Mapping[str, Any]
    ) -> None:
        self.path = Path(path)
        self.rows = 0
        self._dtype = dtype
        self._metadata = json.dumps(metadata)
        # Beside its place, so that moving it there is atomic.
        self._folder = tempfile.TemporaryDirectory(prefix=f".{self.path.name}.", dir=self.path.parent)
        self._whole = os.path.join(self._folder.name, "whole")

    def append(self, records: NDArray[np.void]) -> None:
        """Add rows; TypeError if they are not of the record's dtype."""
        if records.dtype != self._dtype:
            raise TypeError(f"records: expected {self._dtype}; got {records.dtype}")
        step = max(_PIECE_BYTES // self._dtype.itemsize, 1)
        for first in range(0, len(records), step):
            self._append(records[first : first + step])
        self.rows += len(records)

    def close(self) -> None:
        """Finish the file, make it durable and move it to its place."""
        with self._folder:
            self._finish()
            descriptor = os.open(self._whole, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(self._whole, self.path)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._stop()
        self._folder.cleanup()

    @abstractmethod
    def _append(self, records: NDArray[np.void]) -> None: ...

    @abstractmethod
    def _finish(self) -> None:
        """Make a whole file of what has been appended, and close it."""

    @abstractmethod
    def _stop(self) -> None:
        """Close what is open."""


class _Npz(ExperienceFile):
    """Columns grow in files of their own; an archive of arrays needs their length first."""

    def __init__(
        self, path: str | os.PathLike[str], dtype: np.dtype[np.void], metadata: Mapping[str, Any]
    ) -> None:
        super().__init__(path, dtype, metadata)
        self._columns: dict[str, IO[bytes]] = {
            name: open(os.path.join(self._folder.name, name), "w+b")  # noqa: SIM115 (closed by _stop)
            for name in self._dtype.names or ()
        }

    def _append(self, records: NDArray[np.void]) -> None:
        for name, column in self._columns.items():
            column.write(records[name].tobytes())

    def _finish(self) -> None:
        try:
            with zipfile.ZipFile(self._whole, "w") as archive:
                for name, column in self._columns.items():
                    kind = self._dtype[name]
                    header = {
                        "descr": npy.dtype_to_descr(kind.base),
                        "fortran_order": False,
                        "shape": (self.rows, *kind.shape),
                    }
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        npy.write_array_header_1_0(entry, header)
                        column.seek(0)
                        while block := column.read(_COPY_BYTES):
                            entry.write(block)
                with archive.open("metadata.npy", "w") as entry:
                    npy.write_array(entry, np.array(self._metadata), allow_pickle=False)
        finally:
            self._stop()

    def _stop(self) -> None:
        for column in self._columns.values():
            with suppress(OSError):
                column.close()


class _Parquet(ExperienceFile):
    """Rows wait until they make a row group; states are lists of fixed length."""

    def __init__(
        self, path: str | os.PathLike[str], dtype: np.dtype[np.void], metadata: Mapping[str, Any]
    ) -> None:
        self._arrow = pyarrow()
        super().__init__(path, dtype, metadata)
        schema = self._table(np.empty(0, dtype=self._dtype)).schema.with_metadata({"itp": self._metadata})
        self._schema = schema
        self._writer = self._arrow.parquet.ParquetWriter(self._whole, schema, compression="zstd")
        self._waiting: list[NDArray[np.void]] = []
        self._waiting_bytes = 0

    def _append(self, records: NDArray[np.void]) -> None:
        self._waiting.append(records.copy())
        self._waiting_bytes += records.nbytes
        if self._waiting_bytes >= _PIECE_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        if self._waiting:
            self._writer.write_table(self._table(np.concatenate(self._waiting)).cast(self._schema))
            self._waiting, self._waiting_bytes = [], 0

    def _table(self, records: NDArray[np.void]) -> Any:
        return self._arrow.table({name: self._column(records[name]) for name in self._dtype.names or ()})

    def _column(self, values: NDArray[Any]) -> Any:
        if values.dtype.kind == "S":
            return self._arrow.array(
                np.char.decode(values, "utf-8", "replace").tolist(), self._arrow.string()
            )
        if values.ndim == 2:
            flat = self._arrow.array(np.ascontiguousarray(values).ravel())
            return self._arrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
        return self._arrow.array(np.ascontiguousarray(values))

    def _finish(self) -> None:
        self._write_group()
        self._writer.close()

    def _stop(self) -> None:
        with suppress(OSError):
            self._writer.close()
