"""Experiences as NPZ and Parquet."""

import builtins
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from itp.errors import MissingExtraError
from itp.experience.export import experience_file
from itp.experience.record import record_dtype

SUFFIXES = (".npz", ".parquet")


def made_up(rows, n_streams=4, seed=0):
    dtype = record_dtype(n_streams)
    experiences = np.frombuffer(
        np.random.default_rng(seed).integers(0, 100, rows * dtype.itemsize, dtype=np.uint8), dtype=dtype
    ).copy()
    for name in ("explored", "done"):
        experiences[name] = np.arange(rows) % 3 == 0
    experiences["task_id"] = [f"aufträge/{k}".encode() for k in range(rows)]
    experiences["model_version"] = b""
    return experiences


def read(path):
    """Columns as arrays, and the metadata."""
    if path.suffix == ".npz":
        with np.load(path) as archive:
            columns = {name: archive[name] for name in archive}
        return columns, json.loads(str(columns.pop("metadata")))
    table = pq.read_table(path)
    columns = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in ("state", "next_state"):
            columns[name] = column.flatten().to_numpy().reshape(len(table), column.type.list_size)
        elif name in ("task_id", "model_version"):
            columns[name] = np.array([text.encode() for text in column.to_pylist()], dtype="S64")
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return columns, json.loads(table.schema.metadata[b"itp"])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("n_streams", [1, 4, 16])
def test_columns_are_those_of_the_log(tmp_path, suffix, n_streams):
    path = tmp_path / f"experiences{suffix}"
    parts = [made_up(rows, n_streams, seed=rows) for rows in (70_000, 0, 1, 999)]
    file = experience_file(path, n_streams, {"scenario": "mixed"})
    for part in parts:
        file.append(part)
    assert not path.exists()
    file.close()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    columns, metadata = read(path)
    whole = np.concatenate(parts)
    assert file.rows == len(whole)
    assert tuple(columns) == whole.dtype.names
    for name, column in columns.items():
        assert column.dtype == whole[name].dtype, name
        assert column.tobytes() == whole[name].tobytes(), name
    assert metadata["scenario"] == "mixed"
    assert metadata["sources"][0] == "heuristic"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_experiences_make_an_empty_file(tmp_path, suffix):
    path = tmp_path / f"empty{suffix}"
    experience_file(path, 4).close()
    columns, _ = read(path)
    assert {len(column) for column in columns.values()} == {0}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_discarding_leaves_what_was_there(tmp_path, suffix):
    path = tmp_path / f"experiences{suffix}"
    path.write_bytes(b"before")
    file = experience_file(path, 4)
    file.append(made_up(10))
    file.discard()
    assert path.read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_discarding_after_closing_changes_nothing(tmp_path, suffix):
    path = tmp_path / f"experiences{suffix}"
    file = experience_file(path, 4)
    file.append(made_up(10))
    file.close()
    file.discard()
    assert len(read(path)[0]["state"]) == 10


def test_other_names_and_types_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.npz or \.parquet"):
        experience_file(tmp_path / "experiences.csv", 4)
    file = experience_file(tmp_path / "experiences.npz", 4)
    with pytest.raises(TypeError, match="records: expected"):
        file.append(made_up(3, n_streams=3))
    file.discard()


def test_without_pyarrow_the_message_names_the_extra(tmp_path, monkeypatch):
    imported = builtins.__import__

    def refuse(name, *args, **options):
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return imported(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"itp\[data\]"):
        experience_file(tmp_path / "experiences.parquet", 4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_appended_may_change_afterwards(tmp_path, suffix):
    path = tmp_path / f"experiences{suffix}"
    records = made_up(100)
    wanted = records.copy()
    file = experience_file(path, 4)
    file.append(records)
    records[...] = np.zeros((), records.dtype)
    file.close()
    columns, _ = read(path)
    assert all(columns[name].tobytes() == wanted[name].tobytes() for name in columns)


def test_row_groups_are_bounded(tmp_path, monkeypatch):
    records = made_up(1000)
    monkeypatch.setattr("itp.experience.export._PIECE_BYTES", 50 * records.itemsize)
    file = experience_file(tmp_path / "experiences.parquet", 4)
    for part in (records, records[:30], records[:30]):
        file.append(part)
    file.close()
    about = pq.ParquetFile(tmp_path / "experiences.parquet").metadata
    assert [about.row_group(k).num_rows for k in range(about.num_row_groups)] == [50] * 20 + [60]
    assert file.rows == 1060
