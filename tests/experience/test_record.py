"""The one record: the same from production and from the simulator."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest

import itp
from itp._core import decision
from itp._core.record import RecordQueue, first_damaged, seal
from itp.experience.record import SOURCES, check_records, record_dtype, renumbered

pytestmark = pytest.mark.core


def test_sources_are_those_of_the_header():
    header = (Path(itp.get_include()) / "itp.h").read_text()
    numbers = re.search(r"enum itp_source \{(.*?)\}", header).group(1)
    by_number = sorted((int(n), name.lower()) for name, n in re.findall(r"ITP_(\w+) = (\d)", numbers))
    assert SOURCES is decision.SOURCES
    assert tuple(name for _, name in by_number) == SOURCES


@pytest.mark.parametrize("n_streams", range(1, 17))
def test_the_layout_is_that_of_the_core(n_streams):
    class Head(ctypes.Structure):
        _fields_ = (
            ("number", ctypes.c_uint64),
            ("decided_at_s", ctypes.c_double),
            ("completed_at_s", ctypes.c_double),
            ("reward", ctypes.c_float),
            ("propensity", ctypes.c_float),
            ("action", ctypes.c_int32),
            ("source", ctypes.c_uint16),
            ("explored", ctypes.c_uint8),
            ("done", ctypes.c_uint8),
            ("task_id", ctypes.c_char * 64),
            ("model_version", ctypes.c_char * 64),
        )

    dtype = record_dtype(n_streams)
    for name, _ in Head._fields_:
        assert (dtype.fields[name][1], dtype[name].itemsize) == (
            getattr(Head, name).offset,
            getattr(Head, name).size,
        )
    assert dtype.itemsize + 4 == RecordQueue(n_streams, 0, 0).frame_bytes
    # Nothing between the fields: types that NumPy packs stay the same.
    assert dtype.itemsize == sum(dtype[name].itemsize for name in dtype.names)
    assert np.concatenate([np.empty(1, dtype), np.empty(1, dtype)]).dtype == dtype
    with_returns = record_dtype(n_streams, returns=True)
    assert with_returns.names == (*dtype.names, "returns")
    assert with_returns["returns"] == np.dtype(("<f4", (2**n_streams - 1,)))


@pytest.mark.parametrize("n_streams", [0, 17, -1])
def test_impossible_numbers_of_streams(n_streams):
    with pytest.raises(ValueError, match="n_streams"):
        record_dtype(n_streams)


def test_columns_of_records_are_aligned():
    records = np.empty(3, record_dtype(4))
    assert all(records[name].flags.aligned for name in records.dtype.names)


def test_sources_are_renumbered_by_name():
    found = renumbered(np.array([0, 1, 2, 3], np.uint8), ("guard", "heuristic", "native"))
    assert [SOURCES[k] for k in found[:3]] == ["guard", "heuristic", "native"]
    assert found[3] >= len(SOURCES)


@pytest.mark.parametrize(("name", "value"), [("source", 4), ("action", 15), ("action", -1), ("done", 2)])
def test_impossible_records_are_named(name, value):
    records = np.zeros(5, record_dtype(4))
    check_records(records)
    field = records[name].view(np.uint8) if name == "done" else records[name]
    field[3] = value
    with pytest.raises(ValueError, match=rf"record 103: {name} = {value}: expected 0"):
        check_records(records, 100)


def test_checksums_are_those_of_zlib():
    import zlib

    rng = np.random.default_rng(0)
    for size in (5, 11, 12, 13, 332, 716):
        frames = bytearray(rng.bytes(4 * size + 3))
        seal(frames, size)
        for k in range(4):
            frame = frames[k * size : (k + 1) * size]
            assert zlib.crc32(frame[:-4]) == int.from_bytes(frame[-4:], "little")
        assert first_damaged(frames, size) == -1
        frames[2 * size] ^= 1
        assert first_damaged(bytes(frames), size) == 2


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_the_simulator_writes_the_same_record(order):
    sim = itp.Simulator("mixed", n_envs=5, seed=2**40, service_order=order, tasks=30, keep_states=True)
    parts = []
    while not sim.done.all():
        sim.step_masks(*sim.choose("round_robin"))
        parts.append((sim.completed(), sim.experiences()))
    outcomes = np.concatenate([part for part, _ in parts])
    records = np.concatenate([part for _, part in parts])
    assert records.dtype == record_dtype(4)
    check_records(records)
    for name in ("propensity", "explored", "completed_at_s"):
        np.testing.assert_array_equal(records[name], outcomes[name])
    np.testing.assert_array_equal(records["number"], outcomes["task"])
    np.testing.assert_array_equal(records["decided_at_s"], outcomes["arrived_at_s"])
    np.testing.assert_array_equal(records["reward"], outcomes["reward"].astype(np.float32))
    masks = [sum(1 << stream for stream in itp.actions.stream_sets(4)[k]) for k in records["action"]]
    assert masks == outcomes["mask"].tolist()
    assert records["task_id"].tolist() == [
        f"{2**40 + env}/{task}".encode()
        for env, task in zip(outcomes["env"].tolist(), outcomes["task"], strict=True)
    ]
    assert not records["next_state"][records["done"]].any()
    assert (records["source"] == SOURCES.index("heuristic")).all()
    assert (records["model_version"] == b"").all()


def test_the_largest_seed_has_a_name():
    sim = itp.Simulator("mixed", seeds=[2**64 - 2], tasks=2, keep_states=True)
    names = []
    while not sim.done.all():
        sim.step_masks(*sim.choose("round_robin"))
        names += sim.experiences()["task_id"].tolist()
    assert sorted(names) == [b"18446744073709551614/0", b"18446744073709551614/1"]
