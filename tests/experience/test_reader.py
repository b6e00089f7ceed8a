"""Reading records back: in bounded memory, from every format and version; refusing what is none of them."""

from __future__ import annotations

import io
import json
import os
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest

import itp
from itp.errors import LogError
from itp.experience.export import experience_file
from itp.experience.reader import read_log, read_records
from itp.experience.record import SOURCES, record_dtype
from itp.experience.segment import Segment, frame_dtype

pytestmark = pytest.mark.core

SOURCES_1 = ("heuristic", "onnxruntime", "guard", "native")


def made_up(rows, n_streams=4, seed=0, returns=False):
    """Records with something in every field, none of them `done`."""
    rng = np.random.default_rng(seed)
    records = np.zeros(rows, record_dtype(n_streams, returns=returns))
    for name in records.dtype.names:
        values = records[name]
        if values.dtype.kind == "f":
            values[...] = rng.random(values.shape)
    records["number"] = np.arange(1, rows + 1)
    records["action"] = rng.integers(0, 2**n_streams - 1, rows)
    records["source"] = np.arange(rows) % len(SOURCES)
    records["explored"] = np.arange(rows) % 3 == 0
    records["task_id"] = [f"aufträge/{k}".encode() for k in range(rows)]
    records["model_version"] = b"dqn_v1"
    return records


def write_segment(folder, records, path=None):
    frames = np.zeros(len(records), frame_dtype((records.dtype["state"].shape[0] - 4) // 4))
    frames["record"] = records
    for k in range(len(frames)):
        frames["crc32"][k] = zlib.crc32(frames[k].tobytes()[:-4])
    segment = Segment(folder, (records.dtype["state"].shape[0] - 4) // 4)
    segment.write([memoryview(frames.tobytes())])
    segment.close()
    return segment.path


def write_segment_1(path, records):
    """As the first version of the format had it."""
    length = records.dtype["state"].shape[0]
    tail = struct.Struct("<Qiff??xxdd64sB64s")
    header = {
        "format": "itp-experience",
        "version": 1,
        "schema": 1,
        "n_streams": (length - 4) // 4,
        "record_bytes": 8 * length + tail.size + 4,
    }
    with open(path, "wb") as file:
        file.write((json.dumps(header) + "\n").encode())
        for r in records:
            following = r["state"] if r["done"] else r["next_state"]
            body = (
                r["state"].tobytes()
                + following.tobytes()
                + tail.pack(
                    r["number"],
                    r["action"],
                    r["reward"],
                    r["propensity"],
                    r["explored"],
                    r["done"],
                    r["decided_at_s"],
                    r["completed_at_s"],
                    r["task_id"],
                    SOURCES_1.index(SOURCES[r["source"]]),
                    r["model_version"],
                )
            )
            file.write(body + zlib.crc32(body).to_bytes(4, "little"))


def write_exported(path, records, **metadata):
    n_streams = (records.dtype["state"].shape[0] - 4) // 4
    file = experience_file(path, n_streams, metadata, returns="returns" in records.dtype.names)
    file.append(records)
    file.close()
    return path


def write(path, records):
    """A file of records of the kind that the name says; its path."""
    if path.suffix == ".itplog":
        return write_segment(path.parent, records)
    return write_exported(path, records)


FORMATS = pytest.mark.parametrize("suffix", [".itplog", ".npz", ".parquet"])


@FORMATS
@pytest.mark.parametrize("n_streams", [1, 4, 16])
@pytest.mark.parametrize("batch", [1, 7, 100, 1000])
def test_records_come_back_in_batches(tmp_path, suffix, n_streams, batch):
    records = made_up(100, n_streams)
    path = write(tmp_path / f"file{suffix}", records)
    for where in (path, tmp_path, str(tmp_path)):
        batches = list(read_records(where, batch))
        assert [len(part) for part in batches] == [min(batch, 100 - k) for k in range(0, 100, batch)]
        assert all(part.dtype == records.dtype and part.flags.writeable for part in batches)
        assert np.concatenate(batches).tobytes() == records.tobytes()
        assert read_log(where).tobytes() == records.tobytes()


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_returns_come_back(tmp_path, suffix):
    records = made_up(50, returns=True)
    records["returns"][::3, 2] = np.nan
    path = write(tmp_path / f"file{suffix}", records)
    assert read_log(path).tobytes() == records.tobytes()


@FORMATS
def test_no_records(tmp_path, suffix):
    path = write(tmp_path / f"file{suffix}", made_up(0))
    assert list(read_records(path)) == []
    assert read_log(path).dtype == record_dtype(4)
    assert len(read_log(tmp_path)) == 0


def test_the_simulators_experiences_through_every_format(tmp_path):
    sim = itp.Simulator("mixed", n_envs=4, tasks=20, keep_states=True)
    parts = []
    while not sim.done.all():
        sim.step_masks(*sim.choose("round_robin"))
        parts.append(sim.experiences())
    records = np.concatenate(parts)
    for suffix in (".npz", ".parquet"):
        assert read_log(write(tmp_path / f"file{suffix}", records)).tobytes() == records.tobytes()


@FORMATS
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    records = made_up(5000)
    for _ in range(8):
        if suffix == ".itplog":
            records["number"] += 5000
            write_segment(tmp_path, records)
    if suffix != ".itplog":
        file = experience_file(tmp_path / f"file{suffix}", 4)
        for _ in range(8):
            file.append(records)
        file.close()
    next(read_records(tmp_path, 100))  # what is imported and cached once
    tracemalloc.start()
    try:
        assert sum(len(part) for part in read_records(tmp_path, 100)) == 40_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000 < 40_000 * records.itemsize


# --- segments ---


def test_segments_of_the_first_version(tmp_path):
    records = made_up(20)
    records["done"][[4, 19]] = True
    write_segment_1(tmp_path / "experience-1.itplog", records)
    write_segment(tmp_path, made_up(3, seed=1))
    wanted = records.copy()
    wanted["next_state"][[4, 19]] = 0.0
    found = read_log(tmp_path)
    found[:20].sort(order="number")
    assert found[:20].tobytes() == wanted.tobytes()
    assert [SOURCES[k] for k in found["source"][:4]] == ["heuristic", "native", "onnxruntime", "guard"]
    assert len(found) == 23


def test_any_cut_keeps_the_whole_records(tmp_path):
    records = made_up(6)
    path = write_segment(tmp_path, records)
    content = path.read_bytes()
    size = frame_dtype(4).itemsize
    header = content.index(b"\n") + 1
    assert len(content) == header + 6 * size
    for length in [0, 1, 20, header - 1, header, *range(header, len(content), size // 3)]:
        for tail in (b"", b"\0" * 5000):  # what a power loss may leave
            path.write_bytes(content[:length] + tail)
            whole = max(0, (length - header) // size)
            assert [len(part) for part in read_records(path, 2)] == [
                min(2, whole - k) for k in range(0, whole, 2)
            ]
            assert read_log(tmp_path)[:whole].tobytes() == records[:whole].tobytes()


def test_frames_of_zeros_are_a_cut(tmp_path):
    path = write_segment(tmp_path, made_up(6))
    for count in (1, 2, 20):
        with open(path, "ab") as file:
            file.write(b"\0" * frame_dtype(4).itemsize * count)
        assert [len(part) for part in read_records(path, 4)] == [4, 2]
    with open(path, "ab") as file:
        file.write(b"x")
    with pytest.raises(itp.LogError, match="record 6 is damaged"):
        read_log(path)


@pytest.mark.parametrize("at", [0, 3, 5])
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_damage_is_named(tmp_path, at, batch):
    path = write_segment(tmp_path, made_up(6))
    content = bytearray(path.read_bytes())
    header = content.index(b"\n") + 1
    content[header + at * frame_dtype(4).itemsize + 100] ^= 1
    path.write_bytes(content)
    found = []
    with pytest.raises(itp.LogError, match=rf"{path.name}: record {at} is damaged"):
        found.extend(read_records(path, batch))
    assert sum(map(len, found)) == at // batch * batch


@pytest.mark.parametrize(("name", "value"), [("source", 9), ("action", 15), ("action", -1)])
def test_impossible_values_are_named(tmp_path, name, value):
    records = made_up(30)
    records[name][20] = value
    path = write_segment(tmp_path, records)
    with pytest.raises(itp.LogError, match=rf"{path.name}: record 20: {name} = {value}: expected 0 to"):
        list(read_records(path, 7))


def header(**changes):
    fields = {"format": "itp-experience", "version": 2, "schema": 1, "n_streams": 4, "record_bytes": 332}
    return json.dumps({**fields, **changes}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 1000, "not an experience log"),
        (b"x" * 10, "not an experience log"),
        (b"x" * 100_000, "not an experience log"),
        (b"{}\n" + b"x" * 1000, "not an experience log"),
        (b"[1]\n", "not an experience log"),
        (b"null\n", "not an experience log"),
        (b"\xff\n", "not an experience log"),
        (b"[" * 4000 + b"\n", "not an experience log"),
        (b'{"format": "other"}\n', "not an experience log"),
        (header()[:-1] + b" " * 5000 + b"}\n", "not an experience log"),
        (header(version=3) + b"\n", "version 3 of the format.* reads versions 1 and 2"),
        (header(version=[2]) + b"\n", "version"),
        (header(version="2" * 1000) + b"\n", "version"),
        (header(schema=2) + b"\n", "state schema 2"),
        (header(n_streams=0) + b"\n", "n_streams = 0: expected 1 to 16"),
        (header(n_streams=10**9) + b"\n", "n_streams"),
        (header(n_streams=4.0) + b"\n", "n_streams"),
        (header(n_streams=True) + b"\n", "n_streams"),
        (header(n_streams=None) + b"\n", "n_streams"),
        (header(record_bytes=0) + b"\n", "0 bytes a record: expected 332"),
        (header(record_bytes=-1) + b"\n", "expected 332"),
        (header(n_streams=5) + b"\n", "expected 364"),
        (header(version=1) + b"\n", "expected 333"),
    ],
)
def test_foreign_and_hostile_segments_are_refused(tmp_path, content, message):
    path = tmp_path / "experience-x.itplog"
    path.write_bytes(content)
    with pytest.raises(itp.LogError, match=message) as caught:
        list(read_records(tmp_path))
    assert len(str(caught.value)) < 400


def test_a_later_record_of_a_decision_replaces_the_one_that_is_done(tmp_path):
    records = made_up(40)
    first = records.copy()
    first["done"] = np.isin(records["number"], [3, 10, 40])
    rng = np.random.default_rng(0)
    for batch in (1, 2, 5, 100):
        order = rng.permutation(len(records))
        # Those of 3 and 10 come again later, with their next states; 40 is the last of all.
        again = records[np.isin(records["number"], [3, 10])]
        path = write_segment(tmp_path, np.concatenate([first[order], again]))
        found = np.concatenate(list(read_records(path, batch)))
        assert sorted(found["number"]) == list(range(1, 41))
        assert found["number"][found["done"]].tolist() == [40]
        found.sort(order="number")
        assert found[:-1].tobytes() == records[:-1].tobytes()


def test_decisions_of_the_same_number_are_kept_apart(tmp_path):
    records = made_up(6)
    records["number"] = 1
    records["done"] = True
    assert len(read_log(write_segment(tmp_path, records))) == 6


def test_nothing_is_replaced_but_what_is_done(tmp_path):
    records = made_up(3)
    path = write_segment(tmp_path, np.concatenate([records, records]))
    assert len(read_log(path)) == 6


def test_any_number_of_ends_is_read_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("itp.experience.reader._HELD_BACK", 10)
    records = made_up(100)
    records["done"] = True
    path = write_segment(tmp_path, records)
    batches = list(read_records(path, 7))
    assert max(map(len, batches)) <= 7
    assert np.concatenate(batches).tobytes() == records.tobytes()


# --- NPZ and Parquet ---


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_files_of_the_first_version(tmp_path, suffix):
    records = made_up(8)
    records["source"] = [SOURCES.index(SOURCES_1[k % 4]) for k in range(8)]
    path = tmp_path / f"old{suffix}"
    columns = {name: records[name] for name in records.dtype.names}
    columns["source"] = np.arange(8, dtype=np.uint8) % 4
    metadata = json.dumps({"format_version": 1, "schema": 1, "sources": SOURCES_1})
    if suffix == ".npz":
        np.savez(path, metadata=np.array(metadata), **columns)
    else:
        pq.write_table(arrow_table(columns, metadata), path)
    assert read_log(path).tobytes() == records.tobytes()


def arrow_table(columns, metadata):
    table = {}
    for name, values in columns.items():
        if values.ndim == 2:
            flat = pyarrow.array(np.ascontiguousarray(values).ravel())
            table[name] = pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
        elif values.dtype.kind == "S":
            table[name] = pyarrow.array([text.decode() for text in values.tolist()])
        else:
            table[name] = pyarrow.array(np.ascontiguousarray(values))
    return pyarrow.table(table).replace_schema_metadata(None if metadata is None else {"itp": metadata})


METADATA = {"format_version": 2, "schema": 1, "sources": SOURCES}


def columns_of(records, **changes):
    columns = {name: records[name] for name in records.dtype.names}
    columns.update(changes)
    return {name: values for name, values in columns.items() if values is not None}


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "not a file of experiences"),
        ("", "not a file of experiences"),
        ("{}", "not a file of experiences"),
        ("[" * 100_000, "not a file of experiences"),
        (json.dumps({**METADATA, "format_version": 3}), "version 3 of the format"),
        (json.dumps({**METADATA, "schema": 9}), "state schema 9"),
        (json.dumps({**METADATA, "sources": ["me"]}), "sources = "),
        (json.dumps({**METADATA, "sources": [[], {}]}), "sources = "),
        (json.dumps({**METADATA, "sources": ["guard"] * 1000}), "sources = "),
        (json.dumps({**METADATA, "sources": "guard"}), "sources = "),
        (json.dumps({**METADATA, "sources": ["guard"]}), "record 1: source = 65535"),
    ],
)
def test_metadata_that_is_none_is_refused(tmp_path, suffix, metadata, message):
    path = tmp_path / f"file{suffix}"
    columns = columns_of(made_up(5))
    if suffix == ".npz":
        extra = {} if metadata is None else {"metadata": np.array(metadata)}
        np.savez(path, **extra, **columns)
    else:
        pq.write_table(arrow_table(columns, metadata), path)
    with pytest.raises(itp.LogError, match=message) as caught:
        list(read_records(path))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": None}, "not a file of experiences"),
        ({"reward": None, "done": None}, "lacks reward, done"),
        ({"state": np.zeros((5, 21), np.float32)}, r"states of shape \(21,\)"),
        ({"state": np.zeros((5, 400), np.float32)}, "states of shape"),
        ({"state": np.zeros((5, 2), np.float32)}, "states of shape"),
        ({"state": np.zeros(5, np.float32)}, "states of shape"),
        ({"next_state": np.zeros((5, 8), np.float32)}, "next_state"),
        ({"returns": np.zeros((5, 3), np.float32)}, "returns"),
        ({"action": np.full(5, 1 << 40)}, "action"),
        ({"task_id": np.arange(5)}, "task_id"),
    ],
)
def test_columns_that_do_not_fit_are_refused(tmp_path, suffix, changes, message):
    path = tmp_path / f"file{suffix}"
    columns = columns_of(made_up(5), **changes)
    metadata = json.dumps(METADATA)
    if suffix == ".npz":
        np.savez(path, metadata=np.array(metadata), **columns)
    else:
        pq.write_table(arrow_table(columns, metadata), path)
    with pytest.raises(itp.LogError, match=message):
        list(read_records(path))


@pytest.mark.parametrize(
    "changes",
    [
        {"reward": np.zeros(4, np.float32)},
        {"state": np.zeros((6, 20), np.float32)},
        {"state": np.asfortranarray(np.zeros((5, 20), np.float32))},
        {"reward": np.array([{}] * 5, dtype=object)},
        {"reward": np.zeros(5, ">f4")},
        {"reward": np.float32(1.0)},
    ],
)
def test_npz_columns_of_other_kinds_are_refused(tmp_path, changes):
    path = tmp_path / "file.npz"
    np.savez(path, metadata=np.array(json.dumps(METADATA)), **columns_of(made_up(5), **changes))
    with pytest.raises(itp.LogError):
        list(read_records(path))


def test_damaged_archives_are_refused(tmp_path):
    path = write_exported(tmp_path / "file.npz", made_up(2000))
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(itp.LogError, match=r"file\.npz"):
            list(read_records(path))
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(itp.LogError, match=r"file\.npz: cannot be read: .*CRC"):
        list(read_records(path))


def test_an_archive_with_a_lying_header_is_refused(tmp_path):
    path = tmp_path / "file.npz"
    columns = columns_of(made_up(5))
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in {**columns, "metadata": np.array(json.dumps(METADATA))}.items():
            file = io.BytesIO()
            np.save(file, values)
            entry = file.getvalue()
            if name != "metadata":  # a million rows of five
                entry = entry.replace(b"'shape': (5,", b"'shape': (1000000,").replace(
                    b"\x20\x20\x20\x20\x20\x20\n", b"\n"
                )
            archive.writestr(f"{name}.npy", entry)
    with pytest.raises(itp.LogError):
        list(read_records(path))


def test_compressed_archives_are_read(tmp_path):
    records = made_up(300)
    path = tmp_path / "file.npz"
    np.savez_compressed(path, metadata=np.array(json.dumps(METADATA)), **columns_of(records))
    assert read_log(path).tobytes() == records.tobytes()


def test_damaged_and_incomplete_parquet_files_are_refused(tmp_path):
    records = made_up(2000)
    path = write_exported(tmp_path / "file.parquet", records)
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(itp.LogError, match=r"file\.parquet"):
            list(read_records(path))
    table = arrow_table(columns_of(records), json.dumps(METADATA))
    holes = pyarrow.array([None] * 2000, pyarrow.float32())
    pq.write_table(table.set_column(table.schema.get_field_index("reward"), "reward", holes), path)
    with pytest.raises(itp.LogError, match="a value is missing"):
        list(read_records(path))


# --- folders, arguments ---


def test_a_folder_without_segments_stands_for_its_other_files(tmp_path):
    write_exported(tmp_path / "b.npz", made_up(3, seed=1))
    write_exported(tmp_path / "a.parquet", made_up(2))
    (tmp_path / "notes.txt").write_text("x")
    assert [len(part) for part in read_records(tmp_path)] == [2, 3]
    write_segment(tmp_path, made_up(5))
    assert [len(part) for part in read_records(tmp_path)] == [5]


def test_segments_of_different_numbers_of_streams(tmp_path):
    write_segment(tmp_path, made_up(3))
    write_segment(tmp_path, made_up(3, 7))
    with pytest.raises(itp.LogError, match="different numbers of streams"):
        read_log(tmp_path)


def test_what_is_no_file_of_records(tmp_path):
    with pytest.raises(itp.LogError, match="no such file or folder"):
        read_records(tmp_path / "none")
    (tmp_path / "file.csv").write_text("x")
    with pytest.raises(itp.LogError, match=r"\.itplog, \.npz, \.parquet"):
        read_records(tmp_path / "file.csv")
    (tmp_path / "experience-x.itplog").mkdir()
    with pytest.raises(itp.LogError, match="not a regular file"):
        list(read_records(tmp_path))


@pytest.mark.parametrize(("batch", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_impossible_batches(tmp_path, batch, error):
    with pytest.raises(error):
        read_records(tmp_path, batch)


def test_a_live_log_can_be_read(tmp_path):
    with itp.TaskPartitioner(experience_log=tmp_path, experience_interval_s=0.001) as p:
        (tmp_path / "experience-0-0-000.itplog").write_bytes(b"")
        for k in range(2000):
            p.report_outcome(p.partition_task(itp.Task(str(k), 1)), 1.0, 1.0, True)
            if k % 100 == 0:
                numbers = read_log(tmp_path)["number"]
                assert len(np.unique(numbers)) == len(numbers) <= k + 1


@pytest.mark.parametrize("suffix", [".itplog", ".npz", ".parquet"])
def test_files_of_another_service_order_are_refused(tmp_path, suffix):
    def records_of(order):
        if suffix == ".itplog":
            with itp.TaskPartitioner(experience_log=tmp_path / order, service_order=order) as p:
                p.report_outcome(p.partition_task(itp.Task("task", 1000)), 50.0, 0.1, True)
            return tmp_path / order
        path = tmp_path / f"{order}{suffix}"
        file = experience_file(path, 4, {"service_order": order})
        file.append(np.zeros(1, record_dtype(4)))
        file.close()
        return path

    fifo, srpt = records_of("fifo"), records_of("srpt")
    for path in (fifo, srpt):
        assert sum(map(len, read_records(path))) == 1
    assert sum(map(len, read_records(fifo, service_order="fifo"))) == 1
    with pytest.raises(itp.errors.LogError, match=r"streams were served by 'srpt': expected fifo"):
        list(read_records(srpt, service_order="fifo"))


def test_files_that_say_no_service_order_are_read(tmp_path):
    file = experience_file(tmp_path / "x.npz", 4)
    file.append(np.zeros(2, record_dtype(4)))
    file.close()
    assert sum(map(len, read_records(tmp_path / "x.npz", service_order="srpt"))) == 2


def test_a_folder_stands_for_segments_of_any_name(tmp_path):
    # As when the logs of several hosts are put into one folder.
    write_segment(tmp_path, made_up(5))
    (segment,) = tmp_path.glob("*.itplog")
    segment.rename(tmp_path / f"host1-{segment.name}")
    assert sum(len(batch) for batch in read_records(tmp_path)) == 5
    assert len(read_log(tmp_path)) == 5


@pytest.mark.parametrize("name", ["x.itplog", "x.npz", "x.parquet"])
def test_a_named_pipe_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(LogError, match="not a regular file"):
            list(read_records(path))


@pytest.mark.parametrize(
    "header", [b"{'descr': '<f4', 'shape': ((((", b"{[1]:2}", b"-" * 9000 + b"1", b"'''"]
)
def test_a_hostile_array_header_is_refused(tmp_path, header):
    path = tmp_path / "x.npz"
    file = experience_file(path, 4)
    file.append(made_up(3))
    file.close()
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["reward.npy"] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(LogError):
        list(read_records(path))


def test_a_path_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(LogError, match="cannot be read"):
        list(read_records(tmp_path / ("x" * 300 + ".npz")))
